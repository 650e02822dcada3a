/* The guard: interrupts Lua code that does not come to an end in time. One at a time a process. */
#ifndef LD_GUARD_H
#define LD_GUARD_H

#include "script.h"
#include "task.h"

/* When SECONDS have passed, and again and again after that, interrupt what runs in SCRIPT: TASK
 * whenever that one runs, or NULL for whatever does. The error says "WHAT took longer than 30 s".
 * Ends with ld_guard_stop, at the latest when the task ends. 0 or a negative errno. */
int ld_guard_start(struct ld_script *script, const struct ld_task *task, double seconds,
                   const char *what);

/* Do not, any more. */
void ld_guard_stop(void);

#endif
