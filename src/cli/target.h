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
    char name[256]; /* of the daemon; the escaped argument if it cannot be a name */
    struct ld_holder holder;
};

/* Find the daemon that ARGUMENT, a name or a script's path, means. 0 (running or not: see the
 * holder), or an exit status after complaining: 2 if it is not a name, 1 if the daemon is another
 * user's. */
int ld_target_find(struct ld_target *target, const struct ld_rundir *dir, const char *argument);

/* The same, but 3, after complaining, if it does not run. */
int ld_target_find_running(struct ld_target *target, const struct ld_rundir *dir,
                           const char *argument);

/* Check for a moment whether a daemon whose connection has broken has ended: its lock goes a moment later
 * than its socket. Then the holder says so. */
bool ld_target_has_ended(struct ld_target *target);

/* Open a pidfd of a running target, confirmed by the kernel. Its holder may be newer then; a negative errno after complaining. */
int ld_target_open(struct ld_target *target);

/* Add how a daemon that is not running ended: "; it was killed by SIGKILL at ...". Adds nothing if
 * that is unknown. */
void ld_target_describe_death(const struct ld_target *target, struct ld_text *text);

/* Make a request to a running target, with SECONDS for the answer. It points into the target. */
struct ld_request ld_target_request(const struct ld_target *target, const char *verb,
                                    double seconds);

/* The same, with the time of --timeout if that was given; then a stopped daemon is waited for. */
struct ld_request ld_target_timed_request(const struct ld_call *call,
                                          const struct ld_target *target, const char *verb,
                                          double seconds);

/* Stop a running daemon: ask it, kill it after SECONDS (below 0: its own time), and remove what it
 * leaves. The exit status, after complaining. */
int ld_target_stop(const struct ld_target *target, double seconds);

/* Remove the files of a dead daemon; does nothing if it runs. */
void ld_target_clear(const struct ld_target *target);

/* Does the work of a verb for one daemon; the exit status, after complaining. */
typedef int ld_target_work(const struct ld_call *call, const struct ld_rundir *dir,
                           const char *argument);

enum ld_target_flags {
    LD_TARGET_RUNNING =
        1 << 0, /* --all without a config means those that run, not also those that have died */
    LD_TARGET_LAST_FIRST =
        1 << 1, /* services of a config, in the reverse of the order in which they are started */
    LD_TARGET_IMPLIED = 1 << 2, /* --config without names means all services */
};

/* Call EACH for every operand of a call, or with --all for all daemons, or with --config for those of its services, and
 * return the worst exit status. */
int ld_target_each(const struct ld_call *call, ld_target_work *each);
int ld_target_each_of(const struct ld_call *call, unsigned flags, ld_target_work *each);

#endif
