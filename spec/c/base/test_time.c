#include "base/time.h"

#include <time.h>

#include "check.h"

#define WAIT_SECONDS 20 /* for a machine that others load */

static void test_real(void) {
    int64_t before = (int64_t)time(NULL);
    int64_t now = ld_time_real();
    CHECK(now >= before * LD_TIME_SECOND);
    CHECK(now < (before + WAIT_SECONDS) * LD_TIME_SECOND);
    CHECK(ld_time_real() >= now);
}

static void test_monotonic(void) {
    uint64_t coarse = ld_time_coarse();
    uint64_t first = ld_time_monotonic();
    uint64_t second = ld_time_monotonic();
    int64_t ms = ld_time_ms();
    double seconds = ld_time_seconds();
    CHECK(coarse <= first && first <= second);
    CHECK(second / 1000000 <= (uint64_t)ms);
    CHECK(seconds >= (double)ms / 1e3 && seconds < (double)first / 1e9 + WAIT_SECONDS);
    CHECK(ld_time_boot() >= second);
}

static const struct check_case cases[] = {
    {"the real-time clock counts from 1970", test_real},
    {"the readers of the monotonic clock agree", test_monotonic},
};

CHECK_MAIN(cases)
