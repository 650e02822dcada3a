/* Plain data as bytes: for files, other processes, and another build of lunad.
 *
 * Nil, booleans, numbers (bit by bit), strings (any bytes), and tables of those, which may share and cycle;
 * metatables are dropped. The bytes begin with a mark and the number of the format, and do not depend on the
 * machine. Who can write them can put any plain data into them, but nothing else: the reader trusts no byte. */
#ifndef LD_SCRIPT_PACK_H
#define LD_SCRIPT_PACK_H

#include <lua.h>
#include <stddef.h>
#include <stdint.h>

#include "base/text.h"

#define LD_PACK_DEPTH_MAX 200

/* Add the value at the top of the stack of L, packed, to OUT; it stays there. It must be done before DEADLINE
 * (uv_hrtime). 0, or -1 with the reason in WHY, with the path of what cannot be packed ("state.conn.socket" for a
 * ROOT that is called "state"); -ETIME without one when it takes longer. What OUT has got by then is of no use.
 * Never raises, runs no code of the script, and allocates nothing in Lua. */
int ld_pack_value(lua_State *L, const char *root, struct ld_text *out, uint64_t deadline,
                  struct ld_text *why);

/* The same in slices, for a large value that does not have to be in memory as a whole. Between the calls nothing
 * else may run in L, or use the part of its stack above the value. Begin returns NULL if memory ran out. Step
 * returns 1 when OUT has SIZE bytes or more and there is more to come (write them, and clear it), 0 at the end,
 * and else what ld_pack_value does. Free takes away what is left on the stack, and may come before the end. */
struct ld_packer;
struct ld_packer *ld_packer_new(lua_State *L, const char *root, struct ld_text *out,
                                struct ld_text *why);
int ld_packer_step(struct ld_packer *packer, size_t size, uint64_t deadline);
void ld_packer_free(struct ld_packer *packer);

/* Push the value that the SIZE bytes at BYTES are. 0, or -1 with nothing pushed and the reason in WHY: they are
 * damaged, cut off, followed by others, packed by a later lunad, or memory ran out. Takes at most about 40 times as
 * much memory as there are bytes. Never raises. */
int ld_unpack_value(lua_State *L, const char *bytes, size_t size, struct ld_text *why);

#endif
