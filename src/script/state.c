#include "script/state.h"

#include <errno.h>
#include <lauxlib.h>
#include <lualib.h>
#include <stdlib.h>
#include <string.h>

#include "base/base.h"
#include "base/log.h"
#include "posix/forked.h"
#include "script/allow.h"
#include "script/interrupt.h"
#include "script/luax.h"
#include "script/slices.h"

static const struct ld_level *last_level; /* of the state that is being closed, or NULL */

/* Note that the state which is being closed runs no code from now on. */
static void leave_last_level(struct ld_script *script) {
    if (last_level != NULL) {
        ld_interrupt_leave(script, last_level);
        last_level = NULL;
    }
}

/* Lua's allocator while a state is closed. The main coroutine is the last block: it is freed while it is
 * still the one that runs. */
static void *allocate_at_the_end(void *arg, void *block, size_t old_size, size_t new_size) {
    struct ld_script *script = arg;
    bool frees_in_slices = new_size == 0 && script->slices != NULL && script->finalizers_over;
    if (frees_in_slices || (new_size == 0 && (char *)block + LUA_EXTRASPACE == (char *)script->L)) {
        leave_last_level(script);
    }
    if (frees_in_slices) {
        ld_slices_pause(script->slices, block, script->setup->alloc == NULL ? old_size : 0);
    }
    return ld_heap_allocate(script, block, old_size, new_size);
}

/* Write a warning of Lua to the log when it is whole. */
static void on_warning(void *arg, const char *message, int to_be_continued) {
    static struct ld_text text;
    const struct ld_script *script = arg;
    if (text.size == 0 && !to_be_continued && message[0] == '@') {
        return; /* a control message: all warnings are on */
    }
    ld_text_puts(&text, message);
    if (to_be_continued) {
        return;
    }
    if (script->interruption
            .is_under_way) { /* Lua knows the error, and not what it was raised for */
        ld_text_clear(&text);
        ld_text_puts(&text, "a finalizer (__gc) was ended: ");
        ld_text_puts(&text, script->interruption.reason != NULL ? script->interruption.reason
                                                                : "interrupted");
    }
    struct ld_log_event event = {.level = LD_LOG_WARN,
                                 .source = script->setup->name,
                                 .message = ld_text_string(&text),
                                 .size = text.size};
    ld_log_put(&event);
    ld_text_fini(&text);
}

/* End a copy of the process that a finalizer has made, outside of any task. */
static void leave_if_forked(const struct ld_script *script) {
    if (ld_forked_is_copy() && script->tasks.current == NULL) {
        ld_forked_leave(0);
    }
}

/* Call a C function protected, for what runs. */
int ld_state_protect_as_is(struct ld_script *script, lua_CFunction function, void *arg,
                           struct ld_text *why) {
    lua_State *L = script->L;
    struct ld_level level;
    lua_pushcfunction(L, function);
    lua_pushlightuserdata(L, arg);
    ld_interrupt_enter(script, &level, L);
    int status = lua_pcall(L, 1, 0, 0);
    ld_interrupt_leave(script, &level);
    ld_interrupt_go_on(script, L);
    leave_if_forked(script);
    if (status == LUA_OK) {
        return 0;
    }
    if (why != NULL) {
        const char *message = lua_tostring(L, -1);
        ld_text_puts(why, message != NULL ? message : "an error without a message");
        ld_heap_explain(script, why, message);
    }
    lua_pop(L, 1);
    return -1;
}

/* Call a C function protected, with what memory there is. */
int ld_state_protect(struct ld_script *script, lua_CFunction function, void *arg,
                     struct ld_text *why) {
    enum ld_heap_user before = ld_heap_lend(script, LD_HEAP_LAST);
    int rc = ld_state_protect_as_is(script, function, arg, why);
    ld_heap_restore(script, before);
    return rc;
}

/* Collect all garbage. Runs protected. */
static int collect(lua_State *L) {
    lua_gc(L, LUA_GCCOLLECT);
    return 0;
}

/* Collect garbage. */
void ld_state_collect(struct ld_script *script, size_t enough) {
    ld_state_protect(script, collect, NULL, NULL);
    if (script->heap.size > enough) {
        ld_state_protect(script, collect, NULL, NULL);
    }
}

/* Make the shelf, empty. */
static void make_shelf(lua_State *L, struct ld_script *script) {
    static const char key; /* of it in the registry, which keeps it */
    script->shelf = lua_newthread(L);
    lua_rawsetp(L, LUA_REGISTRYINDEX, &key);
    lua_settop(script->shelf, LD_SHELF_END - 1);
    lua_newtable(L);
    ld_state_shelve(L, LD_SHELF_ANCHORS);
}

/* Put the value at the top on the shelf. */
void ld_state_shelve(lua_State *L, enum ld_shelf place) {
    lua_State *shelf = ld_state_script(L)->shelf;
    lua_xmove(L, shelf, 1);
    lua_replace(shelf, (int)place);
}

/* Push a value from the shelf. */
void ld_state_push_shelved(lua_State *L, enum ld_shelf place) {
    lua_State *shelf = ld_state_script(L)->shelf;
    lua_pushvalue(shelf, (int)place);
    lua_xmove(shelf, L, 1);
}

static const char last_key; /* of what is finalized last in the registry, which keeps it */

/* Note that all finalizers have run, if Lua calls this, for what is the last: a script can find it by
 * debug.getregistry, and call it too. */
static int on_finalizers_over(lua_State *L) {
    struct ld_script *script = ld_state_script(L);
    lua_Debug ar;
    lua_rawgetp(L, LUA_REGISTRYINDEX, &last_key);
    bool is_last = lua_rawequal(L, 1, -1) && !lua_getstack(L, 1, &ar);
    if (is_last && script->stage == LD_STAGE_CLOSED) {
        script->finalizers_over = true;
        ld_arena_drop(&script->heap.arena);
    }
    return 0;
}

/* Make what is finalized last: what is the first to get a finalizer, when a state is closed. */
static void make_last(lua_State *L) {
    lua_newuserdatauv(L, 0, 0);
    lua_createtable(L, 0, 1);
    lua_pushcfunction(L, on_finalizers_over);
    lua_setfield(L, -2, "__gc");
    lua_setmetatable(L, -2);
    lua_rawsetp(L, LUA_REGISTRYINDEX, &last_key);
}

/* Have the messages exist that Lua pushes where nothing catches an error, as lua_resume does: to make one could
 * take memory that there is not, which would end the process. */
static void make_messages(lua_State *L) {
    static const char key; /* of them in the registry, which keeps them */
    static const char *const messages[] = {"cannot resume dead coroutine",
                                           "cannot resume non-suspended coroutine",
                                           "C stack overflow", "error in error handling"};
    lua_createtable(L, LD_COUNT(messages), 0);
    for (size_t i = 0; i < LD_COUNT(messages); i++) {
        lua_pushstring(L, messages[i]);
        lua_rawseti(L, -2, (lua_Integer)i + 1);
    }
    lua_rawsetp(L, LUA_REGISTRYINDEX, &key);
}

/* Open Lua's libraries and lunad's. Runs protected. */
static int open_libraries(lua_State *L) {
    struct ld_script *script = ld_state_script(L);
    make_last(L);
    make_messages(L);
    luaL_openlibs(L);
    make_shelf(L, script);
    lua_pushcfunction(L, script->setup->open_libraries);
    lua_call(L, 0, 0);
    return 0;
}

/* Make the Lua state. */
int ld_state_open(struct ld_script *script, struct ld_text *why) {
    static const char no_memory[] = "not enough memory";
    struct ld_task *root = &script->tasks.root;
    TAILQ_INIT(&script->tasks.woken);
    ld_heap_init(script, script->setup->memory_limit);
    script->L = lua_newstate(ld_heap_allocate, script);
    if (script->L != NULL) {
        root->script = script;
        root->co = script->L;
        *(struct ld_task **)lua_getextraspace(script->L) = root;
        lua_setwarnf(script->L, on_warning, script);
        ld_allow_find();
    }
    if (script->L == NULL || ld_state_protect(script, open_libraries, NULL, why) < 0) {
        if (ld_text_is_empty(why)) {
            ld_text_puts(why, no_memory);
            ld_heap_explain(script, why, no_memory);
        }
        return -ENOMEM;
    }
    return 0;
}

/* Close the Lua state. */
void ld_state_close(struct ld_script *script) {
    struct ld_level level;
    if (script->L != NULL) {
        ld_interrupt_enter(script, &level, script->L);
        last_level = &level;
        lua_setallocf(script->L, allocate_at_the_end, script);
        lua_close(script->L);
        script->interruption.is_under_way = false;
        leave_if_forked(script);
    }
    while (ld_arena_free_region(&script->heap.arena)) {
        if (script->slices != NULL) {
            ld_slices_look(script->slices);
        }
    }
}

/* Find the script of a coroutine. */
struct ld_script *ld_state_script(lua_State *L) {
    return (*(struct ld_task **)lua_getextraspace(L))->script;
}

const char ld_state_over[] = "this generation of the script is over";

/* Raise unless the script may start something new. */
void ld_state_check_active(lua_State *L) {
    if (ld_forked_is_copy()) {
        lx_error(L, "%s", ld_forked_words);
    }
    if (ld_stage_is_ending(ld_state_script(L)->stage)) {
        lx_error(L, "%s: it cannot start anything new", ld_state_over);
    }
}

/* Raise unless the script may start something new, and has not been replaced. */
void ld_state_check_current(lua_State *L, const char *what) {
    ld_state_check_active(L);
    if (ld_state_script(L)->stage == LD_STAGE_REPLACED) {
        lx_error(L, "%s: %s, another one has taken its place", what, ld_state_over);
    }
}
