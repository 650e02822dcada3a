/* io.open and os.rename of a script that is watched: the files that they write are noted, so that a script which
 * saves what it loads with dofile does not reload itself by that. Without --watch they are Lua's own. */
#include <string.h>

#include "api/module.h"
#include "script/written.h"

/* Whether a mode of io.open is one, as Lua sees it. */
static bool is_mode(const char *mode) {
    if (mode[0] == '\0' || strchr("rwa", mode[0]) == NULL) {
        return false;
    }
    const char *rest = mode + 1 + (mode[1] == '+');
    return strspn(rest, "b") == strlen(rest);
}

/* Call Lua's own function, which is the upvalue, with two arguments; the number of its results, which are above
 * them. */
static int call_original(lua_State *L) {
    lua_settop(L, 2);
    lua_pushvalue(L, lua_upvalueindex(1));
    lua_pushvalue(L, 1);
    lua_pushvalue(L, 2);
    lua_call(L, 2, LUA_MULTRET);
    return lua_gettop(L) - 2;
}

/* io.open(path [, mode]) */
static int l_open(lua_State *L) {
    const char *path = luaL_checkstring(L, 1);
    const char *mode = luaL_optstring(L, 2, "r");
    luaL_argcheck(L, is_mode(mode), 2, "invalid mode");
    bool writes = mode[0] != 'r' || mode[1] == '+';
    int results = call_original(L);
    if (writes && !lua_isnil(L, 3)) {
        ld_written_note(ld_state_script(L)->setup->written, path);
    }
    return results;
}

/* os.rename(from, to) */
static int l_rename(lua_State *L) {
    struct ld_written *written = ld_state_script(L)->setup->written;
    const char *from = luaL_checkstring(L, 1);
    const char *to = luaL_checkstring(L, 2);
    bool is_ours = ld_written_has(written, from);
    int results = call_original(L);
    if (is_ours && lua_toboolean(L, 3)) {
        ld_written_note(written, to);
    }
    return results;
}

/* Put FUNCTION in the place of the one in a library, which becomes its upvalue. */
static void replace(lua_State *L, const char *library, const char *name, lua_CFunction function) {
    lua_getglobal(L, library);
    lua_getfield(L, -1, name);
    lua_pushcclosure(L, function, 1);
    lua_setfield(L, -2, name);
    lua_pop(L, 1);
}

/* Open this part. */
static int set_up(lua_State *L) {
    if (ld_state_script(L)->setup->written != NULL) {
        replace(L, "io", "open", l_open);
        replace(L, "os", "rename", l_rename);
    }
    return 0;
}

const struct ld_part ld_api_written_part = {
    .name = "written",
    .open = set_up,
};
