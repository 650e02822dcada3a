/* What a timer calls is in one table, by the timer's index; one that wakes a task has nothing there. The
 * userdata that a script holds is only a name for the timer: dropping it changes nothing. */
#include "api/timer_box.h"

#include <lauxlib.h>

#include "engine/clock.h"
#include "script/luax.h"
#include "script/task.h"

#define RETRY_NS 100000000

/* Reserve a timer for the value at INDEX. Raises when memory runs out. */
static ld_timer reserve(lua_State *L, const struct ld_script *script, int index) {
    ld_timer timer = ld_timers_reserve(script->timers);
    if (timer == 0) {
        lx_error(L, "not enough memory");
    }
    lua_pushvalue(L, index);
    ld_state_push_shelved(L, LD_SHELF_CALLBACKS);
    lua_insert(L, -2);
    lua_rawseti(L, -2, ld_api_timer_box_place(timer));
    lua_pop(L, 1);
    return timer;
}

/* Make a timer for the value at INDEX. */
ld_timer ld_api_timer_box_make(lua_State *L, int index) {
    struct ld_script *script = ld_state_script(L);
    reserve(L, script, index);
    return ld_timers_add(script->timers);
}

/* Make a timer that wakes a task. */
ld_timer ld_api_timer_box_wake(lua_State *L, struct ld_task *task, uint64_t ns) {
    struct ld_timers *timers = task->script->timers;
    ld_timer timer = ld_timers_add(timers);
    if (timer == 0) {
        lx_error(L, "not enough memory");
    }
    struct ld_timer_info *info = ld_timers_info(timers, timer);
    info->wakes = true;
    info->woken = task;
    info->hidden = true; /* the task is reported */
    ld_timers_restart(timers, timer, info, ns, false);
    return timer;
}

/* Push the name of a timer on the shelf, or nil. */
static void push_name(struct ld_script *script, ld_timer timer) {
    lua_rawgeti(script->shelf, LD_SHELF_TIMER_NAMES, ld_api_timer_box_place(timer));
}

/* The name of a timer. */
const char *ld_api_timer_box_name(struct ld_script *script, ld_timer timer) {
    push_name(script, timer);
    const char *name = lua_tostring(script->shelf, -1);
    lua_pop(script->shelf, 1);
    return name;
}

/* Name a timer by the string at the top of L. */
void ld_api_timer_box_set_name(lua_State *L, ld_timer timer) {
    struct ld_script *script = ld_state_script(L);
    ld_state_push_shelved(L, LD_SHELF_TIMER_NAMES);
    lua_pushvalue(L, -2);
    lua_rawseti(L, -2, ld_api_timer_box_place(timer));
    lua_pop(L, 1);
    ld_timers_info(script->timers, timer)->named = true;
}

/* Free a timer, whose information is INFO, and its callback: the key exists, so nothing is allocated. */
static void free_known(struct ld_script *script, ld_timer timer, const struct ld_timer_info *info) {
    if (info->named) {
        lua_pushnil(script->shelf);
        lua_rawseti(script->shelf, LD_SHELF_TIMER_NAMES, ld_api_timer_box_place(timer));
    }
    lua_pushnil(script->shelf);
    lua_rawseti(script->shelf, LD_SHELF_CALLBACKS, ld_api_timer_box_place(timer));
    ld_timers_free(script->timers, timer);
}

/* Free a timer. */
void ld_api_timer_box_free(struct ld_script *script, ld_timer timer) {
    const struct ld_timer_info *info = ld_timers_info(script->timers, timer);
    if (info != NULL) {
        free_known(script, timer, info);
    }
}

/* Free the timer of a task that continues. */
void ld_api_timer_box_end_wake(struct ld_script *script, ld_timer timer) {
    if (timer != 0 && script->timers != NULL) {
        ld_timers_free(script->timers, timer);
    }
}

/* Free every timer, except those of sleeping tasks. */
void ld_api_timer_box_drop_all(struct ld_script *script) {
    ld_timer following = ld_timers_next(script->timers, 0);
    while (following != 0) {
        ld_timer timer = following;
        following = ld_timers_next(script->timers, timer);
        struct ld_timer_info *info = ld_timers_info(script->timers, timer);
        if (!info->wakes) {
            free_known(script, timer, info);
        }
    }
}

/* Whether a timer will be called again after this call, as far as is known before it. */
static bool is_lasting(const struct ld_timer_info *info) {
    return info->repeats || info->by_clock;
}

/* End a timer's call: the next beat may call again; a timer that is not armed is freed. */
static void end_call(struct ld_script *script, ld_timer timer, struct ld_timer_info *info) {
    info->busy = false;
    if (!info->armed) {
        free_known(script, timer, info);
    } else if (!is_lasting(info)) {
        ld_timers_history(script->timers, timer, info)->runs++; /* only now it has a history */
    }
}

/* Handle the end of a task that has called for a timer, or made several calls: then of the last. */
static bool on_call_end(struct ld_task *task, enum ld_outcome outcome, int results) {
    (void)results;
    struct ld_timer_info *info = ld_timers_info(task->script->timers, task->number);
    if (info != NULL) {
        if (outcome == LD_OUTCOME_FAILED) {
            ld_timers_history(task->script->timers, task->number, info)->errors++;
        }
        end_call(task->script, task->number, info);
    }
    return false;
}

/* Begin a call by a task. */
void ld_api_timer_box_begin(struct ld_task *task, ld_timer timer, struct ld_timer_info *info) {
    if (is_lasting(info)) {
        ld_timers_history(task->script->timers, timer, info)->runs++;
    }
    info->busy = true;
    task->number = timer;
    task->on_end = on_call_end;
    if (info->named) {
        ld_task_set_name(task, ld_api_timer_box_name(task->script, timer));
    }
}

/* End a call that did not fail. */
void ld_api_timer_box_end(struct ld_task *task, ld_timer timer, struct ld_timer_info *info) {
    task->number = 0;
    if (ld_wheel_is_there(timer, info)) {
        end_call(task->script, timer, info);
    }
}

/* Call the value at the top of the shelf, which is popped. The timer exists until the call is over, so
 * that arming it again allocates nothing. */
void ld_api_timer_box_call(struct ld_script *script, ld_timer timer, struct ld_timer_info *info) {
    bool again = info->armed;
    struct ld_task *task = (again ? ld_task_take_or_report : ld_task_take)(script, "a timer");
    if (task == NULL) {
        lua_pop(script->shelf, 1);
        if (again) { /* which was reported */
            ld_timers_history(script->timers, timer, info)->errors++;
        } else { /* no memory now: try again later */
            ld_timers_arm(script->timers, timer, ld_clock_now() + RETRY_NS, 0);
        }
        return;
    }
    lua_xmove(script->shelf, task->co, 1);
    ld_api_timer_box_begin(task, timer, info);
    ld_task_start(task, 0);
}

/* Push what a timer calls, on the shelf. */
int ld_api_timer_box_push_callback(struct ld_script *script, ld_timer timer) {
    return lua_rawgeti(script->shelf, LD_SHELF_CALLBACKS, ld_api_timer_box_place(timer));
}

/* Push a box that has no timer yet. */
static struct ld_timer_box *push_box(lua_State *L, int index) {
    struct ld_timer_box *box = lua_newuserdatauv(L, sizeof *box, 1);
    *box = (struct ld_timer_box){0};
    ld_state_push_shelved(L, LD_SHELF_TIMER_TYPE);
    lua_setmetatable(L, -2);
    lua_pushvalue(L, index);
    lua_setiuservalue(L, -2, 1);
    return box;
}

/* Push a box with a timer. */
struct ld_timer_box *ld_api_timer_box_new(lua_State *L, int index) {
    struct ld_timer_box *box = push_box(L, index);
    box->timer = ld_api_timer_box_make(L, index);
    return box;
}

/* Push a box with a timer that is armed. */
void ld_api_timer_box_start(lua_State *L, int index, uint64_t period, bool repeats) {
    const struct ld_script *script = ld_state_script(L);
    struct ld_timer_box *box = push_box(L, index);
    box->timer = reserve(L, script, index);
    box->period = period;
    box->kind = repeats ? LD_TIMER_EVERY : LD_TIMER_AFTER;
    ld_timers_start(script->timers, box->timer, period, repeats);
}

/* The box in argument 1. */
struct ld_timer_box *ld_api_timer_box_check(lua_State *L) {
    struct ld_timer_box *box = lua_touserdata(L, 1);
    if (box != NULL && lua_getmetatable(L, 1)) {
        bool is_timer = lua_topointer(L, -1) == ld_state_script(L)->timer_type;
        lua_pop(L, 1);
        if (is_timer) {
            return box;
        }
    }
    return luaL_checkudata(L, 1, LD_TIMER_TYPE); /* which raises */
}

/* Make the table of what timers call, and shelve the metatable at the top. */
void ld_api_timer_box_open(lua_State *L) {
    struct ld_script *script = ld_state_script(L);
    script->timer_type = lua_topointer(L, -1);
    ld_state_shelve(L, LD_SHELF_TIMER_TYPE);
    lua_newtable(L);
    ld_state_shelve(L, LD_SHELF_CALLBACKS);
    lua_newtable(L);
    ld_state_shelve(L, LD_SHELF_TIMER_NAMES);
}
