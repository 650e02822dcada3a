#include <errno.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>
#include <uv.h>

#include "check.h"
#include "engine/wall_clock.h"
#include "support.h"

int __real_timerfd_create(int clock, int flags);
int __wrap_timerfd_create(int clock, int flags);
int __real_timerfd_settime(int fd, int flags, const struct itimerspec *due, struct itimerspec *old);
int __wrap_timerfd_settime(int fd, int flags, const struct itimerspec *due, struct itimerspec *old);
ssize_t __real_read(int fd, void *bytes, size_t size);
ssize_t __wrap_read(int fd, void *bytes, size_t size);

/* A pipe instead of the kernel's timer. A byte in it means that the clock was set. */
static struct {
    bool on;
    int ends[2];
    int create_error;
    int arm_error;
    int read_error;
    int armed;
} fake;

/* Make a timer. */
int __wrap_timerfd_create(int clock, int flags) {
    CHECK_INT(CLOCK_REALTIME, clock);
    CHECK_INT(TFD_CLOEXEC | TFD_NONBLOCK, flags);
    errno = fake.create_error;
    if (fake.create_error != 0) {
        return -1;
    }
    return fake.on ? fake.ends[0] : __real_timerfd_create(clock, flags);
}

/* Arm a timer: it is never due, and cancelled when the clock is set. */
int __wrap_timerfd_settime(int fd, int flags, const struct itimerspec *due,
                           struct itimerspec *old) {
    CHECK_INT(TFD_TIMER_ABSTIME | TFD_TIMER_CANCEL_ON_SET, flags);
    CHECK_INT(0, due->it_interval.tv_sec);
    CHECK_INT(0, due->it_interval.tv_nsec);
    CHECK(due->it_value.tv_sec > time(NULL) + 200L * 365 * 86400);
    fake.armed++;
    errno = fake.arm_error;
    if (fake.arm_error != 0) {
        return -1;
    }
    return fake.on ? 0 : __real_timerfd_settime(fd, flags, due, old);
}

/* Read from a timer. */
ssize_t __wrap_read(int fd, void *bytes, size_t size) {
    if (!fake.on || fd != fake.ends[0]) {
        return __real_read(fd, bytes, size);
    }
    CHECK_INT(sizeof(uint64_t), size);
    CHECK_INT(1, __real_read(fd, bytes, 1));
    errno = fake.read_error;
    return -1;
}

/* Begin with a timer of ours. */
static void begin_fake(void) {
    fake.on = true;
    fake.create_error = fake.arm_error = fake.armed = 0;
    fake.read_error = ECANCELED;
    REQUIRE(pipe(fake.ends) == 0);
}

/* Put the kernel's back. */
static void end_fake(void) {
    close(fake.ends[1]);
    fake.on = false;
    fake.create_error = fake.arm_error = 0;
}

/* Do nothing: a timer that keeps a loop alive. */
static void on_timer(uv_timer_t *timer) {
    (void)timer;
}

/* Count a change. */
static void count(void *arg) {
    ++*(int *)arg;
}

static void test_real(void) {
    struct ld_wall_clock *clock;
    uv_loop_t loop;
    int changes = 0;
    uv_loop_init(&loop);
    CHECK_INT(0, ld_wall_clock_open(&clock, &loop, count, &changes));
    CHECK(!uv_loop_alive(&loop)); /* it does not keep the loop alive */
    uv_run(&loop, UV_RUN_NOWAIT);
    CHECK_INT(0, changes);
    ld_wall_clock_close(clock);
    uv_run(&loop, UV_RUN_DEFAULT);
    CHECK_INT(0, uv_loop_close(&loop));
}

static void test_changes(void) {
    struct ld_wall_clock *clock;
    uv_loop_t loop;
    uv_timer_t timer;
    int changes = 0;
    begin_fake();
    uv_loop_init(&loop);
    uv_timer_init(&loop, &timer);
    uv_timer_start(&timer, on_timer, 1000000, 0);
    CHECK_INT(0, ld_wall_clock_open(&clock, &loop, count, &changes));
    for (int i = 1; i <= 3; i++) {
        CHECK_INT(1, write(fake.ends[1], "x", 1));
        uv_run(&loop, UV_RUN_NOWAIT);
        CHECK_INT(i, changes);
        CHECK_INT(i + 1, fake.armed); /* for the next one */
    }
    fake.read_error = EAGAIN;
    CHECK_INT(1, write(fake.ends[1], "x", 1));
    uv_run(&loop, UV_RUN_NOWAIT);
    CHECK_INT(3, changes);
    ld_wall_clock_close(clock);
    uv_close((uv_handle_t *)&timer, NULL);
    uv_run(&loop, UV_RUN_DEFAULT);
    CHECK_INT(0, uv_loop_close(&loop));
    end_fake();
}

static void test_failures(void) {
    struct ld_wall_clock *clock = NULL;
    uv_loop_t loop;
    uv_loop_init(&loop);
    fake.create_error = EMFILE;
    CHECK_INT(-EMFILE, ld_wall_clock_open(&clock, &loop, count, NULL));
    fake.create_error = 0;
    fake.arm_error = EINVAL;
    CHECK_INT(-EINVAL, ld_wall_clock_open(&clock, &loop, count, NULL));
    fake.arm_error = 0;
    CHECK(clock == NULL);
    CHECK_INT(0, uv_loop_close(&loop));
}

static const struct check_case cases[] = {
    {"a clock that nobody sets", test_real},
    {"every change is told", test_changes},
    {"what cannot be watched leaves nothing behind", test_failures},
};

CHECK_MAIN(cases)
