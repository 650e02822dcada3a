/* The process in which a console without a NAME has its own fresh loop: what `lunad run` would be, in a private
 * run directory, and below this process. */
#ifndef LD_CLI_REPL_HOST_H
#define LD_CLI_REPL_HOST_H

#include <stdbool.h>
#include <sys/types.h>

#define LD_REPL_HOST_NAME "repl"

struct ld_repl_host {
    pid_t pid;      /* 0: it has ended */
    int outputs[2]; /* its stdout and stderr, not blocking; -1 after their end */
    int status;     /* the exit status, when it has ended */
    char dir[256];  /* its run directory, which it removes at its end */
};

/* Start it, and wait until it is ready, or the time of a start is over. 0, or an exit status after complaining;
 * its output has been copied to stderr then. */
int ld_repl_host_start(struct ld_repl_host *host);

/* Note whether it has ended; true if so. */
bool ld_repl_host_has_ended(struct ld_repl_host *host);

/* Have it stop; asked again, at once. */
void ld_repl_host_ask_to_stop(const struct ld_repl_host *host);

/* Wait for its end, and close what is left. */
void ld_repl_host_close(struct ld_repl_host *host);

#endif
