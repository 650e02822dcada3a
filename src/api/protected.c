/* pcall and xpcall, in place of Lua's: they keep every error but that of an interruption. */
#include <lauxlib.h>

#include "api/module.h"
#include "script/interrupt.h"

/* Return from a protected call that ended with STATUS; its results are above the first KEPT values. */
static int finish(lua_State *L, int status, lua_KContext kept) {
    if (status == LUA_OK || status == LUA_YIELD) {
        return lua_gettop(L) - (int)kept;
    }
    if (ld_state_script(L)->interruption.is_under_way) {
        return ld_interrupt_unwind(L);
    }
    lua_pushboolean(L, 0);
    lua_pushvalue(L, -2);
    return 2;
}

/* pcall(fn, ...) -> true, results | false, error */
static int l_pcall(lua_State *L) {
    luaL_checkany(L, 1);
    lua_pushboolean(L, 1);
    lua_insert(L, 1);
    return finish(L, lua_pcallk(L, lua_gettop(L) - 2, LUA_MULTRET, 0, 0, finish), 0);
}

/* xpcall(fn, handler, ...) -> true, results | false, what the handler returned */
static int l_xpcall(lua_State *L) {
    int args = lua_gettop(L) - 2;
    luaL_checktype(L, 2, LUA_TFUNCTION);
    lua_pushboolean(L, 1);
    lua_pushvalue(L, 1);
    lua_rotate(L, 3, 2);
    return finish(L, lua_pcallk(L, args, LUA_MULTRET, 2, 2, finish), 2);
}

/* Open this part: it replaces functions of Lua's library. */
static int set_up(lua_State *L) {
    static const luaL_Reg functions[] = {{"pcall", l_pcall}, {"xpcall", l_xpcall}, {NULL, NULL}};
    lua_pushglobaltable(L);
    luaL_setfuncs(L, functions, 0);
    return 0;
}

const struct ld_part ld_api_protected_part = {
    .name = "protected",
    .open = set_up,
};
