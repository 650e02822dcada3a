/* The reaper, by pidfds and by SIGCHLD alone. */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>
#include <uv.h>

#include "base/base.h"
#include "check.h"
#include "engine/reaper.h"
#include "engine/signals.h"
#include "engine/spawn.h"
#include "support.h"

#define MANY    200
#define TICK_MS 10

static bool use_pidfds;
static bool hear_sigchld;
static uv_loop_t loop;
static uv_timer_t tick;
static uint64_t begun;
static struct ld_reaper *reaper;

/* A child that is watched. */
struct child {
    struct ld_watch watch;
    struct ld_exit exit;
    int ended; /* how often it was told */
    void (*then)(struct child *child);
};

static struct child children[MANY];
static int ended;

/* Note the end of a child. */
static void on_exit_of(struct ld_watch *watch, const struct ld_exit *exit) {
    struct child *child = LD_CONTAINER_OF(watch, struct child, watch);
    child->exit = *exit;
    child->ended++;
    ended++;
    if (child->then != NULL) {
        child->then(child);
    }
}

/* Reap after SIGCHLD. */
static void on_signal(void *arg, int signo, bool by_kernel) {
    (void)arg;
    (void)by_kernel;
    CHECK_INT(SIGCHLD, signo);
    ld_reaper_sweep(reaper);
}

/* Give up when it takes too long. Called often: what a test waits for may come before the loop waits. */
static void on_tick(uv_timer_t *timer) {
    if (uv_now(timer->loop) - begun >= WAIT_SECONDS * 1000) {
        printf("    FAILED: it took too long\n");
        fflush(stdout);
        _exit(1);
    }
}

/* Begin with a loop. */
static void begin(void) {
    memset(children, 0, sizeof children);
    ended = 0;
    REQUIRE(uv_loop_init(&loop) == 0);
    begun = uv_now(&loop);
    uv_timer_init(&loop, &tick);
    uv_timer_start(&tick, on_tick, TICK_MS, TICK_MS);
    if (hear_sigchld) {
        REQUIRE(ld_signals_open() == 0 && ld_signals_catch(SIGCHLD) == 0);
        REQUIRE(ld_signals_attach(&loop, on_signal, NULL) == 0);
    }
    REQUIRE(ld_reaper_new(&reaper, &loop, use_pidfds) == 0);
}

/* End it; the loop must be empty then. */
static void end(void) {
    ld_reaper_close(reaper);
    if (hear_sigchld) {
        ld_signals_detach();
    }
    uv_close((uv_handle_t *)&tick, NULL);
    CHECK_INT(0, uv_run(&loop, UV_RUN_DEFAULT));
    CHECK_INT(0, uv_loop_close(&loop));
    if (hear_sigchld) {
        ld_signals_release(SIGCHLD);
        ld_signals_close();
    }
    CHECK(!ld_reaper_has_children());
}

/* Turn the loop until so many have ended. */
static void run_until(int count) {
    while (ended < count) {
        uv_run(&loop, UV_RUN_ONCE);
    }
    CHECK_INT(count, ended);
}

/* Watch a child. */
static void watch(struct child *child, pid_t pid) {
    child->watch.on_exit = on_exit_of;
    CHECK_INT(0, ld_reaper_watch(reaper, &child->watch, pid, -1));
    CHECK(ld_reaper_find(reaper, pid) == &child->watch);
    CHECK_INT(use_pidfds, child->watch.pidfd >= 0);
}

/* Start a shell as the house does, so that it has no copy of our descriptors. */
static pid_t spawn(const char *command, int in) {
    char *const argv[] = {(char[]){"sh"}, (char[]){"-c"}, (char *)(uintptr_t)command, NULL};
    char *const envp[] = {(char[]){"PATH=/usr/bin:/bin"}, NULL};
    const struct ld_spawn_fd fds[3] = {{0, in}, {1, 1}, {2, 2}};
    const struct ld_spawn spec = {.argv = argv,
                                  .envp = envp,
                                  .fds = fds,
                                  .fd_count = 3,
                                  .mask = -1,
                                  .identity = {(uid_t)-1, (gid_t)-1, NULL, -1}};
    const char *step;
    pid_t pid = 0;
    REQUIRE(ld_spawn_start(&spec, &pid, NULL, &step) == 0);
    return pid;
}

/* Start a child that ends with a status. */
static pid_t spawn_ending(int status) {
    char command[32];
    snprintf(command, sizeof command, "exit %d", status);
    return spawn(command, 0);
}

/* Start one that does not end by itself. */
static pid_t spawn_sleeper(void) {
    return spawn("exec sleep 1000", 0);
}

static void test_statuses(void) {
    static const int statuses[] = {0, 1, 2, 127, 128, 255};
    begin();
    for (int i = 0; i < (int)LD_COUNT(statuses); i++) {
        watch(&children[i], spawn_ending(statuses[i]));
    }
    run_until(LD_COUNT(statuses));
    for (int i = 0; i < (int)LD_COUNT(statuses); i++) {
        CHECK_INT(1, children[i].ended);
        CHECK(!children[i].exit.signaled && !children[i].exit.core);
        CHECK_INT(statuses[i], children[i].exit.status);
        CHECK(ld_reaper_find(reaper, children[i].watch.pid) == NULL);
    }
    end();
}

static void test_signaled(void) {
    static const int signals[] = {SIGTERM, SIGKILL, SIGUSR1, SIGALRM};
    begin();
    for (int i = 0; i < (int)LD_COUNT(signals); i++) {
        watch(&children[i], spawn_sleeper());
        kill(children[i].watch.pid, signals[i]);
    }
    run_until(LD_COUNT(signals));
    for (int i = 0; i < (int)LD_COUNT(signals); i++) {
        CHECK(children[i].exit.signaled && !children[i].exit.core);
        CHECK_INT(signals[i], children[i].exit.status);
    }
    end();
}

/* Whether a process is stopped. */
static bool is_stopped(void *arg) {
    return process_state(*(const pid_t *)arg) == 'T';
}

static void test_stopped_has_not_ended(void) {
    begin();
    watch(&children[0], spawn_sleeper());
    watch(&children[1], spawn_sleeper());
    kill(children[0].watch.pid, SIGSTOP);
    kill(children[1].watch.pid, SIGKILL);
    CHECK(wait_until(is_stopped, &children[0].watch.pid));
    run_until(1);
    CHECK_INT(0, children[0].ended);
    CHECK(is_stopped(&children[0].watch.pid));
    kill(children[0].watch.pid, SIGCONT);
    kill(children[0].watch.pid, SIGTERM);
    run_until(2);
    CHECK_INT(SIGTERM, children[0].exit.status);
    end();
}

static void test_many_at_once(void) {
    int gate[2];
    begin();
    REQUIRE(pipe2(gate, O_CLOEXEC) == 0);
    for (int i = 0; i < MANY; i++) {
        char command[32];
        snprintf(command, sizeof command, "read x; exit %d", i);
        watch(&children[i], spawn(command, gate[0]));
    }
    close(gate[0]);
    close(gate[1]);
    run_until(MANY);
    for (int i = 0; i < MANY; i++) {
        CHECK_INT(1, children[i].ended);
        CHECK_INT(i, children[i].exit.status);
    }
    end();
}

static void test_one_after_the_other(void) {
    begin();
    for (int i = 0; i < MANY; i++) {
        watch(&children[i], spawn_ending(i));
        run_until(i + 1);
        CHECK_INT(i, children[i].exit.status);
    }
    end();
}

static void test_ended_before_it_is_watched(void) {
    begin();
    pid_t pid = spawn_ending(7);
    CHECK(wait_gone(pid));
    watch(&children[0], pid);
    run_until(1);
    CHECK_INT(7, children[0].exit.status);
    end();
}

static void test_unwatch(void) {
    begin();
    for (int i = 0; i < 3; i++) {
        watch(&children[i], spawn_sleeper());
    }
    ld_reaper_unwatch(reaper, &children[1].watch);
    ld_reaper_unwatch(reaper, &children[1].watch); /* twice does nothing */
    CHECK(ld_reaper_find(reaper, children[1].watch.pid) == NULL);
    for (int i = 0; i < 3; i++) {
        kill(children[i].watch.pid, SIGTERM);
    }
    run_until(2);
    while (hear_sigchld && ld_reaper_has_children()) {
        uv_run(&loop, UV_RUN_ONCE); /* it is reaped all the same */
    }
    CHECK_INT(0, children[1].ended);
    if (!hear_sigchld) {
        CHECK(wait_gone(children[1].watch.pid));
        ld_reaper_sweep(reaper);
    }
    end();
}

/* Unwatch all others, whose ends are known as well. */
static void unwatch_others(struct child *child) {
    for (int i = 0; i < 10; i++) {
        if (&children[i] != child) {
            ld_reaper_unwatch(reaper, &children[i].watch);
            memset(&children[i], 0xFF, sizeof children[i]); /* it may be freed then */
        }
    }
}

static void test_unwatch_in_a_callback(void) {
    begin();
    for (int i = 0; i < 10; i++) {
        pid_t pid = spawn_ending(i);
        CHECK(wait_gone(pid));
        watch(&children[i], pid);
        children[i].then = unwatch_others;
    }
    run_until(1);
    ld_reaper_sweep(reaper);
    while (ld_reaper_has_children()) {
        uv_run(&loop, UV_RUN_ONCE);
    }
    CHECK_INT(1, ended);
    end();
}

/* Start another one in its place. */
static void start_another(struct child *child) {
    if (ended < MANY) {
        watch(child + 1, spawn_ending(ended));
        (child + 1)->then = start_another;
    }
}

static void test_watch_in_a_callback(void) {
    begin();
    watch(&children[0], spawn_ending(0));
    children[0].then = start_another;
    run_until(MANY);
    for (int i = 0; i < MANY; i++) {
        CHECK_INT(i, children[i].exit.status);
    }
    end();
}

static void test_wait(void) {
    struct ld_exit exit;
    begin();
    watch(&children[0], spawn_ending(9));
    watch(&children[1], spawn_ending(8));
    ld_reaper_wait(reaper, &children[0].watch, &exit);
    CHECK_INT(9, exit.status);
    CHECK(ld_reaper_find(reaper, children[0].watch.pid) == NULL);
    run_until(1);
    CHECK_INT(0, children[0].ended);
    CHECK_INT(8, children[1].exit.status);
    end();
}

/* Turn the loop; whether we have no child. */
static bool has_no_children(void *arg) {
    (void)arg;
    uv_run(&loop, UV_RUN_NOWAIT);
    return !ld_reaper_has_children();
}

static void test_orphans(void) {
    begin();
    watch(
        &children[0],
        spawn("i=0; while [ $i -lt 50 ]; do (sleep 0.1; exit $i) & i=$((i + 1)); done; exit 3", 0));
    run_until(1);
    CHECK_INT(3, children[0].exit.status);
    CHECK(ld_reaper_has_children());
    CHECK(wait_until(has_no_children, NULL)); /* they came to us and were reaped */
    CHECK_INT(1, ended);
    end();
}

static void test_close_while_watching(void) {
    begin();
    watch(&children[0], spawn_sleeper());
    watch(&children[1], spawn_sleeper());
    ld_reaper_close(reaper);
    CHECK_INT(2, ended);
    CHECK_INT(-1, children[0].exit.status);
    CHECK(!children[1].exit.signaled);
    end_child(children[0].watch.pid);
    end_child(children[1].watch.pid);
    REQUIRE(ld_reaper_new(&reaper, &loop, use_pidfds) == 0);
    end();
}

static void test_stolen(void) {
    begin();
    pid_t pid = spawn_ending(0);
    watch(&children[0], pid);
    wait_child(pid); /* other code reaps it */
    if (!use_pidfds) {
        ld_reaper_unwatch(reaper, &children[0].watch);
        end();
        return;
    }
    run_until(1);
    CHECK_INT(-1, children[0].exit.status);
    end();
}

/* A child that has ended, but stays with its tracer until that ends. */
static void reap_traced(void) {
    int ends[2];
    char byte;
    begin();
    REQUIRE(pipe2(ends, O_CLOEXEC) == 0);
    pid_t pid = spawn_sleeper();
    pid_t tracer = fork_bound();
    if (tracer == 0) {
        long rc = ptrace(PTRACE_SEIZE, pid, NULL, NULL);
        REQUIRE(write(ends[1], rc == 0 ? "y" : "n", 1) == 1);
        for (;;) {
            pause();
        }
    }
    watch(&children[0], pid);
    REQUIRE(read(ends[0], &byte, 1) == 1);
    if (byte == 'n') {
        check_skip("needs ptrace");
    }
    kill(pid, SIGKILL);
    CHECK(wait_gone(pid));
    alarm(10); /* the loop must go on turning */
    for (int i = 0; i < 20; i++) {
        uv_run(&loop, UV_RUN_NOWAIT);
    }
    kill(tracer, SIGKILL);
    wait_child(tracer);
    run_until(1);
    CHECK_INT(SIGKILL, children[0].exit.status);
    end();
}

static void test_traced(void) {
    check_in_child(reap_traced);
}

/* Without a descriptor for its pidfd a child cannot be watched. */
static void watch_without_descriptors(void) {
    begin();
    pid_t pid = spawn_ending(5);
    struct rlimit limit;
    getrlimit(RLIMIT_NOFILE, &limit);
    limit.rlim_cur = 3;
    REQUIRE(setrlimit(RLIMIT_NOFILE, &limit) == 0);
    CHECK_INT(use_pidfds ? -EMFILE : 0, ld_reaper_watch(reaper, &children[0].watch, pid, -1));
    CHECK_INT(!use_pidfds, ld_reaper_find(reaper, pid) != NULL);
    wait_child(pid);
}

static void test_no_descriptors(void) {
    check_in_child(watch_without_descriptors);
}

/* On a kernel without pidfds SIGCHLD announces every end. */
static void watch_on_old_kernel(void) {
    if (!use_pidfds || !hear_sigchld) {
        return;
    }
    begin();
    deny_syscall(SYS_pidfd_open, ENOSYS);
    pid_t pid = spawn_ending(5);
    children[0].watch.on_exit = on_exit_of;
    CHECK_INT(0, ld_reaper_watch(reaper, &children[0].watch, pid, -1));
    CHECK(children[0].watch.pidfd < 0);
    run_until(1);
    CHECK_INT(5, children[0].exit.status);
    end();
}

static void test_old_kernel(void) {
    check_in_child(watch_on_old_kernel);
}

static void test_new_fails(void) {
    struct ld_reaper *none = NULL;
    struct rlimit limit;
    struct rlimit few;
    begin();
    getrlimit(RLIMIT_NOFILE, &limit);
    few = limit;
    few.rlim_cur = 3;
    setrlimit(RLIMIT_NOFILE, &few);
    CHECK_INT(-EMFILE, ld_reaper_new(&none, &loop, use_pidfds));
    CHECK(none == NULL);
    setrlimit(RLIMIT_NOFILE, &limit);
    end();
}

/* Another process was forked without an exec, and so has a copy of every pidfd. */
static void reap_beside_copies(void) {
    begin();
    for (int i = 0; i < 10; i++) {
        watch(&children[i], spawn_ending(i));
    }
    pid_t copy = fork_bound();
    if (copy == 0) {
        for (;;) {
            pause();
        }
    }
    alarm(10);
    run_until(10);
    for (int i = 0; i < 20; i++) {
        uv_run(&loop, UV_RUN_NOWAIT);
    }
    for (int i = 0; i < 10; i++) {
        CHECK_INT(1, children[i].ended);
        CHECK_INT(i, children[i].exit.status);
    }
    end_child(copy);
    end();
}

static void test_copies(void) {
    check_in_child(reap_beside_copies);
}

static const struct check_case parts[] = {
    {"exit statuses", test_statuses},
    {"signals", test_signaled},
    {"one that is stopped has not ended", test_stopped_has_not_ended},
    {"200 at once", test_many_at_once},
    {"one after the other", test_one_after_the_other},
    {"one that ended before it was watched", test_ended_before_it_is_watched},
    {"one that is watched no more", test_unwatch},
    {"others unwatched in a callback", test_unwatch_in_a_callback},
    {"others started in a callback", test_watch_in_a_callback},
    {"waiting here and now", test_wait},
    {"closing tells who still watches", test_close_while_watching},
    {"one that other code has reaped", test_stolen},
    {"a child that is traced to its end", test_traced},
    {"pidfds of which a forked process has copies", test_copies},
    {"no descriptor left", test_no_descriptors},
    {"no descriptor left for the reaper", test_new_fails},
};

/* Run all parts in one mode. */
static void run_parts(bool pidfds, bool sigchld) {
    use_pidfds = pidfds;
    hear_sigchld = sigchld;
    for (size_t i = 0; i < LD_COUNT(parts); i++) {
        printf("    %s\n", parts[i].name);
        fflush(stdout);
        parts[i].run();
    }
}

static void test_by_pidfds(void) {
    run_parts(true, false);
}

static void test_by_both(void) {
    run_parts(true, true);
    printf("    orphans\n");
    test_orphans();
    printf("    a kernel without pidfds\n");
    test_old_kernel();
}

static void test_by_sigchld(void) {
    run_parts(false, true);
    printf("    orphans\n");
    test_orphans();
}

static const struct check_case cases[] = {
    {"by pidfds alone", test_by_pidfds},
    {"by pidfds and SIGCHLD", test_by_both},
    {"by SIGCHLD alone", test_by_sigchld},
};

CHECK_MAIN(cases)
