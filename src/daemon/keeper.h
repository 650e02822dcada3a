/* The keeper: a small process that keeps the rights of the starter, and is the parent of the host, which may
 * give them up. It opens the log for the host, tells the starting process how the start went, ends what the
 * host leaves, starts the next host with --restart, and cleans up after the last.
 *
 * The keeper treats the host as an attacker: the host can ask for the log and report, and nothing
 * else. Whatever the host sends, the keeper obeys signals and notices the end of the host. */
#ifndef LD_DAEMON_KEEPER_H
#define LD_DAEMON_KEEPER_H

#include "daemon/service.h"

/* Fork the host. Returns -1 in the host, and in each that follows it, with service->keeper set. Returns the exit status to take
 * in the keeper, when the host has ended and everything is cleaned up, or, with the reason in WHY,
 * if the fork fails. */
int ld_keeper_fork(struct ld_service *service, struct ld_text *why);

#endif
