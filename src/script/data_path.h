/* How plain data is named in messages: "state.list[2].x". */
#ifndef LD_SCRIPT_DATA_PATH_H
#define LD_SCRIPT_DATA_PATH_H

#include <lua.h>

#include "base/text.h"

/* Add the key at stack index KEY to PATH. Allocates nothing in Lua. */
void ld_data_path_add(struct ld_text *path, lua_State *L, int key);

#endif
