#include "clock.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

#include "base.h"

struct ld_clock {
    uv_poll_t poll;
    int fd; /* a timer that is never due, and is cancelled when the clock is set */
    void (*changed)(void *arg);
    void *arg;
};

/* The clock on the wall. */
int64_t ld_clock_now(void) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

/* Set the timer that is never due. */
static int arm(const struct ld_clock *clock) {
    const struct itimerspec never = {.it_value = {.tv_sec = INT64_MAX / 1000000000}};
    int flags = TFD_TIMER_ABSTIME | TFD_TIMER_CANCEL_ON_SET;
    return timerfd_settime(clock->fd, flags, &never, NULL) < 0 ? -errno : 0;
}

/* Handle a change. */
static void on_change(uv_poll_t *poll, int status, int events) {
    struct ld_clock *clock = LD_CONTAINER_OF(poll, struct ld_clock, poll);
    uint64_t expirations;
    (void)status;
    (void)events;
    if (read(clock->fd, &expirations, sizeof expirations) < 0 && errno == ECANCELED) {
        arm(clock);
        clock->changed(clock->arg);
    }
}

/* Watch the clock. */
int ld_clock_open(struct ld_clock **out, uv_loop_t *loop, void (*changed)(void *arg), void *arg) {
    struct ld_clock *clock = calloc(1, sizeof *clock);
    if (clock == NULL) {
        return -ENOMEM;
    }
    clock->changed = changed;
    clock->arg = arg;
    clock->fd = timerfd_create(CLOCK_REALTIME, TFD_CLOEXEC | TFD_NONBLOCK);
    int rc = clock->fd < 0 ? -errno : arm(clock);
    rc = rc == 0 ? uv_poll_init(loop, &clock->poll, clock->fd) : rc;
    if (rc < 0) {
        if (clock->fd >= 0) {
            close(clock->fd);
        }
        free(clock);
        return rc;
    }
    uv_poll_start(&clock->poll, UV_READABLE, on_change);
    uv_unref((uv_handle_t *)&clock->poll);
    *out = clock;
    return 0;
}

/* Free a watch after its handle is closed. */
static void on_close(uv_handle_t *handle) {
    struct ld_clock *clock = LD_CONTAINER_OF(handle, struct ld_clock, poll);
    close(clock->fd);
    free(clock);
}

/* Watch no more. */
void ld_clock_close(struct ld_clock *clock) {
    uv_close((uv_handle_t *)&clock->poll, on_close);
}
