/* The keeper: a small process that keeps the rights of the starter, and is the parent of a host
 * that gives them up. It opens the log for the host, tells the starting process how the start went,
 * ends what the host leaves, and cleans up after it.
 *
 * The keeper treats the host as an attacker: the host can ask for the log and report, and nothing
 * else. Whatever the host sends, the keeper obeys signals and notices the end of the host. */
#ifndef LD_DAEMON_KEEPER_H
#define LD_DAEMON_KEEPER_H

#include <stdbool.h>

#include "daemon/service.h"
#include "daemon/start_report.h"

/* What the keeper sends to the host. */
enum ld_keeper_event {
    LD_KEEPER_NOTHING,
    LD_KEEPER_STOP,   /* the keeper was asked to stop */
    LD_KEEPER_SOCKET, /* a new control socket, because the file of the old one was removed */
    LD_KEEPER_GONE,   /* the keeper has died */
};

/* Fork the host. Returns -1 in the host, with service->keeper set. Returns the exit status to take
 * in the keeper, when the host has ended and everything is cleaned up, or, with the reason in WHY,
 * if the fork fails. */
int ld_keeper_fork(struct ld_service *service, struct ld_text *why);

/* In the host, or in a service without a keeper: report to the starting process, if it still
 * waits, how the start went. KIND is READY, FINISHED, or FAILED with TEXT as the reason. */
void ld_keeper_report_start(struct ld_service *service, enum ld_start_report_kind kind,
                            const char *text);

/* In the host: ask the keeper to open the log; a descriptor or a negative errno. An opener for the
 * log; ARG is the service. */
int ld_keeper_open_log(void *arg);

/* In the host, when service->keeper is readable: receive what it sends. With SOCKET, *FD is the
 * socket. */
enum ld_keeper_event ld_keeper_hear(struct ld_service *service, int *fd);

#endif
