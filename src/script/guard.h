/* The guard: interrupts Lua code that does not come to an end in time. One at a time a process. */
#ifndef LD_SCRIPT_GUARD_H
#define LD_SCRIPT_GUARD_H

#include <time.h>

#include "script/state.h"

/* When SECONDS have passed, and again and again after that, interrupt what runs in SCRIPT: TASK
 * whenever that one runs, or NULL for whatever does. The error says "WHAT took longer than 30 s".
 * Ends with ld_guard_stop, at the latest when the task ends. 0 or a negative errno. */
int ld_guard_start(struct ld_script *script, const struct ld_task *task, double seconds,
                   const char *what);

/* Stop guarding. */
void ld_guard_stop(void);

/* What is guarded, and for how much longer. */
struct ld_guard_state {
    struct ld_script *script; /* NULL: nothing */
    const struct ld_task *task;
    char reason[96];
    struct itimerspec left;
};

/* Put aside what is guarded now, to guard something else; stop that, and go on with the first. */
void ld_guard_save(struct ld_guard_state *state);
void ld_guard_restore(const struct ld_guard_state *state);

#endif
