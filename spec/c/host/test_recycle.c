/* When a service recycles itself, by a clock of the test's own. */
#include "host/recycle.h"

#include "check.h"

#define MB     (1024ULL * 1024)
#define MINUTE 60000ULL

static struct ld_recycle recycle;

static void test_off(void) {
    ld_recycle_init(&recycle, 0, 0);
    ld_recycle_begin(&recycle, 1000);
    CHECK(!ld_recycle_is_old(&recycle, LD_RECYCLE_NEVER - 1));
    CHECK(!ld_recycle_is_to_compare(&recycle, 1ULL << 60, LD_RECYCLE_NEVER - 1));
    CHECK(ld_recycle_next(&recycle, 1ULL << 60) == LD_RECYCLE_NEVER);
}

/* A refused one is tried again after the same time, not at once. */
static void test_age(void) {
    ld_recycle_init(&recycle, 3600, 0);
    ld_recycle_begin(&recycle, 1000);
    CHECK_INT(3601000, (long long)ld_recycle_next(&recycle, 0));
    CHECK(!ld_recycle_is_old(&recycle, 3600999));
    CHECK(ld_recycle_is_old(&recycle, 3601000));
    CHECK(!ld_recycle_is_old(&recycle, 3601000));
    CHECK(!ld_recycle_is_old(&recycle, 7200999));
    CHECK_INT(7201000, (long long)ld_recycle_next(&recycle, 0));
    CHECK(ld_recycle_is_old(&recycle, 9000000)); /* late */
    CHECK_INT(9000000 + 3600000, (long long)ld_recycle_next(&recycle, 0));
}

static void test_reset(void) {
    ld_recycle_init(&recycle, 0.5, 0);
    ld_recycle_begin(&recycle, 1000);
    ld_recycle_begin(&recycle, 1499); /* another reload */
    CHECK(!ld_recycle_is_old(&recycle, 1500));
    CHECK(!ld_recycle_is_old(&recycle, 1998));
    CHECK(ld_recycle_is_old(&recycle, 1999));
}

/* The first comparison is at once; then one a minute, in all generations together. */
static void test_heap(void) {
    ld_recycle_init(&recycle, 0, 256 * MB);
    ld_recycle_begin(&recycle, 1000);
    CHECK(!ld_recycle_is_to_compare(&recycle, 256 * MB - 1, 2000));
    CHECK(ld_recycle_next(&recycle, 256 * MB - 1) == LD_RECYCLE_NEVER);
    CHECK(ld_recycle_is_to_compare(&recycle, 256 * MB, 2000));
    ld_recycle_begin(&recycle, 2001);
    CHECK(!ld_recycle_is_to_compare(&recycle, 300 * MB, 2002));
    CHECK_INT(2000 + MINUTE, (long long)ld_recycle_next(&recycle, 300 * MB));
    CHECK(!ld_recycle_is_to_compare(&recycle, 300 * MB, 1999 + MINUTE));
    CHECK(!ld_recycle_is_to_compare(&recycle, 200 * MB, 2000 + MINUTE));
    CHECK(ld_recycle_is_to_compare(&recycle, 300 * MB, 2000 + MINUTE));
    CHECK(!ld_recycle_is_to_compare(&recycle, 300 * MB, 2001 + MINUTE));
}

static void test_both(void) {
    ld_recycle_init(&recycle, 30, MB);
    ld_recycle_begin(&recycle, 1000);
    CHECK(ld_recycle_is_to_compare(&recycle, 2 * MB, 1000));
    CHECK_INT(31000, (long long)ld_recycle_next(&recycle, 2 * MB));
    CHECK(ld_recycle_is_old(&recycle, 31000));
    CHECK_INT(61000, (long long)ld_recycle_next(&recycle, 2 * MB));
}

static const struct check_case cases[] = {
    {"without the options, never", test_off},
    {"at an age, and again after the same time", test_age},
    {"a reload begins the age again", test_reset},
    {"the heap is compared when it is large, at most once a minute", test_heap},
    {"whichever comes first", test_both},
};

CHECK_MAIN(cases)
