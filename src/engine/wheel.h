/* A hierarchical timing wheel: which timers are due next. Pure data, no clock and no loop; see
 * timers.h for timers that fire.
 *
 * Arming and disarming cost the same whatever the number of timers, and nothing is allocated for
 * one timer alone. Times are nanoseconds on one monotonic clock. */
#ifndef LD_ENGINE_WHEEL_H
#define LD_ENGINE_WHEEL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define LD_WHEEL_LEVELS 8 /* of 6 bits: 48 bits of ticks, more than nine thousand years */
#define LD_WHEEL_LISTS  64
#define LD_WHEEL_CHUNKS 23 /* of 256 timers, 512, 1,024 …: two thousand million */
#define LD_WHEEL_NEVER  UINT64_MAX

/* One timer; 0 is none. An id is never reused for another timer. */
typedef uint64_t ld_timer;

/* Information about a timer. The owner keeps `woken`, `busy`, `by_clock`, `named`, `wakes` and `hidden`. It is
 * small, because there may be a million: what most timers never have is in their history. */
struct ld_timer_info {
    union {
        uint64_t due;       /* when it fires next, if it is armed */
        uint32_t next_free; /* of the wheel: the next slot that is free, while this one is */
    };
    union {
        uint64_t interval; /* if it repeats */
        void *woken;       /* what the owner wakes by it, if it does not */
    };
    uint32_t generation; /* of the wheel: tells uses of this slot apart; odd while it is used */
    uint32_t order : 23; /* of the wheel: of its last arming */
    bool armed : 1;
    bool repeats : 1;
    bool skipped : 1;     /* its last beat was too late to be called */
    bool has_history : 1; /* of the wheel */
    bool busy : 1;        /* its last call is not over */
    bool by_clock : 1;    /* the owner arms it for moments of the real-time clock */
    bool named : 1;       /* the owner has a name for it */
    bool wakes : 1;       /* the owner wakes a task by it */
    bool hidden : 1;      /* the owner does not report it; to be set while it is not armed */
};

/* What a timer has done. The owner keeps `runs` and `errors`, and adds missed beats of its own. */
struct ld_timer_history {
    uint64_t runs;
    uint64_t missed; /* beats that were skipped */
    uint32_t errors;
};

/* One arming in a list: it is valid as long as its timer has that order, then void. */
struct ld_wheel_note {
    uint32_t order;
    uint32_t index;
};

/* One arming in the batch: the same, if its timer also has that due time. */
struct ld_wheel_arming {
    uint64_t due;
    uint32_t order;
    uint32_t index;
};

/* The armings that come due in one stretch of time, in the order of arming. Some may be void. */
struct ld_wheel_list {
    struct ld_wheel_block *first;
    struct ld_wheel_block *last;
    uint64_t first_due; /* the earliest of those that are valid; 0: not known */
};

struct ld_wheel {
    uint64_t tick;                      /* the current one */
    uint64_t occupied[LD_WHEEL_LEVELS]; /* a bit for each list that is not empty */
    unsigned levels;                    /* a bit for each level that is not */
    struct ld_wheel_list lists[LD_WHEEL_LEVELS * LD_WHEEL_LISTS];
    struct {
        struct ld_timer_info *slots;
        struct ld_timer_history *histories;
        struct ld_wheel_block *blocks;
    } chunks[LD_WHEEL_CHUNKS];
    unsigned chunk_count;
    uint32_t free;  /* the first slot that is free again */
    uint32_t used;  /* slots that have ever been used: those of the lowest indices */
    uint32_t order; /* counts armings and disarmings */
    size_t armed;
    size_t hidden; /* of these, those that are not reported */
    struct ld_wheel_block *free_blocks;
    unsigned fresh_chunk; /* the chunk and the number of the first block that was never used */
    size_t fresh_block;
    size_t spare; /* blocks that are not in use, free or fresh */
    struct ld_wheel_arming
        *batch; /* what ld_wheel_expire found, in the order of firing; some is void */
    size_t batch_size;
    uint64_t limit; /* what is due from then on waits there for its time: it has the current tick */
    size_t batch_at;    /* the next of it to fire */
    uint64_t idle_from; /* the last idle time, in which what came due could be fired */
    uint64_t idle_to;
    size_t batch_capacity;
};

void ld_wheel_init(struct ld_wheel *wheel, uint64_t now);
void ld_wheel_fini(struct ld_wheel *wheel);

/* Make a timer, not armed; 0 when memory ran out. It exists until it is freed. */
ld_timer ld_wheel_add(struct ld_wheel *wheel);

/* The timer that the next ld_wheel_add will make, which then cannot fail; 0 when memory ran out. */
ld_timer ld_wheel_reserve(struct ld_wheel *wheel);

/* A small number for a timer, unique among those that exist. */
static inline uint32_t ld_wheel_index(ld_timer timer) {
    return (uint32_t)timer;
}

/* Make that timer, armed. */
void ld_wheel_add_armed(struct ld_wheel *wheel, ld_timer reserved, uint64_t due, uint64_t interval);

void ld_wheel_free(struct ld_wheel *wheel, ld_timer timer);

/* Information about a timer; NULL if it was freed. Valid until the timer is freed. */
struct ld_timer_info *ld_wheel_info(const struct ld_wheel *wheel, ld_timer timer);

/* What the timer whose information is INFO has done. */
struct ld_timer_history *ld_wheel_history(const struct ld_wheel *wheel, ld_timer timer,
                                          struct ld_timer_info *info);

/* Whether a timer whose information was INFO has not been freed: that may be another timer's by now. */
static inline bool ld_wheel_is_there(ld_timer timer, const struct ld_timer_info *info) {
    return info->generation == timer >> 32;
}

/* Arm a timer (again), once or with an interval; disarm it. */
void ld_wheel_arm(struct ld_wheel *wheel, ld_timer timer, uint64_t due, uint64_t interval);
void ld_wheel_disarm(struct ld_wheel *wheel, ld_timer timer);

/* Arm the timer whose information is INFO (again). */
void ld_wheel_rearm(struct ld_wheel *wheel, ld_timer timer, struct ld_timer_info *info,
                    uint64_t due, uint64_t interval);

/* The armed timer after PREVIOUS (0: the first) in no particular order; 0 at the end. */
ld_timer ld_wheel_next(const struct ld_wheel *wheel, ld_timer previous);

/* Look for an armed timer that is not hidden from place *AT on (0: the first), which is moved to the place after it:
 * in *TIMER, 0 if the next few places have none. False at the end. A timer keeps its place until it is freed. */
bool ld_wheel_look(const struct ld_wheel *wheel, uint32_t *at, ld_timer *timer);

/* The earliest due time; LD_WHEEL_NEVER if nothing is armed. */
uint64_t ld_wheel_first_due(struct ld_wheel *wheel);

/* Take everything that is due at NOW (not LD_WHEEL_NEVER) out of the wheel into the batch: by due
 * time, equal ones in the order of arming. Nothing that was due may be left in the batch. */
void ld_wheel_expire(struct ld_wheel *wheel, uint64_t now);

/* Note the last idle time, in which what came due could be fired: FROM … TO. */
void ld_wheel_note_idle(struct ld_wheel *wheel, uint64_t from, uint64_t to);

/* Whether something that was due is left in the batch. What is armed by then comes after it. */
static inline bool ld_wheel_has_batch(const struct ld_wheel *wheel) {
    return wheel->batch_at < wheel->batch_size && wheel->batch[wheel->batch_at].due < wheel->limit;
}

/* Take the next out of the batch: the timer, and its information in *INFO. 0 if it was disarmed,
 * armed or freed since the batch was made, or must not be called at NOW. A repeating timer is
 * armed for its first beat after NOW; the beats that have passed are counted as missed, except
 * the last one if it is still called: because it is late by at most half of the interval or 2 ms
 * (a later call would be nearer to the next beat), or it came due in idle time and the machine was late, or the one before was skipped for
 * being late (otherwise a timer that comes due while another one holds the loop, each time,
 * would never be called). */
ld_timer ld_wheel_fire(struct ld_wheel *wheel, uint64_t now, struct ld_timer_info **info);

#endif
