#include "engine/crash.h"

#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/time.h"
#include "base/writer.h"
#include "check.h"
#include "engine/c_stack.h"
#include "support.h"

static int out = -1; /* where the parts write */
static int bad = -1; /* the part that misbehaves */
static enum { FAULTS, ABORTS, HANGS } way;
static volatile int zero;
static int *volatile nowhere = (int *)16;

/* Write words. */
static void say(const char *words) {
    REQUIRE(write(out, words, strlen(words)) == (ssize_t)strlen(words));
}

/* Write the name of a part, and misbehave if it is the one. */
static void act(int number, const char *name) {
    say(name);
    if (number != bad) {
        return;
    }
    if (way == HANGS) {
        for (;;) {
            pause();
        }
    }
    if (way == ABORTS) {
        abort();
    }
    *nowhere = 1;
}

static void part_a(const struct ld_crash *crash, void *arg) {
    (void)arg;
    act(0, "a");
    say(crash->is_main ? "m" : "t");
}

static void part_b(const struct ld_crash *crash, void *arg) {
    (void)arg;
    CHECK(ld_crash_stop_main(crash));
    act(1, "b");
}

static void part_c(const struct ld_crash *crash, void *arg) {
    (void)crash;
    (void)arg;
    act(2, "c");
}

static void part_left(const struct ld_crash *crash, void *arg) {
    (void)arg;
    say(crash->is_late ? "late" : "left");
}

static void part_finish(const struct ld_crash *crash, void *arg) {
    (void)crash;
    (void)arg;
    act(3, "!");
}

static ld_crash_part *const parts[] = {part_a, part_b, part_c, NULL};
static const struct ld_crash_config config = {
    .parts = parts, .left = part_left, .finish = part_finish};

/* Crash in different ways. */
static void by_segv(void) {
    *nowhere = 1;
}

static void by_abort(void) {
    abort();
}

static int descend(const volatile char *above) {
    volatile char frame[1024] = {above[0]};
    return zero == 0 ? descend(frame) + frame[1] : 0;
}

static void by_overflow(void) {
    volatile char first = 1;
    zero = descend(&first);
}

static void *run_thread(void *arg) {
    by_segv();
    return arg;
}

static void by_thread(void) {
    pthread_t thread;
    REQUIRE(pthread_create(&thread, NULL, run_thread, NULL) == 0);
    pthread_join(thread, NULL);
}

/* Begin to handle crashes in a child, without those handlers that sanitizers have. */
static void begin(int fd) {
    static const int fatal[] = {SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGABRT};
    static const struct sigaction dfl = {.sa_handler = SIG_DFL};
    const struct rlimit none = {0};
    out = fd;
    setrlimit(RLIMIT_CORE, &none);
    for (size_t i = 0; i < sizeof fatal / sizeof fatal[0]; i++) {
        sigaction(fatal[i], &dfl, NULL);
    }
    REQUIRE(ld_crash_open(&config) == 0);
}

/* Crash in a child in one way, and check what the parts wrote and that the child died of SIGNO. */
static void check_crash(void (*crash)(void), int signo, const char *expected) {
    int ends[2];
    REQUIRE(pipe2(ends, O_CLOEXEC) == 0);
    fflush(stdout);
    pid_t pid = fork_bound();
    if (pid == 0) {
        begin(ends[1]);
        crash();
        _exit(0);
    }
    close(ends[1]);
    CHECK_STR(expected, read_fd(ends[0]));
    int status = wait_child(pid);
    CHECK_INT(signo, WIFSIGNALED(status) ? WTERMSIG(status) : 0);
    close(ends[0]);
    bad = -1;
    way = FAULTS;
}

static void test_ways(void) {
    check_crash(by_segv, SIGSEGV, "ambc!");
    check_crash(by_abort, SIGABRT, "ambc!");
    check_crash(by_overflow, SIGSEGV, "ambc!");
    check_crash(by_thread, SIGSEGV, "atbc!");
}

static void test_bad_parts(void) {
    bad = 0;
    check_crash(by_segv, SIGSEGV, "aleftbc!");
    bad = 1;
    check_crash(by_abort, SIGABRT, "ambleftc!"); /* the signal is still that of the crash */
    bad = 2;
    way = ABORTS;
    check_crash(by_segv, SIGSEGV, "ambcleft!");
    bad = 3;
    check_crash(by_abort, SIGABRT, "ambc!");
    bad = 1;
    check_crash(by_thread, SIGSEGV, "atbleftc!");
}

static void test_late(void) {
    uint64_t start = now_ns();
    bad = 1;
    way = HANGS;
    check_crash(by_segv, SIGSEGV, "amblate!"); /* what would follow has no time left */
    CHECK(now_ns() - start > 2 * (uint64_t)LD_TIME_SECOND);
}

/* Crash in a copy that fork did not announce. */
static void in_copy(void) {
    pid_t pid = (pid_t)syscall(SYS_fork);
    if (pid == 0) {
        by_segv();
        _exit(0);
    }
    int status = wait_child(pid);
    say(WIFSIGNALED(status) && WTERMSIG(status) == SIGSEGV ? "died" : "lived");
    raise(SIGKILL);
}

static void test_copy(void) {
    check_crash(in_copy, SIGKILL, "died");
}

/* Send signals from another process while the report is written. */
static void in_storm(void) {
    pid_t self = getpid();
    if (fork() == 0) {
        for (int i = 0; i < 1000 && kill(self, i % 2 == 0 ? SIGSEGV : SIGFPE) == 0; i++) {
        }
        _exit(0);
    }
    for (;;) {
        pause();
    }
}

static void test_storm(void) {
    int ends[2];
    REQUIRE(pipe2(ends, O_CLOEXEC) == 0);
    fflush(stdout);
    pid_t pid = fork_bound();
    if (pid == 0) {
        begin(ends[1]);
        in_storm();
    }
    close(ends[1]);
    CHECK_STR("ambc!", read_fd(ends[0]));
    CHECK(WIFSIGNALED(wait_child(pid)));
    close(ends[0]);
}

/* A handler of a library. */
static void handle(int signo) {
    (void)signo;
}

static void run_library(void) {
    struct sigaction action = {.sa_handler = handle};
    struct sigaction before;
    int result = 1;
    CHECK(!ld_crash_sigaction(SIGSEGV, &action, NULL, &result)); /* not open */
    REQUIRE(ld_crash_open(&config) == 0);
    CHECK(!ld_crash_sigaction(SIGTERM, &action, NULL, &result));
    CHECK(ld_crash_sigaction(SIGSEGV, &action, NULL, &result) && result == -1);
    CHECK(!ld_crash_sigaction(SIGSEGV, NULL, &before, &result));
    CHECK(ld_crash_sigaction(SIGABRT, &action, &before, &result) && result == 0);
    CHECK(before.sa_handler == SIG_DFL);
    CHECK(ld_crash_sigaction(SIGABRT, NULL, &before, &result) && before.sa_handler == handle);
    action.sa_flags = SA_SIGINFO;
    CHECK(!ld_crash_sigaction(SIGSEGV, &action, NULL, &result)); /* it knows where the fault is */
    ld_crash_close();
    sigaction(SIGSEGV, NULL, &before);
    CHECK(before.sa_handler == SIG_DFL || (before.sa_flags & SA_SIGINFO) != 0); /* a sanitizer's */
    ld_crash_close();
}

static void test_library(void) {
    check_in_child(run_library);
}

static const struct check_case cases[] = {
    {"every crash is reported, and kills as it would have", test_ways},
    {"a part that faults or aborts is left, and the others are written", test_bad_parts},
    {"a report that takes too long is ended", test_late},
    {"a copy of the process dies without a word", test_copy},
    {"signals from outside do not disturb a report", test_storm},
    {"a library cannot hide crashes, and may repair faults", test_library},
};

CHECK_MAIN(cases)
