#include "engine/timers.h"

#include <stdlib.h>
#include <sys/queue.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include "base/base.h"
#include "base/time.h"
#include "engine/clock.h"
#include "engine/turn.h"

#define CHAIN    64        /* firings in one turn of the loop, if each arms the next for now */
#define SOON_NS  100000000 /* up to then a timerfd wakes us: less than a millisecond matters */
#define APART_NS 300000    /* between two times that it does: what is due between is one batch */
#define MS_NS    1000000

struct ld_timers {
    struct ld_wheel wheel;
    uv_timer_t timer;  /* for what is due much later: it counts whole milliseconds */
    uv_poll_t precise; /* for what is due soon: a timerfd */
    uv_idle_t idle; /* for what is due now, in the next turn of the loop: I/O is served between */
    uv_prepare_t before_wait;
    uv_check_t after_wait;
    int fd;      /* of `precise`, or -1 */
    bool is_set; /* the timerfd will be readable, or is */
    unsigned open_handles;
    uint64_t wake; /* when the loop is asked to wake us */
    uint64_t last_run;
    bool firing;
    uint64_t start; /* of the turn that fires, by uv_hrtime */
    uint64_t now;   /* as it was last read while timers fire */
    size_t fired;   /* in this turn */
    ld_timers_fire *fire;
    void *arg;
    struct ld_lag *lag;
    LIST_ENTRY(ld_timers) link; /* of all sets */
};

static LIST_HEAD(, ld_timers) all_sets = LIST_HEAD_INITIALIZER(all_sets);

static void on_timer(uv_timer_t *handle);
static void on_precise(uv_poll_t *poll, int status, int events);
static void on_idle(uv_idle_t *handle);

/* Set a timerfd to DUE, LD_WHEEL_NEVER for none; false if it cannot be. Setting it makes it
 * unreadable again, so nothing has to be read from it. */
static bool set_fd(int fd, uint64_t due) {
    struct itimerspec when = {{0}, {0}};
    if (due != LD_WHEEL_NEVER) {
        due = ld_clock_to_monotonic(due);
        when.it_value.tv_sec = (time_t)(due / 1000000000);
        when.it_value.tv_nsec = (long)(due % 1000000000);
    }
    return timerfd_settime(fd, TFD_TIMER_ABSTIME, &when, NULL) == 0;
}

/* Make the timerfd if there is none; false on a failure: timers are then late by up to a
 * millisecond, and it is tried again. */
static bool ensure_precise(struct ld_timers *timers) {
    if (timers->fd >= 0) {
        return true;
    }
    int fd = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
    if (fd < 0) {
        return false;
    }
    if (!set_fd(fd, LD_WHEEL_NEVER) || uv_poll_init(timers->timer.loop, &timers->precise, fd) < 0) {
        close(fd);
        return false;
    }
    timers->fd = fd;
    timers->precise.data = timers;
    timers->open_handles++;
    uv_poll_start(&timers->precise, UV_READABLE, on_precise);
    uv_unref((uv_handle_t *)&timers->precise);
    return true;
}

/* Have the timerfd wake us at DUE, LD_WHEEL_NEVER for not at all. */
static void set_precise(struct ld_timers *timers, uint64_t due) {
    if (due != LD_WHEEL_NEVER || timers->is_set) {
        timers->is_set = set_fd(timers->fd, due) && due != LD_WHEEL_NEVER;
    }
}

/* Set the loop's own timer to DUE. It counts whole milliseconds of the same clock, so the next
 * whole one is never early. (The host calls uv_update_time before the loop waits; otherwise
 * libuv would wait longer by the time that the callbacks of this turn took.) */
static void set_coarse(struct ld_timers *timers, uint64_t due) {
    uint64_t due_ms = (ld_clock_to_monotonic(due) + MS_NS - 1) / MS_NS;
    uint64_t now_ms = uv_now(timers->timer.loop);
    uv_timer_start(&timers->timer, on_timer, due_ms > now_ms ? due_ms - now_ms : 0, 0);
}

/* Ask the loop to wake us for what is due at NOW, or not at all, because the clock is frozen. */
static void wake_frozen(struct ld_timers *timers, uint64_t due, uint64_t now) {
    timers->wake = due;
    set_precise(timers, LD_WHEEL_NEVER);
    uv_timer_stop(&timers->timer);
    if (due <= now) {
        uv_idle_start(&timers->idle, on_idle);
    } else {
        uv_idle_stop(&timers->idle);
    }
}

/* Ask the loop, NOW, to wake us at DUE. A uv_timer_t of 0 ms is not for what is due now: libuv
 * would serve a chain of those before any I/O. It backs up the timerfd, which a copy of this
 * process that a script has forked shares and may set. */
static void wake_at(struct ld_timers *timers, uint64_t due, uint64_t now) {
    if (ld_clock_is_frozen()) {
        wake_frozen(timers, due, now);
        return;
    }
    bool is_soon = due > now && due - now < SOON_NS && ensure_precise(timers);
    uint64_t earliest = timers->last_run + APART_NS;
    timers->wake = due;
    set_precise(timers, !is_soon ? LD_WHEEL_NEVER : due > earliest ? due : earliest);
    if (due <= now) {
        uv_timer_stop(&timers->timer);
        uv_idle_start(&timers->idle, on_idle);
        return;
    }
    uv_idle_stop(&timers->idle);
    if (due == LD_WHEEL_NEVER) {
        uv_timer_stop(&timers->timer);
    } else {
        set_coarse(timers, is_soon ? due + MS_NS : due);
    }
}

/* Collect what is due by now, some of it armed for now in this turn: a turn of the loop for each firing of
 * a chain costs more than the firing. False: nothing is, or memory ran out. */
static bool collect(struct ld_timers *timers) {
    uint64_t due = ld_wheel_first_due(&timers->wheel);
    if (timers->fired >= CHAIN) {
        return false;
    }
    if (due > timers->now) {
        timers->now = ld_clock_now();
    }
    if (due > timers->now) {
        return false;
    }
    ld_wheel_expire(&timers->wheel, timers->now);
    if (!ld_wheel_has_batch(&timers->wheel)) {
        return false;
    }
    ld_lag_add(timers->lag, timers->now - timers->wheel.batch[timers->wheel.batch_at].due);
    return true;
}

/* Whether this turn has time for another firing. */
static bool has_time(struct ld_timers *timers) {
    uint64_t later = ld_time_coarse();
    uint64_t shown = ld_clock_at(later);
    timers->now = shown > timers->now ? shown : timers->now;
    return later < timers->start + LD_TURN_NS;
}

/* Take the next timer to fire. */
ld_timer ld_timers_take(struct ld_timers *timers, struct ld_timer_info **info) {
    LD_ASSERT(timers->firing);
    while ((timers->fired == 0 || has_time(timers)) &&
           (ld_wheel_has_batch(&timers->wheel) || collect(timers))) {
        ld_timer timer = ld_wheel_fire(&timers->wheel, timers->now, info);
        if (timer != 0) {
            timers->fired++;
            return timer;
        }
    }
    return 0;
}

/* When something is due. */
static uint64_t next_due(struct ld_timers *timers) {
    return ld_wheel_has_batch(&timers->wheel) ? 0 : ld_wheel_first_due(&timers->wheel);
}

/* Note that the loop starts to wait. */
static void on_wait(uv_prepare_t *handle) {
    struct ld_timers *timers = LD_CONTAINER_OF(handle, struct ld_timers, before_wait);
    ld_wheel_note_idle(&timers->wheel, ld_clock_now(), 0);
}

/* Note until when the loop has waited: its own time is that, until it turns. */
static void note_waited(struct ld_timers *timers) {
    uint64_t woke = ld_clock_at((uv_now(timers->timer.loop) + 1) * MS_NS);
    ld_wheel_note_idle(&timers->wheel, timers->wheel.idle_from, woke);
}

/* Handle the end of a wait. */
static void on_waited(uv_check_t *handle) {
    note_waited(LD_CONTAINER_OF(handle, struct ld_timers, after_wait));
}

/* Fire what is due. */
static void run(struct ld_timers *timers) {
    timers->start = uv_hrtime();
    timers->now = ld_clock_at(timers->start);
    timers->fired = 0;
    timers->firing = true;
    timers->fire(timers->arg, timers);
    timers->firing = false;
    timers->last_run = ld_clock_at(timers->start);
    wake_at(timers, next_due(timers), ld_clock_now());
}

/* Handle the time of the next timer. */
static void on_timer(uv_timer_t *handle) {
    run(LD_CONTAINER_OF(handle, struct ld_timers, timer));
}

/* Handle the time of a timer that was due soon. */
static void on_precise(uv_poll_t *poll, int status, int events) {
    struct ld_timers *timers = LD_CONTAINER_OF(poll, struct ld_timers, precise);
    (void)status;
    (void)events;
    note_waited(timers);
    run(timers);
}

/* Handle timers that were due when they were armed. */
static void on_idle(uv_idle_t *handle) {
    run(LD_CONTAINER_OF(handle, struct ld_timers, idle));
}

/* Make a set of timers. */
struct ld_timers *ld_timers_new(uv_loop_t *loop, ld_timers_fire *fire, void *arg,
                                struct ld_lag *lag) {
    struct ld_timers *timers = calloc(1, sizeof *timers);
    if (timers == NULL) {
        return NULL;
    }
    ld_wheel_init(&timers->wheel, ld_clock_now());
    uv_timer_init(loop, &timers->timer);
    uv_idle_init(loop, &timers->idle);
    uv_prepare_init(loop, &timers->before_wait);
    uv_check_init(loop, &timers->after_wait);
    timers->timer.data = timers;
    timers->idle.data = timers;
    timers->before_wait.data = timers;
    timers->after_wait.data = timers;
    timers->open_handles = 4;
    uv_prepare_start(&timers->before_wait, on_wait);
    uv_check_start(&timers->after_wait, on_waited);
    uv_unref((uv_handle_t *)&timers->before_wait);
    uv_unref((uv_handle_t *)&timers->after_wait);
    timers->fd = -1;
    timers->wake = LD_WHEEL_NEVER;
    timers->fire = fire;
    timers->arg = arg;
    timers->lag = lag;
    LIST_INSERT_HEAD(&all_sets, timers, link);
    ensure_precise(timers);
    return timers;
}

/* Free everything after the last handle is closed. */
static void on_close(uv_handle_t *handle) {
    struct ld_timers *timers = handle->data;
    if (--timers->open_handles == 0) {
        if (timers->fd >= 0) {
            close(timers->fd);
        }
        ld_wheel_fini(&timers->wheel);
        free(timers);
    }
}

/* Drop all timers. */
void ld_timers_close(struct ld_timers *timers) {
    LD_ASSERT(!timers->firing);
    LIST_REMOVE(timers, link);
    if (timers->fd >= 0) {
        uv_close((uv_handle_t *)&timers->precise, on_close);
    }
    uv_close((uv_handle_t *)&timers->timer, on_close);
    uv_close((uv_handle_t *)&timers->idle, on_close);
    uv_close((uv_handle_t *)&timers->before_wait, on_close);
    uv_close((uv_handle_t *)&timers->after_wait, on_close);
}

/* Make a timer. */
ld_timer ld_timers_add(struct ld_timers *timers) {
    return ld_wheel_add(&timers->wheel);
}

/* The timer that will be made next. */
ld_timer ld_timers_reserve(struct ld_timers *timers) {
    return ld_wheel_reserve(&timers->wheel);
}

/* Free a timer. */
void ld_timers_free(struct ld_timers *timers, ld_timer timer) {
    ld_wheel_free(&timers->wheel, timer);
}

/* Have the loop wake us for what was armed NOW for DUE. */
static inline void ask_for(struct ld_timers *timers, uint64_t due, uint64_t now) {
    if (!timers->firing && due < timers->wake) {
        wake_at(timers, due, now);
    }
}

/* Arm a timer. */
void ld_timers_arm(struct ld_timers *timers, ld_timer timer, uint64_t due, uint64_t interval) {
    ld_wheel_arm(&timers->wheel, timer, due, interval);
    if (!timers->firing && due < timers->wake) {
        wake_at(timers, due, ld_clock_now());
    }
}

/* Make the timer that was reserved, armed. */
void ld_timers_start(struct ld_timers *timers, ld_timer reserved, uint64_t period, bool repeats) {
    uint64_t now = timers->now = ld_clock_now();
    ld_wheel_add_armed(&timers->wheel, reserved, now + period, repeats ? period : 0);
    ask_for(timers, now + period, now);
}

/* Arm the timer that INFO is of. */
void ld_timers_restart(struct ld_timers *timers, ld_timer timer, struct ld_timer_info *info,
                       uint64_t period, bool repeats) {
    uint64_t now = timers->now = ld_clock_now();
    ld_wheel_rearm(&timers->wheel, timer, info, now + period, repeats ? period : 0);
    ask_for(timers, now + period, now);
}

/* Disarm a timer. The loop may still be woken for it once, for nothing. */
void ld_timers_disarm(struct ld_timers *timers, ld_timer timer) {
    ld_wheel_disarm(&timers->wheel, timer);
}

/* Return the information about a timer. */
struct ld_timer_info *ld_timers_info(struct ld_timers *timers, ld_timer timer) {
    return ld_wheel_info(&timers->wheel, timer);
}

/* Return what a timer has done. */
struct ld_timer_history *ld_timers_history(struct ld_timers *timers, ld_timer timer,
                                           struct ld_timer_info *info) {
    return ld_wheel_history(&timers->wheel, timer, info);
}

/* The armed timer after another. */
ld_timer ld_timers_next(struct ld_timers *timers, ld_timer previous) {
    return ld_wheel_next(&timers->wheel, previous);
}

/* Look for an armed timer that is not hidden. */
bool ld_timers_look(const struct ld_timers *timers, uint32_t *at, ld_timer *timer) {
    return ld_wheel_look(&timers->wheel, at, timer);
}

/* How many are armed. */
size_t ld_timers_armed(const struct ld_timers *timers) {
    return timers->wheel.armed;
}

/* How many of them are not hidden. */
size_t ld_timers_shown(const struct ld_timers *timers) {
    return timers->wheel.armed - timers->wheel.hidden;
}

/* The earliest due time of all sets. */
uint64_t ld_timers_first_due(void) {
    struct ld_timers *timers;
    uint64_t first = LD_WHEEL_NEVER;
    LIST_FOREACH(timers, &all_sets, link) {
        uint64_t due = next_due(timers);
        first = due < first ? due : first;
    }
    return first;
}

/* Have all sets wait for what is due next by the clock as it is now. */
void ld_timers_follow_clock(void) {
    struct ld_timers *timers;
    uint64_t now = ld_clock_now();
    LIST_FOREACH(timers, &all_sets, link) {
        if (!timers->firing) {
            wake_at(timers, next_due(timers), now);
        }
    }
}
