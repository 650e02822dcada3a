/* The run directory, as the verbs see it. */
#ifndef LD_CLI_RUNDIR_H
#define LD_CLI_RUNDIR_H

#include <stdbool.h>

#include "base/text.h"

struct ld_rundir {
    char *path;
    int fd;               /* -1: it does not exist */
    struct ld_text where; /* "looked in PATH", for messages about what was not found */
};

/* Open the run directory that is CHOSEN (NULL: the default). 0, or exit status 1 after complaining.
 * To be closed in either case. */
int ld_rundir_open(struct ld_rundir *dir, const char *chosen);
void ld_rundir_close(struct ld_rundir *dir);

/* Call EACH with every name that has a pidfile or a record, in order, while it returns true. */
void ld_rundir_each(const struct ld_rundir *dir, bool (*each)(const char *name, void *arg),
                    void *arg);

#endif
