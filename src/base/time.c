#include "base/time.h"

#include <time.h>

/* Read a clock, in nanoseconds. */
static int64_t read_clock(clockid_t clock) {
    struct timespec now;
    clock_gettime(clock, &now);
    return (int64_t)now.tv_sec * LD_TIME_SECOND + now.tv_nsec;
}

/* Read the monotonic clock. */
uint64_t ld_time_monotonic(void) {
    return (uint64_t)read_clock(CLOCK_MONOTONIC);
}

/* Read the monotonic clock cheaply. */
uint64_t ld_time_coarse(void) {
    return (uint64_t)read_clock(CLOCK_MONOTONIC_COARSE);
}

/* Read the monotonic clock, in milliseconds. */
int64_t ld_time_ms(void) {
    return read_clock(CLOCK_MONOTONIC) / 1000000;
}

/* Read the monotonic clock, in seconds. */
double ld_time_seconds(void) {
    return (double)ld_time_monotonic() / LD_TIME_SECOND;
}

/* Read the clock since the boot. */
uint64_t ld_time_boot(void) {
    return (uint64_t)read_clock(CLOCK_BOOTTIME);
}

/* Read the real-time clock. */
int64_t ld_time_real(void) {
    return read_clock(CLOCK_REALTIME);
}
