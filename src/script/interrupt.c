#include "script/interrupt.h"

#include <lua.h>
#include <stdlib.h>

#include "script/allow.h"

struct ld_script *volatile ld_interrupt_current;
atomic_ulong ld_interrupt_calls;
atomic_ulong ld_interrupt_hits;

/* Raise the message of Lua's own memory error: for that alone Lua calls no message handler, which would run
 * without hooks here. Whoever reports the end of the coroutine puts the reason in its place. */
_Noreturn void ld_interrupt_raise(lua_State *L) {
    lua_pushliteral(L, "not enough memory");
    lua_error(L);
    abort(); /* lua_error does not return */
}

/* Yield, or raise. An error would take a step for each protected call, and each step as long as the stack
 * is high. */
int ld_interrupt_unwind(lua_State *L) {
    if (lua_isyieldable(L)) {
        return lua_yield(L, 0);
    }
    ld_interrupt_raise(L);
}

/* Stop what runs: yield, and the resumer ends the coroutine. Where a C function is in between,
 * keep raising, so that no pcall can keep the error; but after an error in a hook Lua calls no further
 * hook on that coroutine unless it is made to (see allow.h). A coroutine that was made meanwhile has
 * inherited the hook, and may run when the interruption is over. */
static void unwind(lua_State *L, lua_Debug *ar) {
    (void)ar;
    const struct ld_script *script = ld_interrupt_current;
    atomic_fetch_add_explicit(&ld_interrupt_hits, 1, memory_order_relaxed);
    if (script == NULL || !script->interruption.is_under_way) {
        lua_sethook(L, NULL, 0, 0);
        return;
    }
    ld_interrupt_unwind(L);
}

/* Find whom the outermost call is for. */
struct ld_caller *ld_interrupt_caller(const struct ld_script *script) {
    const struct ld_level *level = script->interruption.level;
    while (level != NULL && level->outer != NULL) {
        level = level->outer;
    }
    if (level == NULL || level->before != NULL) {
        return NULL;
    }
    return (*(struct ld_task **)lua_getextraspace(level->co))->caller;
}

/* Whether a coroutine has an interruption as its hook. */
bool ld_interrupt_has_hook(lua_State *co) {
    return lua_gethook(co) == unwind;
}

/* Interrupt what runs. A signal handler may call this: lua_sethook is made for that. */
void ld_interrupt(struct ld_script *script) {
    lua_State *running = script->interruption.running;
    if (running != NULL) {
        script->interruption.is_under_way = true;
        lua_sethook(running, unwind, LUA_MASKCOUNT, 1); /* the next instruction */
        ld_allow_hooks(running);
    }
}

/* Continue an interruption in the coroutine outside CO. */
void ld_interrupt_go_further(struct ld_script *script, lua_State *co) {
    lua_sethook(co, NULL, 0, 0);
    if (script->interruption.running != NULL) {
        ld_interrupt(script);
    } else {
        script->interruption.is_under_way = false;
        script->interruption.reason = NULL;
    }
}
