/* coroutine.resume, wrap, yield, close, running and isyieldable, in place of Lua's: the host must know
 * which coroutine runs, so that it can interrupt it, and it alone resumes and closes a task's coroutine. To
 * the script that one is what the main coroutine is to others: nothing of the script may yield it. */
#include <lauxlib.h>

#include "api/module.h"
#include "script/interrupt.h"
#include "script/luax.h"
#include "script/task.h"

static const char not_yours[] = "this coroutine is a task, which lunad alone resumes and closes";

/* The coroutine in argument ARG. */
static lua_State *check_coroutine(lua_State *L, int arg) {
    lua_State *co = lua_tothread(L, arg);
    luaL_argexpected(L, co != NULL, arg, "thread");
    return co;
}

/* Whether CO is suspended or has not begun, so that the host will resume it. */
static bool is_waiting(lua_State *co) {
    lua_Debug ar;
    return lua_status(co) == LUA_YIELD || !lua_getstack(co, 0, &ar);
}

/* Whether CO runs, or has resumed one that does. */
static bool is_running(lua_State *co) {
    lua_Debug ar;
    return lua_status(co) == LUA_OK && lua_getstack(co, 0, &ar);
}

/* Resume CO with the ARGS values at the top; the number of its results, or -1 with the error at the top. */
static int resume(lua_State *L, lua_State *co, int args) {
    struct ld_script *script = ld_state_script(L);
    int results;
    if (ld_task_is_hosts(co)) {
        lua_pushstring(L, is_waiting(co) ? not_yours : "cannot resume non-suspended coroutine");
        return -1;
    }
    if (!lua_checkstack(co, args)) {
        lua_pushliteral(L, "too many arguments to resume");
        return -1;
    }
    lua_xmove(L, co, args);
    struct ld_level level;
    ld_interrupt_enter(script, &level, co);
    int status = lua_resume(co, L, args, &results);
    ld_interrupt_leave(script, &level);
    bool unwinding = ld_interrupt_go_on(script, co);
    if (status != LUA_OK && status != LUA_YIELD) {
        lua_xmove(co, L, 1);
        results = -1;
    } else if (!lua_checkstack(L, results + 1)) {
        lua_pop(co, results);
        lua_pushliteral(L, "too many results to resume");
        results = -1;
    } else {
        lua_xmove(co, L, results);
    }
    if (unwinding) {
        ld_interrupt_raise(L);
    }
    return results;
}

/* coroutine.resume(co, ...) -> true, values | false, error */
static int l_resume(lua_State *L) {
    lua_State *co = check_coroutine(L, 1);
    int results = resume(L, co, lua_gettop(L) - 1);
    if (results < 0) {
        lua_pushboolean(L, 0);
        lua_insert(L, -2);
        return 2;
    }
    lua_pushboolean(L, 1);
    lua_insert(L, -(results + 1));
    return results + 1;
}

/* Call lua_resetthread, whose to-be-closed variables run on CO. */
static int reset(lua_State *L, lua_State *co) {
    struct ld_script *script = ld_state_script(L);
    struct ld_level level;
    ld_interrupt_enter(script, &level, co);
    int status = lua_resetthread(co);
    ld_interrupt_leave(script, &level);
    if (ld_interrupt_go_on(script, co)) {
        ld_interrupt_raise(L);
    }
    return status;
}

/* The function that coroutine.wrap made; its coroutine is the upvalue. */
static int wrapped(lua_State *L) {
    lua_State *co = lua_tothread(L, lua_upvalueindex(1));
    int results = resume(L, co, lua_gettop(L));
    if (results >= 0) {
        return results;
    }
    int status = lua_status(co);
    if (status != LUA_OK && status != LUA_YIELD) { /* it failed: close its variables */
        reset(L, co);
        lua_xmove(co, L, 1);
    }
    if (status != LUA_ERRMEM && lua_type(L, -1) == LUA_TSTRING) {
        luaL_where(L, 1);
        lua_insert(L, -2);
        lua_concat(L, 2);
    }
    return lua_error(L);
}

/* coroutine.wrap(fn) -> function */
static int l_wrap(lua_State *L) {
    luaL_checktype(L, 1, LUA_TFUNCTION);
    lua_State *co = lua_newthread(L);
    lua_pushvalue(L, 1);
    lua_xmove(L, co, 1);
    lua_pushcclosure(L, wrapped, 1);
    return 1;
}

/* coroutine.yield(...) */
static int l_yield(lua_State *L) {
    if (ld_task_of(L) != NULL) {
        lx_error(
            L, "attempt to yield from outside a coroutine: this is a task, and nothing would ever "
               "resume it (use lunad.sleep, or a coroutine of your own)");
    }
    return lua_yield(L, lua_gettop(L));
}

/* coroutine.close(co): Lua's own, but not for a task. */
static int l_close(lua_State *L) {
    lua_State *co = check_coroutine(L, 1);
    if (ld_task_is_hosts(co) && is_waiting(co)) {
        lx_error(L, "%s", not_yours);
    }
    if (co == L || is_running(co)) { /* Lua's own says what is wrong with that */
        lua_settop(L, 1);
        lua_pushvalue(L, lua_upvalueindex(1));
        lua_insert(L, 1);
        lua_call(L, 1, LUA_MULTRET);
        return lua_gettop(L);
    }
    if (reset(L, co) == LUA_OK) {
        lua_pushboolean(L, 1);
        return 1;
    }
    lua_pushboolean(L, 0);
    lua_xmove(co, L, 1);
    return 2;
}

/* coroutine.running() -> coroutine, boolean */
static int l_running(lua_State *L) {
    lua_pushthread(L);
    ld_task_note_known(L);
    lua_pushboolean(L, ld_task_is_hosts(L));
    return 2;
}

/* coroutine.isyieldable([co]) -> boolean */
static int l_isyieldable(lua_State *L) {
    lua_State *co = lua_isnone(L, 1) ? L : check_coroutine(L, 1);
    lua_pushboolean(L, !ld_task_is_hosts(co) && lua_isyieldable(co));
    return 1;
}

/* Open this part: it replaces functions of Lua's library. */
static int set_up(lua_State *L) {
    static const luaL_Reg functions[] = {
        {"resume", l_resume},
        {"wrap", l_wrap},
        {"yield", l_yield},
        {"running", l_running},
        {"isyieldable", l_isyieldable},
        {NULL, NULL},
    };
    lua_getglobal(L, "coroutine");
    luaL_setfuncs(L, functions, 0);
    lua_getfield(L, -1, "close");
    lua_pushcclosure(L, l_close, 1);
    lua_setfield(L, -2, "close");
    return 0;
}

const struct ld_part ld_api_coroutine_part = {
    .name = "coroutine",
    .open = set_up,
};
