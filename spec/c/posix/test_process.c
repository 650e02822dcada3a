#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include "check.h"
#include "posix/process.h"
#include "support.h"

static const pid_t unsafe_pids[] = {1, 0, -1, -2, -3, INT_MIN};

/* Whether a child lives and is not stopped. */
static bool is_unharmed(pid_t pid) {
    char state = process_state(pid);
    return state == 'S' || state == 'R';
}

/* In a namespace: what signals must not reach anybody by a pid below 2. */
static void signal_unsafe_pids(void) {
    pid_t victim = fork_sleeper();
    for (size_t i = 0; i < LD_COUNT(unsafe_pids); i++) {
        CHECK_INT(-EINVAL, ld_process_kill(unsafe_pids[i], SIGKILL));
        CHECK_INT(-EINVAL, ld_process_kill_group(unsafe_pids[i], SIGKILL));
        CHECK_INT(-EINVAL, ld_process_kill(unsafe_pids[i], 0));
        CHECK_INT(-EINVAL, ld_process_kill_group(unsafe_pids[i], 0));
        CHECK_INT(-EINVAL, ld_process_open(unsafe_pids[i]));
    }
    CHECK_INT(-EINVAL, ld_process_kill(-victim, SIGKILL));
    CHECK_INT(-EINVAL, ld_process_kill_group(-victim, SIGKILL));
    CHECK(ld_process_signal(-1, SIGKILL) < 0);
    CHECK(is_unharmed(victim));
    end_child(victim);
}

static void test_guard(void) {
    check_in_namespace(signal_unsafe_pids);
}

static void test_kill(void) {
    pid_t pid = fork_sleeper();
    CHECK_INT(0, ld_process_kill(pid, 0));
    CHECK_INT(0, ld_process_kill(pid, SIGTERM));
    int status = wait_child(pid);
    CHECK(WIFSIGNALED(status) && WTERMSIG(status) == SIGTERM);
    CHECK_INT(-ESRCH, ld_process_kill(pid, SIGTERM));
    CHECK_INT(-ESRCH, ld_process_kill_group(pid, SIGTERM));
    CHECK_INT(-EINVAL, ld_process_kill(getpid(), 1000));
}

static void test_kill_group(void) {
    int ends[2];
    REQUIRE(pipe2(ends, O_CLOEXEC) == 0);
    pid_t leader = fork_bound();
    if (leader == 0) {
        setpgid(0, 0);
        pid_t member = fork_sleeper();
        REQUIRE(write(ends[1], &member, sizeof member) == sizeof member);
        wait_child(member);
        pause();
    }
    pid_t member = 0;
    REQUIRE(read(ends[0], &member, sizeof member) == sizeof member);
    CHECK_INT(0, ld_process_kill_group(leader, SIGKILL));
    wait_child(leader);
    CHECK(wait_gone(member));
    close(ends[0]);
    close(ends[1]);
}

static void test_pidfd(void) {
    pid_t pid = fork_sleeper();
    int pidfd = ld_process_open(pid);
    CHECK(pidfd >= 0);
    CHECK_INT(FD_CLOEXEC, fcntl(pidfd, F_GETFD));
    CHECK(!ld_process_has_ended(pidfd, 0));
    uint64_t start = now_ns();
    CHECK(!ld_process_has_ended(pidfd, 30));
    CHECK(now_ns() - start >= 29000000);
    CHECK_INT(0, ld_process_signal(pidfd, 0));
    CHECK_INT(0, ld_process_signal(pidfd, SIGKILL));
    CHECK(ld_process_has_ended(pidfd, WAIT_SECONDS * 1000)); /* a zombie has ended */
    wait_child(pid);
    CHECK(ld_process_has_ended(pidfd, 0));
    CHECK_INT(-ESRCH, ld_process_signal(pidfd, SIGKILL));
    CHECK_INT(-ESRCH, ld_process_open(pid));
    close(pidfd);
}

static const struct check_case cases[] = {
    {"pids below 2 are refused", test_guard},
    {"a signal goes to one process", test_kill},
    {"a signal goes to a group", test_kill_group},
    {"a pidfd signals and tells of the end", test_pidfd},
};

CHECK_MAIN(cases)
