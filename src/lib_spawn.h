/* The options of lunad.spawn, read from a Lua table. */
#ifndef LD_LIB_SPAWN_H
#define LD_LIB_SPAWN_H

#include <lua.h>

#include "child.h"

/* What the table asks for. Its strings live as long as the values that reading it left on the
 * stack. */
struct ld_spawn_request {
    struct ld_child_config config;
    char name[80];
    bool clear_env;
};

/* Read the table at INDEX; raises for what is wrong with it. Pushes some values that must stay on
 * the stack while the request is used. */
void ld_spawn_request_read(lua_State *L, int index, struct ld_spawn_request *request);

#endif
