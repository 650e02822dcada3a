/* Between clone and exec the child runs in our memory while this thread is suspended: it may
 * make only raw system calls (the C library's setuid would signal our threads), on a stack of
 * its own, with all signals blocked until its handlers are gone. */
#include "engine/spawn.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/prctl.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "engine/command_path.h"
#include "engine/spawn_fds.h"
#include "posix/inherit.h"

#ifndef CLONE_PIDFD
#define CLONE_PIDFD 0x1000
#endif
#ifndef CLOSE_RANGE_CLOEXEC
#define CLOSE_RANGE_CLOEXEC 4U
#endif

#define STACK_SIZE ((size_t)64 * 1024)
#define SIGNALS    64

enum step {
    STEP_NONE,
    STEP_GROUP,
    STEP_FDS,
    STEP_CHDIR,
    STEP_NICE,
    STEP_LIMITS,
    STEP_USER,
    STEP_EXEC
};
static const char *const step_names[] = {"clone",       "setpgid",   "dup2",   "chdir",
                                         "setpriority", "setrlimit", "setuid", "exec"};

/* The child's error, in memory that stays shared even if clone copies memory (as under
 * valgrind). */
struct failure {
    int error;
    enum step step;
};

/* What the child works from. */
struct plan {
    const struct ld_spawn *spec;
    char *const *paths; /* the files to try, ending with NULL */
    pid_t parent;
    int highest;  /* descriptor that is a target */
    int *sources; /* of each descriptor, as they move */
    int last;     /* descriptor to copy of the table that is shared; -1: it is a copy already */
    struct failure *failure;
};

static struct {
    char *stack;
    struct failure *failure;
    bool has_close_range;
    bool no_pidfd; /* the kernel refuses to give one */
} shared;

/* Note why the child cannot continue. */
LD_IN_CHILD static int fail(const struct plan *plan, enum step step) {
    plan->failure->error = errno;
    plan->failure->step = step;
    return -1;
}

/* Become the leader of a group, or of a session. */
LD_IN_CHILD static int take_group(const struct plan *plan) {
    if (plan->spec->same_group) {
        return 0;
    }
    long rc = plan->spec->session ? syscall(SYS_setsid) : syscall(SYS_setpgid, 0, 0);
    return rc < 0 ? fail(plan, STEP_GROUP) : 0;
}

/* Move sources that are targets of others out of the way. */
LD_IN_CHILD static int move_sources(const struct plan *plan) {
    const struct ld_spawn *spec = plan->spec;
    for (size_t i = 0; i < spec->fd_count; i++) {
        long source = plan->sources[i];
        if (source <= plan->highest && source != spec->fds[i].child) {
            source = syscall(SYS_fcntl, source, F_DUPFD_CLOEXEC, plan->highest + 1);
        }
        if (source < 0) {
            return fail(plan, STEP_FDS);
        }
        plan->sources[i] = (int)source;
    }
    return 0;
}

/* Put every descriptor in its place; the exec closes all others. */
LD_IN_CHILD static int place_fds(const struct plan *plan) {
    const struct ld_spawn *spec = plan->spec;
    if (plan->last >= 0 && ld_spawn_fds_cut(plan->last) < 0) {
        return fail(plan, STEP_FDS);
    }
    if (shared.has_close_range) {
        syscall(SYS_close_range, 3U, ~0U, CLOSE_RANGE_CLOEXEC);
    }
    if (move_sources(plan) < 0) {
        return -1;
    }
    for (size_t i = 0; i < spec->fd_count; i++) {
        bool in_place = plan->sources[i] == spec->fds[i].child;
        long rc = in_place ? syscall(SYS_fcntl, plan->sources[i], F_SETFD, 0)
                           : syscall(SYS_dup3, plan->sources[i], spec->fds[i].child, 0);
        if (rc < 0) {
            return fail(plan, STEP_FDS);
        }
    }
    return 0;
}

/* Set directory, mask, priority and limits. */
LD_IN_CHILD static int set_surroundings(const struct plan *plan) {
    const struct ld_spawn *spec = plan->spec;
    if (spec->cwd != NULL && syscall(SYS_chdir, spec->cwd) < 0) {
        return fail(plan, STEP_CHDIR);
    }
    if (spec->mask >= 0) {
        syscall(SYS_umask, spec->mask);
    }
    if (spec->nice != 0) {
        long nice = 20 - syscall(SYS_getpriority, PRIO_PROCESS, 0); /* the raw call says 20-nice */
        if (syscall(SYS_setpriority, PRIO_PROCESS, 0, nice + spec->nice) < 0) {
            return fail(plan, STEP_NICE);
        }
    }
    for (size_t i = 0; i < spec->rlimit_count; i++) {
        if (syscall(SYS_prlimit64, 0, spec->rlimits[i].resource, &spec->rlimits[i].limit, NULL) <
            0) {
            return fail(plan, STEP_LIMITS);
        }
    }
    return 0;
}

/* Take groups, group and user, in the order that keeps the right to take the next. */
LD_IN_CHILD static int take_identity(const struct plan *plan) {
    const struct ld_spawn_identity *identity = &plan->spec->identity;
    if (identity->group_count >= 0 &&
        syscall(SYS_setgroups, identity->group_count, identity->groups) < 0) {
        return fail(plan, STEP_USER);
    }
    if (identity->gid != (gid_t)-1 &&
        syscall(SYS_setresgid, identity->gid, identity->gid, identity->gid) < 0) {
        return fail(plan, STEP_USER);
    }
    if (identity->uid != (uid_t)-1 &&
        syscall(SYS_setresuid, identity->uid, identity->uid, identity->uid) < 0) {
        return fail(plan, STEP_USER);
    }
    return 0;
}

/* Die with the parent. After the change of user, which would clear it; and the parent may have
 * died before. */
LD_IN_CHILD static int bind_life(const struct plan *plan) {
    if (plan->spec->session) {
        return 0;
    }
    syscall(SYS_prctl, PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0);
    if (syscall(SYS_getppid) != plan->parent) {
        syscall(SYS_exit_group, 127);
    }
    return 0;
}

/* Restore the default of every signal, then unblock all: no handler of ours can run in between. */
LD_IN_CHILD static void reset_signals(void) {
    static const unsigned long dfl[4]; /* handler, flags, restorer, mask: all zero */
    static const unsigned long none;
    for (int signo = 1; signo <= SIGNALS; signo++) {
        if (signo != SIGKILL && signo != SIGSTOP) {
            syscall(SYS_rt_sigaction, signo, dfl, NULL, sizeof none);
        }
    }
    syscall(SYS_rt_sigprocmask, SIG_SETMASK, &none, NULL, sizeof none);
}

/* Write the child's pid, for its environment. */
LD_IN_CHILD static void write_pid(char *to) {
    char digits[LD_SPAWN_PID_SIZE];
    int count = 0;
    for (long pid = syscall(SYS_getpid); pid > 0; pid /= 10) {
        digits[count++] = (char)('0' + pid % 10);
    }
    while (count > 0) {
        *to++ = digits[--count];
    }
    *to = '\0';
}

/* Try each file in turn; EACCES for one is reported rather than ENOENT for
 * another. */
LD_IN_CHILD static void exec(const struct plan *plan) {
    bool denied = false;
    for (char *const *path = plan->paths; *path != NULL; path++) {
        syscall(SYS_execve, *path, plan->spec->argv, plan->spec->envp);
        denied = denied || errno == EACCES;
        if (errno != ENOENT && errno != ENOTDIR && errno != EACCES) {
            break;
        }
    }
    if (denied && (errno == ENOENT || errno == ENOTDIR)) {
        errno = EACCES;
    }
    fail(plan, STEP_EXEC);
}

/* Run the child until its exec. */
LD_IN_CHILD static int run_child(void *arg) {
    const struct plan *plan = arg;
    if (take_group(plan) == 0 && place_fds(plan) == 0 && set_surroundings(plan) == 0 &&
        take_identity(plan) == 0 && bind_life(plan) == 0) {
        reset_signals();
        if (plan->spec->own_pid != NULL) {
            write_pid(plan->spec->own_pid);
        }
        exec(plan);
    }
    syscall(SYS_exit_group, 127);
    return 127;
}

/* Make the stack and the shared page, once a process. */
static int prepare(void) {
    if (shared.stack != NULL) {
        return 0;
    }
    void *page = mmap(NULL, sizeof *shared.failure, PROT_READ | PROT_WRITE,
                      MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (page == MAP_FAILED) {
        return -errno;
    }
    void *stack = mmap(NULL, STACK_SIZE, PROT_READ | PROT_WRITE,
                       MAP_PRIVATE | MAP_ANONYMOUS | MAP_STACK, -1, 0);
    if (stack == MAP_FAILED) {
        int code = errno;
        munmap(page, sizeof *shared.failure);
        return -code;
    }
    shared.failure = page;
    shared.stack = stack;
    shared.has_close_range = syscall(SYS_close_range, ~0U, ~0U, CLOSE_RANGE_CLOEXEC) == 0;
    return 0;
}

/* Clone the child and wait until it has called exec or failed. A kernel without
 * pidfds refuses the flag, or leaves *PIDFD alone. */
static pid_t clone_child(struct plan *plan, int *pidfd) {
    const int flags = CLONE_VM | CLONE_VFORK | (plan->last >= 0 ? CLONE_FILES : 0) | SIGCHLD;
    char *top = shared.stack + STACK_SIZE;
    sigset_t all;
    sigset_t before;
    pid_t pid = -1;
    sigfillset(&all);
    sigprocmask(SIG_SETMASK, &all, &before);
    if (pidfd != NULL && !shared.no_pidfd) {
        pid = clone(run_child, top, flags | CLONE_PIDFD, plan, pidfd);
        shared.no_pidfd = pid < 0 && errno == EINVAL;
    }
    if (pidfd == NULL || shared.no_pidfd) {
        pid = clone(run_child, top, flags, plan);
    }
    int code = errno;
    sigprocmask(SIG_SETMASK, &before, NULL);
    errno = code;
    return pid;
}

/* Reap a child that has failed, and close its descriptor. */
static void take_back(pid_t pid, int *pidfd) {
    siginfo_t info;
    while (waitid(P_PID, (id_t)pid, &info, WEXITED) < 0 && errno == EINTR) {
    }
    if (pidfd != NULL && *pidfd >= 0) {
        close(*pidfd);
        *pidfd = -1;
    }
}

/* Find which descriptors the child needs, and those of our table that it copies. */
static void plan_fds(struct plan *plan) {
    const struct ld_spawn *spec = plan->spec;
    const struct ld_spawn_stack stack = {shared.stack, STACK_SIZE};
    for (size_t i = 0; i < spec->fd_count; i++) {
        plan->sources[i] = spec->fds[i].parent;
        plan->highest = spec->fds[i].child > plan->highest ? spec->fds[i].child : plan->highest;
    }
    plan->last = shared.has_close_range
                     ? ld_spawn_fds_take(plan->sources, spec->fd_count, plan->highest, &stack)
                     : -1;
}

/* Clone, and read the result from the shared page. */
static int start(struct plan *plan, pid_t *pid, int *pidfd, const char **step) {
    *shared.failure = (struct failure){0};
    if (!shared.has_close_range) {
        ld_inherit_seal_fds(true, -1);
    }
    plan_fds(plan);
    pid_t child = clone_child(plan, pidfd);
    int code = errno;
    ld_spawn_fds_give_back();
    if (child < 0) {
        *step = step_names[STEP_NONE];
        return -code;
    }
    if (pidfd != NULL && *pidfd >= 0) {
        ld_spawn_fds_note(*pidfd);
    }
    if (shared.failure->error != 0) {
        take_back(child, pidfd);
        *step = step_names[shared.failure->step];
        return -shared.failure->error;
    }
    *pid = child;
    return 0;
}

/* Start a program. */
int ld_spawn_start(const struct ld_spawn *spec, pid_t *pid, int *pidfd, const char **step) {
    *step = step_names[STEP_NONE];
    if (pidfd != NULL) {
        *pidfd = -1;
    }
    int rc = prepare();
    if (rc < 0) {
        return rc;
    }
    char **paths = ld_command_path_list(spec->argv[0], spec->envp);
    int *sources = calloc(spec->fd_count + 1, sizeof *sources);
    if (paths == NULL || sources == NULL) {
        rc = -ENOMEM;
    } else {
        struct plan plan = {.spec = spec,
                            .paths = paths,
                            .parent = getpid(),
                            .highest = 2,
                            .sources = sources,
                            .failure = shared.failure};
        rc = start(&plan, pid, pidfd, step);
    }
    free(sources);
    ld_command_path_free(paths);
    return rc;
}
