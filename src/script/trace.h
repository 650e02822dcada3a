/* Where the Lua code of a script is, for those who may neither allocate nor raise: a signal handler,
 * or a thread that watches. */
#ifndef LD_SCRIPT_TRACE_H
#define LD_SCRIPT_TRACE_H

#include <lua.h>
#include <stdbool.h>

#include "script/state.h"

/* A call. The strings are those of Lua, which may have bytes of any kind, and are gone afterwards. */
struct ld_trace_call {
    int coroutine;      /* 0: the one that runs, 1: the one that has resumed it, … */
    int level;          /* in the coroutine; 0: the function that runs */
    int skipped;        /* levels before this one that were left out; negative: and many after it */
    const char *source; /* a file's name, "[C]", … */
    const char *path;   /* the file's whole path, or the same as source */
    int line;           /* 0: unknown, as in C */
    int begins;         /* line on which the function begins, or 0 */
    const char *name;   /* of the function, or NULL */
    const char *kind;   /* of the name: "local", "method", …, or "" */
    bool is_main;       /* the main chunk */
};

/* Call EACH with every call of the coroutines that run in SCRIPT, the last call first, but with at most
 * MOST calls of a coroutine: its last ones, and a few of the first. Calls nothing that allocates, locks
 * or raises; in a state that is broken, or changes meanwhile, it may fault or never return. */
void ld_trace_walk(const struct ld_script *script, int most,
                   void (*each)(void *arg, const struct ld_trace_call *call), void *arg);

/* Whether code of SCRIPT runs. Likewise. */
bool ld_trace_runs(const struct ld_script *script);

/* Find the innermost place in Lua code: its SOURCE, of LUA_IDSIZE bytes, and line. False if no Lua code
 * runs. Likewise. */
bool ld_trace_place(const struct ld_script *script, char *source, int *line);

#endif
