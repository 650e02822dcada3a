#include "engine/advance.h"

#include <errno.h>
#include <stdlib.h>

#include "base/base.h"
#include "engine/clock.h"
#include "engine/timers.h"

#define QUIET_TURNS                                                                                \
    3 /* in which nothing is due, before the clock goes on: tasks are woken in them */
#define STILL_TURNS 1000  /* at one moment, before it is given up */
#define HELD_MS     20000 /* that something may hold the clock */

struct advance {
    uv_idle_t idle;
    uv_timer_t limit; /* while the clock is held */
    unsigned open_handles;
    uint64_t target;
    unsigned quiet;
    unsigned still; /* turns since the clock was moved */
    ld_advance_done *done;
    void *arg;
};

static struct advance *under_way;
static int holds;

static void on_idle(uv_idle_t *idle);

/* Free it when its handles are closed. */
static void on_close(uv_handle_t *handle) {
    struct advance *advance = handle->data;
    if (--advance->open_handles == 0) {
        free(advance);
    }
}

/* Leave the clock where it is. */
void ld_advance_cancel(void) {
    if (under_way != NULL) {
        uv_close((uv_handle_t *)&under_way->idle, on_close);
        uv_close((uv_handle_t *)&under_way->limit, on_close);
        under_way = NULL;
    }
}

/* End, and tell why if that is too early. */
static void finish(const char *why) {
    ld_advance_done *done = under_way->done;
    void *arg = under_way->arg;
    ld_advance_cancel();
    done(arg, why);
}

/* Give up a clock that is held too long. */
static void on_limit(uv_timer_t *timer) {
    (void)timer;
    finish("a faked command did not end within 20 s");
}

/* Wait in the loop until nothing holds the clock. */
static void wait_for_holds(struct advance *advance) {
    advance->quiet = 0;
    uv_idle_stop(&advance->idle);
    uv_timer_start(&advance->limit, on_limit, HELD_MS, 0);
}

/* Change the number of things that hold the clock. */
void ld_advance_hold(int count) {
    holds += count;
    if (holds <= 0 && under_way != NULL) {
        uv_timer_stop(&under_way->limit);
        uv_idle_start(&under_way->idle, on_idle);
    }
}

/* Move the clock to what is due next, or to the target. */
static void move(const struct advance *advance, uint64_t due) {
    bool has_arrived = due > advance->target;
    ld_clock_move(has_arrived ? advance->target : due);
    ld_timers_follow_clock();
    if (has_arrived) {
        finish(NULL);
    }
}

/* Go on, once in a turn of the loop. */
static void on_idle(uv_idle_t *idle) {
    struct advance *advance = LD_CONTAINER_OF(idle, struct advance, idle);
    uint64_t due = ld_timers_first_due();
    advance->quiet = due <= ld_clock_now() ? 0 : advance->quiet + 1;
    if (holds > 0) {
        wait_for_holds(advance);
    } else if (++advance->still > STILL_TURNS) {
        finish("timers without a delay keep arming each other");
    } else if (advance->quiet >= QUIET_TURNS) {
        advance->quiet = 0;
        advance->still = 0;
        move(advance, due);
    }
}

/* Begin to move the clock. */
int ld_advance_start(uv_loop_t *loop, uint64_t target, ld_advance_done *done, void *arg) {
    if (under_way != NULL || !ld_clock_is_frozen()) {
        return under_way != NULL ? -EBUSY : -EINVAL;
    }
    struct advance *advance = calloc(1, sizeof *advance);
    if (advance == NULL) {
        return -ENOMEM;
    }
    advance->target = target;
    advance->done = done;
    advance->arg = arg;
    advance->idle.data = advance;
    advance->limit.data = advance;
    advance->open_handles = 2;
    uv_timer_init(loop, &advance->limit);
    uv_idle_init(loop, &advance->idle);
    uv_idle_start(&advance->idle, on_idle);
    under_way = advance;
    return 0;
}
