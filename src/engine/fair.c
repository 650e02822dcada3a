#include "engine/fair.h"

#include "base/time.h"
#include "engine/turn.h"

/* Decide, and note it. */
bool ld_fair_serve(struct ld_fair *fair, uint64_t *served, uint64_t turn) {
    uint64_t now = ld_time_coarse();
    if (turn != fair->turn) {
        fair->turn = turn;
        fair->until = now + LD_TURN_NS;
        fair->oldest = fair->oldest_now;
        fair->oldest_now = UINT64_MAX;
    }
    if (*served > fair->oldest || now >= fair->until) {
        fair->oldest_now = *served < fair->oldest_now ? *served : fair->oldest_now;
        return false;
    }
    *served = ++fair->served;
    return true;
}
