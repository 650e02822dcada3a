/* Whether the loop waits for events, or is in callbacks, and since when: for a thread that watches it.
 * The loop tells that at the price of a few stores in each turn; only if the watching thread sleeps, it
 * wakes it by one write. One loop a process. */
#ifndef LD_ENGINE_PULSE_H
#define LD_ENGINE_PULSE_H

#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/epoll.h>

/* Watch the loop whose epoll descriptor is SET; it is taken to be in callbacks until it waits. 0 or a
 * negative errno. */
int ld_pulse_open(int set);

/* Stop watching; the watching thread has ended. */
void ld_pulse_close(void);

/* In a copy of the process, which has no watching thread. The descriptor of the bell, or -1. */
int ld_pulse_give_up(void);

/* Do what epoll_pwait does; all calls of the process come here, with MASK NULL those of epoll_wait. */
int ld_pulse_wait(int set, struct epoll_event *events, int most, int timeout_ms,
                  const sigset_t *mask);

/* A look at the loop. */
struct ld_pulse {
    bool waits;
    uint64_t turn;  /* the number of the turn; another one: the loop has waited meanwhile */
    uint64_t since; /* ld_time_monotonic of the end of the last wait, to 10 ms */
};

/* The rest is for the watching thread. Look at the loop. */
void ld_pulse_look(struct ld_pulse *pulse);

/* Note that this thread is going to sleep until the bell rings: then the loop rings it when it has
 * something to do. False if it has already: do not sleep. */
bool ld_pulse_may_sleep(void);

/* The descriptor that is readable when the bell has rung, and what makes it silent. */
int ld_pulse_bell(void);
void ld_pulse_hush(void);

/* Ring the bell, from any thread or a signal handler. */
void ld_pulse_ring(void);

#endif
