#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>
#include <uv.h>

#include "check.h"
#include "engine/signals.h"
#include "support.h"

#define ODD_ERRNO 77

static unsigned long delivered[65];
static unsigned long from_kernel[65];

/* Count a delivery. */
static void count(void *arg, int signo, bool by_kernel) {
    CHECK(arg == delivered);
    delivered[signo]++;
    from_kernel[signo] += by_kernel;
}

/* Deliver what has arrived. */
static void deliver(void) {
    ld_signals_deliver(count, delivered);
}

/* Whether something waits for delivery. */
static bool is_readable(void) {
    struct pollfd poller = {.fd = ld_signals_fd(), .events = POLLIN};
    return poll(&poller, 1, 0) > 0;
}

/* Begin to catch some. */
static void begin(const int *signals) {
    REQUIRE(ld_signals_open() == 0);
    for (; *signals != 0; signals++) {
        CHECK_INT(0, ld_signals_catch(*signals));
    }
}

static void deliver_one(void) {
    begin((const int[]){SIGUSR1, SIGTERM, 0});
    CHECK_INT(FD_CLOEXEC, fcntl(ld_signals_fd(), F_GETFD));
    CHECK(!is_readable());
    kill(getpid(), SIGUSR1);
    CHECK(is_readable());
    CHECK_INT(0, delivered[SIGUSR1]); /* not in the handler */
    deliver();
    CHECK_INT(1, delivered[SIGUSR1]);
    CHECK_INT(0, delivered[SIGTERM]);
    CHECK(!is_readable());
    deliver();
    CHECK_INT(1, delivered[SIGUSR1]);
    ld_signals_close();
    CHECK_INT(-1, ld_signals_fd());
}

static void test_one(void) {
    check_in_child(deliver_one);
}

static void deliver_every(void) {
    REQUIRE(ld_signals_open() == 0);
    for (int signo = 1; signo <= SIGRTMAX; signo++) {
        if (signo != SIGKILL && signo != SIGSTOP && signo != 32 && signo != 33) {
            signal(signo, SIG_DFL); /* no handler of a sanitizer's, which would end us */
            CHECK_INT(0, ld_signals_catch(signo));
            kill(getpid(), signo);
        }
    }
    deliver();
    for (int signo = 1; signo <= SIGRTMAX; signo++) {
        bool possible = signo != SIGKILL && signo != SIGSTOP && signo != 32 && signo != 33;
        CHECK_INT(possible, delivered[signo]);
    }
    CHECK_INT(-EINVAL, ld_signals_catch(SIGKILL));
    CHECK_INT(-EINVAL, ld_signals_catch(SIGSTOP));
    CHECK_INT(-EINVAL, ld_signals_catch(SIGKILL)); /* the first attempt counts for nothing */
}

static void test_every(void) {
    check_in_child(deliver_every);
}

/* Send many of one signal, and one of another among them. */
static void send_storm(pid_t target, int storm, int single, int size) {
    for (int i = 0; i < size; i++) {
        if (kill(target, storm) < 0 || (i == size / 2 && kill(target, single) < 0)) {
            _exit(1);
        }
    }
    _exit(0);
}

static void deliver_storm(void) {
    begin((const int[]){SIGUSR1, SIGTERM, SIGCHLD, 0});
    pid_t sender = fork_bound();
    if (sender == 0) {
        send_storm(getppid(), SIGUSR1, SIGTERM, 20000); /* more than a pipe of libuv's takes */
    }
    CHECK_INT(0, wait_child(sender)); /* nothing is delivered meanwhile */
    deliver();
    CHECK_INT(1, delivered[SIGUSR1]);
    CHECK_INT(1, delivered[SIGTERM]);
    CHECK_INT(1, delivered[SIGCHLD]);
    CHECK(!is_readable());
    kill(getpid(), SIGTERM);
    deliver();
    CHECK_INT(2, delivered[SIGTERM]);
}

static void test_storm(void) {
    check_in_child(deliver_storm);
}

/* Storms while they are delivered: after the last arrival of each there is a delivery. */
static void deliver_last(void) {
    int gate[2];
    char byte;
    begin((const int[]){SIGUSR1, SIGUSR2, 0});
    REQUIRE(pipe2(gate, O_CLOEXEC) == 0);
    pid_t sender = fork_bound();
    if (sender == 0) {
        pid_t target = getppid();
        for (int i = 0; i < 20000; i++) {
            kill(target, i % 3 == 0 ? SIGUSR2 : SIGUSR1);
            if (i % 50 == 49) { /* wait until it is told how the last ones went */
                REQUIRE(read(gate[0], &byte, 1) == 1);
            }
        }
        _exit(0);
    }
    for (int round = 0; round < 400; round++) {
        unsigned long before[2] = {delivered[SIGUSR1], delivered[SIGUSR2]};
        struct pollfd poller = {.fd = ld_signals_fd(), .events = POLLIN};
        uint64_t deadline = now_ns() + WAIT_SECONDS * 1000000000ULL;
        while ((delivered[SIGUSR1] == before[0] || delivered[SIGUSR2] == before[1]) &&
               now_ns() < deadline) {
            poll(&poller, 1, 100);
            deliver();
        }
        CHECK(delivered[SIGUSR1] > before[0] && delivered[SIGUSR2] > before[1]);
        REQUIRE(write(gate[1], "", 1) == 1);
    }
    CHECK_INT(0, wait_child(sender));
}

static void test_last(void) {
    check_in_child(deliver_last);
}

static int order[8];
static int order_size;

/* Note the order; a handler may send signals itself. */
static void note_order(void *arg, int signo, bool by_kernel) {
    (void)arg;
    (void)by_kernel;
    order[order_size++] = signo;
    if (signo == SIGUSR1 && order_size == 1) {
        kill(getpid(), SIGUSR1);
        kill(getpid(), SIGHUP);
    }
}

static void send_in_handler(void) {
    begin((const int[]){SIGUSR1, SIGTERM, SIGHUP, 0});
    kill(getpid(), SIGUSR1);
    kill(getpid(), SIGTERM);
    ld_signals_deliver(note_order, NULL);
    CHECK_INT(2, order_size);
    CHECK(is_readable());
    ld_signals_deliver(note_order, NULL);
    CHECK_INT(4, order_size);
    CHECK_INT(SIGHUP, order[2]);
    CHECK_INT(SIGUSR1, order[3]);
}

static void test_sent_in_handler(void) {
    check_in_child(send_in_handler);
}

static void count_users(void) {
    begin((const int[]){SIGUSR1, SIGUSR1, SIGUSR2, 0});
    ld_signals_release(SIGUSR1);
    kill(getpid(), SIGUSR1);
    deliver();
    CHECK_INT(1, delivered[SIGUSR1]);
    ld_signals_release(SIGUSR1);
    struct sigaction action;
    sigaction(SIGUSR1, NULL, &action);
    CHECK(action.sa_handler == SIG_DFL);
    CHECK_INT(0, ld_signals_catch(SIGUSR1)); /* and again */
    kill(getpid(), SIGUSR1);
    deliver();
    CHECK_INT(2, delivered[SIGUSR1]);
    fflush(stdout);
    _exit(check_failures() > 0);
}

static void release_and_die(void) {
    begin((const int[]){SIGUSR1, 0});
    ld_signals_release(SIGUSR1);
    kill(getpid(), SIGUSR1);
}

static void test_users(void) {
    check_in_child(count_users);
    int status = run_in_child(release_and_die);
    CHECK(WIFSIGNALED(status) && WTERMSIG(status) == SIGUSR1);
}

static void begin_anew(void) {
    begin((const int[]){SIGUSR1, SIGUSR2, 0});
    kill(getpid(), SIGUSR1);
    pid_t pid = fork_bound();
    if (pid == 0) {
        REQUIRE(ld_signals_open() == 0);
        CHECK(!is_readable());
        deliver();
        CHECK_INT(0, delivered[SIGUSR1]); /* that was our parent's */
        CHECK_INT(0, ld_signals_catch(SIGUSR2));
        kill(getpid(), SIGUSR2);
        CHECK(is_readable());
        deliver();
        CHECK_INT(1, delivered[SIGUSR2]);
        fflush(stdout);
        _exit(check_failures() > 0);
    }
    CHECK_INT(0, wait_child(pid));
    deliver();
    CHECK_INT(1, delivered[SIGUSR1]); /* the child has taken nothing */
    CHECK_INT(0, delivered[SIGUSR2]);
}

static void test_fork(void) {
    check_in_child(begin_anew);
}

/* Make the kernel send SIGALRM, as it sends SIGHUP when a terminal hangs up. */
static void send_by_kernel(void) {
    struct itimerval timer = {.it_value = {.tv_usec = 1}};
    setitimer(ITIMER_REAL, &timer, NULL);
    while (!is_readable()) {
    }
}

static void tell_the_kernel(void) {
    begin((const int[]){SIGALRM, SIGUSR1, 0});
    send_by_kernel();
    deliver();
    CHECK_INT(1, from_kernel[SIGALRM]);
    kill(getpid(), SIGALRM);
    deliver();
    CHECK_INT(2, delivered[SIGALRM]);
    CHECK_INT(1, from_kernel[SIGALRM]); /* not that one */
    kill(getpid(), SIGUSR1);
    send_by_kernel();
    kill(getpid(), SIGALRM); /* one of each: at least one was the kernel's */
    struct itimerval timer = {.it_value = {.tv_usec = 1}};
    setitimer(ITIMER_REAL, &timer, NULL);
    do {
        getitimer(ITIMER_REAL, &timer);
    } while (timer.it_value.tv_usec > 0);
    deliver();
    CHECK_INT(2, from_kernel[SIGALRM]);
    CHECK_INT(0, from_kernel[SIGUSR1]);
}

static void test_kernel(void) {
    check_in_child(tell_the_kernel);
}

/* However a signal falls between the steps of a delivery: all are the kernel's. */
static void never_mistake_the_kernel(void) {
    int ends[2];
    char byte;
    begin((const int[]){SIGIO, 0});
    REQUIRE(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) == 0);
    REQUIRE(fcntl(ends[0], F_SETOWN, getpid()) == 0 && fcntl(ends[0], F_SETFL, O_ASYNC) == 0);
    uint64_t deadline = now_ns() + 2000000000;
    pid_t sender = fork_bound();
    if (sender == 0) {
        while (now_ns() < deadline) { /* there and back: the kernel says SIGIO to our parent */
            REQUIRE(write(ends[1], "x", 1) == 1 && read(ends[0], &byte, 1) == 1);
        }
        _exit(0);
    }
    while (now_ns() < deadline) {
        deliver();
    }
    CHECK_INT(0, wait_child(sender));
    deliver();
    CHECK(delivered[SIGIO] > 0);
    CHECK_INT(delivered[SIGIO], from_kernel[SIGIO]);
}

static void test_kernel_storm(void) {
    check_in_child(never_mistake_the_kernel);
}

static void keep_errno(void) {
    begin((const int[]){SIGUSR1, 0});
    uint64_t most = UINT64_MAX - 1;
    errno = ODD_ERRNO;
    kill(getpid(), SIGUSR1);
    CHECK_INT(ODD_ERRNO, errno);
    deliver();
    REQUIRE(write(ld_signals_fd(), &most, sizeof most) == sizeof most); /* a full counter */
    errno = ODD_ERRNO;
    kill(getpid(), SIGUSR1);
    CHECK_INT(ODD_ERRNO, errno);
    deliver();
    CHECK_INT(2, delivered[SIGUSR1]);
}

static void test_errno(void) {
    check_in_child(keep_errno);
}

static void restart_calls(void) {
    int ends[2];
    char byte;
    begin((const int[]){SIGALRM, 0});
    REQUIRE(pipe2(ends, O_CLOEXEC) == 0);
    pid_t writer = fork_bound();
    if (writer == 0) {
        kill(getppid(), SIGALRM);
        for (int i = 0; i < 100; i++) {
            kill(getppid(), SIGALRM);
            poll(NULL, 0, 1);
        }
        _exit(write(ends[1], "x", 1) != 1);
    }
    CHECK_INT(1, read(ends[0], &byte, 1)); /* and not EINTR */
    deliver();
    CHECK(delivered[SIGALRM] > 0);
    CHECK_INT(0, wait_child(writer));
}

static void test_restart(void) {
    check_in_child(restart_calls);
}

static uv_loop_t loop;

/* Deliver from the loop. */
static void count_in_loop(void *arg, int signo, bool by_kernel) {
    count(arg, signo, by_kernel);
    if (signo == SIGTERM) {
        ld_signals_detach();
    }
}

/* Give up. */
static void on_deadline(uv_timer_t *timer) {
    (void)timer;
    REQUIRE(false);
}

static void deliver_in_loop(void) {
    uv_timer_t keep;
    begin((const int[]){SIGUSR1, SIGTERM, 0});
    kill(getpid(), SIGUSR1); /* before anybody listens */
    REQUIRE(uv_loop_init(&loop) == 0);
    CHECK_INT(0, ld_signals_attach(&loop, count_in_loop, delivered));
    CHECK_INT(0, uv_run(&loop, UV_RUN_NOWAIT)); /* it keeps no loop alive */
    uv_timer_init(&loop, &keep);
    uv_timer_start(&keep, on_deadline, WAIT_SECONDS * 1000, 0);
    uv_run(&loop, UV_RUN_NOWAIT);
    CHECK_INT(1, delivered[SIGUSR1]);
    pid_t sender = fork_bound();
    if (sender == 0) {
        send_storm(getppid(), SIGUSR1, SIGTERM, 10000);
    }
    while (delivered[SIGTERM] == 0) {
        uv_run(&loop, UV_RUN_ONCE);
    }
    CHECK_INT(0, wait_child(sender));
    uv_close((uv_handle_t *)&keep, NULL);
    CHECK_INT(0, uv_run(&loop, UV_RUN_DEFAULT));
    CHECK_INT(0, uv_loop_close(&loop));
    CHECK_INT(1, delivered[SIGTERM]);
    ld_signals_close();
}

static void test_loop(void) {
    check_in_child(deliver_in_loop);
}

static const struct check_case cases[] = {
    {"a signal is delivered once, outside of its handler", test_one},
    {"every signal that can be caught is delivered", test_every},
    {"a storm is one delivery and hides nothing", test_storm},
    {"there is a delivery after the last arrival", test_last},
    {"a signal that a handler sends comes next", test_sent_in_handler},
    {"a signal is caught until all have released it", test_users},
    {"a forked child starts again", test_fork},
    {"the kernel's signals are told from others", test_kernel},
    {"the kernel's signals are never mistaken for others", test_kernel_storm},
    {"the handler keeps errno", test_errno},
    {"system calls go on after a signal", test_restart},
    {"signals are delivered from a loop", test_loop},
};

CHECK_MAIN(cases)
