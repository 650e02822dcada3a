/* The keeper: a small process that keeps the rights of the starter, and is the parent of a host
 * that gives them up. It opens the log for the host, tells the starting process how the start went,
 * ends what the host leaves, and cleans up after it.
 *
 * The keeper treats the host as an attacker: the host can ask for the log and report, and nothing
 * else. Whatever the host sends, the keeper obeys signals and notices the end of the host. */
#ifndef LD_DAEMON_KEEPER_H
#define LD_DAEMON_KEEPER_H

#include "daemon/service.h"

/* Fork the host. Returns -1 in the host, with service->keeper set. Returns the exit status to take
 * in the keeper, when the host has ended and everything is cleaned up, or, with the reason in WHY,
 * if the fork fails. */
int ld_keeper_fork(struct ld_service *service, struct ld_text *why);

#endif
