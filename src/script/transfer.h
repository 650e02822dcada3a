/* Copying plain data from one Lua state to another. */
#ifndef LD_SCRIPT_TRANSFER_H
#define LD_SCRIPT_TRANSFER_H

#include <lua.h>

#include <stdint.h>

#include "base/text.h"

#define LD_TRANSFER_DEPTH_MAX 200

/* Copy the value at the top of FROM to the top of TO: nil, booleans, numbers, strings, and tables
 * of those, which may share and cycle; metatables are dropped. It must be done before DEADLINE
 * (uv_hrtime). 0, or -1 with nothing pushed and the reason in WHY, with the path of what cannot be
 * copied ("state.conn.socket" for a ROOT that is called "state"); -ETIME without one when it takes
 * longer. Raises in neither; FROM is left as it was. */
int ld_transfer_value(lua_State *from, lua_State *to, uint64_t deadline, const char *root,
                      struct ld_text *why);

#endif
