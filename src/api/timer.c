/* lunad.after, lunad.every, lunad.sleep and lunad.now.
 *
 * What a timer calls stands in one table, by the timer's index; for a task that sleeps, the task
 * stands there as light userdata. The userdata that a script holds is only a name for the timer:
 * dropping it changes nothing. */
#include <lauxlib.h>
#include <uv.h>

#include "api/module.h"
#include "api/parts.h"
#include "api/timer.h"
#include "base/time.h"
#include "engine/turn.h"
#include "script/luax.h"
#include "script/task.h"

#define UPVALUES_MAX 254
#define RETRY_NS     100000000

/* Where a timer's callback stands in the table. */
static lua_Integer place_of(ld_timer timer) {
    return (lua_Integer)ld_wheel_index(timer) + 1;
}

/* Make a timer for the value at INDEX. */
ld_timer ld_api_timer_make(lua_State *L, int index) {
    struct ld_script *script = ld_state_script(L);
    ld_timer timer = ld_timers_reserve(script->timers);
    if (timer == 0) {
        lx_error(L, "not enough memory");
    }
    index = lua_absindex(L, index);
    ld_state_push_shelved(L, LD_SHELF_CALLBACKS);
    lua_pushvalue(L, index);
    lua_rawseti(L, -2, place_of(timer));
    lua_pop(L, 1);
    return ld_timers_add(script->timers);
}

/* Free a timer and forget its callback: the key is there, so nothing is allocated. */
void ld_api_timer_free(struct ld_script *script, ld_timer timer) {
    lua_pushnil(script->shelf);
    lua_rawseti(script->shelf, LD_SHELF_CALLBACKS, place_of(timer));
    ld_timers_free(script->timers, timer);
}

/* Note the end of a timer's call: the next beat may call again, and what is not armed is done with. */
static bool on_call_end(struct ld_task *task, enum ld_outcome outcome, int results) {
    (void)results;
    struct ld_timer_info *info = ld_timers_info(task->script->timers, task->number);
    if (info != NULL) {
        info->busy = false;
        info->errors += outcome == LD_OUTCOME_FAILED;
        if (!info->armed) {
            ld_api_timer_free(task->script, task->number);
        }
    }
    return false;
}

/* Call the value at the top of the shelf, which is popped. The timer is there until the call is over, so
 * that arming it again makes nothing. */
void ld_api_timer_call(struct ld_script *script, ld_timer timer, struct ld_timer_info *info) {
    bool again = info->armed;
    struct ld_task *task = (again ? ld_task_take_or_report : ld_task_take)(script, "a timer");
    if (task == NULL) {
        lua_pop(script->shelf, 1);
        if (!again) { /* no memory now: try once more in a while */
            ld_timers_arm(script->timers, timer, uv_hrtime() + RETRY_NS, 0);
        }
        return;
    }
    lua_xmove(script->shelf, task->co, 1);
    info->runs++;
    info->busy = true;
    task->number = timer;
    task->on_end = on_call_end;
    ld_task_start(task, 0);
}

/* Push what a timer calls, on the shelf. */
int ld_api_timer_push(struct ld_script *script, ld_timer timer) {
    return lua_rawgeti(script->shelf, LD_SHELF_CALLBACKS, place_of(timer));
}

/* Handle a timer that is due. Nothing here allocates but the taking of a task. */
static bool on_due(void *arg, ld_timer timer, struct ld_timer_info *info) {
    struct ld_script *script = arg;
    if (info->by_clock) {
        ld_api_cron_due(script, timer, info);
    } else if (info->busy && info->interval > 0) {
        info->missed++;
    } else if (ld_api_timer_push(script, timer) == LUA_TLIGHTUSERDATA) {
        struct ld_task *sleeper = lua_touserdata(script->shelf, -1);
        lua_pop(script->shelf, 1);
        ld_api_timer_free(script, timer);
        ld_task_wake(sleeper);
    } else {
        ld_api_timer_call(script, timer, info);
    }
    return script->wants == 0;
}

/* End a packed call that had been suspended. */
static int packed_resumed(lua_State *L, int status, lua_KContext context) {
    (void)L;
    (void)status;
    (void)context;
    return 0;
}

/* Call the first upvalue with the others. */
static int call_packed(lua_State *L) {
    int count = 0;
    luaL_checkstack(L, UPVALUES_MAX, "too many arguments");
    while (!lua_isnone(L, lua_upvalueindex(count + 1))) {
        lua_pushvalue(L, lua_upvalueindex(++count));
    }
    lua_callk(L, count - 1, 0, 0, packed_resumed);
    return 0;
}

/* Whether a function is a packed call. */
bool ld_api_timer_is_packed(lua_CFunction function) {
    return function == call_packed;
}

/* Replace the function at index 2 and the arguments behind it by one value to call. */
static void pack_arguments(lua_State *L) {
    int values = lua_gettop(L) - 1;
    if (values > UPVALUES_MAX) {
        lx_error(L, "too many arguments for the function: at most %d", UPVALUES_MAX - 1);
    }
    if (values > 1) {
        lua_pushcclosure(L, call_packed, values);
    }
}

/* Push the userdata for a timer that calls the value at INDEX. */
struct ld_timer_box *ld_api_timer_push_box(lua_State *L, int index) {
    struct ld_timer_box *box = lua_newuserdatauv(L, sizeof *box, 1);
    *box = (struct ld_timer_box){0};
    ld_state_push_shelved(L, LD_SHELF_TIMER_TYPE);
    lua_setmetatable(L, -2);
    lua_pushvalue(L, index);
    lua_setiuservalue(L, -2, 1);
    box->timer = ld_api_timer_make(L, index);
    return box;
}

/* The box in argument 1. */
struct ld_timer_box *ld_api_timer_check_box(lua_State *L) {
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

/* Make a timer and its userdata from the arguments: seconds, function, its arguments. */
static int start(lua_State *L, bool repeats) {
    struct ld_script *script = ld_state_script(L);
    ld_state_check_active(L);
    uint64_t period = lx_check_seconds(L, 1, repeats);
    lx_check_callable(L, 2);
    pack_arguments(L);
    struct ld_timer_box *box = ld_api_timer_push_box(L, 2);
    box->period = period;
    box->kind = repeats ? LD_TIMER_EVERY : LD_TIMER_AFTER;
    ld_timers_arm(script->timers, box->timer, uv_hrtime() + period, repeats ? period : 0);
    return 1;
}

/* after(seconds, fn, ...) -> timer */
static int l_after(lua_State *L) {
    return start(L, false);
}

/* every(seconds, fn, ...) -> timer */
static int l_every(lua_State *L) {
    return start(L, true);
}

/* now() -> seconds */
static int l_now(lua_State *L) {
    lua_pushnumber(L, (lua_Number)uv_hrtime() / 1e9);
    return 1;
}

/* Stop what wakes a sleeping task. */
static void abandon_sleep(struct ld_task *task) {
    ld_api_timer_free(task->script, task->timer);
}

/* Return from sleep. */
static int sleep_resumed(lua_State *L, int status, lua_KContext context) {
    (void)status;
    (void)context;
    ld_task_check_cancelled(L);
    return 0;
}

/* Suspend the task of L for NS; to be called like ld_task_suspend. */
static int suspend_for(lua_State *L, uint64_t ns, lua_KFunction resumed) {
    struct ld_task *task = ld_task_check(L, "sleep");
    lua_pushlightuserdata(L, task);
    task->timer = ld_api_timer_make(L, -1);
    lua_pop(L, 1);
    ld_timers_arm(task->script->timers, task->timer, uv_hrtime() + ns, 0);
    return ld_task_suspend(L, "sleep", abandon_sleep, resumed);
}

/* sleep(seconds) */
static int l_sleep(lua_State *L) {
    return suspend_for(L, lx_check_seconds(L, 1, false), sleep_resumed);
}

/* Return the time from give_way. */
static int way_given(lua_State *L, int status, lua_KContext context) {
    sleep_resumed(L, status, context);
    lua_pushinteger(L, (lua_Integer)ld_time_coarse());
    return 1;
}

/* For lunad's own Lua, where it calls functions of the script one after the other:
 * give_way([start]) -> the start to be given next time. When the time of a turn is up since that, and
 * the caller is a task, the loop turns. */
static int l_give_way(lua_State *L) {
    uint64_t now = ld_time_coarse();
    uint64_t start = (uint64_t)luaL_optinteger(L, 1, (lua_Integer)now);
    const struct ld_task *task = ld_task_of(L);
    bool can_wait = task != NULL && lua_isyieldable(L) && !task->script->retired &&
                    !task->script->closing && !task->cancelled;
    if (now < start + LD_TURN_NS || !can_wait) {
        lua_pushinteger(L, (lua_Integer)start);
        return 1;
    }
    return suspend_for(L, 0, way_given);
}

/* Drop every timer, but not those that tasks sleep by. */
void ld_api_timer_drop_all(struct ld_script *script) {
    ld_timer next = ld_timers_next(script->timers, 0);
    while (next != 0) {
        ld_timer timer = next;
        next = ld_timers_next(script->timers, timer);
        bool sleeps = ld_api_timer_push(script, timer) == LUA_TLIGHTUSERDATA;
        lua_pop(script->shelf, 1);
        if (!sleeps) {
            ld_api_timer_free(script, timer);
        }
    }
}

static const luaL_Reg functions[] = {
    {"after", l_after}, {"every", l_every},       {"sleep", l_sleep},
    {"now", l_now},     {"give_way", l_give_way}, {NULL, NULL},
};

/* Open this part. */
int luaopen_lunad_timer(lua_State *L) {
    struct ld_script *script = ld_state_script(L);
    lua_newtable(L);
    ld_state_shelve(L, LD_SHELF_CALLBACKS);
    ld_api_timer_set_methods(L);
    script->timer_type = lua_topointer(L, -1);
    ld_state_shelve(L, LD_SHELF_TIMER_TYPE);
    script->timers = ld_timers_new(script->setup->loop, on_due, script, script->setup->lag);
    if (script->timers == NULL) {
        return luaL_error(L, "not enough memory");
    }
    luaL_setfuncs(L, functions, 0);
    return 0;
}
