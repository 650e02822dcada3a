/* What run and start do before they start anything. */
#ifndef LD_CLI_PREPARE_H
#define LD_CLI_PREPARE_H

#include <stdbool.h>

#include "cli/verbs.h"
#include "daemon/service.h"

/* Look up everything that the command line names, and check that the script compiles. The caller
 * sets service->daemon, and frees SERVICE in either case. 0, or an exit status if it complained. */
int ld_prepare_service(struct ld_service *service, const struct ld_call *call);

/* Close the descriptors that this process has inherited, or with KEEP_OPEN keep them from children; spare
 * that of --notify-fd. 0, or 2 after complaining if that is none. */
int ld_prepare_descriptors(const struct ld_call *call, bool keep_open);

/* Check that run, or start (DAEMON), could do its work, also as the user of --user. The process
 * keeps the rights of that user. 0, or an exit status after complaining. */
int ld_prepare_check(const struct ld_call *call, bool daemon);

/* Whether this process has children: a shell may have had some before it became this process by
 * exec. */
bool ld_prepare_has_children(void);

#endif
