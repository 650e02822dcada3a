/* What lunad.keep hands from one generation to the next. */
#ifndef LD_API_KEEP_H
#define LD_API_KEEP_H

#include <stdint.h>

#include "script/script.h"

/* Copy what FROM keeps, as it is now, into TO, which has not run yet. To be done before DEADLINE
 * (uv_hrtime). 0, or -1 with the reason in WHY, or -ETIME. */
int ld_api_keep_hand_on(struct ld_script *from, struct ld_script *to, uint64_t deadline,
                        struct ld_text *why);

/* Pack what FROM keeps, as it is now (see pack.h); likewise. */
int ld_api_keep_pack(struct ld_script *from, struct ld_text *out, uint64_t deadline,
                     struct ld_text *why);

/* Add a PACKED table to what SCRIPT, which has not run yet, is given when it asks. 0, or -1 with the reason in WHY. */
int ld_api_keep_unpack(struct ld_script *script, const struct ld_text *packed, struct ld_text *why);

/* Push, to the stack of SCRIPT, the table of what it keeps, as it is now; or, with IS_ASKED false, of what it was
 * given by ld_api_keep_unpack or by the generation before, and has not asked for yet. Never raises. */
void ld_api_keep_push(const struct ld_script *script, bool is_asked);

/* Copy what FROM keeps to the top of the Lua state TO; give TO, as what the generation before it has kept, a copy of
 * the value at the top of FROM. Both as above. */
int ld_api_keep_copy(struct ld_script *from, lua_State *to, uint64_t deadline, struct ld_text *why);
int ld_api_keep_set(struct ld_script *to, lua_State *from, uint64_t deadline, struct ld_text *why);

#endif
