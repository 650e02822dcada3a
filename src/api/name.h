/* Names that a script gives to what it holds: a timer, a task. They are shown in the status and in profiles. */
#ifndef LD_API_NAME_H
#define LD_API_NAME_H

#include <lua.h>
#include <stdbool.h>

#define LD_NAME_MOST 100 /* bytes */

/* Name the userdata at INDEX by the string in argument 2; raises if that is none, or empty, or too long. The name
 * is valid as long as the userdata lives and has no other, and at the top. */
const char *ld_api_name_set(lua_State *L, int index);

/* Push the name of the userdata at INDEX; false, and nothing, if it has none. */
bool ld_api_name_push(lua_State *L, int index);

/* Make the table of names, in a new Lua state. */
void ld_api_name_open(lua_State *L);

#endif
