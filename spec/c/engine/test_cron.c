#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/base.h"
#include "check.h"
#include "engine/cron.h"
#include "support.h"

#define MINUTE 60L
#define HOUR   3600L
#define DAY    86400L

/* Use the rules of a zone from now on. */
static void set_zone(const char *zone) {
    setenv("TZ", zone, 1);
    tzset();
}

/* A specification that must be good. */
static struct ld_cron parsed(const char *text) {
    struct ld_cron cron = {0};
    struct ld_text why = {0};
    if (!ld_cron_parse(&cron, text, &why)) {
        printf("    \"%s\": %s\n", text, ld_text_string(&why));
        CHECK(!"a good specification");
    }
    CHECK_INT(0, why.size);
    ld_text_fini(&why);
    return cron;
}

/* Bits FIRST to LAST. */
static uint64_t bits(int first, int last) {
    return ((uint64_t)2 << last) - ((uint64_t)1 << first);
}

/* The moment of a local time such as "2026-03-29 01:59". */
static time_t at(const char *text) {
    struct tm date = {.tm_isdst = -1};
    REQUIRE(strptime(text, "%Y-%m-%d %H:%M", &date) != NULL);
    return mktime(&date);
}

/* A moment as UTC text; of the last four each is valid. */
static const char *utc(time_t moment) {
    static char texts[4][32];
    static int turn;
    struct tm date;
    char *text = texts[turn++ % 4];
    gmtime_r(&moment, &date);
    strftime(text, sizeof texts[0], "%Y-%m-%d %H:%M:%S", &date);
    return text;
}

/* Check when a specification is next, in local time. */
static void check_next(const char *spec, const char *after, const char *expected) {
    char got[32];
    struct ld_cron cron = parsed(spec);
    time_t moment = ld_cron_next(&cron, at(after));
    struct tm date;
    localtime_r(&moment, &date);
    strftime(got, sizeof got, "%Y-%m-%d %H:%M", &date);
    CHECK_STR(expected, got);
    CHECK_INT(0, date.tm_sec);
}

static void test_stars(void) {
    struct ld_cron cron = parsed("* * * * *");
    CHECK(cron.minutes == bits(0, 59));
    CHECK(cron.hours == bits(0, 23));
    CHECK(cron.days == bits(1, 31));
    CHECK(cron.months == bits(1, 12));
    CHECK(cron.weekdays == bits(0, 6));
    CHECK(cron.any_day && cron.any_weekday && !cron.fixed);
}

static void test_minutes(void) {
    static const struct {
        const char *text;
        uint64_t minutes;
    } rows[] = {
        {"0", 1},
        {"59", 1ULL << 59},
        {"07", 1 << 7},
        {"1,2,5", 1 << 1 | 1 << 2 | 1 << 5},
        {"5,1,5", 1 << 1 | 1 << 5},
        {"10-13", 15 << 10},
        {"10-10", 1 << 10},
        {"0-59", (1ULL << 60) - 1},
        {"*/30", 1 | 1 << 30},
        {"*/59", 1 | 1ULL << 59},
        {"*/60", 1},
        {"9-9/3", 1 << 9},
        {"9-10/3", 1 << 9},
        {"1-1/60,5", 1 << 1 | 1 << 5},
        {"1-10/3", 1 << 1 | 1 << 4 | 1 << 7 | 1 << 10},
        {"5/20", 1 << 5 | 1 << 25 | 1ULL << 45},
        {"0-4,50/5,59", 31 | 1ULL << 50 | 1ULL << 55 | 1ULL << 59},
        {"*,7", (1ULL << 60) - 1},
    };
    for (size_t i = 0; i < LD_COUNT(rows); i++) {
        char text[64];
        snprintf(text, sizeof text, "%s 1 2 3 4", rows[i].text);
        CHECK(parsed(text).minutes == rows[i].minutes);
    }
}

static void test_other_fields(void) {
    CHECK(parsed("0 0,12,23 * * *").hours == (1 | 1 << 12 | 1 << 23));
    CHECK(parsed("0 8-16/4 * * *").hours == (1 << 8 | 1 << 12 | 1 << 16));
    CHECK(parsed("0 9-9/3 * * *").hours == 1 << 9);
    CHECK(parsed("0 9/3 * * *").hours == (1 << 9 | 1 << 12 | 1 << 15 | 1 << 18 | 1 << 21));
    CHECK(parsed("0 0 1 mar-mar/2 *").months == 1 << 3);
    CHECK(parsed("0 0 * * sun-sun/2").weekdays == 1);
    CHECK(parsed("0 */24 */31 */12 *").hours == 1);
    CHECK(parsed("0 0 1,31 * *").days == (1U << 1 | 1U << 31));
    CHECK(parsed("0 0 */10 * *").days == (1U << 1 | 1U << 11 | 1U << 21 | 1U << 31));
    CHECK(parsed("0 0 1 1-3,12 *").months == (7 << 1 | 1 << 12));
    CHECK(parsed("0 0 1 */6 *").months == (1 << 1 | 1 << 7));
    CHECK(parsed("0 0 * * 1-5").weekdays == bits(1, 5));
    CHECK(parsed("0 0 * * */2").weekdays == (1 | 1 << 2 | 1 << 4 | 1 << 6));
}

static void test_names(void) {
    static const char *const months[] = {"jan", "feb", "mar", "apr", "may", "jun",
                                         "jul", "aug", "sep", "oct", "nov", "dec"};
    static const char *const weekdays[] = {"sun", "mon", "tue", "wed", "thu", "fri", "sat"};
    char text[64];
    for (int i = 0; i < 12; i++) {
        snprintf(text, sizeof text, "0 0 1 %s *", months[i]);
        CHECK_INT(1 << (i + 1), parsed(text).months);
    }
    for (int i = 0; i < 7; i++) {
        snprintf(text, sizeof text, "0 0 * * %s", weekdays[i]);
        CHECK_INT(1 << i, parsed(text).weekdays);
    }
    CHECK_INT(bits(1, 5), parsed("0 0 * * mon-fri").weekdays);
    CHECK_INT(bits(1, 5), parsed("0 0 * * Mon-FRI").weekdays);
    CHECK_INT(1 << 1 | 1 << 5 | 1 << 6, parsed("0 0 * * mon,FRI-6").weekdays);
    CHECK_INT(7 << 6, parsed("0 0 * JUN-aug *").months);
    CHECK_INT(1 << 2 | 1 << 4 | 1 << 6, parsed("0 0 * feb-jul/2 *").months);
}

static void test_sunday(void) {
    CHECK_INT(1, parsed("0 0 * * 0").weekdays);
    CHECK_INT(1, parsed("0 0 * * 7").weekdays);
    CHECK_INT(1, parsed("0 0 * * 0,7").weekdays);
    CHECK_INT(1 | 1 << 5 | 1 << 6, parsed("0 0 * * 5-7").weekdays);
    CHECK_INT(1 | 1 << 6, parsed("0 0 * * sat-7").weekdays);
}

static void test_restrictions(void) {
    CHECK(parsed("0 0 * * 1").any_day && !parsed("0 0 * * 1").any_weekday);
    CHECK(!parsed("0 0 1 * *").any_day && parsed("0 0 1 * *").any_weekday);
    CHECK(!parsed("0 0 */2 * 1").any_day && !parsed("0 0 1 * */2").any_weekday);
    CHECK(!parsed("0 0 1-31 * *").any_day && !parsed("0 0 * * 0-6").any_weekday);
    CHECK(parsed("0 0 * * *").fixed && parsed("0-59 0-23 * * *").fixed);
    CHECK(!parsed("* 0 * * *").fixed && !parsed("0 * * * *").fixed);
    CHECK(!parsed("*/5 0 * * *").fixed && !parsed("0 */2 * * *").fixed);
}

static void test_nicknames(void) {
    static const struct {
        const char *name;
        const char *text;
    } rows[] = {
        {"@yearly", "0 0 1 1 *"}, {"@annually", "0 0 1 1 *"}, {"@monthly", "0 0 1 * *"},
        {"@weekly", "0 0 * * 0"}, {"@daily", "0 0 * * *"},    {"@midnight", "0 0 * * *"},
        {"@hourly", "0 * * * *"}, {"@Daily", "0 0 * * *"},    {" @daily", "0 0 * * *"},
    };
    for (size_t i = 0; i < LD_COUNT(rows); i++) {
        struct ld_cron expected = parsed(rows[i].text);
        struct ld_cron got = parsed(rows[i].name);
        CHECK(got.minutes == expected.minutes && got.hours == expected.hours);
        CHECK(got.days == expected.days && got.months == expected.months);
        CHECK(got.weekdays == expected.weekdays && got.fixed == expected.fixed);
        CHECK(got.any_day == expected.any_day && got.any_weekday == expected.any_weekday);
    }
}

static void test_blanks(void) {
    CHECK_INT(1 << 3, parsed("  1 \t 2\t\t3   4 5  ").days);
    CHECK_INT(1 << 5, parsed("\t1 2 3 4 5\t").weekdays);
    CHECK_INT(1 << 5, parsed("1 2 3 4 5\n").weekdays);
    CHECK_INT(1 << 5, parsed("\n1 2 3 4 5 \r\n").weekdays);
    CHECK_INT(1, parsed("@weekly \n").weekdays);
}

/* What is wrong, and what of it the reason must name. */
static const struct {
    const char *text;
    const char *why;
} bad[] = {
    {"", "minute"},
    {"   ", "minute"},
    {"1", "hour"},
    {"1 2", "day of month"},
    {"1 2 3", "month"},
    {"1 2 3 4", "day of week"},
    {"1 2 3 4 5 6", "fifth field"},
    {"60 * * * *", "minute \"60\""},
    {"-1 * * * *", "minute \"-1\""},
    {"x * * * *", "minute \"x\""},
    {"1.5 * * * *", "minute \"1.5\""},
    {"99999999999 * * * *", "minute \"99999999999\""},
    {"* 24 * * *", "hour \"24\""},
    {"* 1-24 * * *", "hour \"1-24\""},
    {"* * 0 * *", "day of month \"0\""},
    {"* * 32 * *", "day of month \"32\""},
    {"* * mon * *", "day of month \"mon\""},
    {"* * * 0 *", "month \"0\""},
    {"* * * 13 *", "month \"13\""},
    {"* * * january *", "month \"january\""},
    {"* * * mon *", "month \"mon\""},
    {"* * * * 8", "day of week \"8\""},
    {"* * * * jan", "day of week \"jan\""},
    {"* * * * monday", "day of week \"monday\""},
    {"5-1 * * * *", "reversed"},
    {"* 5-1 * * *", "hour \"5-1\""},
    {"* * * dec-jan *", "reversed"},
    {"* * * * sat-sun", "reversed"},
    {"*/0 * * * *", "step"},
    {"* */x * * *", "hour \"*/x\""},
    {"*/ * * * *", "minute \"*/\""},
    {"*/-5 * * * *", "step"},
    {"*/1/2 * * * *", "minute \"*/1/2\""},
    {"1, * * * *", "minute \"1,\""},
    {",1 * * * *", "minute \",1\""},
    {"1,,2 * * * *", "minute \"1,,2\""},
    {"1- * * * *", "minute \"1-\""},
    {"1-2-3 * * * *", "minute \"1-2-3\""},
    {"** * * * *", "minute \"**\""},
    {"*5 * * * *", "minute \"*5\""},
    {"*-5 * * * *", "minute \"*-5\""},
    {"1;2 * * * *", "minute \"1;2\""},
    {"1\n2 3 4 5", "minute"},
    {"1 2 3 4 5\n6", "day of week"},
    {"\n", "minute"},
    {"*/61 * * * *", "step"},
    {"*/90 * * * *", "minute \"*/90\""},
    {"0-30/90 * * * *", "step"},
    {"*/9999 * * * *", "step"},
    {"*/4294967297 * * * *", "step"},
    {"* */25 * * *", "hour \"*/25\""},
    {"* * */32 * *", "step"},
    {"* * * */13 *", "step"},
    {"* * * * */8", "step"},
    {"@", "@hourly"},
    {"@never", "@hourly"},
    {"@reboot", "@hourly"},
    {"@daily x", "@hourly"},
    {"0 0 31 2 *", "never comes"},
    {"0 0 30,31 feb *", "never comes"},
    {"0 0 31 4,6,9,11 *", "never comes"},
};

static void test_errors(void) {
    for (size_t i = 0; i < LD_COUNT(bad); i++) {
        struct ld_cron cron;
        struct ld_text why = {0};
        bool ok = ld_cron_parse(&cron, bad[i].text, &why);
        if (ok || strstr(ld_text_string(&why), bad[i].why) == NULL) {
            printf("    \"%s\" -> %d \"%s\"\n", bad[i].text, ok, ld_text_string(&why));
            CHECK(!"refused with its reason");
        }
        ld_text_fini(&why);
    }
}

static void test_escaped(void) {
    struct ld_cron cron;
    struct ld_text why = {0};
    CHECK(!ld_cron_parse(&cron, "1\x1B[2J * * * *", &why));
    CHECK(strchr(ld_text_string(&why), '\x1B') == NULL);
    ld_text_fini(&why);
}

static void test_dates(void) {
    set_zone("UTC");
    check_next("* * * * *", "2026-12-31 23:59", "2027-01-01 00:00");
    check_next("0 0 * * *", "2026-06-01 00:00", "2026-06-02 00:00");
    check_next("30 4 1 1 *", "2026-01-01 04:30", "2027-01-01 04:30");
    check_next("0 0 31 * *", "2026-03-31 12:00", "2026-05-31 00:00");
    check_next("0 0 * * sun", "2026-11-22 00:00", "2026-11-29 00:00");
    check_next("0 0 13 * fri", "2026-11-01 00:00", "2026-11-06 00:00"); /* either */
    check_next("0 0 13 * fri", "2026-11-06 00:00", "2026-11-13 00:00");
    check_next("0 0 13 * fri", "2026-12-11 00:00", "2026-12-13 00:00");
    check_next("0 0 */2 * mon", "2026-06-01 00:00", "2026-06-03 00:00");
    check_next("0 0 */2 * mon", "2026-06-07 00:00", "2026-06-08 00:00");
    check_next("0 0 31 2 mon", "2026-01-31 00:00", "2026-02-02 00:00"); /* by its weekday */
}

static void test_leap_days(void) {
    set_zone("UTC");
    check_next("0 0 29 2 *", "2026-01-01 00:00", "2028-02-29 00:00");
    check_next("0 0 29 2 *", "2028-02-29 00:00", "2032-02-29 00:00");
    check_next("0 0 29 2 *", "2096-02-29 00:00", "2104-02-29 00:00"); /* 2100 has none */
    check_next("* * 29 2 *", "2096-02-29 23:59", "2104-02-29 00:00");
    check_next("0 0 28-31 2 *", "2027-02-28 00:00", "2028-02-28 00:00");
    check_next("0 0 28-31 2 *", "2028-02-28 00:00", "2028-02-29 00:00");
    check_next("59 23 29 2 *", "2000-01-01 00:00", "2000-02-29 23:59");
}

static void test_spring(void) {
    set_zone("Europe/Berlin"); /* 02:00 is 03:00 */
    check_next("30 2 * * *", "2026-03-29 01:59", "2026-03-29 03:00");
    check_next("30 2 * * *", "2026-03-29 03:00", "2026-03-30 02:30");
    check_next("10,20,30 2 * * *", "2026-03-29 03:00", "2026-03-30 02:10");
    check_next("30 2,3 * * *", "2026-03-29 03:00", "2026-03-29 03:30");
    check_next("0 3 * * *", "2026-03-29 03:00", "2026-03-30 03:00"); /* with it, not twice */
    check_next("*/30 2 * * *", "2026-03-29 01:59", "2026-03-30 02:00");
    check_next("30 * * * *", "2026-03-29 01:30", "2026-03-29 03:30");
    set_zone("Australia/Lord_Howe"); /* 02:00 is 02:30 */
    check_next("15 2 * * *", "2026-10-04 01:59", "2026-10-04 02:30");
    check_next("15 2 * * *", "2026-10-04 02:30", "2026-10-05 02:15");
}

/* Check how many seconds lie between two runs from the first of October 2026 on. */
static void check_gap(const char *spec, const char *after, long first, long second) {
    struct ld_cron cron = parsed(spec);
    time_t start = at(after);
    time_t one = ld_cron_next(&cron, start);
    time_t two = ld_cron_next(&cron, one);
    CHECK_INT(first, one - start);
    CHECK_INT(second, two - one);
}

static void test_autumn(void) {
    set_zone("Europe/Berlin"); /* 03:00 is 02:00 */
    check_gap("30 2 * * *", "2026-10-25 00:00", 2 * HOUR + 30 * MINUTE, 25 * HOUR);
    check_gap("0 3 * * *", "2026-10-25 00:00", 4 * HOUR, 24 * HOUR);
    check_gap("30 2,3 * * *", "2026-10-25 00:00", 2 * HOUR + 30 * MINUTE, 2 * HOUR);
    check_gap("30 * * * *", "2026-10-25 01:59", 31 * MINUTE, HOUR);
    check_gap("*/30 2 * * *", "2026-10-25 01:59", MINUTE, 30 * MINUTE);
    set_zone("America/New_York"); /* 02:00 is 01:00 */
    check_gap("30 1 * * *", "2026-11-01 00:00", HOUR + 30 * MINUTE, 25 * HOUR);
    set_zone("Australia/Lord_Howe"); /* 02:00 is 01:30 */
    check_gap("45 1 * * *", "2026-04-05 00:00", HOUR + 45 * MINUTE, 24 * HOUR + 30 * MINUTE);
    check_gap("45 * * * *", "2026-04-05 01:00", 45 * MINUTE, 30 * MINUTE);
}

/* Check that a time that comes twice in a zone is run at the first of the two alone. */
static void check_twice(const char *zone, const char *spec, const char *before, long first) {
    set_zone(zone);
    struct ld_cron cron = parsed(spec);
    time_t start = at(before);
    time_t one = ld_cron_next(&cron, start);
    CHECK_INT(first, one - start);
    CHECK(ld_cron_next(&cron, one) - one > 23 * HOUR);
    CHECK(ld_cron_next(&cron, one + 30 * MINUTE) - one > 23 * HOUR);
    CHECK(ld_cron_next(&cron, one + 65 * MINUTE) - one > 23 * HOUR);
}

/* The offset changes here, without daylight saving time before or after. */
static void test_same_season(void) {
    check_twice("Europe/Moscow", "30 1 * * *", "2014-10-26 00:00", HOUR + 30 * MINUTE);
    check_twice("Europe/Volgograd", "45 1 * * *", "2020-12-27 00:15", HOUR + 30 * MINUTE);
    check_twice("Asia/Almaty", "5 23 29 2 *", "2024-02-29 22:00", HOUR + 5 * MINUTE);
    check_twice("America/Caracas", "40 2 * * *", "2007-12-09 01:00", HOUR + 40 * MINUTE);
    check_twice("Asia/Pyongyang", "45 23 * * *", "2015-08-14 23:00", 45 * MINUTE);
    set_zone("Pacific/Apia"); /* there was no 30 December 2011 */
    check_next("0 12 30 12 *", "2011-12-29 23:00", "2011-12-31 00:00");
}

/* Make a zone like Africa/Casablanca's, whose winter time is negative and which goes back for good on
 * 20 September 2026, and use it. False if there is no zic. */
static bool make_casablanca(const char *dir) {
    static const char source[] = "Rule M 2026 only - Feb 15 3:00 -1:00 -\n"
                                 "Rule M 2026 only - Mar 22 2:00 0 -\n"
                                 "Zone C 1:00 M +01/+00 2026 Sep 20 2:00\n"
                                 " 0:00 - +00\n";
    char text[256];
    snprintf(text, sizeof text, "%s/source", dir);
    FILE *file = fopen(text, "w");
    REQUIRE(file != NULL);
    fputs(source, file);
    fclose(file);
    snprintf(text, sizeof text, "PATH=$PATH:/usr/sbin zic -d %s %s/source", dir, dir);
    bool made = system(text) == 0; /* NOLINT(cert-env33-c,concurrency-mt-unsafe) */
    snprintf(text, sizeof text, ":%s/C", dir);
    set_zone(text);
    snprintf(text, sizeof text, "%s/source", dir);
    unlink(text);
    return made;
}

static void test_casablanca(void) {
    char dir[] = "/tmp/lunad-cron-XXXXXX";
    char text[64];
    REQUIRE(mkdtemp(dir) != NULL);
    if (make_casablanca(dir)) {
        for (int minute = 0; minute < 60; minute += 5) {
            snprintf(text, sizeof text, "%d 1 * * *", minute);
            struct ld_cron cron = parsed(text);
            time_t first = 1789862400 + minute * MINUTE; /* 01:00 by the first of the two */
            for (time_t after = first - DAY + MINUTE; after < first; after += 30 * MINUTE) {
                CHECK_INT(first, ld_cron_next(&cron, after));
            }
            CHECK_INT(first + 25 * HOUR, ld_cron_next(&cron, first));
        }
    }
    snprintf(text, sizeof text, "%s/C", dir);
    unlink(text);
    rmdir(dir);
}

static void test_second_pass(void) {
    set_zone("Europe/Berlin");
    struct ld_cron cron = parsed("30 2 * * *");
    time_t first = at("2026-10-25 00:00") + 2 * HOUR + 30 * MINUTE;
    for (time_t after = first; after < first + 2 * HOUR; after += 17 * MINUTE + 11) {
        CHECK_INT(first + 25 * HOUR, ld_cron_next(&cron, after));
    }
}

/* The independent generator: what the clock has shown, minute by minute. */
struct walk {
    time_t start;
    size_t size;
    time_t *shown; /* as seconds */
};

/* Walk from START over DAYS. */
static struct walk walk_from(time_t start, int days) {
    struct walk walk = {.start = start - start % MINUTE, .size = (size_t)days * 1440};
    walk.shown = malloc(walk.size * sizeof *walk.shown);
    REQUIRE(walk.shown != NULL);
    for (size_t i = 0; i < walk.size; i++) {
        time_t moment = walk.start + (time_t)i * MINUTE;
        struct tm date;
        localtime_r(&moment, &date);
        walk.shown[i] = moment + date.tm_gmtoff;
    }
    return walk;
}

/* Whether a specification means what a clock shows. */
static bool is_meant(const struct ld_cron *cron, time_t clock) {
    struct tm date;
    if ((cron->minutes >> (clock / MINUTE % 60) & 1) == 0) {
        return false; /* as most often */
    }
    gmtime_r(&clock, &date);
    bool day = (cron->days >> date.tm_mday & 1) != 0;
    bool weekday = (cron->weekdays >> date.tm_wday & 1) != 0;
    bool either = !cron->any_day && !cron->any_weekday;
    return (cron->hours >> date.tm_hour & 1) != 0 && (cron->months >> (date.tm_mon + 1) & 1) != 0 &&
           (either ? day || weekday : day && weekday);
}

/* Whether a specification runs at minute INDEX; HIGH is the most that the clock has shown before. */
static bool runs_at(const struct ld_cron *cron, const struct walk *walk, size_t index,
                    time_t high) {
    time_t clock = walk->shown[index];
    if (!cron->fixed) {
        return is_meant(cron, clock);
    }
    for (time_t minute = high + MINUTE; minute <= clock; minute += MINUTE) {
        if (is_meant(cron, minute)) {
            return true; /* it shows this, or has leapt over it */
        }
    }
    return false;
}

/* Compare a specification with the generator all along a walk. */
static void compare(const char *zone, const char *text, const struct walk *walk) {
    struct ld_cron cron = parsed(text);
    time_t high = walk->shown[0];
    time_t after = walk->start;
    time_t next = ld_cron_next(&cron, after);
    for (size_t i = 1; i < walk->size; i++) {
        time_t moment = walk->start + (time_t)i * MINUTE;
        bool runs = runs_at(&cron, walk, i, high);
        high = walk->shown[i] > high ? walk->shown[i] : high;
        if (runs != (next == moment)) {
            printf("    %s, \"%s\": after %s UTC %s, not %s\n", zone, text, utc(after), utc(next),
                   runs ? utc(moment) : "then");
            CHECK(!"the same as the generator");
            return;
        }
        if (runs) {
            after = moment + (time_t)random_below(60); /* within the same minute */
            next = ld_cron_next(&cron, after);
        }
    }
}

static const char *const sparse[] = {
    "30 2 * * *",  "15,45 1,2,3 * * *", "0 0 * * *",    "59 23 * * *", "*/20 1-3 * * sun",
    "30 2 29 * 0", "0 */3 * * mon-fri", "30 1 * * sun", "5 4 */2 * *", "0 12 30,31 12 *",
};
static const char *const dense[] = {
    "* * * * *", "*/7 * * * *", "0 * * * *", "* 2 * * *", "0-59/10 0-23 * * *",
};

/* Compare specifications in a zone, the dense ones only over a short time. */
static void compare_all(const char *zone, const char *start, int days) {
    set_zone(zone);
    struct walk walk = walk_from(at(start), days);
    for (size_t i = 0; i < LD_COUNT(sparse); i++) {
        compare(zone, sparse[i], &walk);
    }
    for (size_t i = 0; i < LD_COUNT(dense) && days < 100; i++) {
        compare(zone, dense[i], &walk);
    }
    free(walk.shown);
}

static void test_year(void) {
    static const char *const zones[] = {"UTC", "Europe/Berlin", "America/New_York",
                                        "Australia/Lord_Howe", "Asia/Kathmandu"};
    for (size_t i = 0; i < LD_COUNT(zones); i++) {
        compare_all(zones[i], "2026-01-01 00:00", 366);
    }
}

static void test_odd_changes(void) {
    compare_all("Asia/Kathmandu", "1985-12-20 00:00", 20);    /* forward by 15 minutes */
    compare_all("Pacific/Apia", "2011-12-20 00:00", 20);      /* a whole day is left out */
    compare_all("America/Sao_Paulo", "2018-10-30 00:00", 10); /* there is no midnight */
    compare_all("America/Sao_Paulo", "2018-02-10 00:00", 15); /* the last hour comes twice */
    compare_all("Antarctica/Troll", "2026-03-20 00:00", 15);  /* two hours */
    compare_all("Antarctica/Troll", "2026-10-20 00:00", 15);
    compare_all("Europe/Dublin", "2026-10-20 00:00", 15);  /* summer is its standard time */
    compare_all("Europe/Moscow", "2014-10-20 00:00", 15);  /* back without daylight saving */
    compare_all("Asia/Pyongyang", "2015-08-10 00:00", 10); /* back by half an hour */
    compare_all("Africa/Casablanca", "2026-02-12 00:00", 6);
    compare_all("Europe/Berlin", "2026-03-25 00:00", 6);
    compare_all("Europe/Berlin", "2026-10-20 00:00", 10);
    compare_all("EST5EDT,M3.2.0,M11.1.0", "2026-10-25 00:00", 15);
}

/* Make up a field: FORMAT with random values from LEAST to MOST. */
static void random_field(char *text, size_t size, int least, int most) {
    uint64_t span = (uint64_t)most - (uint64_t)least + 1;
    int one = least + (int)random_below(span);
    int two = least + (int)random_below(span);
    int low = one < two ? one : two;
    int high = one < two ? two : one;
    switch (random_below(5)) {
    case 0:
        snprintf(text, size, "*");
        break;
    case 1:
        snprintf(text, size, "*/%d", 1 + (int)random_below(most == 7 ? 7 : span));
        break;
    case 2:
        snprintf(text, size, "%d-%d", low, high);
        break;
    case 3:
        snprintf(text, size, "%d-%d/%d,%d", low, high, 1 + (int)random_below(7), one);
        break;
    default:
        snprintf(text, size, "%d,%d", one, two);
    }
}

static void test_random(void) {
    static const struct {
        const char *zone;
        const char *start;
    } changes[] = {
        {"Europe/Berlin", "2026-03-27 00:00"},       {"Europe/Berlin", "2026-10-23 00:00"},
        {"America/New_York", "2026-03-06 00:00"},    {"America/New_York", "2026-10-30 00:00"},
        {"Australia/Lord_Howe", "2026-04-03 00:00"}, {"Australia/Lord_Howe", "2026-10-02 00:00"},
    };
    for (size_t i = 0; i < LD_COUNT(changes); i++) {
        set_zone(changes[i].zone);
        struct walk walk = walk_from(at(changes[i].start), 4);
        for (int round = 0; round < 60; round++) {
            char text[300];
            char fields[4][64];
            random_field(fields[0], sizeof fields[0], 0, 59);
            random_field(fields[1], sizeof fields[1], 0, random_below(2) == 0 ? 4 : 23);
            random_field(fields[2], sizeof fields[2], 1, 28);
            random_field(fields[3], sizeof fields[3], 0, 7);
            snprintf(text, sizeof text, "%s %s %s * %s", fields[0], fields[1], fields[2],
                     fields[3]);
            compare(changes[i].zone, text, &walk);
        }
        free(walk.shown);
    }
}

static void test_small_jump(void) {
    set_zone("UTC");
    struct ld_cron cron = parsed("30 2 * * *");
    time_t today = at("2026-06-01 02:30");
    time_t tomorrow = today + DAY;
    /* What was leapt over is made up for at once. */
    CHECK_INT(today + HOUR, ld_cron_after_jump(&cron, today, today - HOUR, today + HOUR));
    CHECK_INT(today, ld_cron_after_jump(&cron, today, today - HOUR, today));
    CHECK_INT(today + 2 * HOUR, ld_cron_after_jump(&cron, today, today - HOUR, today + 2 * HOUR));
    /* What was not, comes when it comes. */
    CHECK_INT(today, ld_cron_after_jump(&cron, today, today - 2 * HOUR, today - HOUR));
    CHECK_INT(today, ld_cron_after_jump(&cron, today, today - HOUR, today - 2 * HOUR));
    /* What has run comes again on the clock, and is not repeated. */
    CHECK_INT(tomorrow, ld_cron_after_jump(&cron, tomorrow, today + HOUR, today - HOUR));
    CHECK_INT(tomorrow, ld_cron_after_jump(&cron, tomorrow, today + 1, today - 1));
}

static void test_large_jump(void) {
    set_zone("UTC");
    struct ld_cron cron = parsed("30 2 * * *");
    time_t today = at("2026-06-01 02:30");
    time_t tomorrow = today + DAY;
    CHECK_INT(tomorrow, ld_cron_after_jump(&cron, today, today - HOUR, today + 3 * HOUR));
    CHECK_INT(today, ld_cron_after_jump(&cron, tomorrow, today + HOUR, today - 3 * HOUR));
    CHECK_INT(today + 365 * DAY,
              ld_cron_after_jump(&cron, today, today - HOUR, today + 365 * DAY - HOUR));
    CHECK_INT(today - 9L * 365 * DAY,
              ld_cron_after_jump(&cron, today, today - HOUR, today - 9L * 365 * DAY - HOUR));
}

static void test_jump_of_stars(void) {
    set_zone("UTC");
    struct ld_cron cron = parsed("*/10 * * * *");
    time_t noon = at("2026-06-01 12:00");
    CHECK_INT(noon + 70 * MINUTE,
              ld_cron_after_jump(&cron, noon + 10 * MINUTE, noon + MINUTE, noon + 61 * MINUTE));
    CHECK_INT(noon - 50 * MINUTE,
              ld_cron_after_jump(&cron, noon + 10 * MINUTE, noon + MINUTE, noon - 59 * MINUTE));
    CHECK_INT(noon + 5 * DAY + 10 * MINUTE,
              ld_cron_after_jump(&cron, noon + 10 * MINUTE, noon, noon + 5 * DAY));
}

static const struct check_case cases[] = {
    {"five stars are every minute", test_stars},
    {"minutes: lists, ranges and steps", test_minutes},
    {"the other fields too", test_other_fields},
    {"names of months and weekdays, in any case", test_names},
    {"Sunday is 0 and 7", test_sunday},
    {"a day is restricted by anything but a lone star", test_restrictions},
    {"nicknames", test_nicknames},
    {"blanks around and between fields", test_blanks},
    {"what is wrong is explained by field", test_errors},
    {"a reason cannot forge a terminal's sequences", test_escaped},
    {"dates, and both kinds of day", test_dates},
    {"leap days", test_leap_days},
    {"what the clock leaves out in spring runs right after the gap", test_spring},
    {"what the clock shows twice in autumn runs once", test_autumn},
    {"a time that comes twice where the offset changes and no season does", test_casablanca},
    {"a time that comes twice within one season is the first of the two", test_same_season},
    {"nothing is repeated from within the repeated hour", test_second_pass},
    {"a year, minute by minute, in five zones", test_year},
    {"changes that are no daylight saving of an hour", test_odd_changes},
    {"random specifications around the changes", test_random},
    {"a small jump of the clock is made up for", test_small_jump},
    {"a large one is a correction", test_large_jump},
    {"stars go by the clock alone", test_jump_of_stars},
};

CHECK_MAIN(cases)
