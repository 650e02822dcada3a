/* The daemon that a NAME on the command line means. */
#ifndef LD_TARGET_H
#define LD_TARGET_H

#include <stdbool.h>

#include "pidfile.h"
#include "record.h"
#include "text.h"

/* A run directory that is being looked at. */
struct ld_rundir {
    char *path;
    int fd;               /* -1: it does not exist */
    struct ld_text where; /* "looked in PATH", for messages about what was not found */
};

struct ld_target {
    const struct ld_rundir *dir;
    char name[256]; /* of the daemon; what stands for one if there can be none */
    struct ld_holder holder;
};

/* Open the run directory that is CHOSEN (NULL: the default). 0, or exit status 1 after complaining. */
int ld_rundir_open(struct ld_rundir *dir, const char *chosen);
void ld_rundir_close(struct ld_rundir *dir);

/* Call EACH with every name that has a pidfile or a record, in order, while it returns true. */
void ld_rundir_each(const struct ld_rundir *dir, bool (*each)(const char *name, void *arg),
                    void *arg);

/* Find the daemon that ARGUMENT, a name or a script's path, means. 0 (running or not: see the
 * holder), or an exit status after complaining: 2 for what is no name, 1 for another user's. */
int ld_target_find(struct ld_target *target, const struct ld_rundir *dir, const char *argument);

/* The same, but 3 after saying so if it does not run. */
int ld_target_find_running(struct ld_target *target, const struct ld_rundir *dir,
                           const char *argument);

/* Whether a daemon that was found running, and whose connection has broken, has ended: its lock goes a
 * moment later than its sockets. Then the holder says so. */
bool ld_target_has_ended(struct ld_target *target);

/* A pidfd for a running target, confirmed by the kernel; a negative errno after complaining. */
int ld_target_open(const struct ld_target *target);

/* Say why a daemon that is not running is not, if that is known: "; it was killed by SIGKILL at ...".
 * Adds nothing otherwise. */
void ld_target_death_text(const struct ld_target *target, struct ld_text *text);

/* Stop a daemon that runs, giving it SECONDS (below 0: its own time) before it is killed, and remove
 * what it leaves. The exit status. (In cmd_stop.c.) */
int ld_stop_target(const struct ld_target *target, double seconds);

/* Remove what a daemon that is dead has left behind; nothing if it runs. */
void ld_target_clear(const struct ld_target *target);

/* Call EACH for every operand of a call and return the worst exit status. */
struct ld_call;
int ld_target_each(const struct ld_call *call,
                   int (*each)(const struct ld_call *call, const struct ld_rundir *dir,
                               const char *argument));

#endif
