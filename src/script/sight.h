/* A copy of where Lua code is, which can be shown when that has changed, and by another thread. */
#ifndef LD_SCRIPT_SIGHT_H
#define LD_SCRIPT_SIGHT_H

#include <stdbool.h>

#include "base/text.h"
#include "script/state.h"

#define LD_SIGHT_MAX 40 /* calls; the others are left out */

struct ld_sight_call {
    char path[256]; /* of the file, or what there is in its place */
    char name[40];  /* of the function, or "" */
    char kind[16];  /* of the name: "local", "method", … */
    int coroutine;  /* 0: the one that runs, 1: the one that has resumed it, … */
    int skipped;    /* calls before this one that were left out */
    int line;       /* 0: unknown, as in C */
    int begins;     /* line on which the function begins */
    bool is_main;   /* the main chunk */
};

struct ld_sight {
    const char *what; /* runs: "a timer"; NULL: what has no name, or nothing */
    bool is_c;        /* a C function runs */
    size_t count;
    struct ld_sight_call calls[LD_SIGHT_MAX];
};

/* Copy where the code of SCRIPT is, under the conditions of ld_trace_walk. NULL: nothing runs. */
void ld_sight_take(struct ld_sight *sight, const struct ld_script *script, bool is_c);

/* The innermost call in the script's own Lua; NULL if there is none. */
const struct ld_sight_call *ld_sight_place(const struct ld_sight *sight);

/* Add all calls, a line each, after "\nstack traceback:". */
void ld_sight_add(struct ld_text *text, const struct ld_sight *sight);

#endif
