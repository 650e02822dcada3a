/* Helpers over the Lua API. Those that raise say so. */
#ifndef LD_SCRIPT_LUAX_H
#define LD_SCRIPT_LUAX_H

#include <lauxlib.h>
#include <lua.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/base.h"

/* Names of lunad's own Lua chunks begin with this; errors are never reported at a line of theirs. */
#define LX_OWN_CHUNK "lunad/"

/* Push nil, "ENOENT: no such file or directory: DETAIL", "ENOENT" for a negative errno. Raises only
 * if memory runs out. Returns 3. */
int lx_fail(lua_State *L, int code, const char *format, ...) LD_PRINTF(3, 4);

/* Raise a formatted message at the line of the script that called. */
_Noreturn void lx_error(lua_State *L, const char *format, ...) LD_PRINTF(2, 3);

/* Raise unless argument ARG can be called. */
void lx_check_callable(lua_State *L, int arg);

/* Whether the value at INDEX can be called. */
bool lx_is_callable(lua_State *L, int index);

/* Argument ARG as seconds in nanoseconds; raises if negative, not finite, over ten years,
 * or (with POSITIVE) 0. */
uint64_t lx_check_seconds(lua_State *L, int arg, bool positive);

/* The same for a number; false if it is out of range. */
bool lx_seconds(lua_Number seconds, uint64_t *ns);

/* Argument ARG as a signal, by name or number; raises for any other. 0 only with ZERO. */
int lx_check_signal(lua_State *L, int arg, bool zero);

/* Whether the value at INDEX is a number that an integer can hold: 3.0 is one. */
bool lx_is_whole(lua_State *L, int index);

/* What the value of an option must be, and what it is stored as. */
enum lx_type {
    LX_CUSTOM,   /* whatever the row's function reads */
    LX_STRING,   /* const char *, which lives as long as the table has it */
    LX_BOOLEAN,  /* bool */
    LX_INTEGER,  /* int, from min to max */
    LX_MODE,     /* int: octal text, or a number to 0777 */
    LX_MS,       /* uint64_t: seconds, as milliseconds rounded up; not 0 if min is 1 */
    LX_FUNCTION, /* not stored: the caller takes it from the table */
    LX_TABLE,    /* the same */
};

/* One option of a table argument. */
struct lx_row {
    const char *name;
    enum lx_type type;
    size_t offset; /* of the member that it is stored in */
    lua_Integer min;
    lua_Integer max;
    /* Read the value at the top of the stack into the member; raises for a wrong one. */
    void (*read)(lua_State *L, const char *name, void *member);
};

/* Read every string key of the table at INDEX by its row (the last has no name) into the struct INTO;
 * raises for a wrong value and for an unknown key. Integer keys are left to the caller, others raise. WHAT names the function. */
void lx_read_options(lua_State *L, int index, const struct lx_row *rows, void *into,
                     const char *what);

/* The value at the top of the stack, of an option called NAME; each raises for a wrong type. */
const char *lx_option_string(lua_State *L, const char *name);
lua_Integer lx_option_integer(lua_State *L, const char *name, lua_Integer min, lua_Integer max);
void lx_option_table(lua_State *L, const char *name);

/* Note where an error (a string at -2) that is passed on came from (text at -1). Pops both; the last one is
 * remembered. */
void lx_note_cause(lua_State *L);

/* Push where the error at INDEX came from, or nil if its traceback TRACE does not show that it was passed on. */
void lx_push_cause(lua_State *L, int index, const char *trace);

/* Push "file:line" of the function at INDEX, or "?" if it has none. */
void lx_push_function_place(lua_State *L, int index);

/* Whether the value at INDEX is a function of lunad's own Lua. */
bool lx_is_own(lua_State *L, int index);

/* Push "file:line" where the coroutine CO is, or "?". */
void lx_push_place(lua_State *L, lua_State *co);

/* Write "file:line" of the line on which the function at INDEX begins, or the one that is the first upvalue of a
 * C function; false if that is none. Allocates nothing but room on the stack. */
bool lx_find_function_place(lua_State *L, int index, char *where, size_t size);

/* Write "file:line" of where the coroutine CO is, or "?", to WHERE; the end of a long path. Allocates
 * nothing. */
void lx_find_place(lua_State *co, char *where, size_t size);

/* Push a new metatable for userdata called NAME, with METHODS. */
void lx_new_type(lua_State *L, const char *name, const luaL_Reg *methods);

/* Push the value at INDEX as tostring makes it, or a text that says how __tostring failed. Raises
 * only if memory runs out. */
void lx_push_text(lua_State *L, int index);

/* Push the error object at INDEX as a string that says something, whatever it is. May call
 * __tostring, but does not raise for it. */
void lx_push_message(lua_State *L, int index);

#endif
