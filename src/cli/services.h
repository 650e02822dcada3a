/* Services of a config: started, and restarted. */
#ifndef LD_CLI_SERVICES_H
#define LD_CLI_SERVICES_H

#include "cli/verbs.h"

/* Do the work of VERB, run, start or unit, by the config of its command line: for the services that it names, in the order
 * in which they are to be started. What is to start after one that fails is not started. The worst exit status. */
int ld_services_start(const struct ld_call *call, const struct ld_verb *verb);

/* Stop services of a config, the last first, and start them again by VERB, start, as the config says now. What can
 * be checked is checked before anything is stopped. The worst exit status. */
int ld_services_restart(const struct ld_call *call, const struct ld_verb *verb);

#endif
