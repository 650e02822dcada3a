#include "api/module.h"

#include <lauxlib.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include "api/embedded.h"
#include "api/parts.h"
#include "script/luax.h"

static const char core_key; /* of what lunad's own Lua shares with C */

/* Push that. */
void ld_api_module_push_core(lua_State *L) {
    lua_rawgetp(L, LUA_REGISTRYINDEX, &core_key);
}

/* Find one of lunad's own Lua chunks; NULL for none. */
static const struct ld_embedded *find_chunk(const char *name) {
    for (const struct ld_embedded *chunk = ld_embedded; chunk->name != NULL; chunk++) {
        if (strcmp(chunk->name, name) == 0) {
            return chunk;
        }
    }
    return NULL;
}

/* Raise an error of lunad's own Lua at the line of the script: raise(message). */
static int l_raise(lua_State *L) {
    lx_error(L, "%s", luaL_checkstring(L, 1));
}

/* Run one of lunad's own Lua chunks: load_part(name, ...) -> what it returns. */
static int l_load_part(lua_State *L) {
    const char *name = luaL_checkstring(L, 1);
    const struct ld_embedded *chunk = find_chunk(name);
    if (chunk == NULL) {
        return luaL_error(L, "there is no part '%s'", name);
    }
    lua_pushfstring(L, "=" LX_OWN_CHUNK "%s", name);
    if (luaL_loadbufferx(L, chunk->text, chunk->size, lua_tostring(L, -1), "t") != LUA_OK) {
        return lua_error(L);
    }
    lua_replace(L, 1);
    lua_pop(L, 1);
    lua_call(L, lua_gettop(L) - 1, 1);
    return 1;
}

/* Push the templates for the folder of a file, with DIR for it. */
static void push_templates(lua_State *L, const char *templates, const char *file) {
    lua_pushlstring(L, file, (size_t)(strrchr(file, '/') - file));
    luaL_gsub(L, templates, "DIR", lua_tostring(L, -1));
    lua_remove(L, -2);
}

/* Put FIRST (if it is not NULL) and the templates for the script's folder, with DIR for it, before
 * what `package` has in FIELD. A script that is called by a link has two folders: the link's comes first. */
static void extend_search(lua_State *L, const char *field, const char *first,
                          const char *folder_templates) {
    char real[PATH_MAX];
    const char *script = ld_state_script(L)->setup->source->path;
    lua_getglobal(L, "package");
    lua_pushstring(L, first != NULL ? first : "");
    lua_pushliteral(L, "");
    lua_pushliteral(L, "");
    if (script != NULL) {
        push_templates(L, folder_templates, script);
        lua_replace(L, -3);
        if (realpath(script, real) != NULL) {
            push_templates(L, folder_templates, real);
            lua_replace(L, -2);
        }
    }
    if (lua_rawequal(L, -1, -2)) {
        lua_pushliteral(L, "");
        lua_replace(L, -2);
    }
    lua_getfield(L, -4, field);
    lua_concat(L, 4);
    lua_setfield(L, -2, field);
    lua_pop(L, 1);
}

static const lua_CFunction parts[] = {
    luaopen_lunad_timer,  luaopen_lunad_cron,  luaopen_lunad_task,   luaopen_lunad_coroutine,
    luaopen_lunad_signal, luaopen_lunad_child, luaopen_lunad_listen, luaopen_lunad_luv,
    luaopen_lunad_os,     luaopen_lunad_log,   luaopen_lunad_life,
};

/* Open the module. */
int ld_api_module_open(lua_State *L) {
    const struct ld_setup *setup = ld_state_script(L)->setup;
    lua_newtable(L);
    for (size_t i = 0; i < LD_COUNT(parts); i++) {
        lua_pushcfunction(L, parts[i]);
        lua_pushvalue(L, -2);
        lua_call(L, 1, 0);
    }
    extend_search(L, "path", setup->path, "DIR/?.lua;DIR/?/init.lua;");
    extend_search(L, "cpath", setup->cpath, "DIR/?.so;");
    lua_pushcfunction(L, l_load_part);
    lua_pushliteral(L, "init.lua");
    lua_pushvalue(L, -3);
    lua_pushcfunction(L, l_load_part);
    lua_pushcfunction(L, l_raise);
    lua_call(L, 4, 1);
    lua_rawsetp(L, LUA_REGISTRYINDEX, &core_key);
    luaL_getsubtable(L, LUA_REGISTRYINDEX, LUA_LOADED_TABLE);
    lua_pushvalue(L, -2);
    lua_setfield(L, -2, "lunad");
    return 0;
}
