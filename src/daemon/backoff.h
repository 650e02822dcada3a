/* When a host that has ended is started again: after a delay that doubles, and not without end. Knows no
 * clock; times are seconds of any monotonic one. */
#ifndef LD_DAEMON_BACKOFF_H
#define LD_DAEMON_BACKOFF_H

#include <stdbool.h>
#include <stddef.h>

#define LD_BACKOFF_STARTS 5    /* so many starts ... */
#define LD_BACKOFF_WITHIN 10.0 /* ... in this time are too many */
#define LD_BACKOFF_LEAST  0.1  /* the first delay */
#define LD_BACKOFF_MOST   30.0 /* and the longest */
#define LD_BACKOFF_HEALTH 10.0 /* ready for so long: the count of starts begins again */

/* Zeroed means: nothing was started yet. */
struct ld_backoff {
    double starts[LD_BACKOFF_STARTS]; /* when the last ones were; a ring */
    size_t count;                     /* of all starts */
    double delay;                     /* the last one */
};

/* Note that a host is started at NOW. */
void ld_backoff_note_start(struct ld_backoff *backoff, double now);

/* Whether there were too many starts in the time up to NOW for another one. */
bool ld_backoff_is_over(const struct ld_backoff *backoff, double now);

/* The delay before the next start, after a host that was ready for HEALTHY seconds. */
double ld_backoff_next(struct ld_backoff *backoff, double healthy);

#endif
