/* Time is cut into ticks of a millisecond. Level 0 has a list for each of the 64 ticks that
 * share their upper bits with the current one, level 1 a list for each 64 of those, and so on.
 * An arming is on the level of the highest digit (of 6 bits) in which its tick differs from the
 * current one; so the first non-empty list of the lowest non-empty level holds those that are
 * due next, and when its time comes they move to lower levels. When the time of a list of level 0
 * comes, all of it moves to the batch and is sorted there by due time: what of its tick is due later waits in
 * the batch, and what is armed for that tick later is merged.
 *
 * The lists are not links through the timers, which would miss the cache at each step, but
 * packed blocks of notes of armings. To disarm a timer is to make its note void: it is dropped when its
 * list is next gone through, or when no block is left. A chunk of timers comes with the blocks
 * for them: arming never allocates. The order of armings wraps: a void note may then name a timer that is
 * armed again, and only says once more that it is. */
#include "engine/wheel.h"

#include <stdlib.h>
#include <string.h>

#include "base/base.h"
#include "base/grow.h"

#define TICK_NS    1000000
#define BLOCK      30
#define LEVEL_BITS 6
#define LISTS      ((size_t)LD_WHEEL_LEVELS * LD_WHEEL_LISTS)
#define CACHE_LINE 64
#define NO_SLOT    UINT32_MAX
#define LOOK_MOST  256     /* slots in one look for a timer */
#define LATE_NS    2000000 /* a beat that is at most this late is still called */

#define ORDER_BITS 23

struct ld_wheel_block {
    struct ld_wheel_block *next;
    uint32_t count;
    struct ld_wheel_note notes[BLOCK];
};

_Static_assert(sizeof(struct ld_timer_info) == 24, "information is three words");
_Static_assert(sizeof(struct ld_wheel_block) == (size_t)4 * CACHE_LINE, "a block is four lines");

/* How many slots there are in a number of chunks: each has twice as many as the one before. */
static size_t slots_in(unsigned chunks) {
    return (((size_t)1 << chunks) - 1) << 8;
}

/* The chunk of an index. */
static inline unsigned chunk_of(uint32_t index) {
    return 31U - (unsigned)__builtin_clz((index >> 8) + 1);
}

/* The slot of an index that is in use. */
static inline struct ld_timer_info *slot_at(const struct ld_wheel *wheel, uint32_t index) {
    unsigned chunk = chunk_of(index);
    return &wheel->chunks[chunk].slots[index - slots_in(chunk)];
}

/* The slot of an arming that is valid; NULL if it is void. */
static struct ld_timer_info *find_armed(const struct ld_wheel *wheel,
                                        const struct ld_wheel_arming *arming) {
    struct ld_timer_info *slot = slot_at(wheel, arming->index);
    return slot->armed && slot->order == arming->order && slot->due == arming->due ? slot : NULL;
}

/* The slot of a note that is valid; NULL if it is void. */
static struct ld_timer_info *find_noted(const struct ld_wheel *wheel,
                                        const struct ld_wheel_note *note) {
    struct ld_timer_info *slot = slot_at(wheel, note->index);
    return slot->armed && slot->order == note->order ? slot : NULL;
}

/* How many blocks suffice for a number of slots, with 64 always spare except for void notes:
 * one that is not full for each list, and the full ones twice, so that void notes are rarely
 * dropped. */
static size_t blocks_for(size_t slots) {
    size_t lists = slots < LISTS ? slots : LISTS;
    return slots == 0 ? 0 : lists + (slots / BLOCK + 1) * 2 + LD_WHEEL_LISTS;
}

/* How many of them come with a chunk. */
static size_t blocks_of(unsigned chunk) {
    return blocks_for(slots_in(chunk + 1)) - blocks_for(slots_in(chunk));
}

/* Add a chunk: slots, their histories, and the blocks. False when memory or ids ran out. */
static bool add_chunk(struct ld_wheel *wheel) {
    unsigned at = wheel->chunk_count;
    if (at == LD_WHEEL_CHUNKS) {
        return false;
    }
    size_t slots = slots_in(at + 1) - slots_in(at);
    size_t slots_size = slots * sizeof(struct ld_timer_info);
    size_t histories_size = slots * sizeof(struct ld_timer_history);
    size_t blocks = blocks_of(at);
    char *chunk = aligned_alloc(CACHE_LINE, slots_size + histories_size +
                                                blocks * sizeof(struct ld_wheel_block));
    if (chunk == NULL) {
        return false;
    }
    /* Its memory is not touched before it is needed. */
    wheel->chunks[at].slots = (struct ld_timer_info *)(void *)chunk;
    wheel->chunks[at].histories = (struct ld_timer_history *)(void *)(chunk + slots_size);
    wheel->chunks[at].blocks =
        (struct ld_wheel_block *)(void *)(chunk + slots_size + histories_size);
    wheel->chunk_count++;
    wheel->spare += blocks;
    return true;
}

/* The list for a due time. */
static unsigned list_for(const struct ld_wheel *wheel, uint64_t due) {
    uint64_t tick = due / TICK_NS;
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

/* Note an arming for DUE in the list where it belongs. A block is spare if it needs one. */
static inline void append(struct ld_wheel *wheel, uint64_t due, struct ld_wheel_note note) {
    unsigned at = list_for(wheel, due);
    struct ld_wheel_list *list = &wheel->lists[at];
    struct ld_wheel_block *block = list->last;
    if (block == NULL) {
        block = list->first = list->last = take_block(wheel);
        list->first_due = due;
        wheel->occupied[at / LD_WHEEL_LISTS] |= (uint64_t)1 << (at % LD_WHEEL_LISTS);
        wheel->levels |= 1U << (at / LD_WHEEL_LISTS);
    } else if (block->count == BLOCK) {
        block = list->last = block->next = take_block(wheel);
    }
    if (due < list->first_due) {
        list->first_due = due;
    }
    block->notes[block->count++] = note;
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
static bool is_occupied(const struct ld_wheel *wheel, unsigned list) {
    return wheel->lists[list].first != NULL;
}

/* Put a note of a list that is sifted where it belongs; drop a void one. */
static void sift_one(struct ld_wheel *wheel, const struct ld_wheel_note *note) {
    const struct ld_timer_info *slot = find_noted(wheel, note);
    if (slot != NULL) {
        append(wheel, slot->due, *note);
    }
}

/* Have the slots of a block fetched: they are anywhere in memory. */
static void prefetch(const struct ld_wheel *wheel, const struct ld_wheel_block *block) {
    for (uint32_t i = 0; i < block->count; i++) {
        __builtin_prefetch(slot_at(wheel, block->notes[i].index));
    }
}

/* Move the notes of a list to where they belong as seen from the current tick. Void ones are dropped. A
 * block is given back before its contents need one. */
static void sift(struct ld_wheel *wheel, unsigned list) {
    struct ld_wheel_block copy;
    struct ld_wheel_block *block = take_list(wheel, list);
    while (block != NULL) {
        memcpy(&copy, block, sizeof copy);
        drop_block(wheel, block);
        prefetch(wheel, &copy);
        for (uint32_t i = 0; i < copy.count; i++) {
            sift_one(wheel, &copy.notes[i]);
        }
        block = copy.next;
    }
}

/* Give the timer of a note that is valid a new order. Of several notes of one arming, the last stays valid. */
static void renumber(struct ld_wheel *wheel, struct ld_wheel_note *note) {
    struct ld_timer_info *slot = find_noted(wheel, note);
    if (slot != NULL) {
        slot->order = wheel->order++;
        note->order = slot->order;
    }
}

/* Do so in a whole list. */
static void renumber_list(struct ld_wheel *wheel, unsigned list) {
    struct ld_wheel_block *block = wheel->lists[list].first;
    for (; block != NULL; block = block->next) {
        for (uint32_t i = 0; i < block->count; i++) {
            renumber(wheel, &block->notes[i]);
        }
    }
}

/* Drop void notes in all lists. */
static void sift_all(struct ld_wheel *wheel) {
    for (unsigned list = 0; list < LISTS; list++) {
        sift(wheel, list);
    }
}

/* Make COUNT blocks spare, 64 at most: there are as many when no void note is left, nor one that only says once
 * more what another says. */
static void ensure_spare(struct ld_wheel *wheel, size_t count) {
    if (wheel->spare >= count) {
        return;
    }
    sift_all(wheel);
    if (wheel->spare < count) {
        for (unsigned list = 0; list < LISTS; list++) {
            renumber_list(wheel, list);
        }
        sift_all(wheel);
    }
}

/* Whether an arming can wait at the end of the batch: it has the current tick, and comes after the rest. */
static bool fits_batch(const struct ld_wheel *wheel, uint64_t due) {
    return due >= wheel->limit && due / TICK_NS <= wheel->tick &&
           wheel->batch_size < wheel->batch_capacity &&
           (wheel->batch_at == wheel->batch_size || wheel->batch[wheel->batch_size - 1].due <= due);
}

/* Give a timer the next order. That is done before any flag is set, and it is not read back: they share a word,
 * and the processor would wait until it is whole. */
static inline uint32_t take_order(struct ld_wheel *wheel, struct ld_timer_info *slot) {
    uint32_t order = wheel->order++ & ((1U << ORDER_BITS) - 1);
    slot->order = order;
    return order;
}

/* Put a timer into its list, or the batch. */
static void insert(struct ld_wheel *wheel, uint64_t due, struct ld_wheel_note note) {
    if (fits_batch(wheel, due)) {
        wheel->batch[wheel->batch_size++] = (struct ld_wheel_arming){due, note.order, note.index};
    } else {
        ensure_spare(wheel, 1);
        append(wheel, due, note);
    }
}

/* Make TICK the current one, when nothing before LIST is left; LIST must be opened or sifted then. */
static void advance(struct ld_wheel *wheel, unsigned list, uint64_t tick) {
    if (list >= LD_WHEEL_LISTS) {
        ensure_spare(wheel, LD_WHEEL_LISTS); /* it may go to as many lists */
    }
    wheel->tick = tick > wheel->tick ? tick : wheel->tick;
}

/* Find the list that holds the next timers; its first tick in *START. False: no timer at all. */
static bool first_list(const struct ld_wheel *wheel, unsigned *list, uint64_t *start) {
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

/* The id of a slot. */
static ld_timer id_of(const struct ld_timer_info *slot, uint32_t index) {
    return (uint64_t)slot->generation << 32 | index;
}

/* The slot of an id; NULL if the timer was freed. */
static struct ld_timer_info *find(const struct ld_wheel *wheel, ld_timer timer) {
    uint32_t index = ld_wheel_index(timer);
    if (timer == 0 || index >= wheel->used) {
        return NULL;
    }
    struct ld_timer_info *slot = slot_at(wheel, index);
    return slot->generation == timer >> 32 ? slot : NULL;
}

/* The earliest due time in the lists; LD_WHEEL_NEVER for none. */
static uint64_t first_listed(struct ld_wheel *wheel) {
    unsigned list;
    uint64_t start;
    while (first_list(wheel, &list, &start)) {
        if (wheel->lists[list].first_due != 0) {
            return wheel->lists[list].first_due;
        }
        sift(wheel, list); /* it may have held only void ones */
        if (is_occupied(wheel, list) && wheel->lists[list].first_due == 0) {
            return 0;
        }
    }
    return LD_WHEEL_NEVER;
}

/* The earliest due time of all; LD_WHEEL_NEVER for none. */
uint64_t ld_wheel_first_due(struct ld_wheel *wheel) {
    uint64_t listed = first_listed(wheel);
    for (; wheel->batch_at < wheel->batch_size; wheel->batch_at++) {
        const struct ld_wheel_arming *arming = &wheel->batch[wheel->batch_at];
        if (find_armed(wheel, arming) != NULL) {
            return arming->due < listed ? arming->due : listed;
        }
    }
    return listed;
}

/* The order of firing: by due time, then by arming. */
static int compare_armings(const void *left, const void *right) {
    const struct ld_wheel_arming *a = left;
    const struct ld_wheel_arming *b = right;
    if (a->due != b->due) {
        return a->due < b->due ? -1 : 1;
    }
    uint32_t apart = (a->order - b->order) << (32 - ORDER_BITS); /* also across a wrap */
    return (int32_t)apart < 0 ? -1 : 1;
}

/* Sort what one list gave: often it is in order. */
static void sort(struct ld_wheel_arming *armings, size_t size) {
    for (size_t i = 1; i < size; i++) {
        if (compare_armings(&armings[i - 1], &armings[i]) > 0) {
            qsort(armings, size, sizeof *armings, compare_armings);
            return;
        }
    }
}

/* Add what is noted in a block to the batch, where there is room for it. */
static void add_block(struct ld_wheel *wheel, const struct ld_wheel_block *block) {
    for (uint32_t i = 0; i < block->count; i++) {
        const struct ld_wheel_note *note = &block->notes[i];
        const struct ld_timer_info *slot = find_noted(wheel, note);
        if (slot != NULL) {
            wheel->batch[wheel->batch_size++] =
                (struct ld_wheel_arming){slot->due, note->order, note->index};
        }
    }
}

/* Move all of a list to the end of the batch; false when memory ran out: the rest stays, and comes with the
 * next batch. */
static bool open_list(struct ld_wheel *wheel, unsigned list) {
    struct ld_wheel_list *from = &wheel->lists[list];
    struct ld_wheel_block *block;
    from->first_due = 0;
    while ((block = from->first) != NULL) {
        size_t size = wheel->batch_size + block->count;
        struct ld_wheel_arming *batch =
            ld_grow_to(wheel->batch, &wheel->batch_capacity, size, sizeof *batch);
        if (batch == NULL) {
            return false;
        }
        wheel->batch = batch;
        add_block(wheel, block);
        from->first = block->next;
        drop_block(wheel, block);
    }
    take_list(wheel, list);
    return true;
}

/* Merge what was added to the batch after the first OLD. It is often in order; or it comes before all that
 * waits (a chain of timers for now), and takes the place of what has fired. */
static void merge(struct ld_wheel *wheel, size_t old) {
    struct ld_wheel_arming *batch = wheel->batch;
    size_t at = wheel->batch_at;
    size_t added = wheel->batch_size - old;
    sort(batch + old, added);
    if (added == 0 || at == old || compare_armings(&batch[old - 1], &batch[old]) < 0) {
        return;
    }
    if (added <= at && compare_armings(&batch[wheel->batch_size - 1], &batch[at]) < 0) {
        memcpy(batch + at - added, batch + old, added * sizeof *batch);
        wheel->batch_at = at - added;
        wheel->batch_size = old;
    } else {
        sort(batch + at, wheel->batch_size - at);
    }
}

/* Collect everything that is due at NOW into the batch, in the order of firing, and what is left of its last
 * tick. */
void ld_wheel_expire(struct ld_wheel *wheel, uint64_t now) {
    unsigned list;
    uint64_t start;
    uint64_t last = now / TICK_NS;
    bool has_memory = true;
    LD_ASSERT(!ld_wheel_has_batch(wheel));
    if (wheel->batch_at == wheel->batch_size) {
        wheel->batch_size = 0;
        wheel->batch_at = 0;
    }
    wheel->limit = now + 1;
    while (has_memory && first_list(wheel, &list, &start) && start <= last) {
        size_t old = wheel->batch_size;
        advance(wheel, list, start);
        if (list < LD_WHEEL_LISTS) {
            has_memory = open_list(wheel, list);
            merge(wheel, old);
        } else {
            sift(wheel, list);
        }
    }
    if (has_memory && last > wheel->tick) {
        wheel->tick = last;
    }
}

/* Note the last idle time. */
void ld_wheel_note_idle(struct ld_wheel *wheel, uint64_t from, uint64_t to) {
    wheel->idle_from = from;
    wheel->idle_to = to;
}

/* The history of a slot, which begins when it is asked for. */
static struct ld_timer_history *history_of(const struct ld_wheel *wheel, struct ld_timer_info *slot,
                                           uint32_t index) {
    unsigned chunk = chunk_of(index);
    struct ld_timer_history *history = &wheel->chunks[chunk].histories[index - slots_in(chunk)];
    if (!slot->has_history) {
        *history = (struct ld_timer_history){0};
        slot->has_history = true;
    }
    return history;
}

/* Arm a repeating timer for its first beat after NOW. False if the last beat that passed must
 * not be called. */
static bool beat(struct ld_wheel *wheel, struct ld_timer_info *slot, uint32_t index, uint64_t now) {
    uint64_t late = now - slot->due;
    if (late >= slot->interval) {
        uint64_t passed = late / slot->interval;
        late -= passed * slot->interval;
        slot->due += passed * slot->interval;
        history_of(wheel, slot, index)->missed += passed;
    }
    bool was_idle = slot->due >= wheel->idle_from && slot->due <= wheel->idle_to;
    bool is_called = late <= LATE_NS || late <= slot->interval / 2 || was_idle || slot->skipped;
    uint32_t order = take_order(wheel, slot);
    if (slot->skipped == is_called) {
        slot->skipped = !is_called;
    }
    if (!is_called) {
        history_of(wheel, slot, index)->missed++;
    }
    slot->due += slot->interval;
    insert(wheel, slot->due, (struct ld_wheel_note){order, index});
    return is_called;
}

/* Take the next out of the batch. */
ld_timer ld_wheel_fire(struct ld_wheel *wheel, uint64_t now, struct ld_timer_info **info) {
    const struct ld_wheel_arming *arming = &wheel->batch[wheel->batch_at++];
    uint32_t index = arming->index;
    struct ld_timer_info *slot = find_armed(wheel, arming);
    if (slot == NULL) {
        return 0;
    }
    *info = slot;
    if (slot->repeats) {
        return beat(wheel, slot, index, now) ? id_of(slot, index) : 0;
    }
    slot->armed = false;
    wheel->armed--;
    wheel->hidden -= slot->hidden;
    return id_of(slot, index);
}

/* Make an empty wheel. */
void ld_wheel_init(struct ld_wheel *wheel, uint64_t now) {
    *wheel = (struct ld_wheel){.tick = now / TICK_NS, .free = NO_SLOT};
}

/* Free a wheel and its timers. */
void ld_wheel_fini(struct ld_wheel *wheel) {
    for (unsigned i = 0; i < wheel->chunk_count; i++) {
        free(wheel->chunks[i].slots);
    }
    free(wheel->batch);
}

/* The timer that ld_wheel_add will make next. */
ld_timer ld_wheel_reserve(struct ld_wheel *wheel) {
    if (wheel->free != NO_SLOT) {
        return (uint64_t)(slot_at(wheel, wheel->free)->generation + 1) << 32 | wheel->free;
    }
    if (wheel->used == slots_in(wheel->chunk_count) && !add_chunk(wheel)) {
        return 0;
    }
    return (uint64_t)1 << 32 | wheel->used;
}

/* Take the slot of the timer that was reserved. */
static inline struct ld_timer_info *take_slot(struct ld_wheel *wheel, ld_timer reserved) {
    uint32_t index = ld_wheel_index(reserved);
    struct ld_timer_info *slot = slot_at(wheel, index);
    if (index == wheel->used) {
        wheel->used++;
    } else {
        wheel->free = slot->next_free;
    }
    *slot = (struct ld_timer_info){.generation = (uint32_t)(reserved >> 32)};
    return slot;
}

/* Arm the timer of a slot, which is not armed. */
static inline void arm(struct ld_wheel *wheel, struct ld_timer_info *slot, uint32_t index,
                       uint64_t due, uint64_t interval) {
    uint32_t order = take_order(wheel, slot);
    slot->due = due;
    slot->repeats = interval > 0;
    if (slot->repeats) {
        slot->interval = interval;
    }
    slot->armed = true;
    slot->skipped = false;
    wheel->armed++;
    wheel->hidden += slot->hidden;
    insert(wheel, due, (struct ld_wheel_note){order, index});
}

/* Disarm the timer of a slot, if it is armed. */
static inline void disarm(struct ld_wheel *wheel, struct ld_timer_info *slot) {
    if (!slot->armed) {
        return;
    }
    struct ld_wheel_list *list = &wheel->lists[list_for(wheel, slot->due)];
    if (slot->due == list->first_due) {
        list->first_due = 0; /* to be found again when it is asked for */
    }
    slot->armed = false;
    wheel->armed--;
    wheel->hidden -= slot->hidden;
}

/* Make a timer. */
ld_timer ld_wheel_add(struct ld_wheel *wheel) {
    ld_timer timer = ld_wheel_reserve(wheel);
    if (timer != 0) {
        take_slot(wheel, timer);
    }
    return timer;
}

/* Make the timer that was reserved, armed. */
void ld_wheel_add_armed(struct ld_wheel *wheel, ld_timer reserved, uint64_t due,
                        uint64_t interval) {
    struct ld_timer_info *slot = take_slot(wheel, reserved);
    arm(wheel, slot, ld_wheel_index(reserved), due, interval);
}

/* Free a timer; ignore one that was freed already. */
void ld_wheel_free(struct ld_wheel *wheel, ld_timer timer) {
    struct ld_timer_info *slot = find(wheel, timer);
    if (slot == NULL) {
        return;
    }
    disarm(wheel, slot);
    slot->generation++;
    slot->next_free = wheel->free;
    wheel->free = ld_wheel_index(timer);
}

/* Arm the timer that INFO is of. */
void ld_wheel_rearm(struct ld_wheel *wheel, ld_timer timer, struct ld_timer_info *info,
                    uint64_t due, uint64_t interval) {
    disarm(wheel, info);
    arm(wheel, info, ld_wheel_index(timer), due, interval);
}

/* Arm a timer. */
void ld_wheel_arm(struct ld_wheel *wheel, ld_timer timer, uint64_t due, uint64_t interval) {
    struct ld_timer_info *slot = find(wheel, timer);
    LD_ASSERT(slot != NULL);
    ld_wheel_rearm(wheel, timer, slot, due, interval);
}

/* Disarm a timer. */
void ld_wheel_disarm(struct ld_wheel *wheel, ld_timer timer) {
    struct ld_timer_info *slot = find(wheel, timer);
    if (slot != NULL) {
        disarm(wheel, slot);
    }
}

/* Return the information about a timer. */
struct ld_timer_info *ld_wheel_info(const struct ld_wheel *wheel, ld_timer timer) {
    return find(wheel, timer);
}

/* Return what a timer has done. */
struct ld_timer_history *ld_wheel_history(const struct ld_wheel *wheel, ld_timer timer,
                                          struct ld_timer_info *info) {
    return history_of(wheel, info, ld_wheel_index(timer));
}

/* The armed timer after another. */
ld_timer ld_wheel_next(const struct ld_wheel *wheel, ld_timer previous) {
    uint32_t index = previous == 0 ? 0 : ld_wheel_index(previous) + 1;
    for (; index < wheel->used; index++) {
        const struct ld_timer_info *slot = slot_at(wheel, index);
        if (slot->armed) {
            return id_of(slot, index);
        }
    }
    return 0;
}

/* Look for an armed timer that is not hidden. */
bool ld_wheel_look(const struct ld_wheel *wheel, uint32_t *at, ld_timer *timer) {
    uint32_t end = wheel->used - *at > LOOK_MOST ? *at + LOOK_MOST : wheel->used;
    *timer = 0;
    while (*at < end && *timer == 0) {
        uint32_t index = (*at)++;
        const struct ld_timer_info *slot = slot_at(wheel, index);
        *timer = slot->armed && !slot->hidden ? id_of(slot, index) : 0;
    }
    return *at < wheel->used || *timer != 0;
}
