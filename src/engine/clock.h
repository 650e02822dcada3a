/* The time that timers and scripts go by: the system's, unless a spec has frozen it (lunad test). One
 * clock a process. */
#ifndef LD_ENGINE_CLOCK_H
#define LD_ENGINE_CLOCK_H

#include <stdbool.h>
#include <stdint.h>

/* Nanoseconds, never going back. Until the clock was first frozen this is uv_hrtime. */
uint64_t ld_clock_now(void);

/* The same for the moment MONOTONIC of uv_hrtime. */
uint64_t ld_clock_at(uint64_t monotonic);

/* Nanoseconds of Unix time: the system's, or while the clock is frozen, that of the freeze and what has
 * passed since. */
int64_t ld_clock_real(void);

/* Freeze the clock where it is, with the Unix time REAL. */
void ld_clock_freeze(int64_t real);

/* Move a frozen clock forward, to NOW. */
void ld_clock_move(uint64_t now);

/* Let the clock run again, from where it is; Unix time is the system's again. */
void ld_clock_release(void);

bool ld_clock_is_frozen(void);

/* The moment of uv_hrtime at which a clock that runs shows NOW. */
uint64_t ld_clock_to_monotonic(uint64_t now);

#endif
