#include "script/data_path.h"

#include <ctype.h>
#include <lauxlib.h>

/* Whether a string can follow a "." in Lua. */
static bool is_identifier(const char *name, size_t size) {
    if (size == 0 || isdigit((unsigned char)name[0])) {
        return false;
    }
    for (size_t i = 0; i < size; i++) {
        if (!isalnum((unsigned char)name[i]) && name[i] != '_') {
            return false;
        }
    }
    return true;
}

/* Add a string as a key. */
static void add_string(struct ld_text *path, const char *name, size_t size) {
    if (is_identifier(name, size)) {
        ld_text_format(path, ".%s", name);
        return;
    }
    ld_text_puts(path, "[\"");
    ld_text_add_escaped(path, name, size, false);
    ld_text_puts(path, "\"]");
}

/* Add a key. */
void ld_data_path_add(struct ld_text *path, lua_State *L, int key) {
    size_t size;
    const char *name;
    switch (lua_type(L, key)) {
    case LUA_TSTRING:
        name = lua_tolstring(L, key, &size);
        add_string(path, name, size);
        break;
    case LUA_TNUMBER:
        if (lua_isinteger(L, key)) {
            ld_text_format(path, "[%lld]", (long long)lua_tointeger(L, key));
        } else {
            ld_text_format(path, "[%.14g]", lua_tonumber(L, key));
        }
        break;
    case LUA_TBOOLEAN:
        ld_text_format(path, "[%s]", lua_toboolean(L, key) ? "true" : "false");
        break;
    default:
        ld_text_format(path, "[%s]", luaL_typename(L, key));
        break;
    }
}
