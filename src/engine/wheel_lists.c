/* Time is cut into ticks of a millisecond. Level 0 has a list for each of the 64 ticks that share
 * their upper bits with the current one, level 1 a list for each 64 of those, and so on. An arming
 * stands on the level of the highest digit (of 6 bits) in which its tick differs from the current
 * one; so the first non-empty list of the lowest non-empty level holds those that are due next, and
 * when its time comes they move to lower levels. Within a list they are sorted by due time when they
 * expire.
 *
 * The lists are not links through the timers, which would be a miss of the cache at each step, but
 * blocks of armings, packed. To disarm a timer is to make its arming void: it is dropped when its list
 * is next gone through, or when no block is left. A chunk of timers comes with the blocks for them:
 * arming never allocates. */
#include "base/grow.h"
#include "engine/wheel_lists.h"

#include <stdlib.h>
#include <string.h>

#include "base/base.h"

#define LEVEL_BITS 6
#define LISTS      ((size_t)LD_WHEEL_LEVELS * LD_WHEEL_LISTS)
#define CACHE_LINE 64

_Static_assert(sizeof(struct ld_wheel_slot) == 48, "a slot is three quarters of a line");
_Static_assert(sizeof(struct ld_wheel_block) == (size_t)4 * CACHE_LINE, "a block is four lines");

/* How many blocks do for a number of slots, 64 of them always spare but for void armings: one that is
 * not full for each list, and the full ones twice, so that what is void is dropped seldom. */
static size_t blocks_for(size_t slots) {
    size_t lists = slots < LISTS ? slots : LISTS;
    return slots == 0 ? 0 : lists + (slots / LD_WHEEL_BLOCK + 1) * 2 + LD_WHEEL_LISTS;
}

/* How many of them come with a chunk. */
static size_t blocks_of(unsigned chunk) {
    return blocks_for(ld_wheel_slots_in(chunk + 1)) - blocks_for(ld_wheel_slots_in(chunk));
}

/* Add a chunk: slots, and behind them the blocks. False when memory ran out, or ids. */
bool ld_wheel_add_chunk(struct ld_wheel *wheel) {
    unsigned at = wheel->chunk_count;
    if (at == LD_WHEEL_CHUNKS) {
        return false;
    }
    size_t slots = ld_wheel_slots_in(at + 1) - ld_wheel_slots_in(at);
    size_t slots_size = slots * sizeof(struct ld_wheel_slot);
    size_t blocks = blocks_of(at);
    struct ld_wheel_slot *chunk =
        aligned_alloc(CACHE_LINE, slots_size + blocks * sizeof(struct ld_wheel_block));
    if (chunk == NULL) {
        return false;
    }
    /* Its memory is touched as it is needed. */
    wheel->chunks[at].slots = chunk;
    wheel->chunks[at].blocks = (struct ld_wheel_block *)(void *)((char *)chunk + slots_size);
    wheel->chunk_count++;
    wheel->spare += blocks;
    return true;
}

/* The list for a due time. */
unsigned ld_wheel_list_for(const struct ld_wheel *wheel, uint64_t due) {
    uint64_t tick = due / LD_WHEEL_TICK_NS;
    if (tick <= wheel->tick) {
        return (unsigned)(wheel->tick & (LD_WHEEL_LISTS - 1));
    }
    unsigned bit = 63U - (unsigned)__builtin_clzll(tick ^ wheel->tick);
    unsigned level = bit / LEVEL_BITS;
    LD_ASSERT(level < LD_WHEEL_LEVELS);
    uint64_t digit = (tick >> (level * LEVEL_BITS)) & (LD_WHEEL_LISTS - 1);
    return level * LD_WHEEL_LISTS + (unsigned)digit;
}

/* Take a block that was never used; there is one. */
static struct ld_wheel_block *take_fresh_block(struct ld_wheel *wheel) {
    if (wheel->fresh_block == blocks_of(wheel->fresh_chunk)) {
        wheel->fresh_chunk++;
        wheel->fresh_block = 0;
    }
    LD_ASSERT(wheel->fresh_chunk < wheel->chunk_count);
    return &wheel->chunks[wheel->fresh_chunk].blocks[wheel->fresh_block++];
}

/* Take a spare block; there is one. */
static struct ld_wheel_block *take_block(struct ld_wheel *wheel) {
    struct ld_wheel_block *block = wheel->free_blocks;
    if (block != NULL) {
        wheel->free_blocks = block->next;
    } else {
        block = take_fresh_block(wheel);
    }
    wheel->spare--;
    block->next = NULL;
    block->count = 0;
    return block;
}

/* Give a block back. */
static void drop_block(struct ld_wheel *wheel, struct ld_wheel_block *block) {
    block->next = wheel->free_blocks;
    wheel->free_blocks = block;
    wheel->spare++;
}

/* Put an arming into the list where it belongs. A block is spare if it needs one. */
static void append(struct ld_wheel *wheel, const struct ld_wheel_arming *arming) {
    unsigned at = ld_wheel_list_for(wheel, arming->due);
    struct ld_wheel_list *list = &wheel->lists[at];
    struct ld_wheel_block *block = list->last;
    if (block == NULL) {
        block = list->first = list->last = take_block(wheel);
        list->first_due = arming->due;
        wheel->occupied[at / LD_WHEEL_LISTS] |= (uint64_t)1 << (at % LD_WHEEL_LISTS);
        wheel->levels |= 1U << (at / LD_WHEEL_LISTS);
    } else if (block->count == LD_WHEEL_BLOCK) {
        block = list->last = block->next = take_block(wheel);
    }
    if (arming->due < list->first_due) {
        list->first_due = arming->due;
    }
    block->armings[block->count++] = *arming;
}

/* Empty a list; its blocks. */
static struct ld_wheel_block *take_list(struct ld_wheel *wheel, unsigned list) {
    struct ld_wheel_block *first = wheel->lists[list].first;
    wheel->lists[list] = (struct ld_wheel_list){0};
    unsigned level = list / LD_WHEEL_LISTS;
    wheel->occupied[level] &= ~((uint64_t)1 << (list % LD_WHEEL_LISTS));
    if (wheel->occupied[level] == 0) {
        wheel->levels &= ~(1U << level);
    }
    return first;
}

/* Whether a list is not empty. */
bool ld_wheel_is_occupied(const struct ld_wheel *wheel, unsigned list) {
    return wheel->lists[list].first != NULL;
}

/* Add to the batch; false when memory ran out. */
static bool add_to_batch(struct ld_wheel *wheel, const struct ld_wheel_arming *arming) {
    struct ld_wheel_arming *batch =
        ld_grow_to(wheel->batch, &wheel->batch_capacity, wheel->batch_size + 1, sizeof *batch);
    if (batch == NULL) {
        return false; /* it stays in the wheel and comes with the next batch */
    }
    wheel->batch = batch;
    wheel->batch[wheel->batch_size++] = *arming;
    return true;
}

/* Put an arming of a list that is gone through where it belongs; one that is void nowhere. */
static void sift_one(struct ld_wheel *wheel, const struct ld_wheel_arming *arming, uint64_t limit) {
    if (ld_wheel_find_armed(wheel, arming) != NULL &&
        (arming->due >= limit || !add_to_batch(wheel, arming))) {
        append(wheel, arming);
    }
}

/* Go through a list. A block is given back before what was in it needs one. */
void ld_wheel_sift(struct ld_wheel *wheel, unsigned list, uint64_t limit) {
    struct ld_wheel_arming armings[LD_WHEEL_BLOCK];
    struct ld_wheel_block *block = take_list(wheel, list);
    while (block != NULL) {
        struct ld_wheel_block *next = block->next;
        uint32_t count = block->count;
        memcpy(armings, block->armings, count * sizeof *armings);
        drop_block(wheel, block);
        for (uint32_t i = 0; i < count; i++) {
            sift_one(wheel, &armings[i], limit);
        }
        block = next;
    }
}

/* Have COUNT blocks spare, 64 at the most: there are as many when nothing void is left. */
static void ensure_spare(struct ld_wheel *wheel, size_t count) {
    if (wheel->spare < count) {
        for (unsigned list = 0; list < LISTS; list++) {
            ld_wheel_sift(wheel, list, 0);
        }
    }
}

/* Put a timer into its list. */
void ld_wheel_insert(struct ld_wheel *wheel, const struct ld_wheel_slot *slot, uint32_t index) {
    ensure_spare(wheel, 1);
    append(wheel, &(struct ld_wheel_arming){slot->info.due, slot->order, index});
}

/* Let the current tick be one to which no list before LIST comes; this one has to be gone through. */
void ld_wheel_advance(struct ld_wheel *wheel, unsigned list, uint64_t tick) {
    if (list >= LD_WHEEL_LISTS) {
        ensure_spare(wheel, LD_WHEEL_LISTS); /* it may go to as many lists */
    }
    wheel->tick = tick > wheel->tick ? tick : wheel->tick;
}

/* Find the list that holds the next timers; its first tick in *START. False: no timer at all. */
bool ld_wheel_first_list(const struct ld_wheel *wheel, unsigned *list, uint64_t *start) {
    if (wheel->levels == 0) {
        return false;
    }
    unsigned level = (unsigned)__builtin_ctz(wheel->levels);
    unsigned shift = level * LEVEL_BITS;
    uint64_t digit = (uint64_t)__builtin_ctzll(wheel->occupied[level]);
    *list = level * LD_WHEEL_LISTS + (unsigned)digit;
    *start = (wheel->tick >> (shift + LEVEL_BITS) << LEVEL_BITS | digit) << shift;
    return true;
}
