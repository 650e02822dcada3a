/* lunad.await: a task is parked until a function that it has handed on is called. */
#include <lauxlib.h>

#include "api/module.h"
#include "script/luax.h"
#include "script/task.h"

enum await_state {
    AWAIT_CALLS,    /* the function that is to call done has not returned */
    AWAIT_ANSWERED, /* the same, but done was called already */
    AWAIT_WAITS,    /* the task is suspended until done is called */
    AWAIT_OVER,     /* done does nothing */
};

/* One call of await, the first upvalue of its done. The second is what done was given: one value, or a
 * table of several. */
struct await {
    enum await_state state;
    int count; /* of values that done was given */
    struct ld_task *task;
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
        if (!lua_checkstack(await->task->co, count)) {
            lx_error(L, "await: too many results");
        }
        lua_xmove(L, await->task->co, count);
        await->state = AWAIT_OVER;
        ld_task_wake(await->task);
    }
    return 0;
}

/* Push what the done at index 1 was given. */
static int push_answer(lua_State *L, int count) {
    lua_settop(L, 1);
    lua_getupvalue(L, 1, 2);
    if (count < 2) {
        return count;
    }
    luaL_checkstack(L, count, "await: too many results");
    for (int i = 1; i <= count; i++) {
        lua_rawgeti(L, 2, i);
    }
    return count;
}

/* Forget a task that is cancelled. */
static void abandon(struct ld_task *task) {
    ((struct await *)task->awaited)->state = AWAIT_OVER;
}

/* Return what done was given, which is above done on the stack. */
static int resumed(lua_State *L, int status, lua_KContext context) {
    (void)status;
    (void)context;
    ld_task_check_cancelled(L);
    return lua_gettop(L) - 1;
}

/* Go on when the function has returned; its results are above done on the stack. */
static int returned(lua_State *L, int status, lua_KContext context) {
    struct await *await = (struct await *)context;
    int results = lua_gettop(L) - 1;
    (void)status;
    bool is_answered = await->state == AWAIT_ANSWERED;
    await->state = AWAIT_OVER;
    if (is_answered) {
        return push_answer(L, await->count);
    }
    if (results > 0 && !lua_toboolean(L, 2)) {
        return results;
    }
    lua_settop(L, 1);
    await->task = ld_task_check(L, "await");
    await->task->awaited = await;
    await->state = AWAIT_WAITS;
    return ld_task_suspend(L, "await", abandon, resumed);
}

/* await(fn, ...) -> what done was given. Calls fn(..., done). */
static int l_await(lua_State *L) {
    lx_check_callable(L, 1);
    ld_task_check(L, "await");
    struct await *await = lua_newuserdatauv(L, sizeof *await, 0);
    *await = (struct await){.state = AWAIT_CALLS};
    lua_pushnil(L);
    lua_pushcclosure(L, l_done, 2);
    lua_pushvalue(L, -1);
    lua_insert(L, 1);
    lua_callk(L, lua_gettop(L) - 2, LUA_MULTRET, (lua_KContext)await, returned);
    return returned(L, LUA_OK, (lua_KContext)await);
}

static const luaL_Reg functions[] = {
    {"await", l_await},
    {NULL, NULL},
};

const struct ld_part ld_api_await_part = {
    .name = "await",
    .functions = functions,
};
