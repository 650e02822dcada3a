#include "engine/mail_drafts.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>

/* A message that is kept. */
struct draft {
    TAILQ_ENTRY(draft) link;
    const void *owner;
    unsigned to;
    bool to_all;
    size_t topic_size;
    size_t size; /* of the data, which follow the topic */
    char bytes[];
};

struct ld_mail_drafts {
    struct ld_mail *mail;
    TAILQ_HEAD(, draft) list;
    size_t bytes;
};

/* Make a set. */
struct ld_mail_drafts *ld_mail_drafts_new(struct ld_mail *mail) {
    struct ld_mail_drafts *drafts = calloc(1, sizeof *drafts);
    if (drafts != NULL) {
        drafts->mail = mail;
        TAILQ_INIT(&drafts->list);
    }
    return drafts;
}

/* Forget a draft. */
static void drop(struct ld_mail_drafts *drafts, struct draft *draft) {
    TAILQ_REMOVE(&drafts->list, draft, link);
    drafts->bytes -= sizeof *draft + draft->topic_size + draft->size;
    free(draft);
}

/* Free a set. */
void ld_mail_drafts_free(struct ld_mail_drafts *drafts) {
    struct draft *next;
    for (struct draft *at = drafts != NULL ? TAILQ_FIRST(&drafts->list) : NULL; at != NULL;
         at = next) {
        next = TAILQ_NEXT(at, link);
        drop(drafts, at);
    }
    free(drafts);
}

/* Keep a message. */
int ld_mail_drafts_keep(struct ld_mail_drafts *drafts, const void *owner, unsigned to,
                        const struct ld_mail_message *message) {
    size_t size = message->topic_size + message->size;
    if (message->size > LD_MAIL_DATA_MAX) {
        return -EMSGSIZE;
    }
    if (drafts->bytes + sizeof(struct draft) + size > LD_MAIL_QUEUE_MAX) {
        return -EAGAIN;
    }
    struct draft *draft = malloc(sizeof *draft + size);
    if (draft == NULL) {
        return -ENOMEM;
    }
    *draft = (struct draft){.owner = owner,
                            .to = to,
                            .to_all = message->to_all,
                            .topic_size = message->topic_size,
                            .size = message->size};
    memcpy(draft->bytes, message->topic, message->topic_size);
    if (message->size > 0) {
        memcpy(draft->bytes + message->topic_size, message->data, message->size);
    }
    TAILQ_INSERT_TAIL(&drafts->list, draft, link);
    drafts->bytes += sizeof *draft + size;
    return 0;
}

/* Send what an owner has. */
size_t ld_mail_drafts_send(struct ld_mail_drafts *drafts, const void *owner) {
    size_t unsent = 0;
    struct draft *next;
    for (struct draft *at = TAILQ_FIRST(&drafts->list); at != NULL; at = next) {
        next = TAILQ_NEXT(at, link);
        if (at->owner == owner) {
            const struct ld_mail_message message = {.to_all = at->to_all,
                                                    .topic = at->bytes,
                                                    .topic_size = at->topic_size,
                                                    .data = at->bytes + at->topic_size,
                                                    .size = at->size};
            unsent += ld_mail_send(drafts->mail, at->to, &message) < 0;
            drop(drafts, at);
        }
    }
    return unsent;
}

/* Drop what an owner has. */
void ld_mail_drafts_drop(struct ld_mail_drafts *drafts, const void *owner) {
    struct draft *next;
    for (struct draft *at = TAILQ_FIRST(&drafts->list); at != NULL; at = next) {
        next = TAILQ_NEXT(at, link);
        if (at->owner == owner) {
            drop(drafts, at);
        }
    }
}
