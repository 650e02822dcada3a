/* The guard: interrupts Lua code that does not come to an end in time. One at a time a process. */
#ifndef LD_GUARD_H
#define LD_GUARD_H

#include "script.h"

/* Interrupt whatever runs in SCRIPT when SECONDS have passed, with an error that says so: "WHAT
 * took longer than 30 s". 0 or a negative errno. */
int ld_guard_start(struct ld_script *script, double seconds, const char *what);

/* Do not, any more. */
void ld_guard_stop(void);

#endif
