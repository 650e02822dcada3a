#include "timers.h"

#include <stdlib.h>

#include "base.h"

#define CHAIN 64 /* firings in one turn of the loop, if each arms the next for now */

struct ld_timers {
    struct ld_wheel wheel;
    uv_timer_t timer; /* for what is due later */
    uv_idle_t idle;   /* for what is due now, in the next turn of the loop: I/O is served between */
    unsigned open_handles;
    uint64_t wake; /* when we are to be woken */
    bool firing;
    ld_timers_fire *fire;
    void *arg;
    struct ld_lag *lag;
};

static void on_timer(uv_timer_t *handle);
static void on_idle(uv_idle_t *handle);

/* Ask the loop, NOW, to wake us at DUE. uv_timer_t counts whole milliseconds of the same clock, so the
 * next whole one is never early. One of 0 ms is not for what is due now: libuv would serve a chain
 * of those before any I/O. */
static void wake_at(struct ld_timers *timers, uint64_t due, uint64_t now) {
    timers->wake = due;
    uv_idle_stop(&timers->idle);
    if (due == LD_WHEEL_NEVER) {
        uv_timer_stop(&timers->timer);
        return;
    }
    if (due <= now) {
        uv_timer_stop(&timers->timer);
        uv_idle_start(&timers->idle, on_idle);
        return;
    }
    uint64_t due_ms = (due + 999999) / 1000000;
    uint64_t now_ms = uv_now(timers->timer.loop);
    uv_timer_start(&timers->timer, on_timer, due_ms > now_ms ? due_ms - now_ms : 0, 0);
}

/* Fire what is due at NOW; whether more may be fired at once. What is armed meanwhile waits. */
static bool fire_batch(struct ld_timers *timers, uint64_t now) {
    struct ld_wheel *wheel = &timers->wheel;
    ld_wheel_expire(wheel, now);
    bool go_on = wheel->batch_size > 0; /* else there is no memory for the batch */
    if (go_on) {
        ld_lag_add(timers->lag, now - wheel->batch[0].due);
    }
    timers->firing = true;
    for (size_t i = 0; i < wheel->batch_size; i++) {
        struct ld_timer_info *info;
        ld_timer timer = ld_wheel_fire(wheel, &wheel->batch[i], now, &info);
        if (timer != 0) {
            go_on &= timers->fire(timers->arg, timer, info);
        }
    }
    timers->firing = false;
    return go_on;
}

/* Fire what is due, and some of what is armed for now meanwhile: a turn of the loop for each firing of
 * a chain costs more than the firing. */
static void run(struct ld_timers *timers) {
    uint64_t now = uv_hrtime();
    uint64_t due = 0;
    size_t fired = 0;
    bool go_on = true;
    while (due <= now && fired < CHAIN && go_on) {
        go_on = fire_batch(timers, now);
        fired += timers->wheel.batch_size;
        due = ld_wheel_first_due(&timers->wheel);
        now = uv_hrtime();
    }
    wake_at(timers, due, now);
}

/* Handle the time of the next timer. */
static void on_timer(uv_timer_t *handle) {
    run(LD_CONTAINER_OF(handle, struct ld_timers, timer));
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
    ld_wheel_init(&timers->wheel, uv_hrtime());
    uv_timer_init(loop, &timers->timer);
    uv_idle_init(loop, &timers->idle);
    timers->timer.data = timers;
    timers->idle.data = timers;
    timers->open_handles = 2;
    timers->wake = LD_WHEEL_NEVER;
    timers->fire = fire;
    timers->arg = arg;
    timers->lag = lag;
    return timers;
}

/* Free everything after the last handle is closed. */
static void on_close(uv_handle_t *handle) {
    struct ld_timers *timers = handle->data;
    if (--timers->open_handles == 0) {
        ld_wheel_fini(&timers->wheel);
        free(timers);
    }
}

/* Drop all timers. */
void ld_timers_close(struct ld_timers *timers) {
    LD_ASSERT(!timers->firing);
    uv_close((uv_handle_t *)&timers->timer, on_close);
    uv_close((uv_handle_t *)&timers->idle, on_close);
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

/* Arm a timer. */
void ld_timers_arm(struct ld_timers *timers, ld_timer timer, uint64_t due, uint64_t interval) {
    ld_wheel_arm(&timers->wheel, timer, due, interval);
    if (!timers->firing && due < timers->wake) {
        wake_at(timers, due, uv_hrtime());
    }
}

/* Disarm a timer. The loop may still be woken for it once, for nothing. */
void ld_timers_disarm(struct ld_timers *timers, ld_timer timer) {
    ld_wheel_disarm(&timers->wheel, timer);
}

/* What is known of a timer. */
struct ld_timer_info *ld_timers_info(struct ld_timers *timers, ld_timer timer) {
    return ld_wheel_info(&timers->wheel, timer);
}

/* The armed timer after another. */
ld_timer ld_timers_next(struct ld_timers *timers, ld_timer previous) {
    return ld_wheel_next(&timers->wheel, previous);
}

/* How many are armed. */
size_t ld_timers_armed(const struct ld_timers *timers) {
    return timers->wheel.armed;
}
