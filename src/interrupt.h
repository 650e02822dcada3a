/* Interrupting Lua code that runs, wherever it is. */
#ifndef LD_INTERRUPT_H
#define LD_INTERRUPT_H

#include "script.h"

/* Note the coroutine that runs now; returns the one before. */
lua_State *ld_interrupt_enter(struct ld_script *script, lua_State *co);

/* Interrupt the Lua code that runs with an error (script->interrupt_reason) that no pcall can keep.
 * May be called from a signal handler. */
void ld_interrupt(struct ld_script *script);

/* To be called when the coroutine CO has given control back to script->running: whether an
 * interruption is under way, which then goes on there. */
bool ld_interrupt_go_on(struct ld_script *script, lua_State *co);

#endif
