/* The options of lunad.spawn, read from a Lua table. */
#ifndef LD_API_SPAWN_OPTIONS_H
#define LD_API_SPAWN_OPTIONS_H

#include "api/spawn_request.h"
#include "script/luax.h"

/* The rows of the options; the last has no name. */
extern const struct lx_row ld_api_spawn_options_rows[];

/* Read the table at INDEX; raises for what is wrong with it. A user or group that does not exist is
 * noted in account_error. MARKED: set the LD_CHILD_VARIABLE in its environment. READY: how it says that it
 * is ready, of which the environment may tell it. Pushes some values that must stay on the stack while the
 * request is used. */
void ld_api_spawn_options_read(lua_State *L, int index, bool marked, enum ld_ready_kind ready,
                               struct ld_spawn_request *request);

#endif
