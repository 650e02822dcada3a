#include "cli/modules.h"

#include <lauxlib.h>
#include <limits.h>
#include <lualib.h>
#include <stdlib.h>
#include <string.h>

#include "api/core.h"
#include "base/say.h"
#include "posix/paths.h"

#define LUA_TEMPLATES "DIR/?.lua;DIR/?/init.lua"
#define C_TEMPLATES   "DIR/?.so"

/* Find what a text requires: read_requires(text) -> list, names, boolean. */
static int l_read_requires(lua_State *L) {
    ld_api_core_load(L, "requires.lua");
    lua_pushvalue(L, 1);
    lua_call(L, 1, 3);
    return 3;
}

/* Whether lunad has a module: is_own(name) -> boolean. */
static int l_is_own(lua_State *L) {
    const char *name = lua_tostring(L, 1);
    lua_pushboolean(L, name != NULL && ld_api_core_has_module(name));
    return 1;
}

/* Push the templates for the folder of a file. */
static void push_folder(lua_State *L, const char *file, const char *templates) {
    const char *slash = strrchr(file, '/');
    lua_pushlstring(L, file, (size_t)(slash - file));
    luaL_gsub(L, templates, "DIR", lua_tostring(L, -1));
    lua_remove(L, -2);
    lua_pushliteral(L, ";");
    lua_concat(L, 2);
}

/* Push what is searched before the paths of Lua, as for a script that runs: LIST, an option or NULL, then the folder of the
 * script, and of what it is a link to. */
static void push_search(lua_State *L, const struct ld_modules_script *script, const char *list,
                        const char *templates) {
    char real[PATH_MAX];
    int base = lua_gettop(L);
    char *search = list != NULL ? ld_paths_search(list, templates) : NULL;
    lua_pushstring(L, search != NULL ? search : ""); /* it ends with ";" */
    free(search);
    if (script->path != NULL) {
        push_folder(L, script->path, templates);
        if (realpath(script->path, real) != NULL && strcmp(real, script->path) != 0) {
            push_folder(L, real, templates);
        }
    }
    lua_concat(L, lua_gettop(L) - base);
}

/* Run check.lua for the script in the argument. Runs protected. */
static int run_check(lua_State *L) {
    static const luaL_Reg functions[] = {
        {"read_requires", l_read_requires}, {"is_own", l_is_own}, {NULL, NULL}};
    const struct ld_modules_script *script = lua_touserdata(L, 1);
    luaL_openlibs(L);
    ld_api_core_load(L, "check.lua");
    luaL_newlib(L, functions);
    lua_pushlstring(L, ld_text_string(script->text), script->text->size);
    lua_setfield(L, -2, "text");
    lua_pushstring(L, script->title);
    lua_setfield(L, -2, "title");
    push_search(L, script, script->lua, LUA_TEMPLATES);
    lua_setfield(L, -2, "path");
    push_search(L, script, script->c, C_TEMPLATES);
    lua_setfield(L, -2, "cpath");
    lua_call(L, 1, 2);
    return 2;
}

/* Say the texts of the list at INDEX; how many there are. */
static int say_all(lua_State *L, int index) {
    int count = (int)lua_rawlen(L, index);
    for (int i = 1; i <= count; i++) {
        lua_rawgeti(L, index, i);
        ld_say_error("%s", lua_tostring(L, -1));
        lua_pop(L, 1);
    }
    return count;
}

/* Check the modules of a script. */
int ld_modules_check(const struct ld_modules_script *script) {
    lua_State *L = luaL_newstate();
    int faults = 1;
    if (L == NULL) {
        ld_say_error("check: not enough memory");
        return faults;
    }
    lua_pushcfunction(L, run_check);
    lua_pushlightuserdata(L, (void *)(uintptr_t)script);
    if (lua_pcall(L, 1, 2, 0) == LUA_OK) {
        faults = say_all(L, 1);
        say_all(L, 2);
    } else {
        ld_say_error("%s: its modules were not checked: %s", script->title, lua_tostring(L, -1));
    }
    lua_close(L);
    return faults;
}
