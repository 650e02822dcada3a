/* What the C programs share: their own clocks and memory, and the pseudo-random delays, which are the
 * same in every language. */
#ifndef BENCH_H
#define BENCH_H

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>

/* Seconds of CPU of this process, without its children. */
static inline double bench_cpu(void) {
    struct timespec now;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

/* Seconds of the monotonic clock. */
static inline double bench_wall(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

/* Bytes in a field of /proc/self/status: VmRSS is now, VmHWM the peak. */
static inline double bench_memory(const char *field) {
    char line[256];
    double bytes = 0;
    FILE *file = fopen("/proc/self/status", "r");
    while (file != NULL && fgets(line, sizeof line, file) != NULL) {
        size_t length = strlen(field);
        if (strncmp(line, field, length) == 0 && line[length] == ':') {
            bytes = strtod(line + length + 1, NULL) * 1024;
        }
    }
    if (file != NULL) {
        fclose(file);
    }
    return bytes;
}

/* COUNT pseudo-random delays in ms, 1000 to 1999: the same ones every time. */
static inline uint64_t *bench_delays(long count) {
    uint64_t *delays = malloc((size_t)count * sizeof *delays);
    uint32_t seed = 1;
    for (long i = 0; i < count; i++) {
        seed = seed * 1664525u + 1013904223u;
        delays[i] = 1000 + (seed >> 12) % 1000;
    }
    return delays;
}

#endif
