#include "script/errors.h"

#include <time.h>

#include "base/time.h"
#include "check.h"
#include "support.h"

static struct ld_errors errors;

/* Note so many errors. */
static void note(size_t count) {
    static char message[] = "x:1: oops";
    const struct ld_text trace = {.data = message, .size = sizeof message - 1};
    const struct ld_error error = {
        .what = "a timer", .where = "x:1", .trace = &trace, .message_size = trace.size};
    for (size_t i = 0; i < count; i++) {
        ld_errors_note(&errors, &error);
    }
}

static void test_recent(void) {
    errors = (struct ld_errors){.holds_first = true};
    CHECK_INT(0, ld_errors_count_since(&errors, UINT64_MAX));
    note(3);
    CHECK_INT(3, ld_errors_count_since(&errors, UINT64_MAX));
    errors.times[0] = ld_time_coarse() - 5 * (uint64_t)LD_TIME_SECOND; /* the first was long ago */
    CHECK_INT(2, ld_errors_count_since(&errors, 4 * (uint64_t)LD_TIME_SECOND));
    CHECK_INT(3, ld_errors_count_since(&errors, 60 * (uint64_t)LD_TIME_SECOND));
    ld_errors_fini(&errors);
}

static void test_very_many(void) {
    errors = (struct ld_errors){.holds_first = true};
    note(LD_ERRORS_TIMES + 5);
    uint64_t now = ld_time_coarse();
    for (size_t i = 0; i < LD_ERRORS_TIMES;
         i++) { /* all that are kept were in the last two seconds */
        errors.times[i] = now - 2 * (uint64_t)LD_TIME_SECOND * i / LD_ERRORS_TIMES;
    }
    uint64_t count = ld_errors_count_since(&errors, 20 * (uint64_t)LD_TIME_SECOND);
    CHECK(count > 8 * LD_ERRORS_TIMES &&
          count < 11 * LD_ERRORS_TIMES); /* ten times as many in 20 s */
    ld_errors_fini(&errors);
}

static const struct check_case cases[] = {
    {"errors of a span of time are counted", test_recent},
    {"of very many the rate is taken", test_very_many},
};

CHECK_MAIN(cases)
