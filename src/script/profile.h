/* A profile of the Lua code that runs: a timer of the CPU time of the thread sends the signal of shot.h, whose
 * handler sets a hook on the coroutine that runs; the hook counts the stack, and is gone. Of a C function the
 * hook is called when that returns, or calls Lua. It goes on over a change of generations. One at a time; only
 * the thread that runs Lua may call these. */
#ifndef LD_SCRIPT_PROFILE_H
#define LD_SCRIPT_PROFILE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define LD_PROFILE_HZ 200 /* samples for each second of CPU time */

/* What was counted. */
struct ld_profile_totals {
    uint64_t samples; /* whose stack was counted, as often as the timer went */
    uint64_t outside; /* while no Lua code ran */
    uint64_t
        missed; /* in code that is being interrupted, or that has a hook which cannot be put aside */
};

/* Begin; forget what was counted before. 0, -EBUSY if one is under way, or a negative errno. */
int ld_profile_start(void);

/* End. What was counted is kept. Twice does nothing. */
void ld_profile_stop(void);

/* Read what was counted: call EACH with every stack. It is like "timer beat;tick app.lua:3;fold app.lua:10",
 * the innermost call last: valid UTF-8 without control characters. */
void ld_profile_read(struct ld_profile_totals *totals,
                     void (*each)(void *arg, const char *stack, size_t size, uint64_t count),
                     void *arg);

/* Free what was counted; it has been stopped. */
void ld_profile_clear(void);

#endif
