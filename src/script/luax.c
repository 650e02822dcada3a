#include "script/luax.h"

#include <math.h>
#include <stdarg.h>
#include <string.h>
#include <uv.h>

#include "base/likely.h"
#include "base/parse.h"

#define LONGEST_SECONDS (10.0 * 366 * 86400)

/* Push the text of an error: libuv's, or for one that it does not know the system's in its style. */
static void push_error_text(lua_State *L, int code) {
    char text[128];
    uv_strerror_r(code, text, sizeof text);
    if (strncmp(text, "Unknown", strlen("Unknown")) == 0) {
        snprintf(text, sizeof text, "%s", strerror(-code));
        text[0] = (char)(text[0] | 0x20); /* lower case */
    }
    lua_pushstring(L, text);
}

/* Push the error triple. */
int lx_fail(lua_State *L, int code, const char *format, ...) {
    va_list args;
    const char *name = strerrorname_np(-code);
    name = name != NULL ? name : "EUNKNOWN";
    lua_pushnil(L);
    push_error_text(L, code);
    lua_pushfstring(L, "%s: %s: ", name, lua_tostring(L, -1));
    lua_remove(L, -2);
    va_start(args, format);
    lua_pushvfstring(L, format, args);
    va_end(args);
    lua_concat(L, 2);
    lua_pushstring(L, name);
    return 3;
}

/* Push "file:line: " of the innermost line of the script itself, or "". */
static void push_where(lua_State *L) {
    lua_Debug ar;
    for (int level = 1; lua_getstack(L, level, &ar); level++) {
        lua_getinfo(L, "Sl", &ar);
        if (ar.currentline > 0 && strncmp(ar.short_src, LX_OWN_CHUNK, strlen(LX_OWN_CHUNK)) != 0) {
            lua_pushfstring(L, "%s:%d: ", ar.short_src, ar.currentline);
            return;
        }
    }
    lua_pushliteral(L, "");
}

/* Raise at the line of the script. */
void lx_error(lua_State *L, const char *format, ...) {
    va_list args;
    push_where(L);
    va_start(args, format);
    lua_pushvfstring(L, format, args);
    va_end(args);
    lua_concat(L, 2);
    lua_error(L);
    abort(); /* not reached: lua_error does not return */
}

/* Whether a value can be called. */
bool lx_is_callable(lua_State *L, int index) {
    if (lua_isfunction(L, index)) {
        return true;
    }
    if (luaL_getmetafield(L, index, "__call") == LUA_TNIL) {
        return false;
    }
    lua_pop(L, 1);
    return true;
}

/* Raise unless an argument can be called. */
void lx_check_callable(lua_State *L, int arg) {
    if (!lx_is_callable(L, arg)) {
        luaL_typeerror(L, arg, "function");
    }
}

/* Convert seconds. */
bool lx_seconds(lua_Number seconds, uint64_t *ns) {
    if (!(seconds >= 0) || seconds > LONGEST_SECONDS) {
        return false;
    }
    *ns = (uint64_t)(seconds * 1e9 + 0.5);
    return true;
}

/* Check seconds. */
uint64_t lx_check_seconds(lua_State *L, int arg, bool positive) {
    uint64_t ns = 0;
    lua_Number seconds = luaL_checknumber(L, arg);
    if (!lx_seconds(seconds, &ns) || (positive && ns == 0)) {
        luaL_argerror(L, arg,
                      positive ? "seconds above 0 and up to ten years expected"
                               : "seconds from 0 to ten years expected");
    }
    return ns;
}

/* Check a signal. */
int lx_check_signal(lua_State *L, int arg, bool zero) {
    int signo = 0;
    if (lua_type(L, arg) == LUA_TNUMBER) {
        lua_Integer number = luaL_checkinteger(L, arg);
        luaL_argcheck(L, number >= (zero ? 0 : 1) && number < 65, arg, "no such signal");
        return (int)number;
    }
    const char *name = luaL_checkstring(L, arg);
    if (!ld_parse_signal(name, &signo)) {
        luaL_argerror(L, arg, lua_pushfstring(L, "no such signal: '%s'", name));
    }
    return signo;
}

/* Whether a value is a whole number. */
bool lx_is_whole(lua_State *L, int index) {
    int is_whole = 0;
    lua_tointegerx(L, index, &is_whole);
    return is_whole && lua_type(L, index) == LUA_TNUMBER;
}

/* Raise for an option of a wrong type. */
_Noreturn static void option_error(lua_State *L, const char *name, const char *expected) {
    lx_error(L, "option '%s': %s expected, got %s", name, expected, luaL_typename(L, -1));
}

/* A string option. */
const char *lx_option_string(lua_State *L, const char *name) {
    if (lua_type(L, -1) != LUA_TSTRING) {
        option_error(L, name, "string");
    }
    const char *string = lua_tostring(L, -1);
    if (strlen(string) != lua_rawlen(L, -1)) {
        lx_error(L, "option '%s': it must not contain a zero byte", name);
    }
    return string;
}

/* An integer option. */
lua_Integer lx_option_integer(lua_State *L, const char *name, lua_Integer min, lua_Integer max) {
    int is_integer = 0;
    lua_Integer value = lua_tointegerx(L, -1, &is_integer);
    if (lua_type(L, -1) != LUA_TNUMBER || !is_integer) {
        option_error(L, name, "integer");
    }
    if (value < min || value > max) {
        lx_error(L, "option '%s': the number is out of range", name);
    }
    return value;
}

/* A boolean option. */
static bool option_boolean(lua_State *L, const char *name) {
    if (!lua_isboolean(L, -1)) {
        option_error(L, name, "boolean");
    }
    return lua_toboolean(L, -1);
}

/* An option of seconds, in milliseconds rounded up. */
static uint64_t option_ms(lua_State *L, const char *name, bool positive) {
    uint64_t ns = 0;
    if (lua_type(L, -1) != LUA_TNUMBER) {
        option_error(L, name, "number");
    }
    if (!lx_seconds(lua_tonumber(L, -1), &ns) || (positive && ns == 0)) {
        lx_error(L, "option '%s': seconds %s ten years expected", name,
                 positive ? "above 0 and up to" : "from 0 to");
    }
    return (ns + 999999) / 1000000;
}

/* A file mode. */
static int option_mode(lua_State *L, const char *name) {
    mode_t mode;
    if (lua_type(L, -1) == LUA_TNUMBER) {
        return (int)lx_option_integer(L, name, 0, 0777);
    }
    const char *text = lx_option_string(L, name);
    if (!ld_parse_mask(text, &mode)) {
        lx_error(L, "option '%s': '%s' is not octal, such as \"027\"", name, text);
    }
    return (int)mode;
}

/* A table. */
void lx_option_table(lua_State *L, const char *name) {
    if (!lua_istable(L, -1)) {
        option_error(L, name, "table");
    }
}

/* An option that can be called. */
static void check_function(lua_State *L, const char *name) {
    if (!lx_is_callable(L, -1)) {
        option_error(L, name, "function");
    }
}

/* Read the value at the top into the member of a row. */
static void read_value(lua_State *L, const struct lx_row *row, void *member) {
    switch (row->type) {
    case LX_CUSTOM:
        row->read(L, row->name, member);
        break;
    case LX_STRING:
        *(const char **)member = lx_option_string(L, row->name);
        break;
    case LX_BOOLEAN:
        *(bool *)member = option_boolean(L, row->name);
        break;
    case LX_INTEGER:
        *(int *)member = (int)lx_option_integer(L, row->name, row->min, row->max);
        break;
    case LX_MODE:
        *(int *)member = option_mode(L, row->name);
        break;
    case LX_MS:
        *(uint64_t *)member = option_ms(L, row->name, row->min > 0);
        break;
    case LX_FUNCTION:
        check_function(L, row->name);
        break;
    case LX_TABLE:
        lx_option_table(L, row->name);
        break;
    }
}

/* Raise that there is no option NAME, with the one that was probably meant. */
static void blame_option(lua_State *L, const struct lx_row *rows, const char *name,
                         const char *what) {
    struct ld_likely likely = {.word = name};
    for (const struct lx_row *row = rows; row->name != NULL; row++) {
        ld_likely_try(&likely, row->name);
    }
    lx_error(L, "%s: unknown option '%s'%s%s%s", what, name,
             likely.best != NULL ? "; did you mean '" : "", likely.best != NULL ? likely.best : "",
             likely.best != NULL ? "'?" : "");
}

/* Read one option by its row; raises if there is none. */
static void read_option(lua_State *L, const struct lx_row *rows, void *into, const char *what) {
    const char *name = lua_tostring(L, -2);
    for (const struct lx_row *row = rows; row->name != NULL; row++) {
        if (strcmp(row->name, name) == 0) {
            read_value(L, row, (char *)into + row->offset);
            return;
        }
    }
    blame_option(L, rows, name, what);
}

/* Read the options of a table. */
void lx_read_options(lua_State *L, int index, const struct lx_row *rows, void *into,
                     const char *what) {
    index = lua_absindex(L, index);
    lua_pushnil(L);
    while (lua_next(L, index) != 0) {
        int type = lua_type(L, -2);
        if (type == LUA_TSTRING) {
            read_option(L, rows, into, what);
        } else if (!lua_isinteger(L, -2)) {
            lx_error(L, "%s: an option's name must be a string, not a %s", what,
                     lua_typename(L, type));
        }
        lua_pop(L, 1);
    }
}

static const char cause_key; /* of {error, text} in the registry */

/* Note where an error came from. */
void lx_note_cause(lua_State *L) {
    lua_createtable(L, 2, 0);
    lua_insert(L, -3);
    lua_rawseti(L, -3, 2);
    lua_rawseti(L, -2, 1);
    lua_rawsetp(L, LUA_REGISTRYINDEX, &cause_key);
}

/* Push where an error came from. */
void lx_push_cause(lua_State *L, int index, const char *trace) {
    index = lua_absindex(L, index);
    if (strstr(trace, "'pass_on'") == NULL) { /* branches.lua */
        lua_pushnil(L);
        return;
    }
    if (lua_rawgetp(L, LUA_REGISTRYINDEX, &cause_key) != LUA_TTABLE) {
        return;
    }
    lua_rawgeti(L, -1, 1);
    lua_rawgeti(L, -2, lua_rawequal(L, -1, index) ? 2 : 3); /* there is no third one */
    lua_replace(L, -3);
    lua_pop(L, 1);
}

/* Push "file:line" with the file's whole path, which short_src may have cut. */
static void push_place(lua_State *L, const lua_Debug *ar, int line) {
    bool is_file = ar->source[0] == '@' || ar->source[0] == '=';
    lua_pushfstring(L, "%s:%d", is_file ? ar->source + 1 : ar->short_src, line);
}

/* Push where a function is. */
void lx_push_function_place(lua_State *L, int index) {
    lua_Debug ar;
    lua_pushvalue(L, index);
    if (lua_isfunction(L, -1)) {
        lua_getinfo(L, ">S", &ar);
        if (ar.linedefined > 0) {
            push_place(L, &ar, ar.linedefined);
            return;
        }
    } else {
        lua_pop(L, 1);
    }
    lua_pushliteral(L, "?");
}

/* Whether a function is lunad's own. */
bool lx_is_own(lua_State *L, int index) {
    lua_Debug ar;
    if (!lua_isfunction(L, index)) {
        return false;
    }
    lua_pushvalue(L, index);
    lua_getinfo(L, ">S", &ar);
    return strncmp(ar.source, "=" LX_OWN_CHUNK, strlen("=" LX_OWN_CHUNK)) == 0;
}

/* Push where a coroutine is: its innermost line that is not ours. */
void lx_push_place(lua_State *L, lua_State *co) {
    lua_Debug ar;
    for (int level = 0; lua_getstack(co, level, &ar); level++) {
        lua_getinfo(co, "Sl", &ar);
        if (ar.currentline > 0 && strncmp(ar.short_src, LX_OWN_CHUNK, strlen(LX_OWN_CHUNK)) != 0) {
            push_place(L, &ar, ar.currentline);
            return;
        }
    }
    lua_pushliteral(L, "?");
}

/* Write a place. */
static void write_place(char *where, size_t size, const lua_Debug *ar, int line) {
    bool is_file = ar->source[0] == '@' || ar->source[0] == '=';
    const char *path = is_file ? ar->source + 1 : ar->short_src;
    size_t room = size - sizeof "...:2147483647";
    size_t length = strlen(path);
    bool is_cut = length > room;
    snprintf(where, size, "%s%s:%d", is_cut ? "..." : "", is_cut ? path + length - room : path,
             line);
}

/* Find where a function is, or the one that a C function calls, which is its first upvalue. */
bool lx_find_function_place(lua_State *L, int index, char *where, size_t size) {
    lua_Debug ar;
    int top = lua_gettop(L);
    if (!lua_isfunction(L, index) || !lua_checkstack(L, 2)) {
        return false;
    }
    lua_pushvalue(L, index);
    if (lua_iscfunction(L, -1) && lua_getupvalue(L, -1, 1) == NULL) {
        lua_settop(L, top);
        return false;
    }
    bool is_lua = lua_isfunction(L, -1) && lua_getinfo(L, ">S", &ar) && ar.linedefined > 0;
    lua_settop(L, top);
    if (is_lua) {
        write_place(where, size, &ar, ar.linedefined);
    }
    return is_lua;
}

/* Find where a coroutine is. */
void lx_find_place(lua_State *co, char *where, size_t size) {
    lua_Debug ar;
    snprintf(where, size, "?");
    for (int level = 0; lua_getstack(co, level, &ar); level++) {
        lua_getinfo(co, "Sl", &ar);
        bool is_own = strncmp(ar.source, "=" LX_OWN_CHUNK, strlen("=" LX_OWN_CHUNK)) == 0;
        if (ar.currentline > 0 && !is_own) {
            write_place(where, size, &ar, ar.currentline);
            return;
        }
    }
}

/* Push a new metatable, which scripts cannot reach. */
void lx_new_type(lua_State *L, const char *name, const luaL_Reg *methods) {
    luaL_newmetatable(L, name);
    lua_newtable(L);
    luaL_setfuncs(L, methods, 0);
    lua_setfield(L, -2, "__index");
    lua_pushliteral(L, "locked");
    lua_setfield(L, -2, "__metatable");
}

/* Convert the argument by __tostring. */
static int convert(lua_State *L) {
    luaL_tolstring(L, 1, NULL);
    return 1;
}

/* Push a value as tostring makes it. */
void lx_push_text(lua_State *L, int index) {
    index = lua_absindex(L, index);
    if (luaL_getmetafield(L, index, "__tostring") == LUA_TNIL) {
        luaL_tolstring(L, index, NULL);
        return;
    }
    lua_pop(L, 1);
    lua_pushcfunction(L, convert);
    lua_pushvalue(L, index);
    if (lua_pcall(L, 1, 1, 0) != LUA_OK) {
        lx_push_message(L, -1);
        lua_pushfstring(L, "(a %s whose __tostring failed: %s)",
                        lua_typename(L, lua_type(L, index)), lua_tostring(L, -1));
        lua_replace(L, -3);
        lua_pop(L, 1);
    }
}

/* Push an error object as a string. */
void lx_push_message(lua_State *L, int index) {
    index = lua_absindex(L, index);
    if (lua_type(L, index) == LUA_TSTRING || lua_type(L, index) == LUA_TNUMBER) {
        lua_pushvalue(L, index);
        lua_tolstring(L, -1, NULL);
        return;
    }
    if (luaL_getmetafield(L, index, "__tostring") != LUA_TNIL) {
        lua_pop(L, 1);
        lua_pushcfunction(L, convert);
        lua_pushvalue(L, index);
        if (lua_pcall(L, 1, 1, 0) == LUA_OK) {
            return;
        }
        lua_pop(L, 1);
    }
    lua_pushfstring(L, "(error object is a %s value)", luaL_typename(L, index));
}
