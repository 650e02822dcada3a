/* The host: the process around a script. It runs the loop, delivers signals, swaps generations, and
 * ends everything that the script has started. */
#ifndef LD_HOST_HOST_H
#define LD_HOST_HOST_H

#include "daemon/service.h"

/* Run the service, which holds what it needs, until it ends; tells the starting process how the
 * start went, if there is one. The exit status to take, with the reason in WHY if the script did
 * not become ready. */
int ld_host_run(struct ld_service *service, struct ld_text *why);

#endif
