/* JSON values in Lua. */
#ifndef LD_SCRIPT_LUA_JSON_H
#define LD_SCRIPT_LUA_JSON_H

#include <jansson.h>
#include <lua.h>

/* Push VALUE: objects and arrays as tables, null as nil. Raises if memory runs out. */
void lx_push_json(lua_State *L, const json_t *value);

/* Make JSON of the value at INDEX, a new reference: tables without a first element that have any are objects of their
 * string keys, others are arrays. null for what JSON does not have, and below 16 tables; NULL when memory ran out. It raises
 * nothing, and calls no metamethod. */
json_t *lx_to_json(lua_State *L, int index);

#endif
