/* The keeper between two hosts. */
#ifndef LD_DAEMON_KEEPER_BETWEEN_H
#define LD_DAEMON_KEEPER_BETWEEN_H

#include <stdbool.h>

#include "daemon/keeper_host.h"

/* Begin to be the daemon, whose host has ended: the pidfile names this process. */
void ld_keeper_between_begin(struct ld_keeper *keeper);

/* Be the daemon until the next start is due (keeper->due), and answer for it. False if no host shall follow;
 * then keeper->waiting is still set. */
bool ld_keeper_between_stand_in(struct ld_keeper *keeper);

#endif
