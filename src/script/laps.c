#include "script/laps.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/time.h"
#include "script/luax.h"

#define QUIET_NS (10 * (uint64_t)LD_TIME_SECOND) /* between lines of the log about one place */

/* Begin to measure. */
void ld_laps_begin(struct ld_laps *laps, lua_State *co) {
    lua_Debug ar;
    laps->where[0] = '\0';
    if (lua_getstack(co, 0, &ar)) { /* it goes on */
        lx_find_place(co, laps->where, sizeof laps->where);
    } else {
        ld_laps_name(laps, co, 1);
    }
    laps->start = ld_time_monotonic();
}

/* Begin to measure a function. */
void ld_laps_begin_unnamed(struct ld_laps *laps) {
    laps->where[0] = '\0';
    laps->start = ld_time_monotonic();
}

/* Note the place of the function that is called. That of lunad itself, which calls it, is none. */
void ld_laps_name(struct ld_laps *laps, lua_State *co, int index) {
    if (laps->where[0] == '\0') {
        lx_find_function_place(co, index, laps->where, sizeof laps->where);
    }
}

/* Find a place. */
static struct ld_lap_place *find(const struct ld_laps *laps, const char *where, const char *what) {
    for (size_t i = 0; i < laps->used; i++) {
        struct ld_lap_place *place = laps->places[i];
        if (strcmp(place->where, where) == 0 && strcmp(place->what, what) == 0) {
            return place;
        }
    }
    return NULL;
}

/* The place of a function. */
const struct ld_lap_place *ld_laps_find(const struct ld_laps *laps, const char *where,
                                        const char *what) {
    return laps != NULL ? find(laps, where, what) : NULL;
}

/* Find or make a place; that of the rest if there are too many. */
static struct ld_lap_place *need(struct ld_laps *laps, const char *where, const char *what) {
    struct ld_lap_place *place = find(laps, where, what);
    if (place == NULL && laps->used < LD_LAPS_PLACES) {
        place = calloc(1, sizeof *place);
        if (place != NULL) {
            snprintf(place->where, sizeof place->where, "%s", where);
            snprintf(place->what, sizeof place->what, "%s", what);
            laps->places[laps->used++] = place;
        }
    }
    return place != NULL ? place : &laps->elsewhere;
}

/* Log a slow call, but not each of a place that is slow each time. */
static void tell(struct ld_lap_place *place, const char *where, const char *what, uint64_t ns) {
    uint64_t now = ld_time_monotonic();
    if (place->said_at != 0 && now - place->said_at < QUIET_NS) {
        place->unsaid++;
        return;
    }
    if (place->unsaid > 0) {
        ld_log(LD_LOG_WARN,
               "slow: %s at %s held the loop for %.1f ms; %llu times more since this was said last",
               what, where, (double)ns / 1e6, (unsigned long long)place->unsaid);
    } else {
        ld_log(LD_LOG_WARN, "slow: %s at %s held the loop for %.1f ms", what, where,
               (double)ns / 1e6);
    }
    place->unsaid = 0;
    place->said_at = now;
}

/* Count the call. */
void ld_laps_end(struct ld_laps *laps, const char *what) {
    uint64_t ns = ld_time_monotonic() - laps->start;
    const char *where = laps->where[0] != '\0' ? laps->where : "?";
    what = what != NULL ? what : "?";
    struct ld_lap_place *place = need(laps, where, what);
    laps->start = 0;
    ld_lag_add(&place->times, ns);
    if (laps->slow_ns > 0 && ns > laps->slow_ns) {
        laps->slow++;
        place->slow++;
        tell(place, where, what, ns);
    }
}

/* Add how long callbacks took. */
void ld_laps_report(const struct ld_lap_place *place, json_t *report) {
    bool is_known = place != NULL && place->times.total > 0;
    const struct {
        const char *key;
        double ns;
    } rows[] = {{"p50_ms", is_known ? (double)ld_lag_quantile(&place->times, 0.50) : 0},
                {"p99_ms", is_known ? (double)ld_lag_quantile(&place->times, 0.99) : 0},
                {"max_ms", is_known ? (double)place->times.max_ns : 0}};
    for (size_t i = 0; i < LD_COUNT(rows); i++) {
        json_object_set_new(report, rows[i].key,
                            is_known ? json_real(rows[i].ns / 1e6) : json_null());
    }
}

/* Free the places. */
void ld_laps_fini(struct ld_laps *laps) {
    for (size_t i = 0; i < laps->used; i++) {
        free(laps->places[i]);
    }
    laps->used = 0;
}
