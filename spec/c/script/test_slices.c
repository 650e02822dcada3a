#include <lauxlib.h>
#include <lua.h>
#include <stdlib.h>
#include <string.h>

#include "base/text.h"
#include "base/time.h"
#include "check.h"
#include "script/script.h"
#include "support.h"

static struct ld_texts *texts;
static struct ld_source source;
static struct ld_setup setup;
static struct ld_text said; /* by finalizers */
static long long bytes;     /* of all states */

/* Allocate, and count. */
static void *count_bytes(void *arg, void *block, size_t old_size, size_t new_size) {
    (void)arg;
    bytes += (long long)new_size - (block != NULL ? (long long)old_size : 0);
    if (new_size == 0) {
        free(block);
        return NULL;
    }
    return realloc(block, new_size);
}

/* Note what a finalizer says. */
static int l_say(lua_State *L) {
    ld_text_puts(&said, luaL_checkstring(L, 1));
    return 0;
}

/* Open nothing but this. */
static int open_part(lua_State *L) {
    lua_register(L, "say", l_say);
    return 0;
}

static void begin(lua_Alloc alloc) {
    texts = ld_texts_new();
    setup = (struct ld_setup){.source = &source,
                              .texts = texts,
                              .name = "test",
                              .alloc = alloc,
                              .open_libraries = open_part};
}

static void end(void) {
    CHECK_INT(0, ld_script_pending());
    CHECK_INT(0, ld_texts_count(texts));
    ld_texts_free(texts);
    ld_text_fini(&said);
}

/* Make a script, and run Lua code in it. */
static struct ld_script *make(const char *code) {
    struct ld_script *script = NULL;
    struct ld_text why = {0};
    REQUIRE(ld_script_new(&script, &setup, 1, &why) == 0);
    REQUIRE(luaL_dostring(script->L, code) == LUA_OK);
    ld_text_fini(&why);
    return script;
}

static const char large[] = "t = {} for i = 1, 50000 do t[i] = { tostring(i) } end "
                            "local function last(words) return setmetatable({}, { __gc = "
                            "function() say(words .. #t) end }) end "
                            "a, b = last 'a', last ' b'";

/* Close all that is left, a slice of no time after the other; return how many there were. */
static int run_slices(void) {
    int slices = 1;
    while (ld_script_close_some(ld_time_monotonic() + 1)) {
        slices++;
    }
    return slices;
}

static void test_slices(void) {
    begin(count_bytes);
    ld_script_close_in_slices(make(large));
    CHECK_STR(" b50000a50000", ld_text_string(&said)); /* in order, and while all is there */
    CHECK_INT(1, ld_script_pending());
    CHECK(bytes > 1000000);
    CHECK(run_slices() > 10);
    CHECK_INT(0, bytes);
    end();
}

static void test_early_end(void) {
    static const char code[] =
        "for i = 1, 20000 do _G[i] = { tostring(i) } end "
        "local function call_all() for _, value in pairs(debug.getregistry()) do "
        "local type = type(value) == 'userdata' and debug.getmetatable(value) "
        "if type and not type.__name then type.__gc(value) setmetatable({}, type) end end end "
        "a = setmetatable({}, { __gc = function() call_all() "
        "for i = 1, 3000 do local _ = ('x'):rep(3000) end say 'a' end }) "
        "call_all() b = setmetatable({}, { __gc = call_all })";
    begin(count_bytes);
    ld_script_close_in_slices(make(code));
    CHECK_STR("a", ld_text_string(&said)); /* however long that took */
    CHECK(run_slices() > 10);
    CHECK_INT(0, bytes);
    end();
}

static void test_small(void) {
    begin(count_bytes);
    ld_script_close_in_slices(make("setmetatable({}, { __gc = function() say 'over' end })"));
    CHECK_STR("over", ld_text_string(&said));
    CHECK_INT(0, bytes);
    end();
}

static void test_large_blocks(void) {
    begin(NULL);
    ld_script_close_in_slices(
        make("s = ('x'):rep(5000001) t = {} for i = 1, 300000 do t[i] = i end"));
    CHECK_INT(1, ld_script_pending());
    CHECK(run_slices() > 4);
    end();
}

static void test_many(void) {
    begin(count_bytes);
    for (int i = 0; i < 6; i++) {
        ld_script_close_in_slices(make(large));
        CHECK(ld_script_pending() <= 3);
    }
    CHECK_INT(3, ld_script_pending());
    ld_script_close_some(UINT64_MAX);
    CHECK_INT(0, bytes);
    end();
}

static void test_error_in_finalizer(void) {
    begin(count_bytes);
    ld_script_close_in_slices(make("t = {} for i = 1, 50000 do t[i] = { tostring(i) } end "
                                   "c = setmetatable({}, { __gc = function() say 'over' end }) "
                                   "d = setmetatable({}, { __gc = function() error 'no' end }) "
                                   "e = setmetatable({}, { __gc = function(o) keep = o "
                                   "setmetatable({}, getmetatable(o)) end })"));
    CHECK_STR("over", ld_text_string(&said));
    run_slices();
    CHECK_INT(0, bytes);
    end();
}

static const struct check_case cases[] = {
    {"a large state is freed in slices, after its finalizers", test_slices},
    {"not before all finalizers are over, whatever a script calls", test_early_end},
    {"a small one at once", test_small},
    {"large blocks", test_large_blocks},
    {"a few at a time", test_many},
    {"errors in finalizers", test_error_in_finalizer},
};

/* Run the cases. */
int main(int argc, char **argv) {
    return check_main(argc, argv, cases, LD_COUNT(cases));
}
