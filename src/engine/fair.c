#include "engine/fair.h"

#include "base/time.h"
#include "engine/turn.h"

#define MS_NS 1000000

/* Decide, and note it. */
bool ld_fair_serve(struct ld_fair *fair, uint64_t *served, uint64_t turn) {
    if (turn != fair->turn) {
        fair->turn = turn;
        fair->oldest = fair->oldest_now;
        fair->oldest_now = UINT64_MAX;
    }
    if (*served > fair->oldest || ld_time_coarse() >= turn * MS_NS + LD_TURN_NS) {
        fair->oldest_now = *served < fair->oldest_now ? *served : fair->oldest_now;
        return false;
    }
    *served = ++fair->served;
    return true;
}
