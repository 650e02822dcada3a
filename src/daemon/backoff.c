#include "daemon/backoff.h"

/* Note a start. */
void ld_backoff_note_start(struct ld_backoff *backoff, double now) {
    backoff->starts[backoff->count % LD_BACKOFF_STARTS] = now;
    backoff->count++;
}

/* Check whether there were too many. The slot of the next start has the oldest of the last ones. */
bool ld_backoff_is_over(const struct ld_backoff *backoff, double now) {
    return backoff->count >= LD_BACKOFF_STARTS &&
           now - backoff->starts[backoff->count % LD_BACKOFF_STARTS] < LD_BACKOFF_WITHIN;
}

/* Compute the delay. */
double ld_backoff_next(struct ld_backoff *backoff, double healthy) {
    double delay = backoff->delay * 2;
    if (delay < LD_BACKOFF_LEAST || healthy >= LD_BACKOFF_HEALTH) {
        delay = LD_BACKOFF_LEAST;
    }
    backoff->delay = delay < LD_BACKOFF_MOST ? delay : LD_BACKOFF_MOST;
    return backoff->delay;
}
