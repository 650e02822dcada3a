/* Turn the forked process into the running service. */
#ifndef LD_DAEMON_LAUNCH_H
#define LD_DAEMON_LAUNCH_H

#include "daemon/service.h"

/* Runs the script until the service ends. The exit status to take, with the reason in WHY if it
 * failed. */
typedef int ld_launch_host(struct ld_service *service, struct ld_text *why);

/* Take hold of everything, drop privileges, and run the service until it ends. Failures are
 * reported to the starting process, or printed on stderr in the foreground. The exit status to
 * take. Called with all signals blocked. */
int ld_launch_run(struct ld_service *service, ld_launch_host *run);

/* Go on with a service that an earlier program in this process has left: SERVICE as ld_handover_read_service
 * has filled it. Likewise. */
int ld_launch_take_over(struct ld_service *service, ld_launch_host *run);

#endif
