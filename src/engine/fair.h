/* Many sources of work, such as readable streams, that share the time of a turn of the loop (see turn.h)
 * in rotation: the kernel would always name the same ones first. */
#ifndef LD_ENGINE_FAIR_H
#define LD_ENGINE_FAIR_H

#include <stdbool.h>
#include <stdint.h>

/* To be initialised with LD_FAIR_INIT. */
struct ld_fair {
    uint64_t turn;       /* the current one */
    uint64_t until;      /* then its time is up */
    uint64_t served;     /* how often one was, in all */
    uint64_t oldest;     /* of those that had to wait in the last turn */
    uint64_t oldest_now; /* in this one */
};

#define LD_FAIR_INIT                                                                               \
    { .oldest = UINT64_MAX, .oldest_now = UINT64_MAX }

/* Whether to serve a source in the turn of the loop that began at TURN, in milliseconds of uv_now. *SERVED
 * belongs to the source, 0 at first. The time begins with the first of a turn, so that what came before in
 * the turn, such as timers that take long each time, leaves no source waiting for ever. When it is up, the others wait for the next
 * turn, in which the one that has waited longest comes before those that were served after it. */
bool ld_fair_serve(struct ld_fair *fair, uint64_t *served, uint64_t turn);

#endif
