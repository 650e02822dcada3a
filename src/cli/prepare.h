/* What run and start do before anything is started. */
#ifndef LD_CLI_PREPARE_H
#define LD_CLI_PREPARE_H

#include <stdbool.h>

#include "cli/verbs.h"
#include "daemon/service.h"

/* Find out about everything that the command line names, and compile the script. SERVICE has its field
 * `daemon` set, and is to be freed in either case. 0, or an exit status after complaining. */
int ld_prepare_service(struct ld_service *service, const struct ld_call *call);

/* Check everything that a start (as DAEMON) does before the daemon is forked, and what the user it runs as
 * can do. This process has the rights of the service afterwards. Likewise. */
int ld_prepare_check(const struct ld_call *call, bool daemon);

/* Whether this process has children: a shell that became it by exec may have had some. */
bool ld_prepare_has_children(void);

#endif
