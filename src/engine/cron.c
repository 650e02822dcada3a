#include "engine/cron.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#define YEARS_MAX  12           /* 29 February can be eight years away */
#define SMALL_STEP (3L * 3600)  /* of the clock: more is a correction */
#define WINDOW     (36 * 3600L) /* more than any zone is or was ever off, or has left out */

static const char blanks[] = " \t";
static const char spaces[] = " \t\r\n\v\f";

static const char *const month_names[] = {"jan", "feb", "mar", "apr", "may", "jun",
                                          "jul", "aug", "sep", "oct", "nov", "dec"};
static const char *const weekday_names[] = {"sun", "mon", "tue", "wed", "thu", "fri", "sat"};

/* What a field may hold. */
struct field {
    const char *name;
    int least;
    int most;
    const char *const *names;
    int name_count;
};

static const struct field fields[] = {
    {"minute", 0, 59, NULL, 0},
    {"hour", 0, 23, NULL, 0},
    {"day of month", 1, 31, NULL, 0},
    {"month", 1, 12, month_names, 12},
    {"day of week", 0, 7, weekday_names, 7},
};

static const struct {
    const char *name;
    const char *text;
} nicknames[] = {
    {"@yearly", "0 0 1 1 *"}, {"@annually", "0 0 1 1 *"}, {"@monthly", "0 0 1 * *"},
    {"@weekly", "0 0 * * 0"}, {"@daily", "0 0 * * *"},    {"@midnight", "0 0 * * *"},
    {"@hourly", "0 * * * *"},
};

/* Refuse a field. */
static bool refuse(struct ld_text *why, const struct field *field, const char *text,
                   const char *reason) {
    ld_text_format(why, "%s \"", field->name);
    ld_text_add_escaped(why, text, strcspn(text, blanks), false);
    ld_text_format(why, "\": %s", reason);
    return false;
}

/* Parse a number or a name at *AT, and move *AT past it. */
static bool parse_value(const struct field *field, const char **at, int *value) {
    for (int i = 0; i < field->name_count; i++) {
        if (strncasecmp(*at, field->names[i], 3) == 0 && !isalnum((unsigned char)(*at)[3])) {
            *at += 3;
            *value = i + field->least;
            return true;
        }
    }
    size_t digits = strspn(*at, "0123456789");
    if (digits == 0 || digits > 4) {
        return false;
    }
    *value = atoi(*at);
    *at += digits;
    return *value >= field->least && *value <= field->most;
}

/* The largest value of a field that is not another name of a smaller one. */
static int last_of(const struct field *field) {
    return field->most == 7 ? 6 : field->most; /* 7 is Sunday too */
}

/* Parse "*", a value or a range at *AT. */
static const char *parse_range(const struct field *field, const char **at, int range[2]) {
    if (**at == '*') {
        (*at)++;
        range[0] = field->least;
        range[1] = last_of(field);
        return NULL;
    }
    if (!parse_value(field, at, &range[0])) {
        return "it is not a number or name of this field, or out of range";
    }
    range[1] = range[0];
    if (**at == '-') {
        (*at)++;
        if (!parse_value(field, at, &range[1])) {
            return "the end of a range is out of range";
        }
        if (range[1] < range[0]) {
            return "a range must not be reversed";
        }
    }
    return NULL;
}

/* Parse the number after a slash at *AT: 1 to the number of values, because more would not do
 * what it says ("every 90 minutes"); 0 if it is anything else. */
static int parse_step(const struct field *field, const char **at) {
    size_t digits = strspn(*at + 1, "0123456789");
    int step = digits == 0 || digits > 4 ? 0 : atoi(*at + 1);
    *at += 1 + digits;
    return step <= last_of(field) - field->least + 1 ? step : 0;
}

/* Parse one element of a list at *AT into BITS; NULL, or what is wrong with it. */
static const char *parse_element(const struct field *field, const char **at, uint64_t *bits) {
    int range[2];
    int step = 1;
    const char *first = *at;
    const char *wrong = parse_range(field, at, range);
    if (wrong != NULL) {
        return wrong;
    }
    bool is_value = *first != '*' && memchr(first, '-', (size_t)(*at - first)) == NULL;
    if (**at == '/') {
        step = parse_step(field, at);
        if (step == 0) {
            return "a step must be a number above 0, and not above that of the field's values";
        }
        range[1] = is_value ? field->most : range[1]; /* "5/10": from 5 on */
    }
    for (int value = range[0]; value <= range[1]; value += step) {
        *bits |= (uint64_t)1 << value;
    }
    return NULL;
}

/* Parse one field at *TEXT, and move *TEXT past it. */
static bool parse_field(const struct field *field, const char **text, uint64_t *bits,
                        struct ld_text *why) {
    const char *at = *text;
    *bits = 0;
    for (;;) {
        const char *wrong = parse_element(field, &at, bits);
        if (wrong != NULL) {
            return refuse(why, field, *text, wrong);
        }
        if (*at != ',') {
            break;
        }
        at++;
    }
    if (*at != '\0' && *at != ' ' && *at != '\t') {
        return refuse(why, field, *text, "numbers, names, *, lists, ranges and steps expected");
    }
    *text = at;
    return true;
}

/* Whether some date of the specification ever comes. */
static bool ever_comes(const struct ld_cron *cron) {
    static const int longest[] = {31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
    if (!cron->any_weekday) {
        return true; /* either will do */
    }
    for (int month = 1; month <= 12; month++) {
        bool chosen = (cron->months >> month & 1) != 0;
        uint32_t days = cron->days & (uint32_t)(((uint64_t)2 << longest[month - 1]) - 1);
        if (chosen && days != 0) {
            return true;
        }
    }
    return false;
}

/* The fields of a nickname; else the text itself. NULL for an unknown nickname. */
static const char *expand(const char *text) {
    for (size_t i = 0; i < LD_COUNT(nicknames); i++) {
        if (strcasecmp(nicknames[i].name, text) == 0) {
            return nicknames[i].text;
        }
    }
    return text[0] == '@' ? NULL : text;
}

/* Parse a specification that has no space around it. */
static bool parse(struct ld_cron *cron, const char *text, struct ld_text *why) {
    uint64_t bits[LD_COUNT(fields)];
    bool stars[LD_COUNT(fields)];
    const char *at = expand(text);
    if (at == NULL) {
        ld_text_puts(why, "unknown nickname: @hourly, @daily, @midnight, @weekly, @monthly, "
                          "@yearly or @annually expected");
        return false;
    }
    for (size_t i = 0; i < LD_COUNT(fields); i++) {
        at += strspn(at, blanks);
        if (*at == '\0') {
            ld_text_format(why, "the %s is missing: five fields expected", fields[i].name);
            return false;
        }
        stars[i] = at[0] == '*';
        const char *start = at;
        if (!parse_field(&fields[i], &at, &bits[i], why)) {
            return false;
        }
        stars[i] = stars[i] && (i < 2 || at - start == 1); /* with a step, a day is restricted */
    }
    if (at[strspn(at, blanks)] != '\0') {
        ld_text_puts(why, "unexpected text after the fifth field");
        return false;
    }
    *cron = (struct ld_cron){
        .minutes = bits[0],
        .hours = (uint32_t)bits[1],
        .days = (uint32_t)bits[2],
        .months = (uint16_t)bits[3],
        .weekdays = (uint8_t)((bits[4] & 0x7F) | (bits[4] >> 7 & 1)), /* 7 is Sunday too */
        .any_day = stars[2],
        .any_weekday = stars[4],
        .fixed = !stars[0] && !stars[1],
    };
    if (!ever_comes(cron)) {
        ld_text_puts(why, "this date never comes");
        return false;
    }
    return true;
}

/* Parse a specification. Space around it, such as the end of the line that it was read from, is
 * ignored. */
bool ld_cron_parse(struct ld_cron *cron, const char *text, struct ld_text *why) {
    const char *first = text + strspn(text, spaces);
    size_t size = strlen(first);
    while (size > 0 && strchr(spaces, first[size - 1]) != NULL) {
        size--;
    }
    char *bare = strndup(first, size);
    bool ok = bare != NULL && parse(cron, bare, why);
    if (bare == NULL) {
        ld_text_puts(why, "not enough memory");
    }
    free(bare);
    return ok;
}

/* Whether a date is meant. If both kinds of day are restricted, either will do. */
static bool is_day(const struct ld_cron *cron, const struct tm *date) {
    bool day = (cron->days >> date->tm_mday & 1) != 0;
    bool weekday = (cron->weekdays >> date->tm_wday & 1) != 0;
    if ((cron->months >> (date->tm_mon + 1) & 1) == 0) {
        return false;
    }
    return cron->any_day || cron->any_weekday ? day && weekday : day || weekday;
}

/* The local time at a moment. */
static struct tm local(time_t moment) {
    struct tm result;
    localtime_r(&moment, &result);
    return result;
}

/* What the clock shows at a moment, as seconds. */
static time_t shown(time_t moment) {
    struct tm clock = local(moment);
    return timegm(&clock);
}

/* How far the clock is off UTC at a moment. */
static time_t offset_at(time_t moment) {
    return shown(moment) - moment;
}

/* The first moment after LOW and up to HIGH at which the clock is not OFFSET off, as it is at
 * LOW and is not at HIGH. */
static time_t change_between(time_t low, time_t high, time_t offset) {
    while (high - low > 1) {
        time_t at = low + (high - low) / 2;
        *(offset_at(at) == offset ? &low : &high) = at;
    }
    return high;
}

/* The first moment at which the clock shows WANTED, or later because that time is skipped. From
 * one change of the offset to the next: mktime could be asked for both moments of a time that
 * comes twice only if one of them is daylight saving time, which need not be so. */
static time_t moment_of(time_t wanted) {
    time_t at = wanted - WINDOW;
    time_t offset = offset_at(at);
    for (;;) { /* the clock has shown less until AT */
        time_t next = at + 3600;
        time_t next_offset = offset_at(next);
        time_t change = next_offset != offset ? change_between(at, next, offset) : next;
        if (wanted - offset < change) {
            return wanted - offset;
        }
        if (change + next_offset >= wanted) {
            return change;
        }
        at = change;
        offset = next_offset;
    }
}

/* Whether a specification means a minute of the day. */
static bool is_minute(const struct ld_cron *cron, int minute) {
    return (cron->hours >> (minute / 60) & 1) != 0 && (cron->minutes >> (minute % 60) & 1) != 0;
}

/* The next moment on a day with fixed times, given as its midnight in what the clock shows; -1 if
 * there is none. What the clock has shown before AFTER is past, the first time or the second. */
static time_t next_on_day(const struct ld_cron *cron, time_t midnight, time_t after) {
    time_t past = shown(after);
    for (int minute = 0; minute < 24 * 60; minute++) {
        time_t wanted = midnight + (time_t)minute * 60;
        time_t moment = is_minute(cron, minute) && wanted > past ? moment_of(wanted) : -1;
        if (moment > after) {
            return moment;
        }
    }
    return -1;
}

/* The next moment of a specification with fixed times. */
static time_t next_fixed(const struct ld_cron *cron, time_t after) {
    time_t midnight = shown(after);
    midnight -= midnight % 86400;
    for (int day = 0; day < YEARS_MAX * 366; day++, midnight += 86400) {
        struct tm date;
        gmtime_r(&midnight, &date);
        time_t moment = is_day(cron, &date) ? next_on_day(cron, midnight, after) : -1;
        if (moment >= 0) {
            return moment;
        }
    }
    return -1;
}

/* Where the search continues after a moment that is not meant, whose local time is CLOCK: it
 * skips hours, or most of a day, where the clock is not put forward or back. */
static time_t skip(const struct ld_cron *cron, time_t moment, const struct tm *clock) {
    time_t to = moment + (60 - clock->tm_min) * 60L;
    if (is_day(cron, clock)) {
        if ((cron->hours >> clock->tm_hour & 1) != 0) {
            return moment + 60;
        }
    } else if (clock->tm_hour < 23) {
        to += (22 - clock->tm_hour) * 3600L;
    }
    return shown(to) - shown(moment) == to - moment ? to : moment + 60;
}

/* The next moment of a specification with "*", which follows the clock. */
static time_t next_by_clock(const struct ld_cron *cron, time_t after) {
    time_t limit = after + YEARS_MAX * 366L * 86400;
    struct tm clock = local(after);
    time_t moment = after - clock.tm_sec + 60;
    while (moment < limit) {
        clock = local(moment);
        if (is_day(cron, &clock) && (cron->hours >> clock.tm_hour & 1) != 0 &&
            (cron->minutes >> clock.tm_min & 1) != 0) {
            return moment;
        }
        moment = skip(cron, moment, &clock);
    }
    return -1;
}

/* The next moment. */
time_t ld_cron_next(const struct ld_cron *cron, time_t after) {
    tzset(); /* the zone's rules may have been changed on disk */
    return cron->fixed ? next_fixed(cron, after) : next_by_clock(cron, after);
}

/* The next moment after the clock was set. */
time_t ld_cron_after_jump(const struct ld_cron *cron, time_t next, time_t before, time_t now) {
    bool small = labs((long)(now - before)) <= SMALL_STEP;
    if (small && cron->fixed) {
        return next > now ? next : now;
    }
    return ld_cron_next(cron, now);
}

/* Return how far local time is ahead of UTC. */
long ld_cron_offset(time_t moment) {
    tzset();
    return (long)offset_at(moment);
}

/* Read the zone again. The C library compares the file with the one that it has read by its time in
 * seconds, and may have read it while it was written. */
void ld_cron_reload_zone(void) {
    if (getenv("TZ") == NULL && setenv("TZ", "UTC0", 1) == 0) {
        tzset();
        unsetenv("TZ");
        tzset();
    }
}

/* Whether two mean the same. */
bool ld_cron_equal(const struct ld_cron *a, const struct ld_cron *b) {
    return a->minutes == b->minutes && a->hours == b->hours && a->days == b->days &&
           a->months == b->months && a->weekdays == b->weekdays && a->any_day == b->any_day &&
           a->any_weekday == b->any_weekday && a->fixed == b->fixed;
}
