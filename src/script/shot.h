/* Looking at Lua code that runs, from another thread, and interrupting it: a signal (SIGSTKFLT, which Linux
 * never sends by itself) to the thread that runs Lua, whose handler only sets a hook.
 *
 * The watching thread calls ld_shot_send again and again; each call is one shot. A hook that is called
 * shows that Lua code runs. If it is not called until the next shot, a C function runs. */
#ifndef LD_SCRIPT_SHOT_H
#define LD_SCRIPT_SHOT_H

#include <lua.h>
#include <stdbool.h>
#include <stdint.h>

#include "script/sight.h"

enum {
    LD_SHOT_TRACE = 1,     /* describe where Lua code is */
    LD_SHOT_REPORT = 2,    /* log that too, once */
    LD_SHOT_INTERRUPT = 4, /* interrupt it */
    LD_SHOT_CALLER = 8,    /* interrupt it if it runs for a caller that is due */
    LD_SHOT_STUCK = 16,    /* interrupt it if its script is on probation, which notes it */
};

/* What is to be done with the call number CALL (see ld_interrupt_calls), if it still runs. */
struct ld_shot {
    unsigned wants;
    unsigned long call;
    uint64_t since;     /* ld_time_monotonic when it began to hold the loop */
    const char *reason; /* of the interruption; static */
};

/* In the thread that runs Lua: catch the signal. 0 or a negative errno. */
int ld_shot_open(void);

/* In a process that was forked: aim at its own thread. */
void ld_shot_renew(void);

/* POSIX timers that send the signal, each with its number as the value. */
enum ld_shot_timer { LD_SHOT_TIMER_GUARD, LD_SHOT_TIMER_PROFILE, LD_SHOT_TIMERS };

/* Have FUNCTION called in the handler when that timer has sent the signal. */
void ld_shot_on_timer(enum ld_shot_timer timer, void (*function)(void));

/* Whether CO has the hook that looks at it. */
bool ld_shot_has_hook(lua_State *co);

/* The rest is called in the other thread. Shoot. */
void ld_shot_send(const struct ld_shot *shot);

/* Give up what has not been done. */
void ld_shot_cancel(void);

/* Whether a trace was taken that has not been fetched; it is copied to SIGHT. If a report was asked for
 * and a C function runs, it is logged here. */
bool ld_shot_fetch(struct ld_sight *sight);

#endif
