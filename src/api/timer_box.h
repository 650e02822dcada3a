/* A timer as a script holds it, and the calling of its function. */
#ifndef LD_API_TIMER_BOX_H
#define LD_API_TIMER_BOX_H

#include "script/script.h"

#define LD_TIMER_TYPE "lunad.timer"

enum ld_timer_kind { LD_TIMER_AFTER, LD_TIMER_EVERY, LD_TIMER_CRON };

/* What a script holds. Its user value is the value to call, or the job of a cron timer. */
struct ld_timer_box {
    ld_timer timer;
    uint64_t period; /* nanoseconds */
    enum ld_timer_kind kind;
    uint32_t missed; /* when the timer itself is gone */
};

/* Where what a timer calls is in the table on the shelf. */
static inline lua_Integer ld_api_timer_box_place(ld_timer timer) {
    return (lua_Integer)ld_wheel_index(timer) + 1;
}

/* Make the table of what timers call, and keep the metatable of boxes, at the top, at hand; popped. */
void ld_api_timer_box_open(lua_State *L);

/* Make a timer for the value at INDEX. Raises when memory runs out, with nothing made. */
ld_timer ld_api_timer_box_make(lua_State *L, int index);

/* Make and arm a timer that wakes TASK after NS, and is freed then. Raises when memory runs out, with
 * nothing made. */
ld_timer ld_api_timer_box_wake(lua_State *L, struct ld_task *task, uint64_t ns);

/* Free such a timer, which may have fired; 0 does nothing. Does not raise. */
void ld_api_timer_box_end_wake(struct ld_script *script, ld_timer timer);

/* Free a timer. Does not raise. */
void ld_api_timer_box_free(struct ld_script *script, ld_timer timer);

/* Free every timer, except those of sleeping tasks. Does not raise; may be called from a timer's function. */
void ld_api_timer_box_drop_all(struct ld_script *script);

/* The name of a timer, or NULL. Valid until it has another, or is freed. Does not raise. */
const char *ld_api_timer_box_name(struct ld_script *script, ld_timer timer);

/* Name a timer by the string at the top of L, which stays. May raise. */
void ld_api_timer_box_set_name(lua_State *L, ld_timer timer);

/* Push a box with a new timer that calls the value at INDEX, which is not relative to the top. */
struct ld_timer_box *ld_api_timer_box_new(lua_State *L, int index);

/* The same, armed for PERIOD from now, once or with that as its beat. */
void ld_api_timer_box_start(lua_State *L, int index, uint64_t period, bool repeats);

/* The box in argument 1; raises for any other value. */
struct ld_timer_box *ld_api_timer_box_check(lua_State *L);

/* Push what a timer calls on the script's shelf; returns its type. Does not raise. */
int ld_api_timer_box_push_callback(struct ld_script *script, ld_timer timer);

/* Note that TASK calls what a timer calls: when that task ends, a timer that is not armed is freed; or that
 * it has, and the task goes on: that timer is freed now. */
void ld_api_timer_box_begin(struct ld_task *task, ld_timer timer, struct ld_timer_info *info);
void ld_api_timer_box_end(struct ld_task *task, ld_timer timer, struct ld_timer_info *info);

/* Call the value at the top of the shelf, which is popped. A timer that is not armed when the call is
 * over is freed. */
void ld_api_timer_box_call(struct ld_script *script, ld_timer timer, struct ld_timer_info *info);

#endif
