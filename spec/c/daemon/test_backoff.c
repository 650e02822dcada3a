#include "base/base.h"
#include "check.h"
#include "daemon/backoff.h"

static void test_doubles(void) {
    static const double expected[] = {0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 12.8, 25.6, 30, 30, 30};
    struct ld_backoff backoff = {0};
    for (size_t i = 0; i < LD_COUNT(expected); i++) {
        double delay = ld_backoff_next(&backoff, 9.9);
        CHECK(delay > expected[i] - 1e-9 && delay < expected[i] + 1e-9);
    }
}

static void test_health(void) {
    struct ld_backoff backoff = {0};
    for (int i = 0; i < 5; i++) {
        ld_backoff_next(&backoff, 0);
    }
    CHECK(ld_backoff_next(&backoff, 10) == LD_BACKOFF_LEAST);
    CHECK(ld_backoff_next(&backoff, 0) == 2 * LD_BACKOFF_LEAST);
    CHECK(ld_backoff_next(&backoff, 1e9) == LD_BACKOFF_LEAST);
}

static void test_five_starts(void) {
    struct ld_backoff backoff = {0};
    for (int i = 0; i < 5; i++) {
        CHECK(!ld_backoff_is_over(&backoff, 100 + i));
        ld_backoff_note_start(&backoff, 100 + i);
    }
    CHECK(ld_backoff_is_over(&backoff, 104));
    CHECK(ld_backoff_is_over(&backoff, 109.9));
    CHECK(!ld_backoff_is_over(&backoff, 110)); /* the first one is too long ago */
}

static void test_slow_starts(void) {
    struct ld_backoff backoff = {0};
    for (int i = 0; i < 1000; i++) { /* four in ten seconds, for ever */
        double now = 2.5 * i;
        CHECK(!ld_backoff_is_over(&backoff, now));
        ld_backoff_note_start(&backoff, now);
    }
    for (int i = 0; i < 2; i++) {
        ld_backoff_note_start(&backoff, 2500 + i);
    }
    CHECK(ld_backoff_is_over(&backoff, 2502));
    CHECK(!ld_backoff_is_over(&backoff, 2512));
}

static const struct check_case cases[] = {
    {"the delay doubles, up to a limit", test_doubles},
    {"the delay is the least again after health", test_health},
    {"five starts within ten seconds are too many", test_five_starts},
    {"fewer starts may follow each other for ever", test_slow_starts},
};

CHECK_MAIN(cases)
