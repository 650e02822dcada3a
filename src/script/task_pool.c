/* The pool of coroutines that tasks run on. */
#include <lauxlib.h>
#include <stdlib.h>

#include "base/base.h"
#include "script/task.h"

#define IDLE_MAX 64 /* coroutines kept for the next callbacks */

static const char anchors_key; /* of the table of coroutines in the registry */

/* Make the coroutine of the task in the argument. Runs protected. */
static int make_coroutine(lua_State *L) {
    struct ld_task *task = lua_touserdata(L, 1);
    if (lua_rawgetp(L, LUA_REGISTRYINDEX, &anchors_key) == LUA_TNIL) {
        lua_newtable(L);
        lua_pushvalue(L, -1);
        lua_rawsetp(L, LUA_REGISTRYINDEX, &anchors_key);
    }
    lua_State *co = lua_newthread(L);
    lua_sethook(co, NULL, 0, 0); /* it would inherit the hook of L */
    task->anchor = luaL_ref(L, -2);
    task->co = co;
    *(struct ld_task **)lua_getextraspace(co) = task;
    return 0;
}

/* Make a task with a coroutine of its own; NULL when memory ran out. */
static struct ld_task *make_task(struct ld_script *script) {
    struct ld_task *task = calloc(1, sizeof *task);
    if (task != NULL) {
        task->script = script;
        if (ld_state_protect(script, make_coroutine, task, NULL) < 0) {
            free(task);
            task = NULL;
        }
    }
    return task;
}

/* Take a task from the pool. */
struct ld_task *ld_task_take(struct ld_script *script, const char *what) {
    struct ld_task *task = LIST_FIRST(&script->idle);
    if (task != NULL) {
        LIST_REMOVE(task, link);
        script->idle_count--;
    } else {
        task = make_task(script);
    }
    if (task != NULL) {
        task->what = what;
    }
    return task;
}

/* Take a task from the pool, or report that there is no memory for one. */
struct ld_task *ld_task_take_or_report(struct ld_script *script, const char *what) {
    static const struct ld_text trace = {.failed = true};
    struct ld_task *task = ld_task_take(script, what);
    if (task == NULL) {
        ld_task_report(script, what, &trace, 0);
    }
    return task;
}

/* Free a task and let its coroutine be collected, when the script does not hold it any more: from now
 * on it is an ordinary one that has ended. */
static void free_task(struct ld_task *task) {
    lua_State *L = task->script->L;
    *(struct ld_task **)lua_getextraspace(task->co) = task->script->root;
    lua_rawgetp(L, LUA_REGISTRYINDEX, &anchors_key);
    luaL_unref(L, -1, task->anchor); /* no new key, so no allocation */
    lua_pop(L, 1);
    free(task);
}

static bool hook_was_called;

/* Note that hooks are called. */
static void note_call(lua_State *L, lua_Debug *ar) {
    (void)L;
    (void)ar;
    hook_was_called = true;
}

/* What is called to try it. */
static int do_nothing(lua_State *L) {
    (void)L;
    return 0;
}

/* Whether Lua calls hooks on an empty coroutine: after an error in a hook it does not. */
static bool calls_hooks(lua_State *co) {
    hook_was_called = false;
    lua_sethook(co, note_call, LUA_MASKCALL, 0);
    lua_pushcfunction(co, do_nothing);
    lua_pcall(co, 0, 0, 0);
    lua_sethook(co, NULL, 0, 0);
    lua_settop(co, 0);
    return hook_was_called;
}

/* Put a task that has ended back into the pool. Its coroutine runs the next task only if nothing of
 * this one can be found there: the script does not know it, and it can be interrupted. */
void ld_task_drop(struct ld_task *task) {
    struct ld_script *script = task->script;
    lua_settop(task->co, 0);
    lua_sethook(task->co, NULL, 0, 0);
    bool is_used_up = task->is_known || script->idle_count >= IDLE_MAX ||
                      (task->has_failed && !calls_hooks(task->co));
    LD_ASSERT(!task->is_listed && !task->woken);
    task->state = LD_TASK_IDLE; /* what else there is, was set when it was needed */
    task->cancelled = false;
    task->was_cancelled = false;
    task->has_failed = false;
    task->on_end = NULL;
    task->next_waiter = NULL;
    if (is_used_up) {
        free_task(task);
        return;
    }
    LIST_INSERT_HEAD(&script->idle, task, link);
    script->idle_count++;
}

/* Free the pool. */
void ld_task_drain_pool(struct ld_script *script) {
    struct ld_task *task;
    while ((task = LIST_FIRST(&script->idle)) != NULL) {
        LIST_REMOVE(task, link);
        free_task(task);
    }
    script->idle_count = 0;
}
