/* Messages that come to a script. */
#ifndef LD_API_MESSAGE_H
#define LD_API_MESSAGE_H

#include <stdbool.h>

#include "engine/mail.h"
#include "script/script.h"

/* Call the function of SCRIPT, which is the service, for the topic of a message; false if it can take no other
 * before some of those calls have ended. *HEARD becomes whether there is such a function. */
bool ld_api_message_deliver(struct ld_script *script, const struct ld_mail_message *message,
                            bool *heard);

/* Whether it can take one. */
bool ld_api_message_is_able(const struct ld_script *script);

#endif
