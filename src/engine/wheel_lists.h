/* What the wheel is made of: timers in chunks, and lists of what comes due. For wheel.c alone. */
#ifndef LD_ENGINE_WHEEL_LISTS_H
#define LD_ENGINE_WHEEL_LISTS_H

#include "engine/wheel.h"

#define LD_WHEEL_TICK_NS 1000000
#define LD_WHEEL_BLOCK   15

struct ld_wheel_slot {
    struct ld_timer_info info;
    uint32_t generation; /* tells uses of this slot apart; odd while it is used */
    union {
        uint32_t order; /* of arming or disarming, while it is used */
        uint32_t next;  /* in the list of free slots */
    };
};

struct ld_wheel_block {
    struct ld_wheel_block *next;
    uint32_t count;
    struct ld_wheel_arming armings[LD_WHEEL_BLOCK];
};

/* How many slots there are in a number of chunks: each has twice as many as the one before. */
static inline size_t ld_wheel_slots_in(unsigned chunks) {
    return (((size_t)1 << chunks) - 1) << 8;
}

/* The slot of an index that is in use. */
static inline struct ld_wheel_slot *ld_wheel_slot_at(const struct ld_wheel *wheel, uint32_t index) {
    unsigned chunk = 31U - (unsigned)__builtin_clz((index >> 8) + 1);
    return &wheel->chunks[chunk].slots[index - ld_wheel_slots_in(chunk)];
}

/* The slot of an arming that stands; NULL if it is void. */
static inline struct ld_wheel_slot *ld_wheel_find_armed(const struct ld_wheel *wheel,
                                                        const struct ld_wheel_arming *arming) {
    struct ld_wheel_slot *slot = ld_wheel_slot_at(wheel, arming->index);
    bool stands = slot->info.armed && slot->order == arming->order && slot->info.due == arming->due;
    return stands ? slot : NULL;
}

/* Add a chunk of slots, and the blocks for them; false when memory ran out, or ids. */
bool ld_wheel_add_chunk(struct ld_wheel *wheel);

/* The list for a due time. */
unsigned ld_wheel_list_for(const struct ld_wheel *wheel, uint64_t due);

/* Put a timer into its list. */
void ld_wheel_insert(struct ld_wheel *wheel, const struct ld_wheel_slot *slot, uint32_t index);

/* Find the list that holds the next timers; its first tick in *START. False: no timer at all. */
bool ld_wheel_first_list(const struct ld_wheel *wheel, unsigned *list, uint64_t *start);

/* Make TICK the current one, where nothing before LIST is left; LIST has to be gone through then. */
void ld_wheel_advance(struct ld_wheel *wheel, unsigned list, uint64_t tick);

/* Go through a list: what is due before LIMIT goes to the batch (if there is memory), what is void
 * goes, and the rest to where it belongs as seen from the current tick. */
void ld_wheel_sift(struct ld_wheel *wheel, unsigned list, uint64_t limit);

/* Whether a list is not empty. */
bool ld_wheel_is_occupied(const struct ld_wheel *wheel, unsigned list);

#endif
