#include <lauxlib.h>
#include <lualib.h>
#include <string.h>

#include "check.h"
#include "script/lua_json.h"
#include "support.h"

/* Push what the light userdata argument is. */
static int push(lua_State *L) {
    lx_push_json(L, lua_touserdata(L, 1));
    return 1;
}

/* Check that CONDITION, a Lua expression over v, holds for a JSON text. */
static void check_value(const char *text, const char *condition) {
    lua_State *L = luaL_newstate();
    json_t *value = json_loads(text, JSON_DECODE_ANY | JSON_ALLOW_NUL, NULL);
    REQUIRE(L != NULL && value != NULL);
    luaL_openlibs(L);
    lua_pushcfunction(L, push);
    lua_pushlightuserdata(L, value);
    CHECK(lua_pcall(L, 1, 1, 0) == LUA_OK);
    lua_setglobal(L, "v");
    lua_pushfstring(L, "return %s", condition);
    if (!CHECK(luaL_dostring(L, lua_tostring(L, -1)) == LUA_OK) || !CHECK(lua_toboolean(L, -1))) {
        printf("    %s: %s\n", text, condition);
    }
    json_decref(value);
    lua_close(L);
}

static void test_scalars(void) {
    check_value("null", "v == nil");
    check_value("true", "v == true");
    check_value("false", "v == false");
    check_value("7", "math.type(v) == 'integer' and v == 7");
    check_value("-9223372036854775808", "v == math.mininteger");
    check_value("7.0", "math.type(v) == 'float' and v == 7");
    check_value("1e300", "v == 1e300");
    check_value("\"text\"", "v == 'text'");
    check_value("\"a\\u0000b\"", "v == 'a\\0b'");
    check_value("\"\"", "v == ''");
}

static void test_containers(void) {
    check_value("[]", "type(v) == 'table' and next(v) == nil");
    check_value("{}", "type(v) == 'table' and next(v) == nil");
    check_value("[1, [2, 3], {\"a\": 4}]", "#v == 3 and v[2][2] == 3 and v[3].a == 4");
    check_value("{\"a\": {\"b\": [true]}, \"c\": null}", "v.a.b[1] == true and v.c == nil");
    check_value("[null, 2]", "v[1] == nil and v[2] == 2");
}

/* Make arrays in arrays. */
static void check_depth(int depth, int expected) {
    lua_State *L = luaL_newstate();
    json_t *value = json_array();
    for (int i = 0; i < depth; i++) {
        json_t *outer = json_array();
        json_array_append_new(outer, value);
        value = outer;
    }
    lua_pushcfunction(L, push);
    lua_pushlightuserdata(L, value);
    CHECK_INT(expected, lua_pcall(L, 1, 1, 0));
    json_decref(value);
    lua_close(L);
}

static void test_depth(void) {
    check_depth(1000, LUA_OK);
}

static const struct check_case cases[] = {
    {"scalars", test_scalars},
    {"objects and arrays", test_containers},
    {"deep nesting", test_depth},
};

CHECK_MAIN(cases)
