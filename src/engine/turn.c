#include "engine/turn.h"

#include <time.h>

/* The time, read cheaply. */
uint64_t ld_turn_now(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC_COARSE, &now);
    return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}
