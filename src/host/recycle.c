#include "host/recycle.h"

#include <math.h>

#define COMPARE_MS 60000 /* a full collection of a large heap takes long */

/* Set what the options say. */
void ld_recycle_init(struct ld_recycle *recycle, double every, uint64_t memory) {
    *recycle = (struct ld_recycle){
        .every = (uint64_t)ceil(every * 1000), .memory = memory, .old_at = LD_RECYCLE_NEVER};
}

/* Begin with a new generation. */
void ld_recycle_begin(struct ld_recycle *recycle, uint64_t now) {
    recycle->began = now;
    recycle->old_at = recycle->every > 0 ? now + recycle->every : LD_RECYCLE_NEVER;
}

/* Whether it has become old. */
bool ld_recycle_is_old(struct ld_recycle *recycle, uint64_t now) {
    if (now < recycle->old_at) {
        return false;
    }
    recycle->old_at = now + recycle->every;
    return true;
}

/* When the heap may be compared. */
static uint64_t next_comparison(const struct ld_recycle *recycle) {
    return recycle->compared_at == 0 ? 0 : recycle->compared_at + COMPARE_MS;
}

/* Whether a heap that large may be too large. */
static bool is_large(const struct ld_recycle *recycle, uint64_t heap) {
    return recycle->memory > 0 && heap >= recycle->memory;
}

/* Whether the heap is to be compared. */
bool ld_recycle_is_to_compare(struct ld_recycle *recycle, uint64_t heap, uint64_t now) {
    if (!is_large(recycle, heap) || now < next_comparison(recycle)) {
        return false;
    }
    recycle->compared_at = now;
    return true;
}

/* When to ask again. */
uint64_t ld_recycle_next(const struct ld_recycle *recycle, uint64_t heap) {
    uint64_t next = is_large(recycle, heap) ? next_comparison(recycle) : LD_RECYCLE_NEVER;
    return recycle->old_at < next ? recycle->old_at : next;
}
