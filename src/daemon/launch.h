/* From a process that is to be the service to one that is it. */
#ifndef LD_DAEMON_LAUNCH_H
#define LD_DAEMON_LAUNCH_H

#include "daemon/service.h"

/* Runs the script until the service ends: the exit status to take, with the reason in WHY if it failed. */
typedef int ld_launch_host(struct ld_service *service, struct ld_text *why);

/* Take hold of everything, drop privileges, and run the service until it ends; failures are
 * reported to the starting process, or on stderr in the foreground. The exit status to take. Called
 * with all signals blocked. */
int ld_launch_run(struct ld_service *service, ld_launch_host *run);

#endif
