#include "script/lua_json.h"

#include <lauxlib.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/json.h"

#define DEPTH_MAX 16

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

static json_t *make(lua_State *L, int index, int depth);

/* Make an array of the elements of the table at INDEX. */
static json_t *make_array(lua_State *L, int index, int depth) {
    json_t *array = json_array();
    lua_Integer length = (lua_Integer)lua_rawlen(L, index);
    for (lua_Integer i = 1; array != NULL && i <= length; i++) {
        lua_rawgeti(L, index, i);
        if (json_array_append_new(array, make(L, -1, depth)) < 0) {
            json_decref(array);
            array = NULL;
        }
        lua_pop(L, 1);
    }
    return array;
}

/* Make an object of the string keys of the table at INDEX. */
static json_t *make_object(lua_State *L, int index, int depth) {
    json_t *object = json_object();
    lua_pushnil(L);
    while (object != NULL && lua_next(L, index) != 0) {
        if (lua_type(L, -2) == LUA_TSTRING &&
            json_object_set_new(object, lua_tostring(L, -2), make(L, -1, depth)) < 0) {
            json_decref(object);
            object = NULL;
        }
        lua_pop(L, object != NULL ? 1 : 2);
    }
    return object;
}

/* Make JSON of a table. */
static json_t *make_table(lua_State *L, int index, int depth) {
    index = lua_absindex(L, index);
    if (depth == DEPTH_MAX || !lua_checkstack(L, 4)) {
        return json_null();
    }
    bool is_array = lua_rawlen(L, index) > 0;
    if (!is_array) {
        lua_pushnil(L);
        is_array = lua_next(L, index) == 0;
        lua_pop(L, is_array ? 0 : 2);
    }
    return is_array ? make_array(L, index, depth + 1) : make_object(L, index, depth + 1);
}

/* Make JSON of a number. */
static json_t *make_number(lua_State *L, int index) {
    json_t *number = lua_isinteger(L, index) ? json_integer(lua_tointeger(L, index))
                                             : json_real(lua_tonumber(L, index));
    return number != NULL ? number : json_null(); /* infinite, or no number */
}

/* Make JSON of a value. */
static json_t *make(lua_State *L, int index, int depth) {
    size_t size;
    const char *bytes;
    switch (lua_type(L, index)) {
    case LUA_TTABLE:
        return make_table(L, index, depth);
    case LUA_TSTRING:
        bytes = lua_tolstring(L, index, &size);
        return ld_json_text(bytes, size);
    case LUA_TNUMBER:
        return make_number(L, index);
    case LUA_TBOOLEAN:
        return json_boolean(lua_toboolean(L, index));
    default:
        return json_null();
    }
}

/* Make JSON of the value at INDEX. */
json_t *lx_to_json(lua_State *L, int index) {
    return make(L, index, 0);
}
