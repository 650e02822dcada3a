/* The timers of a wheel. Where they stand in it is a matter of wheel_lists.c. */
#include "engine/wheel.h"

#include <stdlib.h>

#include "base/base.h"
#include "engine/wheel_lists.h"

#define NO_SLOT UINT32_MAX
#define LATE_NS 2000000 /* a beat that is late by no more is still called */

/* The index in an id. */
uint32_t ld_wheel_index(ld_timer timer) {
    return (uint32_t)timer;
}

/* The id of a slot. */
static ld_timer id_of(const struct ld_wheel_slot *slot, uint32_t index) {
    return (uint64_t)slot->generation << 32 | index;
}

/* The slot of an id; NULL if the timer was freed. */
static struct ld_wheel_slot *find(const struct ld_wheel *wheel, ld_timer timer) {
    uint32_t index = ld_wheel_index(timer);
    if (timer == 0 || index >= wheel->used) {
        return NULL;
    }
    struct ld_wheel_slot *slot = ld_wheel_slot_at(wheel, index);
    return slot->generation == timer >> 32 ? slot : NULL;
}

/* The earliest due time of all; LD_WHEEL_NEVER for none. */
uint64_t ld_wheel_first_due(struct ld_wheel *wheel) {
    unsigned list;
    uint64_t start;
    while (ld_wheel_first_list(wheel, &list, &start)) {
        if (wheel->lists[list].first_due != 0) {
            return wheel->lists[list].first_due;
        }
        ld_wheel_sift(wheel, list, 0); /* it may have been full of void ones */
        if (ld_wheel_is_occupied(wheel, list) && wheel->lists[list].first_due == 0) {
            return 0;
        }
    }
    return LD_WHEEL_NEVER;
}

/* The order of firing: by due time, then by arming. */
static int compare_armings(const void *left, const void *right) {
    const struct ld_wheel_arming *a = left;
    const struct ld_wheel_arming *b = right;
    if (a->due != b->due) {
        return a->due < b->due ? -1 : 1;
    }
    return (int32_t)(a->order - b->order) < 0 ? -1 : 1; /* right across a wrap of the counter */
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

/* Collect everything that is due at NOW into the batch, in the order of firing. */
void ld_wheel_expire(struct ld_wheel *wheel, uint64_t now) {
    LD_ASSERT(!ld_wheel_has_batch(wheel));
    wheel->batch_size = 0;
    wheel->batch_at = 0;
    unsigned list;
    uint64_t start;
    uint64_t last = now / LD_WHEEL_TICK_NS;
    while (ld_wheel_first_list(wheel, &list, &start) && start <= last) {
        size_t before = wheel->batch_size;
        ld_wheel_advance(wheel, list, start);
        ld_wheel_sift(wheel, list, now + 1);
        sort(wheel->batch + before, wheel->batch_size - before);
        if (list < LD_WHEEL_LISTS && (start == last || ld_wheel_is_occupied(wheel, list))) {
            return; /* what is left is due later */
        }
    }
    wheel->tick = last > wheel->tick ? last : wheel->tick;
}

/* Note when there was last time. */
void ld_wheel_note_idle(struct ld_wheel *wheel, uint64_t from, uint64_t to) {
    wheel->idle_from = from;
    wheel->idle_to = to;
}

/* Whether something is left in the batch. */
bool ld_wheel_has_batch(const struct ld_wheel *wheel) {
    return wheel->batch_at < wheel->batch_size;
}

/* Arm a repeating timer for its first beat after NOW. False if the last one that has passed is not to be
 * called. */
static bool beat(struct ld_wheel *wheel, struct ld_wheel_slot *slot, uint32_t index, uint64_t now) {
    struct ld_timer_info *info = &slot->info;
    uint64_t late = now - info->due;
    if (late >= info->interval) {
        uint64_t passed = late / info->interval;
        late -= passed * info->interval;
        info->due += passed * info->interval;
        info->missed += passed;
    }
    bool was_idle = info->due >= wheel->idle_from && info->due <= wheel->idle_to;
    bool is_called = late <= LATE_NS || late <= info->interval / 8 || was_idle || info->skipped;
    info->skipped = !is_called;
    info->missed += !is_called;
    info->due += info->interval;
    slot->order = wheel->order++;
    ld_wheel_insert(wheel, slot, index);
    return is_called;
}

/* Take the next out of the batch. */
ld_timer ld_wheel_fire(struct ld_wheel *wheel, uint64_t now, struct ld_timer_info **info) {
    const struct ld_wheel_arming *arming = &wheel->batch[wheel->batch_at++];
    uint32_t index = arming->index;
    struct ld_wheel_slot *slot = ld_wheel_find_armed(wheel, arming);
    if (slot == NULL) {
        return 0;
    }
    *info = &slot->info;
    if (slot->info.interval > 0) {
        return beat(wheel, slot, index, now) ? id_of(slot, index) : 0;
    }
    slot->info.armed = false;
    wheel->armed--;
    return id_of(slot, index);
}

/* Make an empty wheel. */
void ld_wheel_init(struct ld_wheel *wheel, uint64_t now) {
    *wheel = (struct ld_wheel){.tick = now / LD_WHEEL_TICK_NS, .free = NO_SLOT};
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
        return (uint64_t)(ld_wheel_slot_at(wheel, wheel->free)->generation + 1) << 32 | wheel->free;
    }
    if (wheel->used == ld_wheel_slots_in(wheel->chunk_count) && !ld_wheel_add_chunk(wheel)) {
        return 0;
    }
    return (uint64_t)1 << 32 | wheel->used;
}

/* Make a timer. */
ld_timer ld_wheel_add(struct ld_wheel *wheel) {
    ld_timer timer = ld_wheel_reserve(wheel);
    if (timer != 0) {
        uint32_t index = ld_wheel_index(timer);
        struct ld_wheel_slot *slot = ld_wheel_slot_at(wheel, index);
        if (index == wheel->used) {
            wheel->used++;
        } else {
            wheel->free = slot->next;
        }
        *slot = (struct ld_wheel_slot){.generation = (uint32_t)(timer >> 32)};
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
    slot->info.skipped = false;
    slot->order = wheel->order++;
    wheel->armed++;
    ld_wheel_insert(wheel, slot, ld_wheel_index(timer));
}

/* Disarm a timer. */
void ld_wheel_disarm(struct ld_wheel *wheel, ld_timer timer) {
    struct ld_wheel_slot *slot = find(wheel, timer);
    if (slot == NULL || !slot->info.armed) {
        return;
    }
    struct ld_wheel_list *list = &wheel->lists[ld_wheel_list_for(wheel, slot->info.due)];
    if (slot->info.due == list->first_due) {
        list->first_due = 0; /* to be found again when it is asked for */
    }
    slot->info.armed = false;
    wheel->armed--;
}

/* What is known of a timer. */
struct ld_timer_info *ld_wheel_info(const struct ld_wheel *wheel, ld_timer timer) {
    struct ld_wheel_slot *slot = find(wheel, timer);
    return slot != NULL ? &slot->info : NULL;
}

/* The armed timer after another. */
ld_timer ld_wheel_next(const struct ld_wheel *wheel, ld_timer previous) {
    uint32_t index = previous == 0 ? 0 : ld_wheel_index(previous) + 1;
    for (; index < wheel->used; index++) {
        const struct ld_wheel_slot *slot = ld_wheel_slot_at(wheel, index);
        if (slot->info.armed) {
            return id_of(slot, index);
        }
    }
    return 0;
}
