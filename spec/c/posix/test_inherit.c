#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>
#include <unistd.h>

#include "check.h"
#include "posix/family.h"
#include "posix/inherit.h"
#include "support.h"

#define SIGNALS 64

#ifdef __SANITIZE_ADDRESS__
#define IS_SANITIZED true
#else
#define IS_SANITIZED false
#endif

/* Whether a descriptor is open. */
static bool is_open(int fd) {
    return fcntl(fd, F_GETFD) >= 0;
}

/* Whether a descriptor is /dev/null, for reading and writing, and stays so over an exec. */
static bool is_null(int fd) {
    struct stat facts = {0};
    return fstat(fd, &facts) == 0 && facts.st_rdev == makedev(1, 3) &&
           (fcntl(fd, F_GETFL) & O_ACCMODE) == O_RDWR && fcntl(fd, F_GETFD) == 0;
}

/* Close the standard descriptors whose bits are in WHICH, fill them, and see. */
static int fill_std(int which) {
    pid_t pid = fork_bound();
    if (pid == 0) {
        int errors = 0;
        int ends[2];
        REQUIRE(pipe(ends) == 0);
        for (int fd = 0; fd <= 2; fd++) {
            dup2(ends[0], fd);
        }
        for (int fd = 0; fd <= 2; fd++) {
            if ((which & 1 << fd) != 0) {
                close(fd);
            }
        }
        closefrom(3);
        ld_inherit_fill_std();
        for (int fd = 0; fd <= 2; fd++) {
            errors += is_null(fd) != ((which & 1 << fd) != 0);
        }
        _exit(errors + is_open(3));
    }
    int status = wait_child(pid);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

static void test_fill_std(void) {
    for (int which = 0; which < 8; which++) {
        CHECK_INT(0, fill_std(which));
    }
}

static bool without_close_range;
static int spared = -1;

/* Open descriptors here and there, and seal them, sparing one of them. */
static void seal(bool keep_open) {
    static const int fds[] = {3, 5, 17, 200, 900};
    if (without_close_range) {
        deny_syscall(SYS_close_range, ENOSYS);
    }
    for (size_t i = 0; i < LD_COUNT(fds); i++) {
        REQUIRE(dup2(1, fds[i]) == fds[i]);
    }
    ld_inherit_seal_fds(keep_open, spared);
    for (int fd = 0; fd <= 2; fd++) {
        CHECK_INT(0, fcntl(fd, F_GETFD));
    }
    for (int fd = 3; fd < 1024; fd++) {
        CHECK(keep_open || fd == spared || !is_open(fd));
        CHECK(!is_open(fd) || fcntl(fd, F_GETFD) == FD_CLOEXEC);
    }
    for (size_t i = 0; i < LD_COUNT(fds); i++) {
        CHECK_INT(keep_open || fds[i] == spared, is_open(fds[i]));
    }
}

static void seal_closing(void) {
    seal(false);
}

static void seal_keeping(void) {
    seal(true);
}

static void test_seal(void) {
    without_close_range = false;
    check_in_child(seal_closing);
    check_in_child(seal_keeping);
}

static void test_seal_all_but_one(void) {
    static const int fds[] = {3, 17, 900};
    for (size_t i = 0; i < LD_COUNT(fds); i++) {
        spared = fds[i];
        without_close_range = false;
        check_in_child(seal_closing);
        check_in_child(seal_keeping);
        without_close_range = true;
        check_in_child(seal_closing);
    }
    spared = -1;
}

static void test_seal_on_old_kernels(void) {
    without_close_range = true;
    check_in_child(seal_closing);
    check_in_child(seal_keeping);
}

/* What the kernel has for a signal. */
struct kernel_action {
    void (*handler)(int);
    unsigned long flags;
    void (*restorer)(void);
    unsigned long mask;
};

/* The disposition of any signal, those of the C library too. */
static struct kernel_action action_of(int signo) {
    struct kernel_action action = {.handler = SIG_ERR};
    syscall(SYS_rt_sigaction, signo, NULL, &action, sizeof action.mask);
    return action;
}

static void on_signal(int signo) {
    (void)signo;
}

/* Whether the tests may change a signal: sanitizers and valgrind have their own. */
static bool is_ours(int signo) {
    bool crash = signo == SIGSEGV || signo == SIGBUS || signo == SIGFPE || signo == SIGILL;
    return signo != SIGKILL && signo != SIGSTOP && !(crash && IS_SANITIZED);
}

/* As a hostile launcher leaves them: ignored or handled, and blocked. */
static void spoil_signals(void) {
    static const struct kernel_action ignore = {.handler = SIG_IGN};
    sigset_t some;
    sigemptyset(&some);
    for (int signo = 1; signo <= SIGNALS; signo++) {
        struct sigaction action = {.sa_handler = on_signal, .sa_flags = SA_RESTART};
        if (!is_ours(signo)) {
            continue;
        }
        if (signo % 2 == 0 || sigaction(signo, &action, NULL) < 0) {
            syscall(SYS_rt_sigaction, signo, &ignore, NULL, sizeof ignore.mask);
        }
        sigaddset(&some, signo);
    }
    sigprocmask(SIG_BLOCK, &some, NULL);
}

static void reset_all_signals(void) {
    sigset_t mask;
    spoil_signals();
    ld_inherit_reset_signals();
    for (int signo = 1; signo <= SIGNALS; signo++) {
        if (is_ours(signo)) {
            CHECK(action_of(signo).handler == SIG_DFL);
            CHECK_INT(0, action_of(signo).flags);
            CHECK_INT(0, action_of(signo).mask);
        }
    }
    sigprocmask(SIG_SETMASK, NULL, &mask);
    for (int signo = 1; signo <= SIGNALS; signo++) {
        bool reserved = signo == SIGKILL || signo == SIGSTOP || signo == 32 || signo == 33;
        CHECK_INT(!reserved, sigismember(&mask, signo) == 1);
    }
    ld_inherit_unblock_signals();
    sigprocmask(SIG_SETMASK, NULL, &mask);
    for (int signo = 1; signo <= SIGNALS; signo++) {
        CHECK_INT(0, sigismember(&mask, signo) == 1);
    }
}

static void test_reset_signals(void) {
    check_in_child(reset_all_signals);
}

/* A signal that comes while all are blocked waits for its handler. */
static void wait_for_handler(void) {
    ld_inherit_reset_signals();
    kill(getpid(), SIGTERM);
    signal(SIGTERM, on_signal);
    ld_inherit_unblock_signals();
}

static void test_blocked_signal_is_not_lost(void) {
    check_in_child(wait_for_handler);
}

static void clean_environment(void) {
    static const char *const gone[] = {"NOTIFY_SOCKET",     "LISTEN_FDS",   "LISTEN_PID",
                                       "LISTEN_FDNAMES",    "WATCHDOG_PID", "WATCHDOG_USEC",
                                       LD_DETACHED_VARIABLE};
    for (size_t i = 0; i < LD_COUNT(gone); i++) {
        setenv(gone[i], "1", 1);
    }
    setenv("NOTIFY_SOCKETS", "stays", 1);
    ld_inherit_clean_environment();
    for (size_t i = 0; i < LD_COUNT(gone); i++) {
        CHECK(getenv(gone[i]) == NULL);
    }
    CHECK_STR("stays", getenv("NOTIFY_SOCKETS"));
    ld_inherit_clean_environment();
}

static void test_clean_environment(void) {
    check_in_child(clean_environment);
}

/* Check that stdin is /dev/null now. */
static void check_null_stdin(void) {
    char byte;
    struct stat facts = {0};
    CHECK_INT(0, ld_inherit_null_stdin());
    CHECK_INT(0, read(0, &byte, 1));
    CHECK(fstat(0, &facts) == 0 && facts.st_rdev == makedev(1, 3));
    CHECK_INT(0, fcntl(0, F_GETFD)); /* it is inherited */
    CHECK_INT(O_RDONLY, fcntl(0, F_GETFL) & O_ACCMODE);
}

static void null_stdin(void) {
    int ends[2];
    REQUIRE(pipe2(ends, O_CLOEXEC) == 0);
    dup2(ends[0], 0);
    check_null_stdin();
    check_null_stdin();
    CHECK_INT(ends[1] + 1, dup(1)); /* nothing is left open */
}

static void test_null_stdin(void) {
    check_in_child(null_stdin);
}

static void null_closed_stdin(void) {
    close(0);
    check_null_stdin();
}

static void test_null_closed_stdin(void) {
    check_in_child(null_closed_stdin);
}

static const struct check_case cases[] = {
    {"closed standard descriptors are filled with /dev/null", test_fill_std},
    {"all inherited descriptors but one are closed", test_seal_all_but_one},
    {"descriptors above 2 are closed, or marked", test_seal},
    {"descriptors above 2 are closed without close_range too", test_seal_on_old_kernels},
    {"every signal does its default again, all are blocked, then none", test_reset_signals},
    {"a signal that comes while all are blocked is not lost", test_blocked_signal_is_not_lost},
    {"what service managers say is taken out of the environment", test_clean_environment},
    {"stdin comes from /dev/null", test_null_stdin},
    {"stdin comes from /dev/null if it was closed too", test_null_closed_stdin},
};

CHECK_MAIN(cases)
