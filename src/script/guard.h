/* The guard: interrupts Lua code that takes too long. A process has one, which guards one thing at a
 * time. */
#ifndef LD_SCRIPT_GUARD_H
#define LD_SCRIPT_GUARD_H

#include <time.h>

#include "script/state.h"

/* When SECONDS have passed, and repeatedly after that, interrupt what runs in SCRIPT: only TASK, or any
 * task if TASK is NULL. The error says "WHAT took longer than 30 s".
 * To be ended by ld_guard_stop, at the latest when the task ends. 0 or a negative errno. */
int ld_guard_start(struct ld_script *script, const struct ld_task *task, double seconds,
                   const char *what);

/* Stop guarding. */
void ld_guard_stop(void);

/* In a process that was forked and goes on as the daemon did: use a timer of its own. */
void ld_guard_renew(void);

/* What is guarded, and for how much longer. */
struct ld_guard_state {
    struct ld_script *script; /* NULL: nothing */
    const struct ld_task *task;
    char reason[96];
    struct itimerspec left;
};

/* Save what is guarded, to guard something else meanwhile; restore it. */
void ld_guard_save(struct ld_guard_state *state);
void ld_guard_restore(const struct ld_guard_state *state);

#endif
