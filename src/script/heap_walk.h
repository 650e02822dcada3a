/* A walk over the Lua heap of a generation: what it holds, by type and by path from its roots. It works in a copy
 * of the process (see host/heap_copy.c), because it holds the loop and allocates in the heap itself. */
#ifndef LD_SCRIPT_HEAP_WALK_H
#define LD_SCRIPT_HEAP_WALK_H

#include <jansson.h>

#include "script/state.h"

/* Walk for SECONDS at most. A new reference, or NULL without memory: "types", the largest first, and "paths",
 * the largest at most 60. Sizes are those of Lua's structures, worked out; each object counts once, for the
 * shortest path that leads to it. The generation cannot be used afterwards. */
json_t *ld_heap_walk(struct ld_script *script, double seconds);

#endif
