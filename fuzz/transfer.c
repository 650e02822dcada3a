/* The copy of the state: what arrives is the same data, what cannot be copied is named, and neither state is
 * left with anything on its stack; with too little memory too. */
#include "script/transfer.h"

#include <errno.h>
#include <lauxlib.h>
#include <lualib.h>
#include <string.h>

#include "fuzz.h"

#define TABLES_MAX 250

/* Says when the memory of the second state is used up; 0: never. */
static unsigned allocations_left;

/* Allocate, or fail. */
static void *allocate(void *arg, void *old, size_t old_size, size_t size) {
    (void)arg;
    (void)old_size;
    if (size == 0) {
        free(old);
        return NULL;
    }
    if (allocations_left > 0 && --allocations_left == 0) {
        allocations_left = 1; /* from now on */
        return NULL;
    }
    return realloc(old, size);
}

/* A function, which cannot be copied. */
static int do_nothing(lua_State *L) {
    (void)L;
    return 0;
}

/* Push one value; TABLES is the stack index of a list of COUNT tables that are there already. Returns
 * whether it can be copied. */
static bool push_value(lua_State *L, struct fuzz_input *input, int tables, int count) {
    size_t size;
    const char *bytes;
    switch (fuzz_byte(input) % 12) {
    case 0:
        lua_pushboolean(L, fuzz_byte(input) % 2);
        return true;
    case 1:
        lua_pushinteger(L, (lua_Integer)fuzz_number(input, 8));
        return true;
    case 2:
        lua_pushnumber(L, (double)fuzz_number(input, 4) / 7);
        return true;
    case 3:
        lua_pushcfunction(L, do_nothing);
        return false;
    case 4:
        lua_newthread(L);
        return false;
    case 5:
    case 6:
    case 7:
        bytes = fuzz_bytes(input, 255, &size);
        lua_pushlstring(L, bytes, size);
        return true;
    default:
        lua_rawgeti(L, tables, fuzz_byte(input) % count + 1);
        return true;
    }
}

/* Push the root of a graph of tables, which share and cycle. */
static bool build(lua_State *L, struct fuzz_input *input) {
    int count = fuzz_byte(input) % TABLES_MAX + 1;
    bool is_plain = true;
    lua_newtable(L);
    int tables = lua_gettop(L);
    for (int i = 1; i <= count; i++) {
        lua_newtable(L);
        if (fuzz_byte(input) % 16 == 0) {
            luaL_newmetatable(L, "LUNAD_FUZZ");
            lua_setmetatable(L, -2);
        }
        lua_rawseti(L, tables, i);
    }
    while (input->left > 0) {
        lua_rawgeti(L, tables, fuzz_byte(input) % count + 1);
        is_plain = push_value(L, input, tables, count) && is_plain;
        is_plain = push_value(L, input, tables, count) && is_plain;
        lua_rawset(L, -3);
        lua_settop(L, tables);
    }
    lua_rawgeti(L, tables, 1);
    lua_remove(L, tables);
    return is_plain;
}

/* The same as Lua: whether two values are the same data, table for table. */
static const char same_text[] =
    "local a, b = ...\n"
    "local seen = {}\n"
    "local function same(x, y)\n"
    "  if type(x) ~= 'table' then return x == y and math.type(x) == math.type(y) end\n"
    "  if type(y) ~= 'table' or getmetatable(y) then return false end\n"
    "  if seen[x] then return seen[x] == y end\n"
    "  seen[x] = y\n"
    "  local plain, tables = {}, {}\n"
    "  local count = 0\n"
    "  for k, v in pairs(y) do\n"
    "    count = count + 1\n"
    "    if type(k) == 'table' then tables[#tables + 1] = k end\n"
    "  end\n"
    "  local others = 0\n"
    "  for k, v in next, x do\n"
    "    count = count - 1\n"
    "    if type(k) == 'table' then others = others + 1\n"
    "    elseif not same(v, y[k]) then return false end\n"
    "  end\n"
    "  return count == 0 and others == #tables\n"
    "end\n"
    "return same(a, b)\n";

/* Check a copy: copy it back, beside the original, and compare them there. */
static void check_copy(lua_State *from, lua_State *to) {
    struct ld_text why = {0};
    lua_State *other = lua_newthread(from);
    lua_insert(from, -2); /* the thread below the original */
    FUZZ_CHECK(ld_transfer_value(to, other, UINT64_MAX, "state", &why) == 0);
    FUZZ_CHECK(luaL_loadstring(from, same_text) == LUA_OK);
    lua_pushvalue(from, -2);
    lua_xmove(other, from, 1);
    FUZZ_CHECK(lua_pcall(from, 2, 1, 0) == LUA_OK);
    FUZZ_CHECK(lua_toboolean(from, -1));
    lua_pop(from, 1);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct fuzz_input input = {data, size};
    struct ld_text why = {0};
    lua_State *from = luaL_newstate();
    allocations_left = 0;
    lua_State *to = lua_newstate(allocate, NULL);
    luaL_requiref(from, "_G", luaopen_base, 1);
    luaL_requiref(from, "math", luaopen_math, 1);
    lua_settop(from, 0);
    unsigned limit = fuzz_byte(&input);
    bool is_plain = build(from, &input);
    FUZZ_CHECK(lua_gettop(from) == 1);
    allocations_left = limit < 128 ? 0 : limit - 127;
    int rc = ld_transfer_value(from, to, UINT64_MAX, "state", &why);
    bool is_limited = allocations_left > 0;
    allocations_left = 0;
    FUZZ_CHECK(rc == 0 || rc == -1);
    FUZZ_CHECK(lua_gettop(from) == 1 && lua_gettop(to) == (rc == 0 ? 1 : 0));
    if (rc == 0) {
        FUZZ_CHECK(ld_text_is_empty(&why));
        check_copy(from, to);
    } else {
        FUZZ_CHECK(why.size > 0 && (is_limited || !is_plain || strstr(why.data, "200") != NULL));
        FUZZ_CHECK(is_limited || strncmp(why.data, "state", 5) == 0);
        fuzz_check_line(ld_text_string(&why), why.size);
    }
    ld_text_fini(&why);
    lua_close(from);
    lua_close(to);
    return 0;
}
