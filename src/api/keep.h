/* What lunad.keep hands from one generation to the next. */
#ifndef LD_API_KEEP_H
#define LD_API_KEEP_H

#include <stdint.h>

#include "script/script.h"

/* Copy what FROM keeps, as it is now, into TO, which has not run yet. To be done before DEADLINE
 * (uv_hrtime). 0, or -1 with the reason in WHY, or -ETIME. */
int ld_api_keep_hand_on(struct ld_script *from, struct ld_script *to, uint64_t deadline,
                        struct ld_text *why);

#endif
