#include <errno.h>
#include <lauxlib.h>
#include <lualib.h>
#include <string.h>

#include "check.h"
#include "script/transfer.h"
#include "support.h"

static lua_State *from;
static lua_State *to;

/* Begin with two states, each with something on its stack that must stay. */
static void begin(void) {
    from = luaL_newstate();
    to = luaL_newstate();
    REQUIRE(from != NULL && to != NULL);
    luaL_openlibs(from);
    luaL_openlibs(to);
    lua_pushinteger(from, 42);
    lua_pushinteger(to, 43);
}

/* End them. */
static void end(void) {
    CHECK_INT(1, lua_gettop(from));
    CHECK_INT(42, lua_tointeger(from, 1));
    CHECK_INT(1, lua_gettop(to));
    CHECK_INT(43, lua_tointeger(to, 1));
    lua_close(from);
    lua_close(to);
}

/* Push what a chunk returns in FROM. */
static void push(const char *chunk) {
    if (luaL_dostring(from, chunk) != LUA_OK || lua_gettop(from) != 2) {
        printf("    %s: %s\n", chunk, lua_tostring(from, -1));
        REQUIRE(false);
    }
}

/* Copy what CHUNK returns, and check that CONDITION, an expression over v, holds for the copy. */
static void check_copy(const char *chunk, const char *condition) {
    struct ld_text why = {0};
    push(chunk);
    CHECK_INT(0, ld_transfer_value(from, to, UINT64_MAX, "state", &why));
    CHECK_INT(2, lua_gettop(from));
    lua_pop(from, 1);
    CHECK_STR("", ld_text_string(&why));
    REQUIRE(lua_gettop(to) == 2);
    lua_setglobal(to, "v");
    lua_pushfstring(to, "return %s", condition);
    if (luaL_dostring(to, lua_tostring(to, -1)) != LUA_OK || !CHECK(lua_toboolean(to, -1))) {
        printf("    %s: %s: %s\n", chunk, condition, luaL_tolstring(to, -1, NULL));
    }
    lua_settop(to, 1);
    ld_text_fini(&why);
}

/* Check that what CHUNK returns cannot be copied. */
static void check_refusal(const char *chunk, const char *expected) {
    struct ld_text why = {0};
    push(chunk);
    CHECK_INT(-1, ld_transfer_value(from, to, UINT64_MAX, "state", &why));
    CHECK_STR(expected, ld_text_string(&why));
    CHECK_INT(2, lua_gettop(from));
    lua_pop(from, 1);
    CHECK_INT(1, lua_gettop(to));
    ld_text_fini(&why);
}

static void test_plain(void) {
    begin();
    check_copy("return nil", "v == nil");
    check_copy("return false", "v == false");
    check_copy("return math.maxinteger", "math.type(v) == 'integer' and v == math.maxinteger");
    check_copy("return 2.0", "math.type(v) == 'float' and v == 2");
    check_copy("return 0/0", "v ~= v");
    check_copy("return 'a\\0b'", "v == 'a\\0b'");
    check_copy("return ('x'):rep(100000)", "#v == 100000");
    end();
}

static void test_tables(void) {
    begin();
    check_copy("return {}", "next(v) == nil");
    check_copy("return {1, nil, 3, x = {y = 'z'}}", "v[1] == 1 and v[3] == 3 and v.x.y == 'z'");
    check_copy("return {[true] = 1, [1.5] = 2, [-1] = 3}",
               "v[true] == 1 and v[1.5] == 2 and v[-1] == 3");
    check_copy("return {[{1}] = 2}", "next(v)[1] == 1 and v[next(v)] == 2");
    check_copy("return setmetatable({a = 1}, {__index = print, __pairs = error})",
               "v.a == 1 and getmetatable(v) == nil");
    check_copy("local t = {} for i = 1, 10000 do t[i] = {i} end return t",
               "#v == 10000 and v[10000][1] == 10000");
    end();
}

static void test_shared(void) {
    begin();
    check_copy("local t = {} return {t, t, {}}", "v[1] == v[2] and v[1] ~= v[3]");
    check_copy("local t = {} t.me = t return t", "v.me == v");
    check_copy("local a, b = {}, {} a.b, b.a = b, a return {a, b}",
               "v[1].b == v[2] and v[2].a == v[1]");
    check_copy("local t = {} t[t] = t return t", "v[v] == v");
    end();
}

static void test_lists(void) {
    begin();
    check_copy("return {1, 2, 3, x = 4, [5] = 6, [7.5] = 8}",
               "#v == 3 and v[3] == 3 and v.x == 4 and v[5] == 6 and v[7.5] == 8");
    check_copy("local t = {x = 1} for i = 100, 1, -1 do t[i] = i end return t",
               "#v == 100 and v[1] == 1 and v[100] == 100 and v.x == 1");
    check_copy("local t = {1, nil, 3, nil, nil, 6, x = 7} return t",
               "v[1] == 1 and v[3] == 3 and v[6] == 6 and v.x == 7");
    check_copy(
        "local t = {} for i = 0, 62 do t[1 << i] = i end return t",
        "(function() for i = 0, 62 do if v[1 << i] ~= i then return end end return true end)()");
    check_copy("local t = {} for i = 1, 1000 do t[i] = i end for i = 1, 998 do t[i] = nil end "
               "t[3] = 3 return t",
               "v[3] == 3 and v[999] == 999 and v[1000] == 1000 and v[1] == nil and v[998] == nil");
    end();
}

static void test_strings(void) {
    begin();
    check_copy(
        "local t = {} for i = 1, 5000 do t[i] = {name = 'n' .. i % 700, ['k' .. i % 300] = i} end "
        "return t",
        "(function() for i = 1, 5000 do local t = v[i] "
        "if t.name ~= 'n' .. i % 700 or t['k' .. i % 300] ~= i then return end end return true "
        "end)()");
    end();
}

static void test_collector(void) {
    begin();
    check_copy("return {{}, {}}", "collectgarbage 'isrunning'");
    lua_gc(to, LUA_GCSTOP);
    check_copy("return {{}, {}}", "not collectgarbage 'isrunning'");
    lua_gc(to, LUA_GCRESTART);
    check_refusal("return {{}, print}",
                  "state[2] is a function, and only plain data can be handed on");
    CHECK(lua_gc(to, LUA_GCISRUNNING));
    end();
}

static void test_refusals(void) {
    begin();
    check_refusal("return print", "state is a function, and only plain data can be handed on");
    check_refusal("return {conn = {socket = io.stdout}}",
                  "state.conn.socket is a userdata, and only plain data can be handed on");
    check_refusal("return {list = {1, {x = coroutine.create(print)}}}",
                  "state.list[2].x is a thread, and only plain data can be handed on");
    check_refusal("return {['two words'] = {[1.5] = {[true] = print}}}",
                  "state[\"two words\"][1.5][true] is a function, "
                  "and only plain data can be handed on");
    check_refusal("return {['\\n\\27'] = print}",
                  "state[\"\\x0A\\x1B\"] is a function, and only plain data can be handed on");
    check_refusal("return {['1st'] = print}",
                  "state[\"1st\"] is a function, and only plain data can be handed on");
    check_refusal("return {[''] = print}",
                  "state[\"\"] is a function, and only plain data can be handed on");
    check_refusal("return {[print] = 1}",
                  "state[function] is a function, and only plain data can be handed on");
    end();
}

static void test_depth(void) {
    static const char chunk[] = "local t = {} local top = t\n"
                                "for i = 2, %d do t.n = {} t = t.n end\n"
                                "t.last = true return top";
    char text[200];
    begin();
    snprintf(text, sizeof text, chunk, LD_TRANSFER_DEPTH_MAX);
    check_copy(text,
               "(function() local n = 0 while v do v = v.n n = n + 1 end return n end)() == 200");
    snprintf(text, sizeof text, chunk, LD_TRANSFER_DEPTH_MAX + 1);
    struct ld_text why = {0};
    push(text);
    CHECK_INT(-1, ld_transfer_value(from, to, UINT64_MAX, "state", &why));
    CHECK(strstr(ld_text_string(&why), ".n: tables are nested deeper than 200") != NULL);
    ld_text_clear(&why);
    lua_pop(from, 1);
    snprintf(text, sizeof text, chunk, 100000);
    push(text);
    CHECK_INT(-1, ld_transfer_value(from, to, UINT64_MAX, "state", &why));
    lua_pop(from, 1);
    ld_text_fini(&why);
    end();
}

static void test_deadline(void) {
    static const char *const large[] = {
        "local t = {} for i = 1, 5000 do t[i] = i end return t",
        "local t = {} for i = 1, 5000 do t[i] = {} end return t",
        "local t = {} for i = 1, 5000 do t = {t} if i % 100 == 0 then t = {} end end return {t, t}",
        "local t = {} for i = 1, 5000 do t['key' .. i] = true end return {{{t}}}",
        "local s = ('x'):rep(1 << 20) return {s .. 1, s .. 2, s .. 3}",
    };
    begin();
    for (size_t i = 0; i < LD_COUNT(large); i++) {
        struct ld_text why = {0};
        push(large[i]);
        int rc = ld_transfer_value(from, to, 1, "state", &why);
        CHECK(i == 2 ? rc == 0 : rc == -ETIME); /* a small one needs no time */
        lua_pop(to, rc == 0);
        CHECK_INT(1, lua_gettop(to));
        CHECK(ld_text_is_empty(&why));
        CHECK_INT(0, ld_transfer_value(from, to, UINT64_MAX, "state", &why));
        lua_pop(to, 1);
        lua_pop(from, 1);
        ld_text_fini(&why);
    }
    end();
}

static const struct check_case cases[] = {
    {"plain values", test_plain},
    {"tables, without their metatables", test_tables},
    {"tables that share and cycle", test_shared},
    {"lists, with holes and other keys too", test_lists},
    {"strings that come again and again", test_strings},
    {"the collector goes on as before", test_collector},
    {"what is no plain data is refused, with its path", test_refusals},
    {"tables up to 200 deep", test_depth},
    {"until a deadline", test_deadline},
};

CHECK_MAIN(cases)
