/* Readiness of descriptors that other code owns: any number of waiters for each. One set a host. */
#ifndef LD_ENGINE_READINESS_H
#define LD_ENGINE_READINESS_H

#include <stdbool.h>
#include <sys/queue.h>
#include <uv.h>

struct ld_readiness;

/* One wait, in memory of the caller. */
struct ld_ready_wait {
    /* Called once, from the loop, when the wait is over: EVENTS (UV_READABLE, UV_WRITABLE) are those that
     * were waited for and have come, or a negative errno; -EBADF: the descriptor was closed. */
    void (*on_ready)(struct ld_ready_wait *wait, int events);
    int fd;
    int events;
    LIST_ENTRY(ld_ready_wait) link; /* while it lasts */
    bool is_waiting;
};

/* Make a set on LOOP; 0 or a negative errno. To be closed in either case, unless *READINESS is NULL. */
int ld_readiness_new(struct ld_readiness **readiness, uv_loop_t *loop);

/* Close it. Nothing waits any more. The memory is freed when the loop has closed the handles. */
void ld_readiness_close(struct ld_readiness *readiness);

/* The descriptor of the set. */
int ld_readiness_fd(const struct ld_readiness *readiness);

/* Wait until WAIT->fd is ready for one of WAIT->events, or has an error or hung up, which counts as ready
 * for all of them. A closed descriptor is noticed within a second. 0; 1 if it is always ready, as a
 * regular file is; or a negative errno. After 1 and an error nothing waits. */
int ld_readiness_wait(struct ld_readiness *readiness, struct ld_ready_wait *wait);

/* End all waits for FD, with -EBADF: its owner is about to close it. */
void ld_readiness_end(struct ld_readiness *readiness, int fd);

/* End a wait, without a call; twice does nothing. */
void ld_readiness_forget(struct ld_readiness *readiness, struct ld_ready_wait *wait);

#endif
