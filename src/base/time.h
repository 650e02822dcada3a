/* The clocks: one reader for each. */
#ifndef LD_BASE_TIME_H
#define LD_BASE_TIME_H

#include <stdint.h>

#define LD_TIME_SECOND 1000000000 /* in nanoseconds */

/* Nanoseconds on CLOCK_MONOTONIC, which is also what uv_hrtime counts. */
uint64_t ld_time_monotonic(void);

/* The same as of the last tick of the kernel, up to 10 ms ago: cheap enough to be read after every
 * callback. */
uint64_t ld_time_coarse(void);

/* Milliseconds, and seconds, on CLOCK_MONOTONIC. */
int64_t ld_time_ms(void);
double ld_time_seconds(void);

/* Nanoseconds since the boot, those in suspension among them (CLOCK_BOOTTIME). */
uint64_t ld_time_boot(void);

/* Nanoseconds since 1970; a clock that people and programs set. */
int64_t ld_time_real(void);

#endif
