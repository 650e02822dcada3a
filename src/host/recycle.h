/* When a service reloads itself, against leaks: at an age (--recycle-every), or when its heap is large
 * (--recycle-memory). Times are milliseconds of a clock that the caller reads. */
#ifndef LD_HOST_RECYCLE_H
#define LD_HOST_RECYCLE_H

#include <stdbool.h>
#include <stdint.h>

#define LD_RECYCLE_NEVER UINT64_MAX

struct ld_recycle {
    uint64_t every;       /* 0: not by age */
    uint64_t memory;      /* bytes; 0: not by heap */
    uint64_t began;       /* when this generation became the service */
    uint64_t old_at;      /* when it is old, or the next try is due */
    uint64_t compared_at; /* when the heap was last compared; 0: never */
};

/* Set what the options say: seconds, and bytes. */
void ld_recycle_init(struct ld_recycle *recycle, double every, uint64_t memory);

/* A generation has become the service. */
void ld_recycle_begin(struct ld_recycle *recycle, uint64_t now);

/* Whether it has become old: true once, and again after each interval. */
bool ld_recycle_is_old(struct ld_recycle *recycle, uint64_t now);

/* Whether garbage is to be collected, and what is left to be compared, as the heap has HEAP bytes; true
 * at most once a minute, whatever generation it is. */
bool ld_recycle_is_to_compare(struct ld_recycle *recycle, uint64_t heap, uint64_t now);

/* When to ask again, if nothing else happens. */
uint64_t ld_recycle_next(const struct ld_recycle *recycle, uint64_t heap);

#endif
