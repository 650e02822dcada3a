#include "engine/pulse.h"

#include <errno.h>
#include <stdatomic.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/time.h"
#include "engine/libc.h"

static struct {
    atomic_int set;  /* -1: none */
    atomic_int bell; /* an eventfd */
    atomic_bool waits;
    atomic_bool is_asleep; /* the watching thread */
    atomic_ullong turn;
    atomic_ullong since;
} pulse = {.set = -1, .bell = -1};

/* Begin. */
int ld_pulse_open(int set) {
    int bell = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (bell < 0) {
        return -errno;
    }
    atomic_store(&pulse.bell, bell);
    atomic_store(&pulse.waits, false);
    atomic_store(&pulse.is_asleep, false);
    atomic_store(&pulse.since, ld_time_coarse());
    atomic_store(&pulse.set, set);
    return 0;
}

/* End. */
void ld_pulse_close(void) {
    int bell = ld_pulse_give_up();
    if (bell >= 0) {
        close(bell);
    }
}

/* Give up. */
int ld_pulse_give_up(void) {
    atomic_store(&pulse.set, -1);
    atomic_store(&pulse.is_asleep, false);
    return atomic_exchange(&pulse.bell, -1);
}

/* Ring. */
void ld_pulse_ring(void) {
    const uint64_t one = 1;
    int saved = errno;
    int bell = atomic_load(&pulse.bell);
    if (bell >= 0 && write(bell, &one, sizeof one) < 0) {
        /* Only a full counter refuses, and that one is readable. */
    }
    errno = saved;
}

/* Wait for events. */
int ld_pulse_wait(int set, struct epoll_event *events, int most, int timeout_ms,
                  const sigset_t *mask) {
    if (set != atomic_load_explicit(&pulse.set, memory_order_relaxed)) {
        return ld_libc_epoll_pwait(set, events, most, timeout_ms, mask);
    }
    atomic_store_explicit(&pulse.waits, true, memory_order_release);
    int rc = ld_libc_epoll_pwait(set, events, most, timeout_ms, mask);
    atomic_store_explicit(&pulse.since, ld_time_coarse(), memory_order_relaxed);
    atomic_store_explicit(&pulse.turn, atomic_load_explicit(&pulse.turn, memory_order_relaxed) + 1,
                          memory_order_relaxed);
    atomic_store(&pulse.waits, false);
    if (atomic_load(&pulse.is_asleep) && atomic_exchange(&pulse.is_asleep, false)) {
        ld_pulse_ring();
    }
    return rc;
}

/* Look. */
void ld_pulse_look(struct ld_pulse *now) {
    now->waits = atomic_load(&pulse.waits);
    now->turn = atomic_load(&pulse.turn);
    now->since = atomic_load(&pulse.since);
}

/* Note that this thread is going to sleep. */
bool ld_pulse_may_sleep(void) {
    atomic_store(&pulse.is_asleep, true);
    if (atomic_load(&pulse.waits)) {
        return true;
    }
    atomic_store(&pulse.is_asleep, false);
    return false;
}

/* The bell's descriptor. */
int ld_pulse_bell(void) {
    return atomic_load(&pulse.bell);
}

/* Make the bell silent. */
void ld_pulse_hush(void) {
    uint64_t count;
    if (read(ld_pulse_bell(), &count, sizeof count) < 0) {
        /* It was silent. */
    }
}
