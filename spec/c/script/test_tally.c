/* The tally of uncaught errors, by a clock of the test's own. */
#include "script/tally.h"

#include <stdio.h>
#include <string.h>

#include "base/log.h"
#include "check.h"
#include "support.h"

#define SECOND 1000000000ULL

static struct ld_tally tally;
static uint64_t now;
static uint64_t next;

/* Begin with an empty tally and an empty log. */
static void begin(void) {
    struct ld_log_config config = {.sink = LD_LOG_FILE, .path = box_path("log")};
    memset(&tally, 0, sizeof tally);
    now = 1000 * SECOND;
    REQUIRE(ld_log_open(&config) == 0);
}

/* Note an error with a traceback of one line. */
static void note(const char *where, const char *message, unsigned generation) {
    struct ld_text trace = {0};
    struct ld_error error = {.what = "a timer", .where = where, .trace = &trace};
    ld_text_puts(&trace, message);
    error.message_size = trace.size;
    ld_text_puts(&trace, "\n\ttrace");
    ld_tally_note(&tally, &error, generation, now);
    ld_text_fini(&trace);
}

/* The messages of the log since the last call, without time, level and source, with "|" between. */
static const char *said(void) {
    static char text[8192];
    char *end = text;
    const char *line = read_file(box_path("log"));
    while (*line != '\0') {
        const char *message = strstr(line, "uncaught error in a timer: ");
        const char *line_end = strchr(line, '\n');
        message = message != NULL && message < line_end ? message + 27 : line;
        end += snprintf(end, sizeof text - (size_t)(end - text), "%.*s|", (int)(line_end - message),
                        message);
        line = line_end + 1;
    }
    ld_log_close();
    REQUIRE(remove(box_path("log")) == 0);
    struct ld_log_config config = {.sink = LD_LOG_FILE, .path = box_path("log")};
    REQUIRE(ld_log_open(&config) == 0);
    *end = '\0';
    return text;
}

/* Note the four repeats that are logged each, and forget what the log says. */
static void use_up_singles(const char *where) {
    for (int i = 0; i < 5; i++) {
        note(where, "boom", 1);
    }
    said();
}

static void test_first(void) {
    begin();
    note("x.lua:7", "boom 1", 1);
    note("x.lua:7", "boom 2", 1);
    note("x.lua:8", "other", 1);
    CHECK_STR("boom 1|    \ttrace|boom 2 at x.lua:7 (again)|other|    \ttrace|", said());
    CHECK_INT(3, (long long)tally.count);
    CHECK_INT(2, (long long)tally.used);
    CHECK_INT(2, (long long)tally.places[0].count);
    CHECK_STR("x.lua:7", tally.places[0].where);
    CHECK_STR("a timer", tally.places[0].what);
    CHECK_STR("boom 2", tally.places[0].message);
    CHECK(ld_tally_flush(&tally, now) == UINT64_MAX);
    ld_log_close();
}

/* The more it lasts, the fewer lines; no error is lost from the counts. */
static void test_repeats(void) {
    begin();
    use_up_singles("x.lua:7");
    for (int i = 0; i < 1234; i++) {
        now += SECOND / 1000;
        note("x.lua:7", "boom", 1);
    }
    CHECK_STR("", said());
    next = ld_tally_flush(&tally, now);
    CHECK_INT(1000 + 10, (long long)(next / SECOND));
    now = next;
    CHECK(ld_tally_flush(&tally, now) == UINT64_MAX);
    CHECK_STR("boom at x.lua:7 (repeated 1,234 times in 10 s)|", said());
    for (int i = 0; i < 300; i++) {
        now += SECOND / 10;
        note("x.lua:7", "boom", 1);
    }
    CHECK_STR("boom at x.lua:7 (repeated 200 times in 20 s)|", said());
    CHECK_INT(5 + 1234 + 300, (long long)tally.places[0].count);
    CHECK_INT(100, (long long)tally.unsaid);
    ld_log_close();
}

static void test_end_of_storm(void) {
    begin();
    use_up_singles("x.lua:7");
    now += SECOND;
    note("x.lua:7", "boom", 1);
    CHECK(ld_tally_flush(&tally, now) == 1010 * SECOND); /* the window's end comes first */
    now = 1010 * SECOND;
    ld_tally_flush(&tally, now);
    CHECK_STR("boom at x.lua:7 (repeated once in 10 s)|", said());
    now += SECOND;
    note("x.lua:7", "boom", 1);
    note("x.lua:7", "boom", 1);
    CHECK(ld_tally_flush(&tally, now) == 1021 * SECOND); /* 10 s after the last one */
    CHECK(ld_tally_flush(&tally, UINT64_MAX) == UINT64_MAX);
    CHECK_STR("boom at x.lua:7 (repeated 2 times in 1.0 s)|", said());
    CHECK_INT(0, (long long)tally.unsaid);
    ld_log_close();
}

static void test_news(void) {
    begin();
    use_up_singles("x.lua:7");
    now += 59 * SECOND;
    note("x.lua:7", "late", 1);
    CHECK_STR("late at x.lua:7 (repeated once in 59 s)|", said());
    now += 60 * SECOND;
    note("x.lua:7", "quiet", 1);
    CHECK_STR("quiet|    \ttrace|", said());
    note("x.lua:7", "new code", 2);
    CHECK_STR("new code|    \ttrace|", said());
    note("x.lua:7", "x.lua:7: with its place", 2);
    CHECK_STR("x.lua:7: with its place (again)|", said());
    CHECK_INT(1, (long long)tally.used);
    ld_log_close();
}

/* What does not fit is counted together, and told together. */
static void test_many_places(void) {
    char where[40];
    begin();
    for (int i = 0; i < LD_TALLY_PLACES; i++) {
        snprintf(where, sizeof where, "x.lua:%d", i);
        note(where, "boom", 1);
    }
    said();
    for (int i = 0; i < 100; i++) {
        snprintf(where, sizeof where, "y.lua:%d", i);
        note(where, where, (unsigned)i);
    }
    CHECK_STR(
        "y.lua:0|    \ttrace|y.lua:1 (again)|y.lua:2 (again)|y.lua:3 (again)|y.lua:4 (again)|",
        said());
    CHECK_INT(100, (long long)tally.elsewhere.count);
    now += 10 * SECOND;
    ld_tally_flush(&tally, now);
    CHECK_STR("y.lua:99 (the last of 95 at many places in 10 s)|", said());
    now += 50 * SECOND;
    note("z.lua:1", "a new place", 1); /* takes that of x.lua:0, which has been quiet */
    CHECK_STR("a new place|    \ttrace|", said());
    CHECK_INT(101, (long long)tally.elsewhere.count);
    CHECK_STR("z.lua:1", tally.places[0].where);
    uint64_t sum = tally.elsewhere.count;
    for (size_t i = 0; i < tally.used; i++) {
        sum += tally.places[i].count;
    }
    CHECK_INT((long long)tally.count, (long long)sum);
    ld_log_close();
}

static void test_long_message(void) {
    char message[2000];
    begin();
    memset(message, 'm', sizeof message - 1);
    message[sizeof message - 1] = '\0';
    memcpy(message + 510, "\xC3\xA9", 2); /* is not cut in two */
    note("x.lua:7", message, 1);
    CHECK_INT(510, (long long)strlen(tally.places[0].message));
    ld_log_close();
}

static const struct check_case cases[] = {
    {"the first error of a place is logged whole, the next few without their traceback",
     test_first},
    {"repeats are counted, and told at intervals that become longer", test_repeats},
    {"what is unsaid is told soon after the last one, or at the end", test_end_of_storm},
    {"after a quiet time, and of a new generation, an error is news", test_news},
    {"places that do not fit are counted together", test_many_places},
    {"a long message is cut", test_long_message},
};

CHECK_MAIN(cases)
