#include "script/interrupt.h"

#include <lua.h>

/* Stop what runs: yield, and the resumer ends the coroutine. Where a C function is in between,
 * keep raising, so that no pcall can keep the error; but after an error in a hook Lua calls no further
 * hook on that coroutine, and nothing could interrupt what closes its variables. A coroutine that
 * was made meanwhile has inherited the hook, and may run when the interruption is over. */
static void unwind(lua_State *L, lua_Debug *ar) {
    (void)ar;
    const struct ld_script *script = ld_state_script(L);
    if (!script->interruption.is_under_way) {
        lua_sethook(L, NULL, 0, 0);
        return;
    }
    if (lua_isyieldable(L)) {
        lua_yield(L, 0);
        return;
    }
    const char *reason = script->interruption.reason;
    lua_pushstring(L, reason != NULL ? reason : "interrupted");
    lua_error(L);
}

/* Interrupt what runs. A signal handler may call this: lua_sethook is made for that. */
void ld_interrupt(struct ld_script *script) {
    lua_State *running = script->interruption.running;
    if (running != NULL) {
        script->interruption.is_under_way = true;
        lua_sethook(running, unwind, LUA_MASKCOUNT, 1); /* the next instruction */
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
