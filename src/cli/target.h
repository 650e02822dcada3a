/* The daemon that a NAME on the command line means. */
#ifndef LD_CLI_TARGET_H
#define LD_CLI_TARGET_H

#include <stdbool.h>

#include "base/text.h"
#include "cli/client.h"
#include "cli/rundir.h"
#include "cli/verbs.h"
#include "posix/pidfile.h"

struct ld_target {
    const struct ld_rundir *dir;
    char name[256]; /* of the daemon; what stands for one if there can be none */
    struct ld_holder holder;
};

/* Find the daemon that ARGUMENT, a name or a script's path, means. 0 (running or not: see the
 * holder), or an exit status after complaining: 2 for what is no name, 1 for another user's. */
int ld_target_find(struct ld_target *target, const struct ld_rundir *dir, const char *argument);

/* The same, but 3 after saying so if it does not run. */
int ld_target_find_running(struct ld_target *target, const struct ld_rundir *dir,
                           const char *argument);

/* A pidfd for a running target, confirmed by the kernel; a negative errno after complaining. */
int ld_target_open(const struct ld_target *target);

/* Say why a daemon that is not running is not, if that is known: "; it was killed by SIGKILL at ...".
 * Adds nothing otherwise. */
void ld_target_describe_death(const struct ld_target *target, struct ld_text *text);

/* A request for a target that runs, which has SECONDS. It points into the target. */
struct ld_request ld_target_request(const struct ld_target *target, const char *verb,
                                    double seconds);

/* The same, with the time of --timeout if that was given: then even a stopped daemon is waited for. */
struct ld_request ld_target_timed_request(const struct ld_call *call,
                                          const struct ld_target *target, const char *verb,
                                          double seconds);

/* Stop a daemon that runs, giving it SECONDS (below 0: its own time) before it is killed, and remove
 * what it leaves. The exit status, after complaining. */
int ld_target_stop(const struct ld_target *target, double seconds);

/* Remove what a daemon that is dead has left behind; nothing if it runs. */
void ld_target_clear(const struct ld_target *target);

/* Call EACH for every operand of a call and return the worst exit status. */
int ld_target_each(const struct ld_call *call,
                   int (*each)(const struct ld_call *call, const struct ld_rundir *dir,
                               const char *argument));

#endif
