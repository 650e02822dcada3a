/* Messages of owners whose messages may not be sent yet: of a generation that loads and may be refused. */
#ifndef LD_ENGINE_MAIL_DRAFTS_H
#define LD_ENGINE_MAIL_DRAFTS_H

#include <stdbool.h>
#include <stddef.h>

#include "engine/mail.h"

struct ld_mail_drafts;

/* Make an empty set for messages that MAIL sends; NULL when memory ran out. */
struct ld_mail_drafts *ld_mail_drafts_new(struct ld_mail *mail);

/* Drop all, and free the set; NULL: do nothing. */
void ld_mail_drafts_free(struct ld_mail_drafts *drafts);

/* Keep a copy of a message of OWNER for worker TO; 0 or a negative errno: -EAGAIN when there are more than
 * LD_MAIL_QUEUE_MAX bytes of all, -EMSGSIZE, -ENOMEM. */
int ld_mail_drafts_keep(struct ld_mail_drafts *drafts, const void *owner, unsigned to,
                        const struct ld_mail_message *message);

/* Send those of OWNER, in their order; how many could not be sent. */
size_t ld_mail_drafts_send(struct ld_mail_drafts *drafts, const void *owner);

/* Drop those of OWNER. */
void ld_mail_drafts_drop(struct ld_mail_drafts *drafts, const void *owner);

#endif
