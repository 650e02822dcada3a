/* The keeper: a small process with the starter's rights that is the host's parent, where the host
 * gives its own rights up. It opens the log for the host, tells the starting process how the start
 * went, ends what the host leaves behind, and cleans up after it.
 *
 * What comes from the host is an attacker's: it can ask for the log and report, and nothing else.
 * Whatever it says or does, the keeper obeys signals and sees the host's end. */
#ifndef LD_DAEMON_KEEPER_H
#define LD_DAEMON_KEEPER_H

#include <stdbool.h>

#include "daemon/service.h"
#include "daemon/start_report.h"

/* What the keeper asks of the host. */
enum ld_keeper_event {
    LD_KEEPER_NOTHING,
    LD_KEEPER_STOP,   /* the keeper was asked to stop */
    LD_KEEPER_SOCKET, /* here is a new control socket: the file of the old one was removed */
    LD_KEEPER_GONE,   /* the keeper has died */
};

/* Fork the host. In the host: -1, with service->keeper set. In the keeper, when everything is over
 * and cleaned up, or if there can be no host, with the reason in WHY: the exit status to take. */
int ld_keeper_fork(struct ld_service *service, struct ld_text *why);

/* In the host, or in a service without a keeper: tell the starting process, if it still waits, how
 * the start went. KIND is READY, FINISHED or FAILED; TEXT is for the last. */
void ld_keeper_report_start(struct ld_service *service, enum ld_start_report_kind kind,
                            const char *text);

/* In the host: have the keeper open the log; a descriptor or a negative errno. For
 * ld_log_set_opener; ARG is the service. */
int ld_keeper_open_log(void *arg);

/* In the host, when service->keeper is readable: what it says. With SOCKET, *FD is the socket. */
enum ld_keeper_event ld_keeper_hear(struct ld_service *service, int *fd);

#endif
