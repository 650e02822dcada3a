/* lunad.after, lunad.every, lunad.sleep, lunad.now and the methods of a timer.
 *
 * What a timer calls stands in one table of the registry, by the timer's index; for a task that
 * sleeps, the task stands there as light userdata. The userdata that a script holds is only a
 * name for the timer: dropping it changes nothing. */
#include <lauxlib.h>
#include <uv.h>

#include "lib.h"
#include "lib_parts.h"
#include "luax.h"
#include "task.h"

#define TIMER_TYPE   "lunad.timer"
#define UPVALUES_MAX 254
#define RETRY_NS     100000000

static const char callbacks_key; /* of the table of callbacks in the registry */

/* What a script holds. Its user value is what to call, for again(). */
struct box {
    ld_timer timer;
    uint64_t period; /* nanoseconds */
    bool repeats;
    uint32_t missed; /* of a timer that is gone */
};

/* Push the table of callbacks. */
static void push_callbacks(lua_State *L) {
    lua_rawgetp(L, LUA_REGISTRYINDEX, &callbacks_key);
}

/* Where a timer's callback stands in the table. */
static lua_Integer place_of(ld_timer timer) {
    return (lua_Integer)ld_wheel_index(timer) + 1;
}

/* Make a timer for the value at the top, which is popped. Raises for want of memory, with nothing
 * made. */
static ld_timer make_timer(lua_State *L) {
    struct ld_script *script = ld_script_of(L);
    ld_timer timer = ld_timers_reserve(script->timers);
    if (timer == 0) {
        lx_error(L, "not enough memory");
    }
    push_callbacks(L);
    lua_insert(L, -2);
    lua_rawseti(L, -2, place_of(timer));
    lua_pop(L, 1);
    return ld_timers_add(script->timers);
}

/* Free a timer and forget its callback. Does not raise: the key is there. */
static void free_timer(struct ld_script *script, ld_timer timer) {
    lua_State *L = script->L;
    push_callbacks(L);
    lua_pushnil(L);
    lua_rawseti(L, -2, place_of(timer));
    lua_pop(L, 1);
    ld_timers_free(script->timers, timer);
}

/* Note the end of a repeating timer's call: the next beat may call again. */
static bool on_call_end(struct ld_task *task, enum ld_outcome outcome, int results) {
    (void)results;
    struct ld_timer_info *info = ld_timers_info(task->script->timers, task->number);
    if (info != NULL) {
        info->busy = false;
        info->errors += outcome == LD_OUTCOME_FAILED;
    }
    return false;
}

/* Call the value at the top of the main stack, which is popped. */
static void call(struct ld_script *script, ld_timer timer, struct ld_timer_info *info) {
    struct ld_task *task = ld_task_take(script, "a timer");
    if (task == NULL) {
        lua_pop(script->L, 1);
        if (info->interval == 0) { /* no memory now: try again in a while */
            ld_timers_arm(script->timers, timer, uv_hrtime() + RETRY_NS, 0);
        }
        return;
    }
    lua_xmove(script->L, task->co, 1);
    if (info->interval == 0) {
        free_timer(script, timer);
    } else {
        info->runs++;
        info->busy = true;
        task->number = timer;
        task->on_end = on_call_end;
    }
    ld_task_start(task, 0);
}

/* Handle a timer that is due. Nothing here allocates but the taking of a task. */
static void on_due(void *arg, ld_timer timer) {
    struct ld_script *script = arg;
    struct ld_timer_info *info = ld_timers_info(script->timers, timer);
    if (info->busy) {
        info->missed++;
        return;
    }
    lua_State *L = script->L;
    push_callbacks(L);
    int type = lua_rawgeti(L, -1, place_of(timer));
    lua_remove(L, -2);
    if (type == LUA_TLIGHTUSERDATA) {
        struct ld_task *sleeper = lua_touserdata(L, -1);
        lua_pop(L, 1);
        free_timer(script, timer);
        ld_task_wake(sleeper);
    } else {
        call(script, timer, info);
    }
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

/* Make a timer and its userdata from the arguments: seconds, function, its arguments. */
static int start(lua_State *L, bool repeats) {
    ld_script_check_active(L);
    uint64_t period = lx_check_seconds(L, 1, repeats);
    lx_check_callable(L, 2);
    pack_arguments(L);
    struct box *box = lua_newuserdatauv(L, sizeof *box, 1);
    *box = (struct box){.period = period, .repeats = repeats};
    luaL_setmetatable(L, TIMER_TYPE);
    lua_pushvalue(L, 2);
    lua_setiuservalue(L, -2, 1);
    lua_pushvalue(L, 2);
    box->timer = make_timer(L);
    ld_timers_arm(ld_script_of(L)->timers, box->timer, uv_hrtime() + period, repeats ? period : 0);
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
    free_timer(task->script, task->timer);
}

/* Return from sleep. */
static int sleep_resumed(lua_State *L, int status, lua_KContext context) {
    (void)status;
    (void)context;
    ld_task_check_cancelled(L);
    return 0;
}

/* sleep(seconds) */
static int l_sleep(lua_State *L) {
    uint64_t ns = lx_check_seconds(L, 1, false);
    struct ld_task *task = ld_task_check(L, "sleep");
    lua_pushlightuserdata(L, task);
    task->timer = make_timer(L);
    ld_timers_arm(task->script->timers, task->timer, uv_hrtime() + ns, 0);
    return ld_task_suspend(L, "sleep", abandon_sleep, sleep_resumed);
}

/* The box in the first argument. */
static struct box *check_box(lua_State *L) {
    return luaL_checkudata(L, 1, TIMER_TYPE);
}

/* What is known of a box's timer; NULL if it has fired or was stopped. */
static struct ld_timer_info *find_info(lua_State *L, const struct box *box) {
    struct ld_timers *timers = ld_script_of(L)->timers;
    return timers != NULL ? ld_timers_info(timers, box->timer) : NULL;
}

/* timer:stop() */
static int m_stop(lua_State *L) {
    struct box *box = check_box(L);
    const struct ld_timer_info *info = find_info(L, box);
    if (info != NULL) {
        box->missed = info->missed;
        free_timer(ld_script_of(L), box->timer);
    }
    return 0;
}

/* timer:again([seconds]) */
static int m_again(lua_State *L) {
    struct box *box = check_box(L);
    struct ld_script *script = ld_script_of(L);
    ld_script_check_active(L);
    if (!lua_isnoneornil(L, 2)) {
        box->period = lx_check_seconds(L, 2, box->repeats);
    }
    if (find_info(L, box) == NULL) {
        lua_getiuservalue(L, 1, 1);
        box->timer = make_timer(L);
    }
    box->missed = 0;
    ld_timers_info(script->timers, box->timer)->missed = 0;
    ld_timers_arm(script->timers, box->timer, uv_hrtime() + box->period,
                  box->repeats ? box->period : 0);
    return 0;
}

/* timer:active() -> boolean */
static int m_active(lua_State *L) {
    const struct ld_timer_info *info = find_info(L, check_box(L));
    lua_pushboolean(L, info != NULL && info->armed);
    return 1;
}

/* timer:due() -> seconds | nil */
static int m_due(lua_State *L) {
    const struct ld_timer_info *info = find_info(L, check_box(L));
    if (info == NULL || !info->armed) {
        return 0;
    }
    uint64_t now = uv_hrtime();
    lua_pushnumber(L, info->due > now ? (lua_Number)(info->due - now) / 1e9 : 0);
    return 1;
}

/* timer:missed() -> count */
static int m_missed(lua_State *L) {
    const struct box *box = check_box(L);
    const struct ld_timer_info *info = find_info(L, box);
    lua_pushinteger(L, info != NULL ? info->missed : box->missed);
    return 1;
}

/* A timer as text. */
static int mt_tostring(lua_State *L) {
    const struct box *box = check_box(L);
    const struct ld_timer_info *info = find_info(L, box);
    lua_pushfstring(L, "timer (%s, %s)", box->repeats ? "every" : "after",
                    info != NULL && info->armed ? "active" : "stopped");
    return 1;
}

/* Drop every timer, but not those that tasks sleep by. */
void ld_lib_timer_drop_all(struct ld_script *script) {
    lua_State *L = script->L;
    ld_timer next = ld_timers_next(script->timers, 0);
    while (next != 0) {
        ld_timer timer = next;
        next = ld_timers_next(script->timers, timer);
        push_callbacks(L);
        bool sleeps = lua_rawgeti(L, -1, place_of(timer)) == LUA_TLIGHTUSERDATA;
        lua_pop(L, 2);
        if (!sleeps) {
            free_timer(script, timer);
        }
    }
}

/* What a report is made into. */
struct report {
    struct ld_script *script;
    json_t *list;
};

/* Add one timer to a report; its callback is at the top of the stack. */
static void report_timer(lua_State *L, json_t *list, const struct ld_timer_info *info) {
    uint64_t now = uv_hrtime();
    if (lua_tocfunction(L, -1) == call_packed) {
        lua_getupvalue(L, -1, 1);
        lua_replace(L, -2);
    }
    lx_push_function_place(L, -1);
    json_t *timer = json_object();
    json_object_set_new(timer, "where", json_string(lua_tostring(L, -1)));
    json_object_set_new(timer, "kind", json_string(info->interval > 0 ? "every" : "after"));
    json_object_set_new(timer, "interval",
                        info->interval > 0 ? json_real((double)info->interval / 1e9) : json_null());
    json_object_set_new(timer, "due",
                        json_real(info->due > now ? (double)(info->due - now) / 1e9 : 0));
    json_object_set_new(timer, "runs", json_integer(info->runs));
    json_object_set_new(timer, "missed", json_integer(info->missed));
    json_object_set_new(timer, "errors", json_integer(info->errors));
    json_array_append_new(list, timer);
    lua_pop(L, 1);
}

/* Report all timers. Runs protected. */
static int report_all(lua_State *L) {
    const struct report *report = lua_touserdata(L, 1);
    struct ld_timers *timers = report->script->timers;
    for (ld_timer at = ld_timers_next(timers, 0); at != 0; at = ld_timers_next(timers, at)) {
        push_callbacks(L);
        if (lua_rawgeti(L, -1, place_of(at)) != LUA_TLIGHTUSERDATA) {
            report_timer(L, report->list, ld_timers_info(timers, at));
        }
        lua_pop(L, 2);
    }
    return 0;
}

/* The timers, for the status report. */
json_t *ld_lib_timer_report(struct ld_script *script) {
    struct report report = {.script = script, .list = json_array()};
    ld_script_protect(script, report_all, &report, NULL);
    return report.list;
}

static const luaL_Reg functions[] = {
    {"after", l_after}, {"every", l_every}, {"sleep", l_sleep}, {"now", l_now}, {NULL, NULL},
};

static const luaL_Reg methods[] = {
    {"stop", m_stop}, {"again", m_again},   {"active", m_active},
    {"due", m_due},   {"missed", m_missed}, {NULL, NULL},
};

/* Open this part. */
int luaopen_lunad_timer(lua_State *L) {
    struct ld_script *script = ld_script_of(L);
    lua_newtable(L);
    lua_rawsetp(L, LUA_REGISTRYINDEX, &callbacks_key);
    lx_new_type(L, TIMER_TYPE, methods);
    lua_pushcfunction(L, mt_tostring);
    lua_setfield(L, -2, "__tostring");
    lua_settop(L, 1);
    script->timers = ld_timers_new(script->env->loop, on_due, script, script->env->lag);
    if (script->timers == NULL) {
        return luaL_error(L, "not enough memory");
    }
    luaL_setfuncs(L, functions, 0);
    return 0;
}
