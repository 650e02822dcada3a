#include <errno.h>
#include <lualib.h>
#include <math.h>
#include <signal.h>
#include <string.h>

#include "check.h"
#include "script/luax.h"
#include "support.h"

static lua_State *L;

/* Begin with a state. */
static void begin(void) {
    L = luaL_newstate();
    REQUIRE(L != NULL);
    luaL_openlibs(L);
}

/* End it: nothing may be left on the stack. */
static void end(void) {
    CHECK_INT(0, lua_gettop(L));
    lua_close(L);
}

/* Register FUNCTION as f, and check what CHUNK gives as a string, or how it fails. */
static void check_chunk(lua_CFunction function, const char *chunk, const char *expected) {
    lua_register(L, "f", function);
    if (luaL_loadbuffer(L, chunk, strlen(chunk), "=script") == LUA_OK) {
        lua_pcall(L, 0, 1, 0);
    }
    CHECK_STR(expected, luaL_tolstring(L, -1, NULL));
    lua_settop(L, 0);
}

static void test_fail(void) {
    begin();
    CHECK_INT(3, lx_fail(L, -ENOENT, "%s and %d", "this", 7));
    CHECK(lua_isnil(L, 1));
    CHECK_STR("ENOENT: no such file or directory: this and 7", lua_tostring(L, 2));
    CHECK_STR("ENOENT", lua_tostring(L, 3));
    lua_settop(L, 0);
    CHECK_INT(3, lx_fail(L, -ESTALE, "x")); /* unknown to libuv */
    CHECK_STR("ESTALE: stale file handle: x", lua_tostring(L, 2));
    lua_settop(L, 0);
    CHECK_INT(3, lx_fail(L, -4000, "x"));
    CHECK_STR("EUNKNOWN", lua_tostring(L, 3));
    lua_settop(L, 0);
    end();
}

static int l_raise(lua_State *state) {
    lx_error(state, "it is %s", "wrong");
}

static void test_error(void) {
    begin();
    check_chunk(l_raise, "\n\nf()", "script:3: it is wrong");
    check_chunk(l_raise, "pcall(string.rep, 'x')\nlocal function g() f() end\ng()",
                "script:2: it is wrong");
    luaL_loadbuffer(L, "f() ", 4, "=" LX_OWN_CHUNK "own.lua"); /* lunad's own line is no news */
    lua_setglobal(L, "own");
    check_chunk(l_raise, "\nown()", "script:2: it is wrong");
    lua_pushcfunction(L, l_raise);
    CHECK(lua_pcall(L, 0, 0, 0) != LUA_OK);
    CHECK_STR("it is wrong", lua_tostring(L, -1));
    lua_settop(L, 0);
    end();
}

static int l_callable(lua_State *state) {
    lua_pushboolean(state, lx_is_callable(state, 1));
    return 1;
}

static int l_check_callable(lua_State *state) {
    lx_check_callable(state, 1);
    return 0;
}

static void test_callable(void) {
    begin();
    check_chunk(l_callable, "return f(print)", "true");
    check_chunk(l_callable, "return f(function() end)", "true");
    check_chunk(l_callable, "return f(setmetatable({}, {__call = print}))", "true");
    check_chunk(l_callable, "return f({})", "false");
    check_chunk(l_callable, "return f(nil)", "false");
    check_chunk(l_callable, "return f('print')", "false");
    check_chunk(l_check_callable, "f({})",
                "script:1: bad argument #1 to 'f' (function expected, got table)");
    end();
}

static void test_seconds(void) {
    uint64_t ns = 7;
    CHECK(lx_seconds(0, &ns) && ns == 0);
    CHECK(lx_seconds(1.5, &ns) && ns == 1500000000);
    CHECK(lx_seconds(1e-9, &ns) && ns == 1);
    CHECK(lx_seconds(10.0 * 366 * 86400, &ns) && ns == 316224000000000000);
    CHECK(lx_seconds(-0.0, &ns) && ns == 0);
    CHECK(!lx_seconds(-1e-300, &ns));
    CHECK(!lx_seconds((double)NAN, &ns));
    CHECK(!lx_seconds((double)INFINITY, &ns));
    CHECK(!lx_seconds(10.0 * 366 * 86400 + 1, &ns));
}

static int l_seconds(lua_State *state) {
    lua_pushinteger(state, (lua_Integer)lx_check_seconds(state, 1, lua_toboolean(state, 2)));
    return 1;
}

static void test_check_seconds(void) {
    begin();
    check_chunk(l_seconds, "return f(0.25)", "250000000");
    check_chunk(l_seconds, "return f(0)", "0");
    check_chunk(l_seconds, "return f(-1)",
                "script:1: bad argument #1 to 'f' (seconds from 0 to ten years expected)");
    check_chunk(l_seconds, "return f(0, true)",
                "script:1: bad argument #1 to 'f' (seconds above 0 and up to ten years expected)");
    check_chunk(l_seconds, "return f({})",
                "script:1: bad argument #1 to 'f' (number expected, got table)");
    end();
}

static int l_signal(lua_State *state) {
    lua_pushinteger(state, lx_check_signal(state, 1, lua_toboolean(state, 2)));
    return 1;
}

static void test_check_signal(void) {
    begin();
    check_chunk(l_signal, "return f('TERM')", "15");
    check_chunk(l_signal, "return f('SIGHUP')", "1");
    check_chunk(l_signal, "return f(64)", "64");
    check_chunk(l_signal, "return f(0, true)", "0");
    check_chunk(l_signal, "return f(0)", "script:1: bad argument #1 to 'f' (no such signal)");
    check_chunk(l_signal, "return f(65)", "script:1: bad argument #1 to 'f' (no such signal)");
    check_chunk(l_signal, "return f(1 << 32 | 1)",
                "script:1: bad argument #1 to 'f' (no such signal)");
    check_chunk(l_signal, "return f('NONE')",
                "script:1: bad argument #1 to 'f' (no such signal: 'NONE')");
    check_chunk(l_signal, "return f({})",
                "script:1: bad argument #1 to 'f' (string expected, got table)");
    end();
}

/* What options are read into. */
struct values {
    const char *text;
    int number;
    bool flag;
    uint64_t ms;
    uint64_t some_ms;
    int mode;
    size_t size;
};

static void read_size(lua_State *state, const char *name, void *member) {
    *(size_t *)member = strlen(lx_option_string(state, name));
}

static int l_options(lua_State *state) {
    static const struct lx_row rows[] = {
        {"text", LX_STRING, .offset = offsetof(struct values, text)},
        {"number", LX_INTEGER, .offset = offsetof(struct values, number), .min = 1, .max = 10},
        {"flag", LX_BOOLEAN, .offset = offsetof(struct values, flag)},
        {"ms", LX_MS, .offset = offsetof(struct values, ms)},
        {"time", LX_MS, .offset = offsetof(struct values, some_ms), .min = 1},
        {"mode", LX_MODE, .offset = offsetof(struct values, mode)},
        {"call", LX_FUNCTION, .offset = 0},
        {"table", LX_TABLE, .offset = 0},
        {"size", LX_CUSTOM, .offset = offsetof(struct values, size), .read = read_size},
        {.name = NULL},
    };
    struct values values = {.text = "-", .mode = -1};
    luaL_checktype(state, 1, LUA_TTABLE);
    int top = lua_gettop(state);
    lx_read_options(state, -1, rows, &values, "f");
    CHECK_INT(top, lua_gettop(state));
    lua_pushfstring(state, "%s %d %d %I %d", values.text, values.number, values.flag,
                    (LUAI_UACINT)(values.ms + values.some_ms + values.size), values.mode);
    return 1;
}

static void test_options(void) {
    begin();
    check_chunk(l_options, "return f{}", "- 0 0 0 -1");
    check_chunk(l_options, "return f{1, 2, text = 'x', number = 3, flag = true, time = 0.5}",
                "x 3 1 500 -1");
    check_chunk(l_options, "return f{mode = '027', call = print, number = 3.0}", "- 3 0 0 23");
    check_chunk(l_options, "return f{mode = 384}", "- 0 0 0 384");
    check_chunk(l_options, "return f{ms = 0}", "- 0 0 0 -1");
    check_chunk(l_options, "return f{ms = 0.0011, table = {}}", "- 0 0 2 -1");
    check_chunk(l_options, "return f{size = 'four'}", "- 0 0 4 -1");
    check_chunk(l_options, "return f{wrong = 1}", "script:1: f: unknown option 'wrong'");
    check_chunk(l_options, "return f{[{}] = 1}",
                "script:1: f: an option's name must be a string, not a table");
    check_chunk(l_options, "return f{[1.5] = 1}",
                "script:1: f: an option's name must be a string, not a number");
    end();
}

static void test_wrong_options(void) {
    static const struct {
        const char *chunk;
        const char *expected;
    } rows[] = {
        {"f{text = 1}", "option 'text': string expected, got number"},
        {"f{text = 'a\\0b'}", "option 'text': it must not contain a zero byte"},
        {"f{number = '3'}", "option 'number': integer expected, got string"},
        {"f{number = 2.5}", "option 'number': integer expected, got number"},
        {"f{number = 0}", "option 'number': the number is out of range"},
        {"f{number = 11}", "option 'number': the number is out of range"},
        {"f{flag = 1}", "option 'flag': boolean expected, got number"},
        {"f{time = '1'}", "option 'time': number expected, got string"},
        {"f{ms = -1}", "option 'ms': seconds from 0 to ten years expected"},
        {"f{table = 'x'}", "option 'table': table expected, got string"},
        {"f{time = 0}", "option 'time': seconds above 0 and up to ten years expected"},
        {"f{time = 0/0}", "option 'time': seconds above 0 and up to ten years expected"},
        {"f{mode = '08'}", "option 'mode': '08' is not octal, such as \"027\""},
        {"f{mode = 512}", "option 'mode': the number is out of range"},
        {"f{mode = {}}", "option 'mode': string expected, got table"},
        {"f{call = 'x'}", "option 'call': function expected, got string"},
    };
    begin();
    for (size_t i = 0; i < LD_COUNT(rows); i++) {
        char expected[200];
        snprintf(expected, sizeof expected, "script:1: %s", rows[i].expected);
        check_chunk(l_options, rows[i].chunk, expected);
    }
    end();
}

static int l_function_place(lua_State *state) {
    lx_push_function_place(state, 1);
    return 1;
}

static int l_place(lua_State *state) {
    lx_push_place(state, lua_tothread(state, 1));
    return 1;
}

static void test_places(void) {
    begin();
    check_chunk(l_function_place, "\nreturn f(function()\nend)", "script:2");
    check_chunk(l_function_place, "return f(print)", "?");
    check_chunk(l_function_place, "return f({})", "?");
    check_chunk(l_place,
                "local co = coroutine.create(function()\ncoroutine.yield()\nend)\n"
                "coroutine.resume(co)\nreturn f(co)",
                "script:2");
    check_chunk(l_place, "return f(coroutine.create(print))", "?");
    CHECK(luaL_loadbuffer(L, "return f(function() end)", 24,
                          "@/a/very/long/path/that/is/longer/"
                          "than/sixty/characters/and/would/be/cut/in/short_src.lua") == LUA_OK);
    lua_register(L, "f", l_function_place);
    CHECK(lua_pcall(L, 0, 1, 0) == LUA_OK);
    CHECK_STR("/a/very/long/path/that/is/longer/than/sixty/characters/and/would/be/cut/in/"
              "short_src.lua:1",
              lua_tostring(L, -1));
    lua_settop(L, 0);
    end();
}

static int l_message(lua_State *state) {
    int top = lua_gettop(state);
    lx_push_message(state, 1);
    CHECK_INT(top + 1, lua_gettop(state));
    CHECK_INT(LUA_TSTRING, lua_type(state, -1));
    return 1;
}

static void test_messages(void) {
    begin();
    check_chunk(l_message, "return f('plain')", "plain");
    check_chunk(l_message, "return f(12)", "12");
    check_chunk(l_message, "return f(nil)", "(error object is a nil value)");
    check_chunk(l_message, "return f({})", "(error object is a table value)");
    check_chunk(l_message, "return f(setmetatable({}, {__tostring = function() return 'own' end}))",
                "own");
    check_chunk(l_message, "return f(setmetatable({}, {__tostring = error}))",
                "(error object is a table value)");
    check_chunk(l_message, "return f(setmetatable({}, {__tostring = function() return {} end}))",
                "(error object is a table value)");
    end();
}

static int l_method(lua_State *state) {
    lua_pushliteral(state, "called");
    return 1;
}

static void test_type(void) {
    static const luaL_Reg methods[] = {{"method", l_method}, {NULL, NULL}};
    begin();
    lx_new_type(L, "check.type", methods);
    lua_setglobal(L, "kept");
    lua_newuserdatauv(L, 1, 0);
    luaL_setmetatable(L, "check.type");
    lua_setglobal(L, "object");
    check_chunk(l_method, "return object:method()", "called");
    check_chunk(l_method, "return getmetatable(object)", "locked");
    check_chunk(l_method, "return tostring(object.other)", "nil");
    end();
}

/* Push the text of the argument. */
static int push_text(lua_State *state) {
    int top = lua_gettop(state);
    lx_push_text(state, 1);
    CHECK_INT(top + 1, lua_gettop(state));
    CHECK_INT(LUA_TSTRING, lua_type(state, -1));
    return 1;
}

static void test_text(void) {
    begin();
    check_chunk(push_text, "return f(1) .. f(1.5) .. f('x') .. f(nil) .. f(true)", "11.5xniltrue");
    check_chunk(push_text, "return (f({}):gsub('0x%x+', 'AT'))", "table: AT");
    check_chunk(push_text, "return f(setmetatable({}, {__tostring = function() return 'x' end}))",
                "x");
    check_chunk(push_text, "return f(setmetatable({}, {__tostring = function() return 7 end}))",
                "7");
    check_chunk(push_text, "return f(setmetatable({}, {__tostring = function() error 'x' end}))",
                "(a table whose __tostring failed: script:1: x)");
    check_chunk(push_text, "return f(setmetatable({}, {__tostring = function(o) error(o) end}))",
                "(a table whose __tostring failed: (error object is a table value))");
    check_chunk(push_text, "return f(setmetatable({}, {__tostring = false}))",
                "(a table whose __tostring failed: attempt to call a boolean value)");
    end();
}

static const struct check_case cases[] = {
    {"a value's text, also if its __tostring fails", test_text},
    {"the error triple", test_fail},
    {"errors are at the line of the script", test_error},
    {"what can be called", test_callable},
    {"seconds", test_seconds},
    {"an argument of seconds", test_check_seconds},
    {"an argument that is a signal", test_check_signal},
    {"options are read by their rows", test_options},
    {"a wrong option is named", test_wrong_options},
    {"where a function stands, and a coroutine is", test_places},
    {"every error object has a message", test_messages},
    {"a type's metatable is out of reach", test_type},
};

CHECK_MAIN(cases)
