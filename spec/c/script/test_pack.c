#include <errno.h>
#include <lauxlib.h>
#include <lualib.h>
#include <stdlib.h>
#include <string.h>

#include "check.h"
#include "famine.h"
#include "script/pack.h"
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
    bool ok = luaL_dostring(from, chunk) == LUA_OK && lua_gettop(from) == 2;
    if (!ok) {
        printf("    %s: %s\n", chunk, lua_tostring(from, -1));
    }
    REQUIRE(ok);
}

/* Pack what a chunk returns. */
static void pack(const char *chunk, struct ld_text *bytes) {
    struct ld_text why = {0};
    push(chunk);
    CHECK_INT(0, ld_pack_value(from, "state", bytes, UINT64_MAX, &why));
    CHECK_INT(2, lua_gettop(from));
    lua_pop(from, 1);
    CHECK_STR("", ld_text_string(&why));
    ld_text_fini(&why);
}

/* Check that CONDITION, an expression over v, holds for what is read from BYTES. */
static void check_read(const struct ld_text *bytes, const char *condition) {
    struct ld_text why = {0};
    CHECK_INT(0, ld_unpack_value(to, bytes->data, bytes->size, &why));
    CHECK_STR("", ld_text_string(&why));
    REQUIRE(lua_gettop(to) == 2);
    lua_setglobal(to, "v");
    lua_pushfstring(to, "return %s", condition);
    if (luaL_dostring(to, lua_tostring(to, -1)) != LUA_OK || !CHECK(lua_toboolean(to, -1))) {
        printf("    %s: %s\n", condition, luaL_tolstring(to, -1, NULL));
    }
    lua_settop(to, 1);
    ld_text_fini(&why);
}

/* Check that CONDITION holds for what CHUNK returns when it was packed and read. */
static void check_copy(const char *chunk, const char *condition) {
    struct ld_text bytes = {0};
    pack(chunk, &bytes);
    check_read(&bytes, condition);
    ld_text_fini(&bytes);
}

/* Check that what CHUNK returns cannot be packed. */
static void check_refusal(const char *chunk, const char *expected) {
    struct ld_text bytes = {0};
    struct ld_text why = {0};
    push(chunk);
    CHECK_INT(-1, ld_pack_value(from, "state", &bytes, UINT64_MAX, &why));
    CHECK_STR(expected, ld_text_string(&why));
    CHECK_INT(2, lua_gettop(from));
    lua_pop(from, 1);
    ld_text_fini(&bytes);
    ld_text_fini(&why);
}

/* Check that BYTES are refused. */
static void check_damage(const char *bytes, size_t size, const char *expected) {
    struct ld_text why = {0};
    char *copy = malloc(size > 0 ? size : 1); /* so that a sanitizer sees what is read past it */
    memcpy(copy, bytes, size);
    CHECK_INT(-1, ld_unpack_value(to, copy, size, &why));
    CHECK_STR(expected, ld_text_string(&why));
    CHECK_INT(1, lua_gettop(to));
    ld_text_fini(&why);
    free(copy);
}

#define CHECK_DAMAGE(bytes, expected) check_damage("LDP\1" bytes, sizeof(bytes) + 3, expected)

static void test_plain(void) {
    begin();
    check_copy("return nil", "v == nil");
    check_copy("return false", "v == false");
    check_copy("return true", "v == true");
    check_copy("return 0", "math.type(v) == 'integer' and v == 0");
    check_copy("return -1", "v == -1");
    check_copy("return math.maxinteger", "math.type(v) == 'integer' and v == math.maxinteger");
    check_copy("return math.mininteger", "math.type(v) == 'integer' and v == math.mininteger");
    check_copy("return 2.0", "math.type(v) == 'float' and v == 2");
    check_copy("return -0.0", "1 / v == -math.huge");
    check_copy("return 0/0", "v ~= v");
    check_copy("return -(0/0)", "string.pack('<d', v) == string.pack('<d', -(0/0))");
    check_copy("return 5e-324", "v == 5e-324");
    check_copy("return ''", "v == ''");
    check_copy("return 'a\\0b\\xFF'", "v == 'a\\0b\\xFF'");
    check_copy("return ('x'):rep(100000)", "#v == 100000");
    end();
}

static void test_tables(void) {
    begin();
    check_copy("return {}", "next(v) == nil");
    check_copy("return {1, nil, 3, x = {y = 'z'}}", "v[1] == 1 and v[3] == 3 and v.x.y == 'z'");
    check_copy("return {[2] = 'two', [1] = 'one', [0] = 'none'}",
               "v[2] == 'two' and v[1] == 'one' and v[0] == 'none'");
    check_copy("return {[true] = 1, [1.5] = 2, [-1] = 3}",
               "v[true] == 1 and v[1.5] == 2 and v[-1] == 3");
    check_copy("return {[{1}] = 2}", "next(v)[1] == 1 and v[next(v)] == 2");
    check_copy("return setmetatable({a = 1}, {__index = print, __pairs = error})",
               "v.a == 1 and getmetatable(v) == nil");
    check_copy("local t = {} for i = 1, 10000 do t[i] = {i} end return t",
               "#v == 10000 and v[10000][1] == 10000");
    check_copy("local t = {} for i = 1, 1000 do t['key' .. i] = i end return t",
               "(function() for i = 1, 1000 do if v['key' .. i] ~= i then return end end "
               "return true end)()");
    end();
}

static void test_shared(void) {
    begin();
    check_copy("local t = {} return {t, t, {}}", "v[1] == v[2] and v[1] ~= v[3]");
    check_copy("local t = {} t.me = t return t", "v.me == v");
    check_copy("local a, b = {}, {} a.b, b.a = b, a return {a, b}",
               "v[1].b == v[2] and v[2].a == v[1]");
    check_copy("local t = {} t[t] = t return t", "v[v] == v");
    check_copy("return {'ab', 'ab', 'abc', 'abc', {abc = 'ab'}}",
               "v[1] == 'ab' and v[2] == 'ab' and v[4] == 'abc' and v[5].abc == 'ab'");
    struct ld_text bytes = {0};
    pack("local s = ('x'):rep(100000) return {s, s, {s}}", &bytes);
    CHECK(bytes.size < 100100); /* once */
    check_read(&bytes, "#v[1] == 100000 and v[3][1] == v[2]");
    ld_text_fini(&bytes);
    end();
}

/* The bytes are a promise to files that were written before. */
static void test_format(void) {
    static const struct {
        const char *chunk;
        const char *bytes;
        size_t size;
    } rows[] = {
        {"return nil", "N", 1},
        {"return {}", "{\0\0", 3},
        {"return -1", "I\1", 2},
        {"return 300", "I\xD8\x04", 3},
        {"return 0.5", "D\0\0\0\0\0\0\xE0\x3F", 9},
        {"return {'abc', 'abc', x = true}", "{\2\1S\3abc=\2S\1xT", 14},
        {"local t = {} t[1] = t return t", "{\1\0=\1", 5},
    };
    begin();
    for (size_t i = 0; i < LD_COUNT(rows); i++) {
        struct ld_text bytes = {0};
        pack(rows[i].chunk, &bytes);
        CHECK(bytes.size == rows[i].size + 4 && memcmp(bytes.data, "LDP\1", 4) == 0 &&
              memcmp(bytes.data + 4, rows[i].bytes, rows[i].size) == 0);
        ld_text_fini(&bytes);
    }
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
    check_refusal("return {[print] = 1}",
                  "state[function] is a function, and only plain data can be handed on");
    check_refusal("return {[{x = print}] = 1}",
                  "state[table].x is a function, and only plain data can be handed on");
    end();
}

static void test_depth(void) {
    static const char chunk[] = "local t = {} local top = t\n"
                                "for i = 2, %d do t.n = {} t = t.n end\n"
                                "t.last = true return top";
    char text[200];
    begin();
    snprintf(text, sizeof text, chunk, LD_PACK_DEPTH_MAX);
    check_copy(text,
               "(function() local n = 0 while v do v = v.n n = n + 1 end return n end)() == 200");
    snprintf(text, sizeof text, chunk, LD_PACK_DEPTH_MAX + 1);
    struct ld_text why = {0};
    struct ld_text bytes = {0};
    push(text);
    CHECK_INT(-1, ld_pack_value(from, "state", &bytes, UINT64_MAX, &why));
    CHECK(strstr(ld_text_string(&why), ".n: tables are nested deeper than 200") != NULL);
    ld_text_clear(&bytes);
    lua_pop(from, 1);
    ld_text_add(&bytes, "LDP\1", 4);
    for (int i = 0; i < 100000; i++) {
        ld_text_add(&bytes, "{\1\0", 3);
    }
    ld_text_clear(&why);
    CHECK_INT(-1, ld_unpack_value(to, bytes.data, bytes.size, &why));
    CHECK_STR("the packed data is damaged at byte 607: tables are nested deeper than 200",
              ld_text_string(&why));
    ld_text_fini(&bytes);
    ld_text_fini(&why);
    end();
}

static void test_deadline(void) {
    static const char *const large[] = {
        "local t = {} for i = 1, 5000 do t[i] = i end return t",
        "local t = {} for i = 1, 5000 do t['key' .. i] = true end return {{{t}}}",
        "local s = ('x'):rep(1 << 20) return {s .. 1, s .. 2, s .. 3}",
        "return {1, 2, 3}",
    };
    begin();
    for (size_t i = 0; i < LD_COUNT(large); i++) {
        struct ld_text why = {0};
        struct ld_text bytes = {0};
        push(large[i]);
        int rc = ld_pack_value(from, "state", &bytes, 1, &why);
        CHECK(i == 3 ? rc == 0 : rc == -ETIME); /* a small one needs no time */
        CHECK(ld_text_is_empty(&why));
        CHECK_INT(2, lua_gettop(from));
        lua_pop(from, 1);
        ld_text_fini(&bytes);
    }
    end();
}

static void test_slices(void) {
    struct ld_text why = {0};
    struct ld_text slice = {0};
    struct ld_text bytes = {0};
    begin();
    push("local t = {} for i = 1, 5000 do t[i] = {id = i, ['key' .. i] = {t}} end return t");
    struct ld_packer *packer = ld_packer_new(from, "state", &slice, &why);
    int rc;
    int slices = 0;
    while ((rc = ld_packer_step(packer, 1000, UINT64_MAX)) == 1) {
        CHECK(slice.size >= 1000 && slice.size < 1100);
        ld_text_append(&bytes, &slice);
        ld_text_clear(&slice);
        slices++;
    }
    CHECK_INT(0, rc);
    ld_text_append(&bytes, &slice);
    ld_packer_free(packer);
    CHECK(slices > 50);
    CHECK_INT(2, lua_gettop(from));
    check_read(&bytes, "#v == 5000 and v[5000].id == 5000 and v[7].key7[1] == v");
    ld_text_clear(&slice);
    packer = ld_packer_new(from, "state", &slice, &why); /* which is given up */
    CHECK_INT(1, ld_packer_step(packer, 1000, UINT64_MAX));
    ld_packer_free(packer);
    CHECK_INT(2, lua_gettop(from));
    lua_pop(from, 1);
    ld_text_fini(&why);
    ld_text_fini(&slice);
    ld_text_fini(&bytes);
    end();
}

static void test_damage(void) {
    begin();
    check_damage("", 0, "it is not packed data of lunad");
    check_damage("LDP", 3, "it is not packed data of lunad");
    check_damage("{\"a\": 1}\n", 9, "it is not packed data of lunad");
    check_damage("LDP\2N", 5, "it is packed in format 2, and this lunad reads format 1");
    CHECK_DAMAGE("", "the packed data is damaged at byte 4: it is cut off");
    CHECK_DAMAGE("NN", "the packed data is damaged at byte 5: something follows its end");
    CHECK_DAMAGE("x", "the packed data is damaged at byte 4: no value begins like this");
    CHECK_DAMAGE("S\5abcd", "the packed data is damaged at byte 6: it is cut off");
    CHECK_DAMAGE("S\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF\1",
                 "the packed data is damaged at byte 15: it is cut off");
    CHECK_DAMAGE("I\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF\2",
                 "the packed data is damaged at byte 15: "
                 "a number has bits that do not belong to it");
    CHECK_DAMAGE("I\x81\0", "the packed data is damaged at byte 7: "
                            "a number has bits that do not belong to it");
    CHECK_DAMAGE("D1234567", "the packed data is damaged at byte 5: it is cut off");
    CHECK_DAMAGE("=\1", "the packed data is damaged at byte 6: "
                        "it refers to something that has not come");
    CHECK_DAMAGE("{\1\0=\2", "the packed data is damaged at byte 9: "
                             "it refers to something that has not come");
    CHECK_DAMAGE("{\1\0N", "the packed data is damaged at byte 8: nil in a table");
    CHECK_DAMAGE("{\0\1NT", "the packed data is damaged at byte 8: nil in a table");
    CHECK_DAMAGE("{\0\1TN", "the packed data is damaged at byte 9: nil in a table");
    CHECK_DAMAGE("{\0\1D\0\0\0\0\0\0\xF8\x7FT",
                 "the packed data is damaged at byte 16: a key is NaN");
    CHECK_DAMAGE("{\3\0TT", "the packed data is damaged at byte 7: "
                            "a table would have more values than there are bytes");
    CHECK_DAMAGE("{\4\0{\2\0TTT", "the packed data is damaged at byte 10: "
                                  "a table would have more values than there are bytes");
    CHECK_DAMAGE("{\0\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF\1TT",
                 "the packed data is damaged at byte 16: "
                 "a table would have more values than there are bytes");
    end();
}

/* Flip a bit. */
static void flip(struct ld_text *bytes, size_t bit) {
    unsigned char *byte = (unsigned char *)bytes->data + bit / 8;
    *byte = (unsigned char)(*byte ^ 1U << bit % 8);
}

/* Every beginning of packed data is refused, and every byte may be any other without harm. */
static void test_torn(void) {
    struct ld_text bytes = {0};
    struct ld_text why = {0};
    begin();
    pack("local t = {1, 2.5, 'three', {x = {}, ['a key'] = 'three'}} t[5] = t return t", &bytes);
    for (size_t size = 0; size < bytes.size; size++) {
        char *copy = malloc(size > 0 ? size : 1);
        memcpy(copy, bytes.data, size);
        CHECK_INT(-1, ld_unpack_value(to, copy, size, &why));
        free(copy);
        ld_text_clear(&why);
    }
    for (size_t i = 0; i < bytes.size * 8; i++) {
        flip(&bytes, i);
        int rc = ld_unpack_value(to, bytes.data, bytes.size, &why);
        CHECK(rc == 0 ? ld_text_is_empty(&why) : !ld_text_is_empty(&why));
        flip(&bytes, i);
        lua_settop(to, 1);
        ld_text_clear(&why);
    }
    ld_text_fini(&bytes);
    ld_text_fini(&why);
    end();
}

/* Pack with ever more memory, until there is enough. */
static void test_memory(void) {
    begin();
    push("local t = {} for i = 1, 100 do t[i] = {i, 'key' .. i} end return t");
    int rc = -1;
    for (long i = 0; rc < 0; i++) {
        struct ld_text why = {0};
        struct ld_text bytes = {0};
        famine_begin(i, FAMINE_FOR_GOOD);
        rc = ld_pack_value(from, "state", &bytes, UINT64_MAX, &why);
        famine_end();
        CHECK(rc == 0 || strstr(ld_text_string(&why), "not enough memory") != NULL);
        CHECK_INT(2, lua_gettop(from));
        CHECK(rc < 0 || i > 5);
        ld_text_fini(&why);
        ld_text_fini(&bytes);
    }
    lua_pop(from, 1);
    end();
}

static const struct check_case cases[] = {
    {"plain values", test_plain},
    {"tables, without their metatables", test_tables},
    {"tables and strings that are shared, and cycles", test_shared},
    {"the bytes of the format", test_format},
    {"what is no plain data is refused, with its path", test_refusals},
    {"tables up to 200 deep", test_depth},
    {"until a deadline", test_deadline},
    {"in slices", test_slices},
    {"what is damaged is refused, with its place", test_damage},
    {"with too little memory", test_memory},
    {"what is torn is refused, and any bit may be wrong", test_torn},
};

CHECK_MAIN(cases)
