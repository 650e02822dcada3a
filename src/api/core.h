/* lunad's own Lua: the files of lua/lunad, and the table that they share with C. */
#ifndef LD_API_CORE_H
#define LD_API_CORE_H

#include <lua.h>
#include <stdbool.h>

/* Make that table and push it. */
void ld_api_core_open(lua_State *L);

/* Push it. */
void ld_api_core_push(lua_State *L);

/* Load an embedded file and push the function. Raises if there is none of that name. */
void ld_api_core_load(lua_State *L, const char *name);

/* Whether lunad has a module "lunad.NAME" of its own. */
bool ld_api_core_has_module(const char *name);

/* Run init.lua, which completes the table of the module at index MODULE. Raises what it raises. */
void ld_api_core_run(lua_State *L, int module);

#endif
