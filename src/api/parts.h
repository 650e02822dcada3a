/* The parts of the Lua module, for lib.c alone. Each sets its functions in the module table, which
 * is its first argument, and returns nothing. */
#ifndef LD_API_PARTS_H
#define LD_API_PARTS_H

#include <lua.h>

int luaopen_lunad_timer(lua_State *L);
int luaopen_lunad_cron(lua_State *L);
int luaopen_lunad_task(lua_State *L);
int luaopen_lunad_coroutine(lua_State *L);
int luaopen_lunad_signal(lua_State *L);
int luaopen_lunad_child(lua_State *L);
int luaopen_lunad_os(lua_State *L);
int luaopen_lunad_listen(lua_State *L);
int luaopen_lunad_luv(lua_State *L);
int luaopen_lunad_log(lua_State *L);
int luaopen_lunad_life(lua_State *L);

#endif
