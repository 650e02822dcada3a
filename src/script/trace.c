#include "script/trace.h"

#include <string.h>

#define COROUTINES_MAX 32    /* more of them in each other are left out */
#define FIRST_CALLS    5     /* of a coroutine with many */
#define DEEP           20000 /* calls; more are not counted: each look at one takes as many steps */

/* A walk over the coroutines. */
struct walk {
    int most;
    int coroutine;
    void (*each)(void *arg, const struct ld_trace_call *call);
    void *arg;
};

/* Count the calls of a coroutine, up to DEEP. lua_getstack takes as many steps as the level is high, so search as
 * luaL_traceback does. */
static int count_calls(lua_State *L) {
    lua_Debug ar;
    int low = 0; /* there is a level before this one */
    int high = 1;
    while (low < DEEP && lua_getstack(L, high, &ar)) {
        low = high;
        high *= 2;
    }
    if (low >= DEEP) {
        return DEEP;
    }
    while (low < high) {
        int middle = low + (high - low) / 2;
        if (lua_getstack(L, middle, &ar)) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return lua_getstack(L, 0, &ar) ? low : 0;
}

/* Show one call. */
static void show(const struct walk *walk, lua_State *L, int level, int skipped) {
    lua_Debug ar;
    if (lua_getstack(L, level, &ar) && lua_getinfo(L, "Sln", &ar)) {
        bool is_file = ar.source[0] == '@';
        const struct ld_trace_call call = {.coroutine = walk->coroutine,
                                           .level = level,
                                           .skipped = skipped,
                                           .source = ar.short_src,
                                           .line = ar.currentline > 0 ? ar.currentline : 0,
                                           .path = is_file ? ar.source + 1 : ar.short_src,
                                           .begins = ar.linedefined > 0 ? ar.linedefined : 0,
                                           .name = ar.name,
                                           .kind = ar.namewhat,
                                           .is_main = strcmp(ar.what, "main") == 0};
        walk->each(walk->arg, &call);
    }
}

/* Show the calls of one coroutine. Of one that is deep the first calls are too far away. */
static void walk_coroutine(struct walk *walk, lua_State *L) {
    int count = count_calls(L);
    if (count >= DEEP) {
        for (int level = 0; level < walk->most; level++) {
            bool is_last = level == walk->most - 1;
            show(walk, L, is_last ? DEEP : level, is_last ? -(DEEP - level) : 0);
        }
        walk->coroutine++;
        return;
    }
    int first = count <= walk->most || walk->most <= FIRST_CALLS ? 0 : FIRST_CALLS;
    int last = count - first < walk->most - first ? count - first : walk->most - first;
    for (int level = 0; level < last; level++) {
        show(walk, L, level, 0);
    }
    for (int level = count - first; level < count; level++) {
        show(walk, L, level, level == count - first ? count - first - last : 0);
    }
    walk->coroutine += count > 0;
}

/* Walk over all coroutines that run, and then over the main one, in which the host calls Lua. */
void ld_trace_walk(const struct ld_script *script, int most,
                   void (*each)(void *arg, const struct ld_trace_call *call), void *arg) {
    struct walk walk = {.most = most, .each = each, .arg = arg};
    const struct ld_level *level = script->interruption.level;
    bool has_main = false;
    for (int i = 0; level != NULL && i < COROUTINES_MAX; i++) {
        has_main = has_main || level->co == script->L;
        walk_coroutine(&walk, level->co);
        level = level->outer;
    }
    if (!has_main && script->L != NULL) {
        walk_coroutine(&walk, script->L);
    }
}

/* Whether code runs: in a coroutine, or called by the host. */
bool ld_trace_runs(const struct ld_script *script) {
    lua_Debug ar;
    return script->interruption.level != NULL ||
           (script->L != NULL && lua_getstack(script->L, 0, &ar));
}

/* Find the innermost place in a coroutine. */
static bool find_in(lua_State *L, char *source, int *line) {
    lua_Debug ar;
    for (int level = 0; lua_getstack(L, level, &ar); level++) {
        if (lua_getinfo(L, "Sl", &ar) && ar.currentline > 0) {
            memcpy(source, ar.short_src, LUA_IDSIZE);
            *line = ar.currentline;
            return true;
        }
    }
    return false;
}

/* Find the innermost place. */
bool ld_trace_place(const struct ld_script *script, char *source, int *line) {
    const struct ld_level *level = script->interruption.level;
    for (int i = 0; level != NULL && i < COROUTINES_MAX; i++) {
        if (find_in(level->co, source, line)) {
            return true;
        }
        level = level->outer;
    }
    return script->L != NULL && find_in(script->L, source, line);
}
