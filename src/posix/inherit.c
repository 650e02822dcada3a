#include "posix/inherit.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/base.h"
#include "base/parse.h"
#include "posix/family.h"

#ifndef CLOSE_RANGE_CLOEXEC
#define CLOSE_RANGE_CLOEXEC 4U
#endif

#define PASSED_MAX 1000

/* Open /dev/null on every closed standard descriptor. */
void ld_inherit_fill_std(void) {
    for (int std = 0; std <= 2; std++) {
        bool closed = fcntl(std, F_GETFD) < 0 && errno == EBADF;
        if (closed && open("/dev/null", O_RDWR) != std) { /* which is the lowest free one */
            _exit(1);
        }
    }
}

/* Mark FD close-on-exec, or close it. */
static void seal(int fd, bool keep_open) {
    if (keep_open) {
        fcntl(fd, F_SETFD, FD_CLOEXEC);
    } else {
        close(fd);
    }
}

/* How many sockets were passed to us. */
int ld_inherit_passed_fds(void) {
    const char *pid = getenv("LISTEN_PID");
    const char *fds = getenv("LISTEN_FDS");
    long number;
    long count;
    bool is_ours = pid != NULL && ld_parse_whole(pid, 1, INT_MAX, &number) && number == getpid();
    return is_ours && fds != NULL && ld_parse_whole(fds, 0, PASSED_MAX, &count) ? (int)count : 0;
}

/* The name of a passed socket. */
char *ld_inherit_passed_name(int index) {
    const char *at = getenv("LISTEN_FDNAMES");
    for (int i = 0; i < index && at != NULL; i++) {
        at = strchr(at, ':');
        at = at != NULL ? at + 1 : NULL;
    }
    size_t size = at != NULL ? strcspn(at, ":") : 0;
    return size > 0 ? strndup(at, size) : strdup("unknown");
}

/* Seal the descriptors from FIRST to LAST by the list in /proc, for kernels without close_range. */
static void seal_listed(bool keep_open, int first, int last) {
    DIR *fds = opendir("/proc/self/fd");
    if (fds == NULL) {
        for (int fd = first; fd <= last && fd < (int)sysconf(_SC_OPEN_MAX); fd++) {
            seal(fd, keep_open);
        }
        return;
    }
    const struct dirent *item;
    while ((item = readdir(fds)) != NULL) {
        int fd = isdigit((unsigned char)item->d_name[0]) ? atoi(item->d_name) : -1;
        if (fd >= first && fd <= last && fd != dirfd(fds)) {
            seal(fd, keep_open);
        }
    }
    closedir(fds);
}

/* Seal the descriptors from FIRST to LAST. */
static void seal_range(bool keep_open, int first, int last) {
    unsigned flags = keep_open ? CLOSE_RANGE_CLOEXEC : 0;
    if (first <= last && syscall(SYS_close_range, (unsigned)first, (unsigned)last, flags) < 0) {
        seal_listed(keep_open, first, last);
    }
}

/* Close every inherited descriptor, or keep it from children. */
void ld_inherit_seal_fds(bool keep_open, int spared) {
    int first = LD_PASSED_FIRST + ld_inherit_passed_fds();
    for (int fd = LD_PASSED_FIRST; fd < first; fd++) {
        seal(fd, true);
    }
    if (spared >= first) {
        seal(spared, true);
        seal_range(keep_open, first, spared - 1);
        first = spared + 1;
    }
    seal_range(keep_open, first, INT_MAX);
}

/* Whether the disposition of a signal may be touched: sanitizers report crashes by handlers. */
static bool is_resettable(int signo) {
#ifdef __SANITIZE_ADDRESS__
    if (signo == SIGSEGV || signo == SIGBUS || signo == SIGFPE || signo == SIGILL) {
        return false;
    }
#endif
    return signo != SIGKILL && signo != SIGSTOP;
}

/* Let every signal do its default again, and block all. The raw call reaches those that the C
 * library keeps for itself too. */
void ld_inherit_reset_signals(void) {
    static const struct {
        void (*handler)(int);
        unsigned long flags;
        void (*restorer)(void);
        unsigned long mask[2];
    } dfl = {.handler = SIG_DFL};
    sigset_t all;
    sigfillset(&all);
    sigprocmask(SIG_SETMASK, &all, NULL);
    for (int signo = 1; signo <= SIGRTMAX; signo++) {
        if (is_resettable(signo)) {
            syscall(SYS_rt_sigaction, signo, &dfl, NULL, (size_t)(NSIG / 8));
        }
    }
}

/* Block all signals. */
void ld_inherit_block_signals(void) {
    sigset_t all;
    sigfillset(&all);
    sigprocmask(SIG_SETMASK, &all, NULL);
}

/* Unblock all signals. */
void ld_inherit_unblock_signals(void) {
    sigset_t none;
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
}

/* Whether a variable was meant for this process alone. */
static bool is_private(const char *variable) {
    static const char *const beginnings[] = {"NOTIFY_SOCKET=",
                                             "LISTEN_",
                                             "WATCHDOG_",
                                             LD_DETACHED_VARIABLE "=",
                                             LD_INSTANCE_VARIABLE "=",
                                             LD_CHILD_VARIABLE "="};
    for (size_t i = 0; i < LD_COUNT(beginnings); i++) {
        if (strncmp(variable, beginnings[i], strlen(beginnings[i])) == 0) {
            return true;
        }
    }
    return false;
}

/* Remove the variables that were meant for this process alone. */
void ld_inherit_clean_environment(void) {
    char **to = environ;
    for (char **from = environ; *from != NULL; from++) {
        if (!is_private(*from)) {
            *to++ = *from;
        }
    }
    *to = NULL;
}

/* Whether there is a terminal. Only the errors that mean that it is gone prove that there is none. */
bool ld_inherit_has_terminal(void) {
    int fd = open("/dev/tty", O_RDONLY | O_NOCTTY | O_NONBLOCK | O_CLOEXEC);
    if (fd < 0) {
        return errno != ENXIO && errno != EIO && errno != ENODEV && errno != ENOENT;
    }
    close(fd);
    return true;
}

/* Whether stdout has a reader. A signal handler may ask. */
bool ld_inherit_has_reader(void) {
    int saved = errno;
    struct pollfd poller = {.fd = STDOUT_FILENO};
    bool gone = poll(&poller, 1, 0) > 0 && (poller.revents & (POLLERR | POLLHUP)) != 0;
    errno = saved;
    return !gone;
}

/* Send stdin to /dev/null. */
int ld_inherit_null_stdin(void) {
    int fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        return -errno;
    }
    if (fd == STDIN_FILENO) {
        return fcntl(fd, F_SETFD, 0) < 0 ? -errno : 0;
    }
    int rc = dup2(fd, STDIN_FILENO) < 0 ? -errno : 0;
    close(fd);
    return rc;
}
