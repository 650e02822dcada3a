/* Timers: any number of them under one uv_timer_t.
 *
 * They fire in the order of their due times, equal ones in the order they were armed, never early.
 * All times are nanoseconds of ld_clock_now. Single-threaded. */
#ifndef LD_ENGINE_TIMERS_H
#define LD_ENGINE_TIMERS_H

#include <uv.h>

#include "engine/lag.h"
#include "engine/wheel.h"

struct ld_timers;

/* Called from the loop when timers may be due: to take one after the other (ld_timers_take) and fire it. It
 * may do anything to any timer but close them all. */
typedef void ld_timers_fire(void *arg, struct ld_timers *timers);

/* The next timer to fire, from inside ld_timers_fire; 0: none, or none before the loop has turned. One that
 * fires once is disarmed by then, a repeating one is armed for its next beat. *INFO is valid until the timer
 * is freed. */
ld_timer ld_timers_take(struct ld_timers *timers, struct ld_timer_info **info);

/* Make a set of timers on LOOP; NULL when memory ran out. How late timers fire is counted in LAG
 * (which must outlive them). */
struct ld_timers *ld_timers_new(uv_loop_t *loop, ld_timers_fire *fire, void *arg,
                                struct ld_lag *lag);

/* Drop all timers. The memory is freed when the loop has closed the handles. */
void ld_timers_close(struct ld_timers *timers);

/* Make a timer, not armed; 0 when memory ran out. It exists until it is freed. */
ld_timer ld_timers_add(struct ld_timers *timers);

/* The timer that the next ld_timers_add will make, which then cannot fail; 0 when memory ran
 * out. */
ld_timer ld_timers_reserve(struct ld_timers *timers);
void ld_timers_free(struct ld_timers *timers, ld_timer timer);

/* Arm a timer (again), once or with a beat. Beats missed are skipped and counted, and no drift
 * builds up: each is due at the first one's time plus a multiple of INTERVAL. */
void ld_timers_arm(struct ld_timers *timers, ld_timer timer, uint64_t due, uint64_t interval);
/* Make the reserved timer, armed for PERIOD from now, once or with that as its beat; arm the timer whose
 * information is INFO (again) likewise. */
void ld_timers_start(struct ld_timers *timers, ld_timer reserved, uint64_t period, bool repeats);
void ld_timers_restart(struct ld_timers *timers, ld_timer timer, struct ld_timer_info *info,
                       uint64_t period, bool repeats);

void ld_timers_disarm(struct ld_timers *timers, ld_timer timer);

/* Information about a timer; NULL if it was freed. Valid until the timer is freed. */
struct ld_timer_info *ld_timers_info(struct ld_timers *timers, ld_timer timer);

/* What the timer whose information is INFO has done. Valid until the timer is freed. */
struct ld_timer_history *ld_timers_history(struct ld_timers *timers, ld_timer timer,
                                           struct ld_timer_info *info);

/* The armed timer after PREVIOUS (0: the first) in no particular order; 0 at the end. */
ld_timer ld_timers_next(struct ld_timers *timers, ld_timer previous);

/* Look for an armed timer that is not hidden, in a walk over all of them: see ld_wheel_look. */
bool ld_timers_look(const struct ld_timers *timers, uint32_t *at, ld_timer *timer);

/* How many are armed; how many of them are not hidden. */
size_t ld_timers_armed(const struct ld_timers *timers);
size_t ld_timers_shown(const struct ld_timers *timers);

/* The earliest due time in all sets of the process; LD_WHEEL_NEVER if nothing is armed. */
uint64_t ld_timers_first_due(void);

/* To be called when the clock was frozen, moved or released: each set waits for what is due next. */
void ld_timers_follow_clock(void);

#endif
