#include <stdlib.h>
#include <string.h>

#include "check.h"
#include "engine/lag.h"
#include "support.h"

static void test_empty(void) {
    struct ld_lag lag = {0};
    CHECK_INT(0, ld_lag_quantile(&lag, 0));
    CHECK_INT(0, ld_lag_quantile(&lag, 0.5));
    CHECK_INT(0, ld_lag_quantile(&lag, 1));
    CHECK_INT(0, lag.max_ns);
}

static void test_one(void) {
    static const uint64_t values[] = {0, 1, 2, 3, 4, 5, 7, 8, 1000, 123456789, UINT64_MAX};
    for (size_t i = 0; i < sizeof values / sizeof *values; i++) {
        struct ld_lag lag = {0};
        ld_lag_add(&lag, values[i]);
        CHECK(lag.max_ns == values[i]);
        CHECK(ld_lag_quantile(&lag, 0) == values[i]);
        CHECK(ld_lag_quantile(&lag, 0.5) == values[i]);
        CHECK(ld_lag_quantile(&lag, 1) == values[i]);
        CHECK_INT(1, lag.total);
    }
}

static int compare(const void *left, const void *right) {
    uint64_t a = *(const uint64_t *)left;
    uint64_t b = *(const uint64_t *)right;
    return (a > b) - (a < b);
}

/* The histogram beside a sorted list. */
static void test_against_sorted(void) {
    enum { COUNT = 5000 };
    static const double fractions[] = {0, 0.01, 0.25, 0.5, 0.9, 0.99, 0.999, 1};
    static uint64_t values[COUNT];
    for (int round = 0; round < 20; round++) {
        struct ld_lag lag = {0};
        for (int i = 0; i < COUNT; i++) {
            values[i] = next_random() >> (20 + random_below(44));
            ld_lag_add(&lag, values[i]);
        }
        qsort(values, COUNT, sizeof *values, compare);
        CHECK(lag.max_ns == values[COUNT - 1]);
        for (size_t f = 0; f < sizeof fractions / sizeof *fractions; f++) {
            uint64_t said = ld_lag_quantile(&lag, fractions[f]);
            size_t rank = (size_t)(fractions[f] * COUNT);
            uint64_t true_one = values[rank < COUNT ? rank : COUNT - 1];
            size_t below = 0;
            while (below < COUNT && values[below] <= said) {
                below++;
            }
            CHECK((double)below >= fractions[f] * COUNT);
            CHECK(said >= true_one && said <= true_one + true_one / 4 + 1);
            CHECK(said <= lag.max_ns);
        }
    }
}

static void test_order(void) {
    struct ld_lag lag = {0};
    for (int i = 0; i < 1000; i++) {
        ld_lag_add(&lag, random_below(1000000));
    }
    for (int i = 0; i < 100; i++) {
        CHECK(ld_lag_quantile(&lag, i / 100.0) <= ld_lag_quantile(&lag, (i + 1) / 100.0));
    }
}

static const struct check_case cases[] = {
    {"nothing counted is no delay", test_empty},
    {"one delay is every quantile", test_one},
    {"quantiles are those of a sorted list, to within a quarter", test_against_sorted},
    {"quantiles are in order", test_order},
};

CHECK_MAIN(cases)
