#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <uv.h>

#include "check.h"
#include "engine/timers.h"
#include "support.h"

#define MS    1000000ULL
#define COUNT 500

static uv_loop_t loop;
static struct ld_timers *timers;
static struct ld_lag lag;
static void (*on_fire)(ld_timer timer);
static size_t fired;
static bool go_on;

/* What the engine calls. */
static void fire(void *arg, struct ld_timers *set) {
    struct ld_timer_info *info;
    ld_timer timer;
    CHECK(arg == &lag && set == timers);
    while ((timer = ld_timers_take(set, &info)) != 0) {
        CHECK(info == ld_timers_info(set, timer));
        CHECK(ld_wheel_is_there(timer, info));
        fired++;
        if (on_fire != NULL) {
            on_fire(timer);
        }
        if (!go_on) {
            return;
        }
    }
}

/* Begin with a loop. */
static void begin(void (*handler)(ld_timer timer)) {
    lag = (struct ld_lag){0};
    on_fire = handler;
    fired = 0;
    go_on = true;
    REQUIRE(uv_loop_init(&loop) == 0);
    timers = ld_timers_new(&loop, fire, &lag, &lag);
    REQUIRE(timers != NULL);
}

/* Close everything; the loop must be empty then. */
static void end(void) {
    ld_timers_close(timers);
    CHECK_INT(0, uv_run(&loop, UV_RUN_DEFAULT));
    CHECK_INT(0, uv_loop_close(&loop));
}

/* Make a timer that is due in NS. */
static ld_timer arm_new(uint64_t ns, uint64_t interval) {
    ld_timer timer = ld_timers_add(timers);
    REQUIRE(timer != 0);
    ld_timers_arm(timers, timer, uv_hrtime() + ns, interval);
    return timer;
}

static uint64_t last_due;

/* Check that a timer is not early, and does not come before one that was due before. */
static void check_time(ld_timer timer) {
    const struct ld_timer_info *info = ld_timers_info(timers, timer);
    CHECK(info != NULL && !info->armed);
    CHECK(uv_hrtime() >= info->due);
    CHECK(info->due >= last_due);
    last_due = info->due;
    ld_timers_free(timers, timer);
}

static void test_never_early(void) {
    last_due = 0;
    begin(check_time);
    for (int i = 0; i < COUNT; i++) {
        arm_new(random_below(100 * MS), 0);
    }
    CHECK_INT(0, fired); /* nothing fires at once */
    CHECK_INT(0, uv_run(&loop, UV_RUN_DEFAULT));
    CHECK_INT(COUNT, fired);
    CHECK_INT(0, ld_timers_armed(timers));
    CHECK(lag.total > 0);
    end();
}

static void test_short_ones_are_not_early(void) {
    last_due = 0;
    begin(check_time);
    for (int i = 0; i < 300; i++) {
        arm_new(random_below(3 * MS), 0);
        CHECK_INT(0, uv_run(&loop, UV_RUN_DEFAULT));
    }
    CHECK_INT(300, fired);
    end();
}

static ld_timer in_order[COUNT];
static size_t position;

/* Check that equal dues come as they were armed. */
static void check_order(ld_timer timer) {
    CHECK(timer == in_order[position]);
    position++;
}

static void test_equal_dues(void) {
    begin(check_order);
    position = 0;
    uint64_t due = uv_hrtime() + 5 * MS;
    for (int i = 0; i < COUNT; i++) {
        in_order[i] = ld_timers_add(timers);
    }
    for (int i = COUNT - 1; i >= 0; i--) {
        ld_timers_arm(timers, in_order[i], due + MS, 0); /* once in the wrong order */
    }
    for (int i = 0; i < COUNT; i++) {
        ld_timers_arm(timers, in_order[i], due, 0);
    }
    uv_run(&loop, UV_RUN_DEFAULT);
    CHECK_INT(COUNT, position);
    end();
}

static uint64_t first_due;
static uint64_t beats;

/* Check that each beat is at the start plus a multiple, and stop after some. */
static void check_beat(ld_timer timer) {
    const struct ld_timer_info *info = ld_timers_info(timers, timer);
    beats = fired + ld_timers_history(timers, timer, ld_timers_info(timers, timer))->missed;
    CHECK(info->armed);
    CHECK_INT(0, (info->due - first_due) % (2 * MS));
    CHECK(info->due == first_due + beats * 2 * MS);
    CHECK(uv_hrtime() >= info->due - 2 * MS);
    if (fired == 20) {
        while (uv_hrtime() < info->due + 9 * MS) { /* be busy for some beats */
        }
    }
    if (fired == 50) {
        ld_timers_disarm(timers, timer);
    }
}

static void test_beat(void) {
    begin(check_beat);
    ld_timer timer = ld_timers_add(timers);
    first_due = uv_hrtime() + 2 * MS;
    ld_timers_arm(timers, timer, first_due, 2 * MS);
    CHECK_INT(0, uv_run(&loop, UV_RUN_DEFAULT));
    CHECK_INT(50, fired);
    CHECK(ld_timers_history(timers, timer, ld_timers_info(timers, timer))->missed >= 4);
    CHECK(!ld_timers_info(timers, timer)->armed);
    end();
}

static int turns_of_io;
static int ends[2];

/* Be one link of a chain without delay, until I/O was seen. */
static void chain(ld_timer timer) {
    if (turns_of_io < 10 && fired < 1000000) {
        ld_timers_arm(timers, timer, uv_hrtime(), 0);
    }
}

/* See I/O, and ask for more. */
static void on_readable(uv_poll_t *poll, int status, int events) {
    char byte;
    (void)status;
    (void)events;
    CHECK(read(ends[0], &byte, 1) == 1);
    if (++turns_of_io < 10) {
        CHECK(write(ends[1], "x", 1) == 1);
    } else {
        uv_poll_stop(poll);
    }
}

static int uv_timers_fired;

/* See another timer of the loop. */
static void on_uv_timer(uv_timer_t *handle) {
    (void)handle;
    uv_timers_fired++;
}

static void test_chain_starves_nobody(void) {
    uv_poll_t poll;
    uv_timer_t timer;
    begin(chain);
    turns_of_io = 0;
    uv_timers_fired = 0;
    REQUIRE(pipe2(ends, O_CLOEXEC) == 0);
    uv_poll_init(&loop, &poll, ends[0]);
    uv_poll_start(&poll, UV_READABLE, on_readable);
    uv_timer_init(&loop, &timer);
    uv_timer_start(&timer, on_uv_timer, 0, 0);
    CHECK(write(ends[1], "x", 1) == 1);
    arm_new(0, 0);
    CHECK_INT(0, uv_run(&loop, UV_RUN_DEFAULT));
    CHECK_INT(10, turns_of_io);
    CHECK_INT(1, uv_timers_fired);
    CHECK(fired < 1000);
    uv_close((uv_handle_t *)&poll, NULL);
    uv_close((uv_handle_t *)&timer, NULL);
    close(ends[0]);
    close(ends[1]);
    end();
}

void *__real_realloc(void *block, size_t size);
void *__wrap_realloc(void *block, size_t size);

static bool without_memory;

void *__wrap_realloc(void *block, size_t size) {
    return without_memory ? NULL : __real_realloc(block, size);
}

static void test_without_memory(void) {
    begin(NULL);
    arm_new(0, 0);
    without_memory = true;
    CHECK(uv_run(&loop, UV_RUN_NOWAIT) != 0); /* it comes back */
    CHECK(uv_run(&loop, UV_RUN_NOWAIT) != 0);
    CHECK_INT(0, fired);
    without_memory = false;
    CHECK_INT(0, uv_run(&loop, UV_RUN_DEFAULT));
    CHECK_INT(1, fired);
    end();
}

static int turns;

/* Count the turns of the loop. */
static void on_turn(uv_prepare_t *prepare) {
    (void)prepare;
    turns++;
}

/* Arm ourselves again without delay, a thousand times. */
static void arm_again(ld_timer timer) {
    if (fired < 1000) {
        ld_timers_arm(timers, timer, uv_hrtime() - MS, 0);
    }
}

/* Run a chain of a thousand, which is GOING_ON or not, and count the turns of the loop. */
static void run_chain(bool going_on) {
    uv_prepare_t prepare;
    begin(arm_again);
    go_on = going_on;
    turns = 0;
    uv_prepare_init(&loop, &prepare);
    uv_prepare_start(&prepare, on_turn);
    uv_unref((uv_handle_t *)&prepare);
    arm_new(0, 0);
    uv_run(&loop, UV_RUN_DEFAULT);
    CHECK_INT(1000, fired);
    uv_close((uv_handle_t *)&prepare, NULL);
    end();
}

static void test_chain_takes_few_turns(void) {
    run_chain(true);
    CHECK(turns >= 10 && turns <= 50);
}

static void test_chain_waits_for_a_turn_if_asked(void) {
    run_chain(false);
    CHECK(turns >= 1000);
}

static uint64_t held_until;

/* Hold the loop for a while. */
static void hold(ld_timer timer) {
    const struct ld_timer_info *info = ld_timers_info(timers, timer);
    if (!info->repeats) {
        CHECK(uv_hrtime() >= info->due && info->due >= last_due);
        last_due = info->due;
    }
    held_until = uv_hrtime() + 20 * MS;
    while (uv_hrtime() < held_until) {
    }
}

static void test_slow_ones_take_turns(void) {
    uv_prepare_t prepare;
    begin(hold);
    turns = 0;
    last_due = 0;
    uv_prepare_init(&loop, &prepare);
    uv_prepare_start(&prepare, on_turn);
    uv_unref((uv_handle_t *)&prepare);
    uint64_t due = uv_hrtime() + MS;
    for (int i = 0; i < 10; i++) {
        ld_timers_arm(timers, ld_timers_add(timers), due + (uint64_t)i, 0);
    }
    uv_run(&loop, UV_RUN_DEFAULT);
    CHECK_INT(10, fired);
    CHECK(turns >= 9); /* the loop ends after the last one */
    uv_close((uv_handle_t *)&prepare, NULL);
    end();
}

static void test_close_in_the_middle(void) {
    begin(hold);
    last_due = 0;
    for (int i = 0; i < 10; i++) {
        arm_new(0, i % 2 == 0 ? MS : 0);
    }
    while (fired == 0) {
        uv_run(&loop, UV_RUN_NOWAIT);
    }
    CHECK(fired < 10); /* the rest waits for the next turn */
    CHECK(ld_timers_armed(timers) >= 5);
    size_t before = fired;
    ld_timers_close(timers);
    CHECK_INT(0, uv_run(&loop, UV_RUN_DEFAULT));
    CHECK_INT(before, fired);
    CHECK_INT(0, uv_loop_close(&loop));
}

static ld_timer victims[4];

/* Disarm, free, arm for later and leave alone what is due at the same time. */
static void change_others(ld_timer timer) {
    if (timer == victims[0]) {
        ld_timers_disarm(timers, victims[1]);
        ld_timers_free(timers, victims[2]);
        ld_timers_arm(timers, victims[3], uv_hrtime() + 5 * MS, 0);
        ld_timers_free(timers, timer); /* and the one that fires */
        arm_new(0, 0);
    } else {
        CHECK(timer != victims[1] && timer != victims[2]);
    }
}

static void test_changes_in_a_callback(void) {
    begin(change_others);
    uint64_t due = uv_hrtime() + MS;
    for (int i = 0; i < 4; i++) {
        victims[i] = ld_timers_add(timers);
        ld_timers_arm(timers, victims[i], due, 0);
    }
    uv_run(&loop, UV_RUN_DEFAULT);
    CHECK_INT(3, fired);
    CHECK(ld_timers_info(timers, victims[0]) == NULL);
    CHECK(ld_timers_info(timers, victims[2]) == NULL);
    CHECK(ld_timers_info(timers, victims[1]) != NULL);
    end();
}

static void test_rearm(void) {
    begin(NULL);
    ld_timer timer = arm_new(3600000 * MS, 0);
    uint64_t start = uv_hrtime();
    ld_timers_arm(timers, timer, start + 2 * MS, 0); /* sooner */
    uv_run(&loop, UV_RUN_DEFAULT);
    CHECK_INT(1, fired);
    ld_timers_arm(timers, timer, uv_hrtime() + MS, 0);
    ld_timers_arm(timers, timer, uv_hrtime() + 20 * MS, 0); /* later */
    uint64_t due = ld_timers_info(timers, timer)->due;
    uv_run(&loop, UV_RUN_DEFAULT);
    CHECK_INT(2, fired);
    CHECK(uv_hrtime() >= due);
    ld_timers_arm(timers, timer, uv_hrtime() + MS, 0);
    ld_timers_disarm(timers, timer);
    CHECK_INT(0, uv_run(&loop, UV_RUN_DEFAULT)); /* and the loop ends */
    CHECK_INT(2, fired);
    end();
}

static void test_arm_while_it_waits(void) {
    uv_timer_t other;
    begin(NULL);
    arm_new(3600000 * MS, 0);
    uv_timer_init(&loop, &other);
    CHECK(uv_run(&loop, UV_RUN_NOWAIT) != 0);
    arm_new(0, 0); /* due at once, between two turns */
    while (fired == 0) {
        uv_run(&loop, UV_RUN_ONCE);
    }
    CHECK_INT(1, ld_timers_armed(timers));
    uv_close((uv_handle_t *)&other, NULL);
    end();
}

static void test_close_while_armed(void) {
    begin(NULL);
    for (int i = 0; i < 1000; i++) {
        arm_new(random_below(10) * 1000 * MS, i % 2 == 0 ? MS : 0);
    }
    uv_run(&loop, UV_RUN_NOWAIT);
    size_t before = fired;
    ld_timers_close(timers);
    CHECK_INT(0, uv_run(&loop, UV_RUN_DEFAULT));
    CHECK_INT(before, fired);
    CHECK_INT(0, uv_loop_close(&loop));
    begin(NULL);
    end(); /* and one that was never used */
}

static void test_known(void) {
    begin(NULL);
    ld_timer expected = ld_timers_reserve(timers);
    ld_timer first = ld_timers_add(timers);
    CHECK(expected == first);
    CHECK_INT(0, ld_timers_next(timers, 0));
    ld_timers_arm(timers, first, uv_hrtime() + 1000 * MS, 7 * MS);
    ld_timer second = arm_new(1000 * MS, 0);
    ld_timer third = ld_timers_add(timers);
    CHECK_INT(2, ld_timers_armed(timers));
    ld_timer a = ld_timers_next(timers, 0);
    ld_timer b = ld_timers_next(timers, a);
    CHECK((a == first && b == second) || (a == second && b == first));
    CHECK_INT(0, ld_timers_next(timers, b));
    CHECK_INT(7 * MS, ld_timers_info(timers, first)->interval);
    CHECK(ld_timers_info(timers, first)->armed && !ld_timers_info(timers, third)->armed);
    ld_timers_free(timers, first);
    CHECK(ld_timers_info(timers, first) == NULL);
    CHECK_INT(1, ld_timers_armed(timers));
    end();
}

static const struct check_case cases[] = {
    {"timers fire in order and never early", test_never_early},
    {"timers of less than a millisecond are not early either", test_short_ones_are_not_early},
    {"equal dues fire in the order of arming", test_equal_dues},
    {"a beat does not drift, and missed ones are counted", test_beat},
    {"a chain of timers without delay starves nobody", test_chain_starves_nobody},
    {"without memory the loop continues, and they fire later", test_without_memory},
    {"a chain takes few turns of the loop", test_chain_takes_few_turns},
    {"but one each where the loop is to go on", test_chain_waits_for_a_turn_if_asked},
    {"slow ones that are due at once take a turn each", test_slow_ones_take_turns},
    {"some of them may be closed before their turn", test_close_in_the_middle},
    {"a callback may change any timer", test_changes_in_a_callback},
    {"a timer armed again fires at its new time alone", test_rearm},
    {"one that is armed between turns is not late", test_arm_while_it_waits},
    {"closing drops what is armed", test_close_while_armed},
    {"information about timers", test_known},
};

CHECK_MAIN(cases)
