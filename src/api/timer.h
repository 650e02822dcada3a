/* What the parts of timers in Lua share: lib_timer.c (timers), lib_cron.c (those that go by the clock
 * on the wall) and lib_timer_methods.c. */
#ifndef LD_API_TIMER_H
#define LD_API_TIMER_H

#include "script/script.h"
#include "script/task.h"

#define LD_TIMER_TYPE "lunad.timer"

enum ld_timer_kind { LD_TIMER_AFTER, LD_TIMER_EVERY, LD_TIMER_CRON };

/* What a script holds. Its user value is what to call, or the job of a cron timer. */
struct ld_timer_box {
    ld_timer timer;
    uint64_t period; /* nanoseconds */
    enum ld_timer_kind kind;
    uint32_t missed; /* of a timer that is gone */
};

/* Make a timer for the value at INDEX. Raises for want of memory, with nothing made. */
ld_timer ld_api_timer_make(lua_State *L, int index);

/* Free a timer. Does not raise. */
void ld_api_timer_free(struct ld_script *script, ld_timer timer);

/* Push the userdata for a new timer that calls the value at INDEX, which is not relative to the top. */
struct ld_timer_box *ld_api_timer_push_box(lua_State *L, int index);

/* The timer in argument 1; raises if it is none. */
struct ld_timer_box *ld_api_timer_check_box(lua_State *L);

/* Push what a timer calls on the script's shelf; its type. Does not raise. */
int ld_api_timer_push(struct ld_script *script, ld_timer timer);

/* Call the value at the top of the shelf, which is popped. A timer that is not armed when the call is
 * over is freed. */
void ld_api_timer_call(struct ld_script *script, ld_timer timer, struct ld_timer_info *info);

/* Push the metatable of timers with its methods. */
void ld_api_timer_set_methods(lua_State *L);

/* Whether a function is one that calls another with arguments it has kept. */
bool ld_api_timer_is_packed(lua_CFunction function);

/* Handle a cron timer that is due. */
void ld_api_cron_due(struct ld_script *script, ld_timer timer, struct ld_timer_info *info);

/* Arm the cron timer whose job is at the top of the stack for its next moment. */
void ld_api_cron_arm(lua_State *L, ld_timer timer);

/* Push the function of the job at the top of the stack, in its place. */
void ld_api_cron_unwrap(lua_State *L);

#endif
