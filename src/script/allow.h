/* Lua calls no hook while another hook runs, while a finalizer (__gc) runs, and on a coroutine that an
 * error in a hook has ended. It notes that in a byte of the coroutine, which no function of its API sets:
 * so the place of the byte is found by a trial, and where the trial fails such code cannot be interrupted
 * (a stop ends it by SIGKILL). */
#ifndef LD_SCRIPT_ALLOW_H
#define LD_SCRIPT_ALLOW_H

#include <lua.h>
#include <stdbool.h>

/* Find the byte, once a process. */
void ld_allow_find(void);

/* Whether hooks are called on CO; true if the byte is unknown. A signal handler may call this. */
bool ld_allow_has_hooks(lua_State *co);

/* Have Lua call hooks on CO again. A signal handler may call this. */
void ld_allow_hooks(lua_State *co);

#endif
