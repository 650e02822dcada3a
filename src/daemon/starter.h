/* The process that a person started, while the daemon becomes ready. */
#ifndef LD_DAEMON_STARTER_H
#define LD_DAEMON_STARTER_H

#include <stdbool.h>

#include "daemon/service.h"

/* Wait until the daemon at the other end of CHANNEL is ready, or has failed and ended, and print
 * which. The exit status to take. An interruption cancels the start. ALONE: this process is a
 * subreaper, and all its descendants are those of the daemon. */
int ld_starter_wait(const struct ld_service *service, int channel, bool alone);

/* Whether a signal has cancelled a start in this process. */
bool ld_starter_was_cancelled(void);

#endif
