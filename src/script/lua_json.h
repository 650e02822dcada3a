/* JSON values in Lua. */
#ifndef LD_SCRIPT_LUA_JSON_H
#define LD_SCRIPT_LUA_JSON_H

#include <jansson.h>
#include <lua.h>

/* Push VALUE: objects and arrays as tables, null as nil. Raises if memory runs out. */
void lx_push_json(lua_State *L, const json_t *value);

#endif
