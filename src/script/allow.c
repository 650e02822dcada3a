#include "script/allow.h"

#include <stdlib.h>
#include <string.h>

#include "base/base.h"

/* Where the byte can be: after the header that all objects have, before the first pointer. In Lua
 * 5.4.0 to 5.4.7 it is byte 11. */
#define FIRST sizeof(void *)
#define LAST  (2 * sizeof(void *))

static size_t place; /* of the byte; 0: unknown */
static bool was_tried;

static struct {
    unsigned char bytes[LAST]; /* of the coroutine while a hook runs */
    bool was_called;
} trial;

/* Note what a running hook has changed. */
static void on_trial(lua_State *L, lua_Debug *ar) {
    (void)ar;
    memcpy(trial.bytes, (const void *)L, LAST);
    trial.was_called = true;
}

/* Be called as a trial. */
static int do_nothing(lua_State *L) {
    (void)L;
    return 0;
}

/* Whether a hook is called when a function is. */
static bool calls_hook(lua_State *L) {
    trial.was_called = false;
    lua_pushcfunction(L, do_nothing);
    if (lua_pcall(L, 0, 0, 0) != LUA_OK) { /* no memory */
        lua_pop(L, 1);
    }
    return trial.was_called;
}

/* Find the only byte that is 1, and 0 while a hook runs. */
static size_t find_byte(const unsigned char *before) {
    size_t found = 0;
    size_t count = 0;
    for (size_t i = FIRST; i < LAST; i++) {
        if (before[i] == 1 && trial.bytes[i] == 0) {
            found = i;
            count++;
        }
    }
    return count == 1 ? found : 0;
}

/* Allocate zeroed memory: the trial reads the padding of a coroutine too. */
static void *allocate(void *arg, void *block, size_t old_size, size_t new_size) {
    (void)arg;
    (void)old_size;
    if (new_size == 0) {
        free(block);
        return NULL;
    }
    return block == NULL ? calloc(1, new_size) : realloc(block, new_size);
}

/* Find the byte, and check that it does what it should. */
static void try_bytes(lua_State *L) {
    unsigned char before[LAST];
    memcpy(before, (const void *)L, LAST);
    lua_sethook(L, on_trial, LUA_MASKCALL, 0);
    size_t found = calls_hook(L) ? find_byte(before) : 0;
    if (found != 0) {
        volatile unsigned char *byte = (unsigned char *)L + found;
        *byte = 0;
        bool is_silent = !calls_hook(L);
        *byte = 1;
        place = is_silent && calls_hook(L) ? found : 0;
    }
}

/* Find the byte, with a Lua state of its own. */
void ld_allow_find(void) {
    lua_State *L = !was_tried ? lua_newstate(allocate, NULL) : NULL;
    if (L != NULL) { /* else the next generation tries */
        was_tried = true;
        try_bytes(L);
        lua_close(L);
    }
}

/* Whether hooks are called. */
bool ld_allow_has_hooks(lua_State *co) {
    return place == 0 || ((const volatile unsigned char *)co)[place] != 0;
}

/* Have hooks called. */
void ld_allow_hooks(lua_State *co) {
    if (place != 0) {
        ((volatile unsigned char *)co)[place] = 1;
    }
}
