#include "script/lua_json.h"

#include <lauxlib.h>
#include <stdint.h>

/* Push a JSON object as a table. */
static void push_object(lua_State *L, const json_t *object) {
    const char *key;
    json_t *member;
    lua_newtable(L);
    json_object_foreach((json_t *)(uintptr_t)object, key, member) {
        lx_push_json(L, member);
        lua_setfield(L, -2, key);
    }
}

/* Push a JSON array as a table. */
static void push_array(lua_State *L, const json_t *array) {
    size_t index;
    json_t *member;
    lua_newtable(L);
    json_array_foreach(array, index, member) {
        lx_push_json(L, member);
        lua_rawseti(L, -2, (lua_Integer)index + 1);
    }
}

/* Push a JSON value; null is nil. */
void lx_push_json(lua_State *L, const json_t *value) {
    luaL_checkstack(L, 4, "json");
    switch (json_typeof(value)) {
    case JSON_OBJECT:
        push_object(L, value);
        break;
    case JSON_ARRAY:
        push_array(L, value);
        break;
    case JSON_STRING:
        lua_pushlstring(L, json_string_value(value), json_string_length(value));
        break;
    case JSON_INTEGER:
        lua_pushinteger(L, json_integer_value(value));
        break;
    case JSON_REAL:
        lua_pushnumber(L, json_real_value(value));
        break;
    case JSON_TRUE:
    case JSON_FALSE:
        lua_pushboolean(L, json_is_true(value));
        break;
    case JSON_NULL:
        lua_pushnil(L);
        break;
    }
}
