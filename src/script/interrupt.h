/* Interrupting Lua code that runs, wherever it is. Only the thread that runs the loop, and signal handlers
 * on it, may call these. */
#ifndef LD_SCRIPT_INTERRUPT_H
#define LD_SCRIPT_INTERRUPT_H

#include <stdatomic.h>

#include "script/state.h"

/* The script whose code runs, NULL: none. */
extern struct ld_script *volatile ld_interrupt_current;

/* How many calls from outside of Lua there were: it tells one callback from the next. Other threads may
 * read it. */
extern atomic_ulong ld_interrupt_calls;

/* How often a hook of ours was called: Lua code runs. Other threads may read it. */
extern atomic_ulong ld_interrupt_hits;

/* Count a call from outside of Lua. */
static inline void ld_interrupt_count_call(void) {
    unsigned long calls = atomic_load_explicit(&ld_interrupt_calls, memory_order_relaxed);
    atomic_store_explicit(&ld_interrupt_calls, calls + 1, memory_order_relaxed);
}

/* Note that CO runs from now on, until ld_interrupt_leave of the same LEVEL; returns the coroutine of the
 * script that ran before, or NULL. A signal handler can follow the levels at any time. */
static inline lua_State *ld_interrupt_enter(struct ld_script *script, struct ld_level *level,
                                            lua_State *co) {
    lua_State *before = script->interruption.running;
    *level = (struct ld_level){
        .co = co, .outer = script->interruption.level, .before = ld_interrupt_current};
    if (level->before == NULL) {
        ld_interrupt_count_call();
    }
    atomic_signal_fence(memory_order_release);
    script->interruption.level = level;
    script->interruption.running = co;
    ld_interrupt_current = script;
    return before;
}

/* Note that what ran before runs again. */
static inline void ld_interrupt_leave(struct ld_script *script, const struct ld_level *level) {
    struct ld_level *outer = level->outer;
    ld_interrupt_current = level->before;
    script->interruption.level = outer;
    script->interruption.running = outer != NULL ? outer->co : NULL;
}

/* Interrupt the Lua code that runs: it ends with an error (script->interruption.reason) that no pcall can
 * keep. May be called from a signal handler. */
void ld_interrupt(struct ld_script *script);

/* The client that the outermost call which runs was made for; NULL: it was made for none. May be called from
 * a signal handler. */
struct ld_caller *ld_interrupt_caller(const struct ld_script *script);

/* Whether CO is to be interrupted at its next instruction. */
bool ld_interrupt_has_hook(lua_State *co);

/* Continue the interruption that ended CO in the coroutine that resumed it. */
void ld_interrupt_go_further(struct ld_script *script, lua_State *co);

/* To be called when CO has given control back, after ld_interrupt_leave: whether an interruption is under
 * way, which then continues in the coroutine outside. */
static inline bool ld_interrupt_go_on(struct ld_script *script, lua_State *co) {
    if (!script->interruption.is_under_way) {
        return false;
    }
    ld_interrupt_go_further(script, co);
    return true;
}

/* Raise the error of an interruption on L. No message handler is called for it. */
_Noreturn void ld_interrupt_raise(lua_State *L);

/* To be called as `return ld_interrupt_unwind(L)`: yield, so that the resumer ends the coroutine; or raise
 * the error, where a C function is in between. */
int ld_interrupt_unwind(lua_State *L);

#endif
