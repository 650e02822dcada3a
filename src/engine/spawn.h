/* Starting a program: one clone that shares memory until the exec, so that its cost does not grow
 * with the size of this process; the step that failed is returned as a value. One
 * stack and one shared page a process. */
#ifndef LD_ENGINE_SPAWN_H
#define LD_ENGINE_SPAWN_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/resource.h>
#include <sys/types.h>

#define LD_SPAWN_RLIMITS_MAX 16
#define LD_SPAWN_PID_SIZE    12 /* a pid in decimal, with its end */

/* Where a descriptor of the child comes from. */
struct ld_spawn_fd {
    int child;
    int parent;
};

/* The user and groups of the child. */
struct ld_spawn_identity {
    uid_t uid; /* -1: unchanged */
    gid_t gid; /* -1: unchanged */
    const gid_t *groups;
    int group_count; /* -1: unchanged */
};

/* What to start, and how. Everything is borrowed for the call. */
struct ld_spawn {
    char *const *argv;
    char *const *envp;
    char *
        own_pid; /* where the child writes its pid before the exec, LD_SPAWN_PID_SIZE bytes; or NULL */
    const char *cwd;               /* NULL: unchanged */
    const struct ld_spawn_fd *fds; /* 0, 1 and 2 must be among them; nothing else is inherited */
    size_t fd_count;
    bool same_group; /* stay in our process group, with the terminal and its Ctrl-C */
    bool session;    /* a session of its own, and it outlives us; otherwise a process group, and
                      the kernel kills it when we die */
    int mask;        /* file mode mask; -1: unchanged */
    int nice;        /* added to our own */
    struct {
        int resource;
        struct rlimit limit;
    } rlimits[LD_SPAWN_RLIMITS_MAX];
    size_t rlimit_count;
    struct ld_spawn_identity identity;
};

/* Start the program. It has default dispositions, an empty signal mask and its own group. 0 with
 * its pid, and its pidfd in *PIDFD (which may be NULL; -1 on an old kernel), the
 * caller's to close; or a negative errno, with the step that failed in *STEP ("exec", "chdir", …;
 * static): then nothing has run. */
int ld_spawn_start(const struct ld_spawn *spec, pid_t *pid, int *pidfd, const char **step);

#endif
