/* Laps: how long callbacks hold the loop, by the place of their function. With --slow each callback is measured;
 * without, the first in each turn of the loop and one of 256 of the others: a clock that is read for each would
 * cost a short callback a tenth of its time. */
#ifndef LD_SCRIPT_LAPS_H
#define LD_SCRIPT_LAPS_H

#include <jansson.h>
#include <lua.h>
#include <stdbool.h>
#include <stdint.h>

#include "engine/lag.h"
#include "script/errors.h"

#define LD_LAPS_PLACES 64
#define LD_LAPS_EACH   256

/* The callbacks of one place. */
struct ld_lap_place {
    char where[LD_ERROR_WHERE]; /* "file:line" of the function, or where a task went on */
    char what[48];              /* "a timer" */
    struct ld_lag times;        /* of those that were measured */
    uint64_t slow;              /* how many took longer than --slow */
    uint64_t unsaid;            /* of them, since the log has told of one */
    uint64_t said_at;           /* ld_time_monotonic; 0: never */
};

/* Zeroed means empty, and nothing is slow. Of a daemon, and all of its generations. */
struct ld_laps {
    uint64_t slow_ns; /* 0: nothing is slow */
    uint64_t slow;    /* how many were, in all */
    unsigned count;   /* calls in this turn of the loop */
    struct ld_lap_place *places[LD_LAPS_PLACES];
    size_t used;
    struct ld_lap_place elsewhere; /* the rest, together */

    /* Of the call that is measured; 0: none is. */
    uint64_t start;
    char where[LD_ERROR_WHERE];
};

/* To be called in each turn of the loop. */
static inline void ld_laps_turn(struct ld_laps *laps) {
    laps->count = 0;
}

/* Whether the outermost call that begins is to be measured. LAPS may be NULL. */
static inline bool ld_laps_wants(struct ld_laps *laps) {
    return laps != NULL && laps->start == 0 &&
           (laps->count++ % LD_LAPS_EACH == 0 || laps->slow_ns > 0);
}

/* Begin to measure what runs on CO: a function at the bottom of its stack, or a task that goes on. */
void ld_laps_begin(struct ld_laps *laps, lua_State *co);

/* Begin to measure a function that is named next. */
void ld_laps_begin_unnamed(struct ld_laps *laps);

/* Whether a call is measured. LAPS may be NULL. */
static inline bool ld_laps_measures(const struct ld_laps *laps) {
    return laps != NULL && laps->start != 0;
}

/* The function at INDEX of CO is what is called, if that was not known. Does nothing unless a call is measured. */
void ld_laps_name(struct ld_laps *laps, lua_State *co, int index);

/* The call is over: count it, and log it if it was slow. */
void ld_laps_end(struct ld_laps *laps, const char *what);

/* The place of a function, or NULL. */
const struct ld_lap_place *ld_laps_find(const struct ld_laps *laps, const char *where,
                                        const char *what);

/* Add to a report of PLACE, which may be NULL, how long its callbacks took: p50_ms, p99_ms and max_ms, or null. */
void ld_laps_report(const struct ld_lap_place *place, json_t *report);

void ld_laps_fini(struct ld_laps *laps);

#endif
