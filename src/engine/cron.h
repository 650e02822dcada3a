/* Times of day, as cron writes them: five fields (minute, hour, day of month,
 * month, day of week) or a nickname such as @daily. Local time by the C library's zone (TZ). */
#ifndef LD_ENGINE_CRON_H
#define LD_ENGINE_CRON_H

#include <stdbool.h>
#include <stdint.h>
#include <time.h>

#include "base/text.h"

/* A parsed specification: a bit for each value. */
struct ld_cron {
    uint64_t minutes;
    uint32_t hours;
    uint32_t days;    /* 1 to 31 */
    uint16_t months;  /* 1 to 12 */
    uint8_t weekdays; /* 0 (Sunday) to 6 */
    bool any_day;     /* the field is "*": it does not restrict */
    bool any_weekday;
    bool fixed; /* neither minutes nor hours begin with "*" */
};

/* Parse TEXT; false with the reason in WHY, naming the field. A date that never comes (31 February)
 * is refused. */
bool ld_cron_parse(struct ld_cron *cron, const char *text, struct ld_text *why);

/* The first moment after AFTER that CRON means. Where the clock is put forward, a fixed time that
 * does not exist is the first moment after the gap; where it is put back, a fixed time that comes
 * twice is the first of the two; minutes or hours with "*" simply follow the clock. */
time_t ld_cron_next(const struct ld_cron *cron, time_t after);

/* How many seconds local time is ahead of UTC at a moment, by the rules of the zone that hold
 * now: they may have been changed on disk. */
long ld_cron_offset(time_t moment);

/* Read the rules of the system's zone again, even if its file seems to be the same. */
void ld_cron_reload_zone(void);

/* Whether two mean the same moments. */
bool ld_cron_equal(const struct ld_cron *a, const struct ld_cron *b);

/* What to do when the clock was set from BEFORE (what it would show now) to NOW, and NEXT was to be
 * the next moment: the new next moment, which may be NOW itself. As cron does it: within three
 * hours, fixed times that were skipped run now, and those that come again are not
 * repeated; a larger step is a correction. */
time_t ld_cron_after_jump(const struct ld_cron *cron, time_t next, time_t before, time_t now);

#endif
