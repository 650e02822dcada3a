#include "engine/wall_clock.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

#include "base/base.h"

struct ld_wall_clock {
    uv_poll_t poll;
    int fd;             /* a timer that is never due, and is cancelled when the clock is set */
    uv_fs_event_t etc;  /* where the zone's file is, or the link to it, which is replaced */
    uv_fs_event_t zone; /* the file itself, which is overwritten */
    unsigned open_handles;
    void (*changed)(void *arg);
    void *arg;
    LIST_ENTRY(ld_wall_clock) link; /* of all */
};

static LIST_HEAD(, ld_wall_clock) all_clocks = LIST_HEAD_INITIALIZER(all_clocks);

/* Set the timer that is never due. */
static int arm(const struct ld_wall_clock *clock) {
    const struct itimerspec never = {.it_value = {.tv_sec = INT64_MAX / 1000000000}};
    int flags = TFD_TIMER_ABSTIME | TFD_TIMER_CANCEL_ON_SET;
    return timerfd_settime(clock->fd, flags, &never, NULL) < 0 ? -errno : 0;
}

/* Handle a change. */
static void on_change(uv_poll_t *poll, int status, int events) {
    struct ld_wall_clock *clock = LD_CONTAINER_OF(poll, struct ld_wall_clock, poll);
    uint64_t expirations;
    (void)status;
    (void)events;
    if (read(clock->fd, &expirations, sizeof expirations) < 0 && errno == ECANCELED) {
        arm(clock);
        clock->changed(clock->arg);
    }
}

static void on_zone(uv_fs_event_t *zone, const char *name, int events, int status);

/* Watch the zone's file, if there is one and that can be done. */
static void watch_zone(struct ld_wall_clock *clock) {
    uv_fs_event_stop(&clock->zone);
    uv_fs_event_start(&clock->zone, on_zone, "/etc/localtime", 0);
}

/* Handle a change of the zone's file: it may be another one now. */
static void on_zone(uv_fs_event_t *zone, const char *name, int events, int status) {
    struct ld_wall_clock *clock = zone->data;
    (void)name;
    (void)events;
    if (status == 0) {
        watch_zone(clock);
        clock->changed(clock->arg);
    }
}

/* Handle a change in /etc. */
static void on_etc(uv_fs_event_t *etc, const char *name, int events, int status) {
    if (name != NULL && strcmp(name, "localtime") == 0) {
        on_zone(etc, name, events, status);
    }
}

/* Watch the system's zone, if that can be done. */
static void watch_etc(struct ld_wall_clock *clock, uv_loop_t *loop) {
    uv_fs_event_init(loop, &clock->etc);
    uv_fs_event_init(loop, &clock->zone);
    clock->etc.data = clock;
    clock->zone.data = clock;
    clock->open_handles += 2;
    uv_fs_event_start(&clock->etc, on_etc, "/etc", 0);
    watch_zone(clock);
    uv_unref((uv_handle_t *)&clock->etc);
    uv_unref((uv_handle_t *)&clock->zone);
}

/* Watch the clock. */
int ld_wall_clock_open(struct ld_wall_clock **out, uv_loop_t *loop, void (*changed)(void *arg),
                       void *arg) {
    struct ld_wall_clock *clock = calloc(1, sizeof *clock);
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
    clock->poll.data = clock;
    clock->open_handles = 1;
    watch_etc(clock, loop);
    LIST_INSERT_HEAD(&all_clocks, clock, link);
    *out = clock;
    return 0;
}

/* Free a watch after its last handle is closed. */
static void on_close(uv_handle_t *handle) {
    struct ld_wall_clock *clock = handle->data;
    if (--clock->open_handles == 0) {
        close(clock->fd);
        free(clock);
    }
}

/* Stop watching. */
void ld_wall_clock_close(struct ld_wall_clock *clock) {
    LIST_REMOVE(clock, link);
    uv_close((uv_handle_t *)&clock->poll, on_close);
    uv_close((uv_handle_t *)&clock->etc, on_close);
    uv_close((uv_handle_t *)&clock->zone, on_close);
}

/* Tell all that the clock was set. */
void ld_wall_clock_note_set(void) {
    struct ld_wall_clock *clock;
    LIST_FOREACH(clock, &all_clocks, link) {
        clock->changed(clock->arg);
    }
}
