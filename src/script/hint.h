/* What helps a person with an error: a name that was probably meant, and no more of a long message than
 * matters. */
#ifndef LD_SCRIPT_HINT_H
#define LD_SCRIPT_HINT_H

#include <lua.h>

#include "base/text.h"

/* Add the MESSAGE of an error of the coroutine CO, whose calls are still there, to TEXT. A module that was not
 * found is told with the folders that were searched, unless the log level is debug; the call of a field that is
 * not in the module `lunad`, or of a global that is a field of it, with the one that is meant; a module of lunad
 * that was not required, with the line that requires it. L is another coroutine of the state, for values. Raises if
 * memory runs out. */
void ld_hint_add_message(lua_State *L, lua_State *co, struct ld_text *text, const char *message,
                         size_t size);

#endif
