/* Work in a process of its own: what it changes (user, directory, environment, signals) does not concern the caller. */
#ifndef LD_CLI_APART_H
#define LD_CLI_APART_H

#include <stdbool.h>

/* Call WORK in a child and wait for its end. SIGINT, SIGTERM, SIGHUP and SIGQUIT are passed on to it meanwhile. The
 * exit status, after complaining. VERB is named in complaints. */
int ld_apart_call(int (*work)(void *arg), void *arg, const char *verb);

/* Whether a signal was passed on: the work was interrupted. */
bool ld_apart_was_interrupted(void);

#endif
