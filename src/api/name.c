#include "api/name.h"

#include <lauxlib.h>
#include <string.h>

#include "script/luax.h"
#include "script/state.h"

/* Name a userdata. */
const char *ld_api_name_set(lua_State *L, int index) {
    size_t size;
    const char *name;
    luaL_checktype(L, 2, LUA_TSTRING);
    name = lua_tolstring(L, 2, &size);
    luaL_argcheck(L, size > 0 && size <= LD_NAME_MOST, 2, "a name has 1 to 100 bytes");
    luaL_argcheck(L, strlen(name) == size, 2, "it has a zero byte in it");
    ld_state_push_shelved(L, LD_SHELF_BOX_NAMES);
    lua_pushvalue(L, index);
    lua_pushvalue(L, 2);
    lua_rawset(L, -3);
    lua_pop(L, 1);
    lua_pushvalue(L, 2);
    return name;
}

/* Push the name of a userdata. */
bool ld_api_name_push(lua_State *L, int index) {
    ld_state_push_shelved(L, LD_SHELF_BOX_NAMES);
    lua_pushvalue(L, index);
    bool has_one = lua_rawget(L, -2) == LUA_TSTRING;
    lua_remove(L, -2);
    if (!has_one) {
        lua_pop(L, 1);
    }
    return has_one;
}

/* Make the table of names. */
void ld_api_name_open(lua_State *L) {
    lua_newtable(L);
    lua_createtable(L, 0, 1);
    lua_pushliteral(L, "k");
    lua_setfield(L, -2, "__mode");
    lua_setmetatable(L, -2);
    ld_state_shelve(L, LD_SHELF_BOX_NAMES);
}
