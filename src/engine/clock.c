#include "engine/clock.h"

#include <uv.h>

#include "base/time.h"

static struct {
    bool is_frozen;
    uint64_t now;       /* while it is frozen */
    uint64_t frozen_at; /* likewise */
    int64_t real;       /* Unix time at that moment */
    uint64_t ahead;     /* of uv_hrtime, while it runs */
} clock_state;

/* The time at a moment of uv_hrtime. */
uint64_t ld_clock_at(uint64_t monotonic) {
    return clock_state.is_frozen ? clock_state.now : monotonic + clock_state.ahead;
}

/* The time now. */
uint64_t ld_clock_now(void) {
    return clock_state.is_frozen ? clock_state.now : uv_hrtime() + clock_state.ahead;
}

/* Unix time. */
int64_t ld_clock_real(void) {
    if (!clock_state.is_frozen) {
        return ld_time_real();
    }
    return clock_state.real + (int64_t)(clock_state.now - clock_state.frozen_at);
}

/* Freeze the clock. */
void ld_clock_freeze(int64_t real) {
    clock_state.now = ld_clock_now();
    clock_state.frozen_at = clock_state.now;
    clock_state.real = real;
    clock_state.is_frozen = true;
}

/* Move a frozen clock forward. */
void ld_clock_move(uint64_t now) {
    if (clock_state.is_frozen && now > clock_state.now) {
        clock_state.now = now;
    }
}

/* Let the clock run. */
void ld_clock_release(void) {
    if (clock_state.is_frozen) {
        uint64_t monotonic = uv_hrtime();
        clock_state.ahead = clock_state.now > monotonic ? clock_state.now - monotonic : 0;
        clock_state.is_frozen = false;
    }
}

/* Whether the clock is frozen. */
bool ld_clock_is_frozen(void) {
    return clock_state.is_frozen;
}

/* The moment of uv_hrtime at which the clock shows a time. */
uint64_t ld_clock_to_monotonic(uint64_t now) {
    return now > clock_state.ahead ? now - clock_state.ahead : 0;
}
