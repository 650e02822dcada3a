/* From a process that is to be the service to one that is it. */
#ifndef LD_LAUNCH_H
#define LD_LAUNCH_H

#include "service.h"

/* Take hold of everything, drop privileges, and run the service until it ends; failures are
 * reported to the starting process, or on stderr in the foreground. The exit status to take. Called
 * with all signals blocked. */
int ld_launch(struct ld_service *service);

/* Wait until the daemon at the other end of CHANNEL has become ready, or has failed and is gone;
 * say which. The exit status to take. An interruption cancels the start. ALONE: every descendant of
 * this process, which is a subreaper, came of the daemon. */
int ld_launch_wait(const struct ld_service *service, int channel, bool alone);

#endif
