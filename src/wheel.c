/* Time is cut into ticks of 2^20 ns. Level 0 has a list for each of the 64 ticks that share their
 * upper bits with the current one, level 1 a list for each 64 of those, and so on. A timer stands
 * on the level of the highest digit (of 6 bits) in which its tick differs from the current one; so
 * the first non-empty list of the lowest non-empty level holds the timers that are due next, and
 * when its time comes its timers move to lower levels. Within a tick they are sorted by due time
 * and order of arming when they expire. */
#include "wheel.h"

#include <stdlib.h>
#include <string.h>

#include "base.h"

#define TICK_BITS  20
#define LEVEL_BITS 6
#define CHUNK      256
#define CACHE_LINE 64
#define NO_SLOT    UINT32_MAX
#define IN_BATCH   UINT16_MAX

struct ld_wheel_slot {
    struct ld_timer_info info;
    uint32_t next; /* in its list, or in the list of free slots */
    uint32_t previous;
    uint32_t generation; /* tells uses of this slot apart; odd while it is used */
    uint32_t order;      /* of arming */
    uint16_t list;       /* level * LD_WHEEL_LISTS + digit, or IN_BATCH */
};

_Static_assert(sizeof(struct ld_wheel_slot) == CACHE_LINE, "a slot fills a line of the cache");

/* The slot of an index. */
static struct ld_wheel_slot *slot_at(const struct ld_wheel *wheel, uint32_t index) {
    return &wheel->chunks[index / CHUNK][index % CHUNK];
}

/* The index in an id. */
uint32_t ld_wheel_index(ld_timer timer) {
    return (uint32_t)timer;
}

/* The id of a slot. */
static ld_timer id_of(const struct ld_wheel *wheel, uint32_t index) {
    return (uint64_t)slot_at(wheel, index)->generation << 32 | index;
}

/* The slot of an id; NULL if the timer was freed. */
static struct ld_wheel_slot *find(const struct ld_wheel *wheel, ld_timer timer) {
    uint32_t index = ld_wheel_index(timer);
    if (timer == 0 || index / CHUNK >= wheel->chunk_count) {
        return NULL;
    }
    struct ld_wheel_slot *slot = slot_at(wheel, index);
    return slot->generation == timer >> 32 ? slot : NULL;
}

/* The list for a tick that is not before the current one. */
static unsigned list_for(const struct ld_wheel *wheel, uint64_t tick) {
    uint64_t difference = tick ^ wheel->tick;
    unsigned level =
        difference == 0 ? 0 : (63U - (unsigned)__builtin_clzll(difference)) / LEVEL_BITS;
    LD_ASSERT(level < LD_WHEEL_LEVELS);
    uint64_t digit = (tick >> (level * LEVEL_BITS)) & (LD_WHEEL_LISTS - 1);
    return level * LD_WHEEL_LISTS + (unsigned)digit;
}

/* Put a slot into the wheel by its due time. */
static void insert(struct ld_wheel *wheel, uint32_t index) {
    struct ld_wheel_slot *slot = slot_at(wheel, index);
    uint64_t tick = slot->info.due >> TICK_BITS;
    unsigned list = list_for(wheel, tick > wheel->tick ? tick : wheel->tick);
    uint32_t first = wheel->lists[list];
    slot->list = (uint16_t)list;
    slot->previous = NO_SLOT;
    slot->next = first;
    if (first != NO_SLOT) {
        slot_at(wheel, first)->previous = index;
    }
    wheel->lists[list] = index;
    wheel->occupied[list / LD_WHEEL_LISTS] |= (uint64_t)1 << (list % LD_WHEEL_LISTS);
}

/* Take a slot out of the wheel. */
static void take_out(struct ld_wheel *wheel, const struct ld_wheel_slot *slot) {
    if (slot->next != NO_SLOT) {
        slot_at(wheel, slot->next)->previous = slot->previous;
    }
    if (slot->previous != NO_SLOT) {
        slot_at(wheel, slot->previous)->next = slot->next;
        return;
    }
    wheel->lists[slot->list] = slot->next;
    if (slot->next == NO_SLOT) {
        wheel->occupied[slot->list / LD_WHEEL_LISTS] &=
            ~((uint64_t)1 << (slot->list % LD_WHEEL_LISTS));
    }
}

/* Empty a list; its first slot. */
static uint32_t take_list(struct ld_wheel *wheel, unsigned list) {
    uint32_t first = wheel->lists[list];
    wheel->lists[list] = NO_SLOT;
    wheel->occupied[list / LD_WHEEL_LISTS] &= ~((uint64_t)1 << (list % LD_WHEEL_LISTS));
    return first;
}

/* Find the list that holds the next timers; its first tick in *START. False: no timer at all. */
static bool first_list(const struct ld_wheel *wheel, unsigned *list, uint64_t *start) {
    for (unsigned level = 0; level < LD_WHEEL_LEVELS; level++) {
        if (wheel->occupied[level] == 0) {
            continue;
        }
        uint64_t digit = (uint64_t)__builtin_ctzll(wheel->occupied[level]);
        unsigned shift = level * LEVEL_BITS;
        *list = level * LD_WHEEL_LISTS + (unsigned)digit;
        *start = (wheel->tick >> (shift + LEVEL_BITS) << LEVEL_BITS | digit) << shift;
        return true;
    }
    return false;
}

/* The earliest due time of all; LD_WHEEL_NEVER for none. */
uint64_t ld_wheel_first_due(const struct ld_wheel *wheel) {
    unsigned list;
    uint64_t start;
    uint64_t due = LD_WHEEL_NEVER;
    if (first_list(wheel, &list, &start)) {
        for (uint32_t at = wheel->lists[list]; at != NO_SLOT; at = slot_at(wheel, at)->next) {
            uint64_t candidate = slot_at(wheel, at)->info.due;
            due = candidate < due ? candidate : due;
        }
    }
    return due;
}

/* Note a due slot for the batch; false when memory ran out. */
static bool add_to_batch(struct ld_wheel *wheel, const struct ld_wheel_slot *slot, uint32_t index) {
    if (wheel->batch_size == wheel->batch_capacity) {
        size_t capacity = wheel->batch_capacity == 0 ? 64 : wheel->batch_capacity * 2;
        struct ld_expired *batch = realloc(wheel->batch, capacity * sizeof *batch);
        if (batch == NULL) {
            return false; /* it stays in the wheel and comes with the next batch */
        }
        wheel->batch = batch;
        wheel->batch_capacity = capacity;
    }
    wheel->batch[wheel->batch_size++] =
        (struct ld_expired){.due = slot->info.due, .order = slot->order, .index = index};
    return true;
}

/* The order of firing: by due time, then by arming. */
static int compare_expired(const void *left, const void *right) {
    const struct ld_expired *a = left;
    const struct ld_expired *b = right;
    if (a->due != b->due) {
        return a->due < b->due ? -1 : 1;
    }
    return (int32_t)(a->order - b->order) < 0 ? -1 : 1; /* right across a wrap of the counter */
}

/* Sort what one list gave. Timers that were armed in order come in reverse. */
static void sort(struct ld_expired *batch, size_t size) {
    size_t descending = 1;
    while (descending < size && compare_expired(&batch[descending - 1], &batch[descending]) > 0) {
        descending++;
    }
    if (descending < size) {
        qsort(batch, size, sizeof *batch, compare_expired);
        return;
    }
    for (size_t i = 0; i < size / 2; i++) {
        struct ld_expired last = batch[size - 1 - i];
        batch[size - 1 - i] = batch[i];
        batch[i] = last;
    }
}

/* Move what is due at NOW from a list of level 0 to the batch; false if some of it stays. */
static bool expire_list(struct ld_wheel *wheel, unsigned list, uint64_t now) {
    size_t before = wheel->batch_size;
    bool all = true;
    uint32_t next = take_list(wheel, list);
    while (next != NO_SLOT) {
        uint32_t at = next;
        struct ld_wheel_slot *slot = slot_at(wheel, at);
        next = slot->next;
        if (slot->info.due > now || !add_to_batch(wheel, slot, at)) {
            insert(wheel, at);
            all = false;
        } else {
            slot->list = IN_BATCH; /* still armed: it has not fired yet */
        }
    }
    sort(wheel->batch + before, wheel->batch_size - before);
    return all;
}

/* Spread a list over the lower levels, after the current tick has reached it. */
static void cascade(struct ld_wheel *wheel, unsigned list) {
    uint32_t next;
    for (uint32_t at = take_list(wheel, list); at != NO_SLOT; at = next) {
        next = slot_at(wheel, at)->next;
        insert(wheel, at);
    }
}

/* Collect everything that is due at NOW into the batch, in the order of firing. */
void ld_wheel_expire(struct ld_wheel *wheel, uint64_t now) {
    wheel->batch_size = 0;
    unsigned list;
    uint64_t start;
    uint64_t last = now >> TICK_BITS;
    while (first_list(wheel, &list, &start) && start <= last) {
        wheel->tick = start > wheel->tick ? start : wheel->tick;
        if (list >= LD_WHEEL_LISTS) {
            cascade(wheel, list);
        } else if (!expire_list(wheel, list, now)) {
            return;
        }
    }
    wheel->tick = last > wheel->tick ? last : wheel->tick;
}

/* Arm a repeating timer for its next beat after NOW, skipping those that have passed. */
static void beat(struct ld_wheel *wheel, struct ld_wheel_slot *slot, uint32_t index, uint64_t now) {
    uint64_t due = slot->info.due + slot->info.interval;
    if (due <= now) {
        uint64_t skipped = (now - due) / slot->info.interval + 1;
        slot->info.missed += skipped;
        due += skipped * slot->info.interval;
    }
    slot->info.due = due;
    slot->order = wheel->order++;
    insert(wheel, index);
}

/* Have a slot that will be asked for soon brought into the cache. */
void ld_wheel_prefetch(const struct ld_wheel *wheel, const struct ld_expired *expired) {
    __builtin_prefetch(slot_at(wheel, expired->index));
}

/* Take a timer out of the batch. */
ld_timer ld_wheel_fire(struct ld_wheel *wheel, const struct ld_expired *expired, uint64_t now) {
    struct ld_wheel_slot *slot = slot_at(wheel, expired->index);
    if (slot->list != IN_BATCH || slot->order != expired->order) {
        return 0;
    }
    if (slot->info.interval > 0) {
        beat(wheel, slot, expired->index, now);
    } else {
        slot->order = wheel->order++; /* not to fire twice */
        slot->info.armed = false;
        wheel->armed--;
    }
    return id_of(wheel, expired->index);
}

/* Make an empty wheel. */
void ld_wheel_init(struct ld_wheel *wheel, uint64_t now) {
    *wheel = (struct ld_wheel){.tick = now >> TICK_BITS, .free = NO_SLOT};
    memset(wheel->lists, 0xFF, sizeof wheel->lists); /* NO_SLOT */
}

/* Free a wheel and its timers. */
void ld_wheel_fini(struct ld_wheel *wheel) {
    for (uint32_t i = 0; i < wheel->chunk_count; i++) {
        free(wheel->chunks[i]);
    }
    free(wheel->chunks);
    free(wheel->batch);
}

/* Add a chunk of free slots; false when memory ran out. */
static bool add_chunk(struct ld_wheel *wheel) {
    if ((wheel->chunk_count & (wheel->chunk_count - 1)) == 0) { /* full at powers of two */
        size_t capacity = wheel->chunk_count == 0 ? 1 : (size_t)wheel->chunk_count * 2;
        struct ld_wheel_slot **chunks =
            realloc(wheel->chunks, capacity * sizeof(struct ld_wheel_slot *));
        if (chunks == NULL) {
            return false;
        }
        wheel->chunks = chunks;
    }
    /* A slot fills a line of the cache, and lies in one. */
    struct ld_wheel_slot *chunk = aligned_alloc(CACHE_LINE, CHUNK * sizeof *chunk);
    if (chunk == NULL) {
        return false;
    }
    memset(chunk, 0, CHUNK * sizeof *chunk);
    uint32_t first = wheel->chunk_count * CHUNK;
    wheel->chunks[wheel->chunk_count++] = chunk;
    for (uint32_t i = CHUNK; i-- > 0;) {
        chunk[i].next = wheel->free;
        wheel->free = first + i;
    }
    return true;
}

/* The timer that ld_wheel_add will make next. */
ld_timer ld_wheel_reserve(struct ld_wheel *wheel) {
    if (wheel->free == NO_SLOT && !add_chunk(wheel)) {
        return 0;
    }
    uint32_t index = wheel->free;
    return (uint64_t)(slot_at(wheel, index)->generation + 1) << 32 | index;
}

/* Make a timer. */
ld_timer ld_wheel_add(struct ld_wheel *wheel) {
    ld_timer timer = ld_wheel_reserve(wheel);
    if (timer != 0) {
        struct ld_wheel_slot *slot = slot_at(wheel, ld_wheel_index(timer));
        wheel->free = slot->next;
        slot->generation++;
        slot->info = (struct ld_timer_info){0};
    }
    return timer;
}

/* Free a timer; one that was freed already is left alone. */
void ld_wheel_free(struct ld_wheel *wheel, ld_timer timer) {
    struct ld_wheel_slot *slot = find(wheel, timer);
    if (slot == NULL) {
        return;
    }
    ld_wheel_disarm(wheel, timer);
    slot->generation++;
    slot->next = wheel->free;
    wheel->free = ld_wheel_index(timer);
}

/* Arm a timer. */
void ld_wheel_arm(struct ld_wheel *wheel, ld_timer timer, uint64_t due, uint64_t interval) {
    struct ld_wheel_slot *slot = find(wheel, timer);
    LD_ASSERT(slot != NULL);
    ld_wheel_disarm(wheel, timer);
    slot->info.due = due;
    slot->info.interval = interval;
    slot->info.armed = true;
    slot->order = wheel->order++;
    wheel->armed++;
    insert(wheel, ld_wheel_index(timer));
}

/* Disarm a timer. */
void ld_wheel_disarm(struct ld_wheel *wheel, ld_timer timer) {
    struct ld_wheel_slot *slot = find(wheel, timer);
    if (slot == NULL) {
        return;
    }
    slot->order = wheel->order++; /* one that waits in a batch does not fire either */
    if (slot->info.armed) {
        if (slot->list != IN_BATCH) {
            take_out(wheel, slot);
        }
        slot->info.armed = false;
        wheel->armed--;
    }
}

/* What is known of a timer. */
struct ld_timer_info *ld_wheel_info(const struct ld_wheel *wheel, ld_timer timer) {
    struct ld_wheel_slot *slot = find(wheel, timer);
    return slot != NULL ? &slot->info : NULL;
}

/* The armed timer after another. */
ld_timer ld_wheel_next(const struct ld_wheel *wheel, ld_timer previous) {
    uint32_t index = previous == 0 ? 0 : ld_wheel_index(previous) + 1;
    for (; index < wheel->chunk_count * CHUNK; index++) {
        if (slot_at(wheel, index)->info.armed) {
            return id_of(wheel, index);
        }
    }
    return 0;
}
