#include "api/core.h"

#include <lauxlib.h>
#include <stdio.h>
#include <string.h>
#include <uv.h>

#include "api/embedded.h"
#include "base/likely.h"
#include "script/luax.h"

static const char core_key; /* of the shared table in the registry */

/* Find an embedded file; NULL if there is none of that name. */
static const struct ld_embedded *find_chunk(const char *name) {
    for (const struct ld_embedded *chunk = ld_embedded; chunk->name != NULL; chunk++) {
        if (strcmp(chunk->name, name) == 0) {
            return chunk;
        }
    }
    return NULL;
}

/* Raise an error at the line of the script: raise(message). */
static int l_raise(lua_State *L) {
    lx_error(L, "%s", luaL_checkstring(L, 1));
}

/* Push the function of an embedded file. One that was compiled by a liblua which is not compatible is refused by this
 * one, and compiled again. */
static int load(lua_State *L, const struct ld_embedded *chunk, const char *name) {
    if (chunk->code_size > 0) {
        int status = luaL_loadbufferx(L, chunk->code, chunk->code_size, name, "b");
        if (status != LUA_ERRSYNTAX) {
            return status;
        }
        lua_pop(L, 1);
    }
    return luaL_loadbufferx(L, chunk->text, chunk->size, name, "t");
}

/* Load an embedded file. */
void ld_api_core_load(lua_State *L, const char *name) {
    const struct ld_embedded *chunk = find_chunk(name);
    if (chunk == NULL) {
        luaL_error(L, "there is no embedded file '%s'", name);
        return;
    }
    lua_pushfstring(L, "=" LX_OWN_CHUNK "%s", name);
    if (load(L, chunk, lua_tostring(L, -1)) != LUA_OK) {
        lua_error(L);
    }
    lua_remove(L, -2);
}

/* Run an embedded file: run(name, ...) -> what it returns. */
static int l_run(lua_State *L) {
    ld_api_core_load(L, luaL_checkstring(L, 1));
    lua_replace(L, 1);
    lua_call(L, lua_gettop(L) - 1, 1);
    return 1;
}

/* The text of an embedded file that is not Lua: text(name). */
static int l_text(lua_State *L) {
    const struct ld_embedded *file = find_chunk(luaL_checkstring(L, 1));
    if (file == NULL) {
        return luaL_error(L, "there is no embedded file '%s'", lua_tostring(L, 1));
    }
    lua_pushlstring(L, file->text, file->size);
    return 1;
}

/* Explain a code of libuv: explain_code("ECONNRESET") -> "connection reset by peer". */
static int l_explain_code(lua_State *L) {
#define ROW(name, text) {#name, text},
    static const struct {
        const char *name;
        const char *text;
    } rows[] = {UV_ERRNO_MAP(ROW)};
#undef ROW
    const char *code = luaL_checkstring(L, 1);
    for (size_t i = 0; i < LD_COUNT(rows); i++) {
        if (strcmp(rows[i].name, code) == 0) {
            lua_pushstring(L, rows[i].text);
            return 1;
        }
    }
    lua_pushliteral(L, "unknown error");
    return 1;
}

/* Suggest the key of a table that was probably meant: suggest(word, table) -> "; did you mean 'NAME'?", or "". */
static int l_suggest(lua_State *L) {
    struct ld_likely likely = {.word = luaL_checkstring(L, 1)};
    luaL_checktype(L, 2, LUA_TTABLE);
    lua_pushnil(L);
    while (lua_next(L, 2) != 0) {
        lua_pop(L, 1);
        if (lua_type(L, -1) == LUA_TSTRING) {
            ld_likely_try(&likely, lua_tostring(L, -1)); /* the table keeps the string */
        }
    }
    if (likely.best != NULL) {
        lua_pushfstring(L, "; did you mean '%s'?", likely.best);
    } else {
        lua_pushliteral(L, "");
    }
    return 1;
}

/* Note where an error that is passed on came from: note_cause(error, text). */
static int l_note_cause(lua_State *L) {
    luaL_checkstring(L, 2);
    lua_settop(L, 2);
    lx_note_cause(L);
    return 0;
}

/* Where an error came from that was passed on: cause(error, traceback) -> text | nil. */
static int l_cause(lua_State *L) {
    lx_push_cause(L, 1, luaL_checkstring(L, 2));
    return 1;
}

static const luaL_Reg own[] = {
    {"cause", l_cause},
    {"explain_code", l_explain_code},
    {"note_cause", l_note_cause},
    {"raise", l_raise},
    {"run", l_run},
    {"text", l_text},
    {"suggest", l_suggest},
    {NULL, NULL},
};

/* Make the shared table. */
void ld_api_core_open(lua_State *L) {
    luaL_newlib(L, own);
    lua_pushvalue(L, -1);
    lua_rawsetp(L, LUA_REGISTRYINDEX, &core_key);
}

/* Push the shared table. */
void ld_api_core_push(lua_State *L) {
    lua_rawgetp(L, LUA_REGISTRYINDEX, &core_key);
}

/* Check whether there is a file for the module. */
bool ld_api_core_has_module(const char *name) {
    char file[64];
    return snprintf(file, sizeof file, "%s.lua", name) < (int)sizeof file &&
           find_chunk(file) != NULL;
}

/* Run init.lua. */
void ld_api_core_run(lua_State *L, int module) {
    module = lua_absindex(L, module);
    lua_pushcfunction(L, l_run);
    lua_pushliteral(L, "init.lua");
    lua_pushvalue(L, module);
    ld_api_core_push(L);
    lua_call(L, 3, 0);
}
