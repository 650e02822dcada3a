#include "engine/spawn_fds.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdbool.h>
#include <sys/eventfd.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "posix/reserve.h"

#ifndef CLOSE_RANGE_UNSHARE
#define CLOSE_RANGE_UNSHARE 2U
#endif

#define MANY  256 /* with fewer, a copy of all is as cheap */
#define WORD  64  /* descriptors that the kernel counts together */
#define SLOTS 3   /* for stdin, stdout and stderr */

static struct {
    int seen;    /* a descriptor that the kernel gave lately */
    size_t used; /* stand-ins */
    enum { UNTRIED, WORKS, FAILS } trial;
} state;

/* Note a descriptor. */
void ld_spawn_fds_note(int fd) {
    state.seen = fd;
}

/* Copy the beginning of the table. */
LD_IN_CHILD int ld_spawn_fds_cut(int last) {
    return (int)syscall(SYS_close_range, (unsigned)last + 1, ~0U, CLOSE_RANGE_UNSHARE);
}

/* Cut the table after its first word, and look whether the kernel then gives the first number after it. */
LD_IN_CHILD static int run_cut(void *arg) {
    (void)arg;
    bool works = ld_spawn_fds_cut(WORD - 1) == 0 && syscall(SYS_fcntl, 0, F_DUPFD, WORD) == WORD;
    syscall(SYS_exit_group, works ? 0 : 1);
    return 1;
}

/* Fill the second word of a table, and clone a process that cuts it. */
LD_IN_CHILD static int run_trial(void *arg) {
    const struct ld_spawn_stack *stack = arg;
    int status = 1;
    long fd = syscall(SYS_eventfd2, 0, 0);
    bool is_filled = fd >= 0 && syscall(SYS_dup3, fd, 0, O_CLOEXEC) == 0;
    for (int i = WORD; i < 2 * WORD && is_filled; i++) {
        is_filled = i == fd || syscall(SYS_dup3, fd, i, 0) == i;
    }
    if (is_filled) {
        const int flags = CLONE_VM | CLONE_VFORK | CLONE_FILES;
        long pid = clone(run_cut, stack->bytes + stack->size / 2, flags, NULL);
        if (pid < 0 || syscall(SYS_wait4, pid, &status, __WALL, NULL) != pid) {
            status = 1;
        }
    }
    syscall(SYS_exit_group, status == 0 ? 0 : 1);
    return 1;
}

/* Try whether the kernel cuts a table rightly: one before Linux 6.11 without the mend takes descriptors behind the
 * cut for used ones, so that the child would run out of them early (CVE-2024-45025). The trial has a table of
 * its own. */
static bool try_cut(const struct ld_spawn_stack *stack) {
    siginfo_t info = {0};
    sigset_t all;
    sigset_t before;
    int rc;
    sigfillset(&all);
    sigprocmask(SIG_SETMASK, &all, &before);
    pid_t pid = clone(run_trial, stack->bytes + stack->size, CLONE_VM | CLONE_VFORK, (void *)stack);
    do {
        rc = pid < 0 ? -1 : waitid(P_PID, (id_t)pid, &info, WEXITED | __WALL);
    } while (rc < 0 && pid > 0 && errno == EINTR);
    sigprocmask(SIG_SETMASK, &before, NULL);
    return rc == 0 && info.si_code == CLD_EXITED && info.si_status == 0;
}

/* Let TO be what FROM is; false if that fails. */
static bool copy_fd(int from, int to) {
    int rc;
    do {
        rc = dup3(from, to, O_CLOEXEC);
    } while (rc < 0 && (errno == EINTR || errno == EBUSY));
    return rc >= 0;
}

/* Whether a process may have locks on what a descriptor is. It loses them, by fcntl, with the first descriptor of that
 * file that it closes. */
static bool may_be_locked(int fd) {
    struct stat status;
    return fstat(fd, &status) < 0 || S_ISREG(status.st_mode);
}

/* A stand-in for a descriptor, or itself if there is none. */
static int stand_in(int fd) {
    int slot = state.used < SLOTS ? ld_reserve_at(state.used) : -1;
    bool helps = slot >= 0 && slot < MANY && ld_reserve_at(SLOTS) >= 0;
    if (!helps || may_be_locked(fd) || !copy_fd(fd, slot)) {
        return fd;
    }
    state.used++;
    return slot;
}

/* Let the stand-ins be what they were, as the next of those that are kept back is. */
void ld_spawn_fds_give_back(void) {
    while (state.used > 0) {
        copy_fd(ld_reserve_at(SLOTS), ld_reserve_at(--state.used));
    }
}

/* Find what the child needs. */
int ld_spawn_fds_take(int *sources, size_t count, int highest, const struct ld_spawn_stack *stack) {
    int last = highest;
    if (state.seen < MANY || state.trial == FAILS) {
        return -1;
    }
    if (state.trial == UNTRIED) {
        state.trial = try_cut(stack) ? WORKS : FAILS;
    }
    for (size_t i = 0; i < count && state.trial == WORKS; i++) {
        sources[i] = sources[i] >= MANY / 2 ? stand_in(sources[i]) : sources[i];
        last = sources[i] > last ? sources[i] : last;
    }
    return state.trial == WORKS && last < state.seen / 2 ? last : -1;
}
