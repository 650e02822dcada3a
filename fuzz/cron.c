/* Times of day: what is accepted comes, and what comes next is the next that is meant. */
#include "engine/cron.h"

#include <string.h>

#include "fuzz.h"

#define LOOK_BACK 180 /* minutes before a result in which nothing else may be meant */

static const char *const zones[] = {
    "UTC0",         "Europe/Berlin",    "America/New_York", "Australia/Lord_Howe",
    "Pacific/Apia", "Africa/Casablanca"};

/* Whether the clock at a moment is what a specification means. */
static bool is_meant(const struct ld_cron *cron, time_t moment) {
    struct tm clock;
    localtime_r(&moment, &clock);
    bool day = (cron->days >> clock.tm_mday & 1) != 0;
    bool weekday = (cron->weekdays >> clock.tm_wday & 1) != 0;
    bool is_day = cron->any_day || cron->any_weekday ? day && weekday : day || weekday;
    return is_day && (cron->months >> (clock.tm_mon + 1) & 1) != 0 &&
           (cron->hours >> clock.tm_hour & 1) != 0 && (cron->minutes >> clock.tm_min & 1) != 0;
}

/* Check the bits of a specification. */
static void check_bits(const struct ld_cron *cron) {
    FUZZ_CHECK(cron->minutes != 0 && cron->minutes >> 60 == 0);
    FUZZ_CHECK(cron->hours != 0 && cron->hours >> 24 == 0);
    FUZZ_CHECK(cron->days != 0 && (cron->days & 1) == 0);
    FUZZ_CHECK(cron->months != 0 && (cron->months & 1) == 0 && cron->months >> 13 == 0);
    FUZZ_CHECK(cron->weekdays != 0 && cron->weekdays >> 7 == 0);
}

/* Check what comes after a moment. */
static void check_next(const struct ld_cron *cron, time_t after) {
    time_t next = ld_cron_next(cron, after);
    if (next < 0) {
        return; /* 29 February on one weekday can be more than twelve years away */
    }
    FUZZ_CHECK(next > after);
    long change = ld_cron_offset(next + 86400) - ld_cron_offset(after - 86400);
    if (change != 0) {
        return; /* the specs have the days on which the clock is put forward or back */
    }
    FUZZ_CHECK(is_meant(cron, next) && next % 60 == 0);
    for (time_t at = next - 60; at > after && at > next - LOOK_BACK * 60L; at -= 60) {
        FUZZ_CHECK(!is_meant(cron, at));
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct fuzz_input input = {data, size};
    struct ld_cron cron;
    struct ld_cron again;
    struct ld_text why = {0};
    setenv("TZ", zones[fuzz_byte(&input) % LD_COUNT(zones)], 1);
    time_t after = (time_t)fuzz_number(&input, 4) + 86400;
    time_t step = (time_t)fuzz_number(&input, 2) - 32768;
    char *text = fuzz_rest(&input);
    if (ld_cron_parse(&cron, text, &why)) {
        FUZZ_CHECK(ld_text_is_empty(&why) && strlen(text) > 0);
        FUZZ_CHECK(ld_cron_parse(&again, text, &why) && ld_cron_equal(&cron, &again));
        check_bits(&cron);
        check_next(&cron, after);
        time_t next = ld_cron_next(&cron, after);
        time_t jumped = ld_cron_after_jump(&cron, next, after, after + step);
        FUZZ_CHECK(next < 0 || jumped < 0 || jumped >= after + step);
    } else {
        FUZZ_CHECK(!ld_text_is_empty(&why));
        fuzz_check_line(ld_text_string(&why), why.size);
    }
    ld_text_fini(&why);
    free(text);
    return 0;
}
