/* Interrupting Lua code that runs, wherever it is. */
#ifndef LD_SCRIPT_INTERRUPT_H
#define LD_SCRIPT_INTERRUPT_H

#include "script/state.h"

/* Note the coroutine that runs now; returns the one before. */
static inline lua_State *ld_interrupt_enter(struct ld_script *script, lua_State *co) {
    lua_State *before = script->interruption.running;
    script->interruption.running = co;
    return before;
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
