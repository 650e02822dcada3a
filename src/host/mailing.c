/* Messages between workers: when they are delivered, and what is counted of them. */
#include <errno.h>
#include <string.h>

#include "api/message.h"
#include "base/log.h"
#include "engine/mail_drafts.h"
#include "host/internal.h"

/* Deliver a message that has come. */
static bool take(void *arg, const struct ld_mail_message *message) {
    struct ld_host *host = arg;
    bool heard = false;
    bool is_able = ld_api_message_deliver(host->script, message, &heard);
    host->mailing.unheard += !heard;
    return is_able;
}

/* Make the host's end; 0 or -ENOMEM. */
int ld_mailing_open(struct ld_host *host) {
    int worker = host->service->worker;
    host->mailing.mail = ld_mail_new(&host->loop, worker > 0 ? (unsigned)worker : 1, take, host);
    host->mailing.drafts =
        host->mailing.mail != NULL ? ld_mail_drafts_new(host->mailing.mail) : NULL;
    return host->mailing.drafts != NULL ? 0 : -ENOMEM;
}

/* Read the box that the master has sent. */
static void take_box(struct ld_host *host) {
    struct ld_service *service = host->service;
    int rc = ld_mail_read_box(host->mailing.mail, service->mailbox);
    service->mailbox = -1;
    if (rc < 0) {
        ld_log(LD_LOG_ERROR, "messages of other workers cannot be received: %s", strerror(-rc));
    }
}

/* Whether messages wait: until there is a generation that is the service and can take one, and from when the old one
 * has given its state for a reload or an upgrade until the next one serves, for what it would do with a message were lost. */
static bool is_held(const struct ld_host *host) {
    bool changes = (host->reload.phase != LD_RELOAD_NONE && host->reload.answered) ||
                   host->upgrade.phase == LD_UPGRADE_ASKING;
    return host->state != LD_HOST_RUNNING || changes || !ld_api_message_is_able(host->script);
}

/* Deliver what has come, or hold it back. */
void ld_mailing_step(struct ld_host *host) {
    ld_mail_hold(host->mailing.mail, is_held(host));
    ld_mail_step(host->mailing.mail);
}

/* Let messages come in the next turn, or not. */
bool ld_mailing_settle(struct ld_host *host) {
    bool holds = is_held(host);
    if (host->service->mailbox >= 0) {
        take_box(host);
    }
    ld_mail_hold(host->mailing.mail, holds);
    return !holds && ld_mail_has_own(host->mailing.mail);
}

/* Report what was sent and received. */
json_t *ld_mailing_report(const struct ld_host *host) {
    struct ld_mail_counts counts = ld_mail_count(host->mailing.mail);
    return json_pack("{s:I, s:I, s:I, s:I, s:I, s:I}", "sent", (json_int_t)counts.sent, "received",
                     (json_int_t)counts.received, "waiting", (json_int_t)counts.waiting, "refused",
                     (json_int_t)counts.refused, "unheard", (json_int_t)host->mailing.unheard,
                     "lost", (json_int_t)counts.lost);
}

/* Close the host's end: scripts cannot send any more. */
void ld_mailing_close(struct ld_host *host) {
    size_t unsent = 0;
    ld_mail_drafts_free(host->mailing.drafts);
    if (host->mailing.mail != NULL) {
        ld_mail_close(host->mailing.mail, &unsent);
    }
    host->mailing.mail = NULL;
    host->mailing.drafts = NULL;
    host->setup.mail = NULL;
    host->setup.mail_drafts = NULL;
    if (unsent > 0) {
        ld_log(LD_LOG_WARN, "%zu messages for other workers were not sent: they do not keep up",
               unsent);
    }
}
