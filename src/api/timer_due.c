/* What is due at one time is called by one task, one after the other: to start a task and to enter Lua costs
 * more than a short callback. The script cannot tell: a call that suspends or fails keeps that task for
 * itself, and so does one that has asked for its coroutine, has set a hook, or has woken another task; the
 * rest is called by the next task. */
#include "api/timer_due.h"

#include <lauxlib.h>

#include "api/timer_box.h"
#include "api/timer_cron.h"
#include "script/task.h"

/* A timer that was taken and has not fired. */
struct ld_timer_due {
    struct ld_script *script;
    ld_timer timer; /* 0: none */
    struct ld_timer_info *info;
};

/* Take the next timer; false if there is none, or the loop is to turn before. */
static bool take(struct ld_timer_due *due) {
    due->timer = ld_timers_take(due->script->timers, &due->info);
    return due->timer != 0;
}

/* Whether a timer calls a function now, and does nothing else. */
static bool is_plain(const struct ld_timer_info *info) {
    return !info->by_clock && !info->wakes && !info->busy;
}

/* End a call that had been suspended: the task makes no other. */
static int call_resumed(lua_State *L, int status, lua_KContext context) {
    (void)L;
    (void)status;
    (void)context;
    return 0;
}

/* Call what is due as long as that is plain; the first timer is begun. The function of a task. A script can
 * find it, by debug.getinfo, and call it too. */
static int call_all(lua_State *L) {
    struct ld_task *task = ld_task_of(L);
    struct ld_script *script = ld_state_script(L);
    struct ld_timer_due *due = script->due;
    bool is_first = true;
    if (due == NULL) {
        return luaL_error(L, "only lunad can call this");
    }
    script->due = NULL;
    ld_state_push_shelved(L, LD_SHELF_CALLBACKS);
    for (;;) {
        ld_timer timer = due->timer;
        due->timer = 0;
        lua_rawgeti(L, 1, ld_api_timer_box_place(timer));
        ld_task_begin_call(task, is_first);
        is_first = false;
        lua_callk(L, 0, 0, 0, call_resumed);
        ld_api_timer_box_end(task, timer, due->info);
        if (!ld_task_end_call(task) || !take(due) || !is_plain(due->info)) {
            return 0;
        }
        ld_api_timer_box_begin(task, due->timer, due->info);
    }
}

/* Start a task that calls what is due; false when memory ran out. */
static bool start_calls(struct ld_timer_due *due) {
    struct ld_script *script = due->script;
    struct ld_task *task = ld_task_take(script, "a timer");
    if (task == NULL) {
        return false;
    }
    ld_api_timer_box_begin(task, due->timer, due->info);
    lua_pushcfunction(task->co, call_all);
    script->due = due;
    ld_task_start(task, 0);
    if (script->due !=
        NULL) { /* nothing was called: the script has ended, or there was no memory */
        script->due = NULL;
        due->timer = 0;
    }
    return true;
}

/* Fire a timer by itself. Only taking a task allocates. */
static void fire(struct ld_timer_due *due) {
    struct ld_script *script = due->script;
    struct ld_timer_info *info = due->info;
    ld_timer timer = due->timer;
    due->timer = 0;
    if (info->by_clock) {
        ld_api_timer_cron_due(script, timer, info);
    } else if (info->busy && info->repeats) {
        ld_timers_history(script->timers, timer, info)->missed++;
    } else if (info->wakes) {
        struct ld_task *sleeper = info->woken;
        ld_timers_free(script->timers, timer);
        ld_task_wake(sleeper);
    } else {
        ld_api_timer_box_push_callback(script, timer);
        ld_api_timer_box_call(script, timer, info);
    }
}

/* Handle timers that are due. */
void ld_api_timer_due(void *script, struct ld_timers *timers) {
    struct ld_timer_due due = {.script = script};
    (void)timers;
    bool go_on = take(&due);
    while (go_on) {
        if (!is_plain(due.info) || !start_calls(&due)) {
            fire(&due);
        }
        go_on = due.timer != 0 || (due.script->wants == 0 && take(&due));
    }
}
