/* lunad.await: a task is parked until a function that it has handed on is called. */
#include <lauxlib.h>

#include "api/module.h"
#include "api/timer_box.h"
#include "script/luax.h"
#include "script/task.h"

enum await_state {
    AWAIT_CALLS,    /* the function that is to call done has not returned */
    AWAIT_WAITS,    /* the task is suspended until done is called */
    AWAIT_ANSWERED, /* done was called; another call does nothing */
    AWAIT_OVER,     /* no task waits */
};

/* One call of await, the first upvalue of its done. The second is what done was given: one value, or a
 * table of several. */
struct await {
    enum await_state state;
    int count; /* of values that done was given */
    struct ld_task *task;
    bool is_limited; /* a call of await_for */
    bool is_timed;   /* with a limit */
    uint64_t ns;     /* which is this */
    ld_timer timer;  /* that wakes the task, or 0 */
};

/* Keep the arguments, all values on the stack, as the second upvalue of done. */
static void keep_answer(lua_State *L, int count) {
    if (count > 1) {
        lua_createtable(L, count, 0);
        lua_insert(L, 1);
        for (int i = count; i >= 1; i--) {
            lua_rawseti(L, 1, i);
        }
    }
    if (count > 0) {
        lua_replace(L, lua_upvalueindex(2));
    }
}

/* done(...): end the await that this was made for. Does nothing if that is over. */
static int l_done(lua_State *L) {
    struct await *await = lua_touserdata(L, lua_upvalueindex(1));
    int count = lua_gettop(L);
    if (await->state == AWAIT_CALLS) {
        keep_answer(L, count);
        await->count = count;
        await->state = AWAIT_ANSWERED;
    } else if (await->state == AWAIT_WAITS) {
        if (!lua_checkstack(await->task->co, count + 1)) { /* give adds one */
            lx_error(L, "await: too many results");
        }
        lua_xmove(L, await->task->co, count);
        await->state = AWAIT_ANSWERED;
        ld_task_wake(await->task);
    }
    return 0;
}

/* Return COUNT values that done was given, at the top: after true, in await_for; or that it was not called. */
static int give(lua_State *L, const struct await *await, bool is_answered, int count) {
    if (await->is_limited) {
        lua_pushboolean(L, is_answered);
        lua_insert(L, -1 - count);
        return count + 1;
    }
    return count;
}

/* Push what the done at index 1 was given. */
static int push_answer(lua_State *L, const struct await *await) {
    int count = await->count;
    lua_settop(L, 1);
    if (count == 1) {
        lua_getupvalue(L, 1, 2);
    } else if (count > 1) {
        luaL_checkstack(L, count + 1, "await: too many results");
        lua_getupvalue(L, 1, 2);
        for (int i = 1; i <= count; i++) {
            lua_rawgeti(L, 2, i);
        }
    }
    return give(L, await, true, count);
}

/* Forget a task that is cancelled. */
static void abandon(struct ld_task *task) {
    struct await *await = task->awaited;
    await->state = AWAIT_OVER;
    ld_api_timer_box_end_wake(task->script, await->timer);
}

/* Return what done was given, which is above done on the stack; or that the time is up. A task that its time
 * has woken may be cancelled before it continues, and done be called when it has gone. */
static int resumed(lua_State *L, int status, lua_KContext context) {
    struct ld_task *task = ld_task_of(L);
    struct await *await = task->awaited;
    bool is_answered = await->state == AWAIT_ANSWERED;
    (void)status;
    (void)context;
    await->state = AWAIT_OVER;
    ld_api_timer_box_end_wake(task->script, await->timer);
    ld_task_check_cancelled(L);
    return give(L, await, is_answered, lua_gettop(L) - 1);
}

/* Go on when the function has returned; its results are above done on the stack. */
static int returned(lua_State *L, int status, lua_KContext context) {
    struct await *await = (struct await *)context;
    int results = lua_gettop(L) - 1;
    (void)status;
    if (await->state == AWAIT_ANSWERED) {
        return push_answer(L, await);
    }
    await->state = AWAIT_OVER;
    if (results > 0 && !lua_toboolean(L, 2)) {
        return results;
    }
    lua_settop(L, 1);
    await->task = ld_task_check(L, "await");
    await->timer = await->is_timed ? ld_api_timer_box_wake(L, await->task, await->ns) : 0;
    await->task->awaited = await;
    await->state = AWAIT_WAITS;
    return ld_task_suspend(L, "await", abandon, resumed);
}

/* Call the function at index 1 with the arguments above it and done, and wait until that is called. */
static int begin(lua_State *L, const struct await *how) {
    lx_check_callable(L, 1);
    ld_task_check(L, "await");
    struct await *await = lua_newuserdatauv(L, sizeof *await, 0);
    *await = *how;
    lua_pushnil(L);
    lua_pushcclosure(L, l_done, 2);
    lua_pushvalue(L, -1);
    lua_insert(L, 1);
    lua_callk(L, lua_gettop(L) - 2, LUA_MULTRET, (lua_KContext)await, returned);
    return returned(L, LUA_OK, (lua_KContext)await);
}

/* await(fn, ...) -> what done was given. Calls fn(..., done). */
static int l_await(lua_State *L) {
    return begin(L, &(struct await){.state = AWAIT_CALLS});
}

/* The same, for lunad's own Lua, for at most SECONDS (nil: no limit):
 * await_for(seconds, fn, ...) -> true, what done was given | false, when the time is up | what fn returned,
 * if that is nil or false. */
static int l_await_for(lua_State *L) {
    struct await how = {.state = AWAIT_CALLS, .is_limited = true};
    how.is_timed = !lua_isnoneornil(L, 1);
    how.ns = how.is_timed ? lx_check_seconds(L, 1, false) : 0;
    lua_remove(L, 1);
    return begin(L, &how);
}

static const luaL_Reg functions[] = {
    {"await", l_await},
    {NULL, NULL},
};

static const luaL_Reg own[] = {
    {"await_for", l_await_for},
    {NULL, NULL},
};

const struct ld_part ld_api_await_part = {
    .name = "await",
    .functions = functions,
    .own = own,
};
