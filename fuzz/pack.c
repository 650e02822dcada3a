/* Packed data: whatever the bytes, it is read or refused with words, within memory that the bytes bound; and what
 * was read is packed and read again as the same. */
#include "script/pack.h"

#include <lauxlib.h>
#include <lualib.h>
#include <string.h>

#include "fuzz.h"

#define FACTOR 64 /* bytes of Lua for a byte that is read */
#define SPARE  16384

static size_t allocated;
static size_t allowed;

/* Allocate, and count. */
static void *allocate(void *arg, void *old, size_t old_size, size_t size) {
    (void)arg;
    old_size = old != NULL ? old_size : 0;
    if (size == 0) {
        free(old);
        allocated -= old_size;
        return NULL;
    }
    FUZZ_CHECK(allocated - old_size + size <= allowed);
    void *memory = realloc(old, size);
    allocated += memory != NULL ? size - old_size : 0;
    return memory;
}

/* Count what is reached from the value at the top: values, and bytes of strings. Keys that are tables are
 * counted with their tables. */
static const char measure_text[] =
    "local seen, tables, values, bytes = {}, 0, 0, 0\n"
    "local function look(x)\n"
    "  values = values + 1\n"
    "  if type(x) == 'string' then bytes = bytes + #x end\n"
    "  if type(x) ~= 'table' or seen[x] then return end\n"
    "  seen[x] = true\n"
    "  tables = tables + 1\n"
    "  for k, v in next, x do look(k) look(v) end\n"
    "end\n"
    "look(...)\n"
    "return string.format('%d tables, %d values, %d bytes', tables, values, bytes)\n";

/* Replace the value at the top by its measure. */
static void measure(lua_State *L) {
    FUZZ_CHECK(luaL_loadstring(L, measure_text) == LUA_OK);
    lua_insert(L, -2);
    FUZZ_CHECK(lua_pcall(L, 1, 1, 0) == LUA_OK);
}

/* Pack the value at the top, read it again, and compare. */
static void check_again(lua_State *L) {
    struct ld_text bytes = {0};
    struct ld_text why = {0};
    int rc = ld_pack_value(L, "state", &bytes, UINT64_MAX, &why);
    if (rc < 0) { /* a shared table may be reached by a longer path first */
        FUZZ_CHECK(strstr(ld_text_string(&why), "deeper than 200") != NULL);
    } else {
        FUZZ_CHECK(ld_unpack_value(L, bytes.data, bytes.size, &why) == 0);
        measure(L);
        lua_insert(L, -2);
        measure(L);
        FUZZ_CHECK(lua_rawequal(L, -1, -2));
    }
    ld_text_fini(&bytes);
    ld_text_fini(&why);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct ld_text why = {0};
    allocated = 0;
    allowed = SIZE_MAX;
    lua_State *L = lua_newstate(allocate, NULL);
    luaL_requiref(L, "_G", luaopen_base, 1);
    luaL_requiref(L, "string", luaopen_string, 1);
    lua_settop(L, 0);
    allowed = allocated + size * FACTOR + SPARE;
    int rc = ld_unpack_value(L, (const char *)data, size, &why);
    allowed = SIZE_MAX;
    FUZZ_CHECK(rc == 0 || rc == -1);
    FUZZ_CHECK(lua_gettop(L) == (rc == 0 ? 1 : 0));
    FUZZ_CHECK(ld_text_is_empty(&why) == (rc == 0));
    fuzz_check_line(ld_text_string(&why), why.size);
    if (rc == 0) {
        check_again(L);
    }
    ld_text_fini(&why);
    lua_close(L);
    return 0;
}
