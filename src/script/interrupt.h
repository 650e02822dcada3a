/* Interrupting Lua code that runs, wherever it is. */
#ifndef LD_SCRIPT_INTERRUPT_H
#define LD_SCRIPT_INTERRUPT_H

#include <stdatomic.h>

#include "script/state.h"

/* Note that CO runs from now on, until ld_interrupt_leave of the same LEVEL; returns the coroutine that
 * ran before, or NULL. A signal handler can follow the levels at any time. */
static inline lua_State *ld_interrupt_enter(struct ld_script *script, struct ld_level *level,
                                            lua_State *co) {
    lua_State *before = script->interruption.running;
    *level = (struct ld_level){.co = co, .outer = script->interruption.level};
    atomic_signal_fence(memory_order_release);
    script->interruption.level = level;
    script->interruption.running = co;
    return before;
}

/* Note that what ran before runs again. */
static inline void ld_interrupt_leave(struct ld_script *script, const struct ld_level *level) {
    struct ld_level *outer = level->outer;
    script->interruption.level = outer;
    script->interruption.running = outer != NULL ? outer->co : NULL;
}

/* Interrupt the Lua code that runs: it ends with an error (script->interruption.reason) that no pcall can
 * keep. May be called from a signal handler. */
void ld_interrupt(struct ld_script *script);

/* Continue the interruption that ended CO in the coroutine that resumed it. */
void ld_interrupt_go_further(struct ld_script *script, lua_State *co);

/* To be called when the coroutine CO has given control back to script->interruption.running: whether an
 * interruption is under way, which then continues there. */
static inline bool ld_interrupt_go_on(struct ld_script *script, lua_State *co) {
    if (!script->interruption.is_under_way) {
        return false;
    }
    ld_interrupt_go_further(script, co);
    return true;
}

#endif
