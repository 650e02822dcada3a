#include <errno.h>
#include <uv.h>

#include "check.h"
#include "engine/advance.h"
#include "engine/clock.h"
#include "engine/timers.h"

#define SECOND 1000000000ULL

static uv_loop_t loop;
static struct ld_timers *timers;
static struct ld_lag lag;
static uint64_t began;
static uint64_t seen[16]; /* seconds after the beginning at which timers fired */
static size_t fired;
static ld_timer arms_another; /* when it fires */
static bool again;            /* what fires is armed for now */
static const char *stopped_by;
static bool has_arrived;

/* What the engine calls. */
static void fire(void *arg, struct ld_timers *set) {
    struct ld_timer_info *info;
    ld_timer timer;
    (void)arg;
    while ((timer = ld_timers_take(set, &info)) != 0) {
        seen[fired++ % 16] = (ld_clock_now() - began) / SECOND;
        if (timer == arms_another) {
            ld_timers_arm(timers, ld_timers_add(timers), ld_clock_now() + 5 * SECOND, 0);
        } else if (again) {
            ld_timers_arm(timers, timer, ld_clock_now(), 0);
        }
    }
}

/* Note that the clock has arrived. */
static void arrive(void *arg, const char *why) {
    CHECK(arg == &loop);
    has_arrived = true;
    stopped_by = why;
}

/* Begin with a loop, and a clock that stands. */
static void begin(void) {
    fired = 0;
    again = false;
    arms_another = 0;
    REQUIRE(uv_loop_init(&loop) == 0);
    timers = ld_timers_new(&loop, fire, NULL, &lag);
    REQUIRE(timers != NULL);
    ld_clock_freeze((int64_t)SECOND);
    began = ld_clock_now();
}

/* Move the clock, and let the loop turn until it is there. */
static void advance(uint64_t seconds) {
    has_arrived = false;
    CHECK(ld_advance_start(&loop, ld_clock_now() + seconds * SECOND, arrive, &loop) == 0);
    CHECK(ld_advance_start(&loop, 0, arrive, &loop) == -EBUSY);
    while (!has_arrived) {
        uv_run(&loop, UV_RUN_ONCE);
    }
}

/* End with what was made. */
static void end(void) {
    ld_timers_close(timers);
    uv_run(&loop, UV_RUN_DEFAULT);
    CHECK(uv_loop_close(&loop) == 0);
    ld_clock_release();
    CHECK(!ld_clock_is_frozen());
    CHECK(ld_clock_now() >= began);
}

/* Each timer fires at its own time, also those that are armed on the way. */
static void test_order(void) {
    begin();
    arms_another = ld_timers_add(timers);
    ld_timers_arm(timers, arms_another, began + 12 * SECOND, 0);
    ld_timers_arm(timers, ld_timers_add(timers), began + 10 * SECOND, 10 * SECOND);
    uv_run(&loop, UV_RUN_NOWAIT);
    CHECK(fired == 0 && ld_clock_now() == began);
    advance(30);
    CHECK(stopped_by == NULL);
    CHECK(fired == 5);
    CHECK(seen[0] == 10 && seen[1] == 12 && seen[2] == 17 && seen[3] == 20 && seen[4] == 30);
    CHECK(ld_clock_now() == began + 30 * SECOND);
    CHECK(ld_clock_real() == (int64_t)(31 * SECOND));
    end();
}

/* A clock that is held waits, and goes on. */
static void test_hold(void) {
    begin();
    ld_timers_arm(timers, ld_timers_add(timers), began + SECOND, 0);
    ld_advance_hold(1);
    has_arrived = false;
    CHECK(ld_advance_start(&loop, began + 2 * SECOND, arrive, &loop) == 0);
    for (int i = 0; i < 20; i++) {
        uv_run(&loop, UV_RUN_NOWAIT);
    }
    CHECK(fired == 0 && !has_arrived);
    ld_advance_hold(-1);
    while (!has_arrived) {
        uv_run(&loop, UV_RUN_ONCE);
    }
    CHECK(fired == 1);
    end();
}

/* Timers that arm each other for now do not hold the loop for ever; an advance can be given up. */
static void test_give_up(void) {
    begin();
    again = true;
    ld_timers_arm(timers, ld_timers_add(timers), began + SECOND, 0);
    advance(2);
    CHECK(stopped_by != NULL);
    again = false;
    CHECK(ld_advance_start(&loop, ld_clock_now() + SECOND, arrive, &loop) == 0);
    ld_advance_cancel();
    end();
    CHECK(ld_advance_start(&loop, 0, arrive, &loop) == -EINVAL);
}

static const struct check_case cases[] = {
    {"each timer fires at its own time, also what is armed on the way", test_order},
    {"a clock that is held waits, and goes on", test_hold},
    {"what never comes to rest is given up", test_give_up},
};

CHECK_MAIN(cases)
