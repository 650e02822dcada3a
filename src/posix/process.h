/* Other processes: signalling them safely, and finding those that came from one of them. */
#ifndef LD_POSIX_PROCESS_H
#define LD_POSIX_PROCESS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

/* In the environment of a process that was spawned with `detach`, and so of those it starts. */
#define LD_DETACHED_VARIABLE "LUNAD_DETACHED"

/* In the environment of one of several supervised children: which one it is, from 1 on. A lunad
 * among them adds it to its default name, so that they can run side by side. */
#define LD_INSTANCE_VARIABLE "LUNAD_INSTANCE"

/* In the environment of a supervised child, and so of what it starts: by its value the processes that
 * it leaves behind are known as its own. */
#define LD_CHILD_VARIABLE "LUNAD_CHILD"

/* A list of pids; zeroed means empty; free with ld_pids_fini. */
struct ld_pids {
    pid_t *list;
    size_t count;
};

/* Add a pid to a list; false when memory ran out. */
bool ld_pids_add(struct ld_pids *pids, pid_t pid);
void ld_pids_fini(struct ld_pids *pids);

/* Send SIGNO to one process, or to the process group that PID leads. Every signal to another
 * process goes through one of these or a pidfd of ld_process_open: a pid below 2 would mean a
 * group, everybody, or init, and is refused with -EINVAL. 0 or a negative errno. */
int ld_process_kill(pid_t pid, int signo);
int ld_process_kill_group(pid_t pid, int signo);

/* A pidfd for PID, or a negative errno: -EINVAL for a pid below 2, -ENOSYS without pidfds. */
int ld_process_open(pid_t pid);

/* Send SIGNO through a pidfd; 0 or a negative errno. */
int ld_process_signal(int pidfd, int signo);

/* What a process does, as far as it can be seen from outside, watched for a tenth of a second unless
 * it is stopped. */
enum ld_activity {
    LD_ACTIVITY_GONE,
    LD_ACTIVITY_STOPPED, /* by a signal */
    LD_ACTIVITY_TRACED,  /* by a debugger */
    LD_ACTIVITY_COMPUTES,
    LD_ACTIVITY_SLEEPS,
    LD_ACTIVITY_BLOCKED, /* in a system call that no signal ends */
};
enum ld_activity ld_process_activity(pid_t pid);

/* Whether a process is stopped by a signal or a debugger at this moment. */
bool ld_process_is_stopped(pid_t pid);

/* Whether the process of a pidfd has ended, waiting up to TIMEOUT_MS for it. */
bool ld_process_has_ended(int pidfd, int timeout_ms);

/* Find every live process that descends from ROOT, but not those spawned with `detach` and theirs.
 * 0 or a negative errno. */
int ld_process_family(pid_t root, struct ld_pids *family);

/* A child of ours that is gone, when it started (CLOCK_MONOTONIC, in ns), and the LD_CHILD_VARIABLE
 * in its environment. */
struct ld_gone {
    pid_t pid;
    uint64_t started;
    const char *mark; /* "NAME=VALUE" */
};

/* Find the live children of this process, a subreaper, that GONE has left behind: those of its
 * group or session and those with its mark. A program that has overwritten its environment, as some
 * do for their title, has no mark; it counts if it is not older than GONE. Processes spawned with
 * `detach` do not count. 0 or a negative errno. */
int ld_process_strays(const struct ld_gone *gone, struct ld_pids *strays);

/* Leave the children alone that this process has now, and theirs: they are no family of it for any of
 * the functions here. It had them before it was this program. */
void ld_process_spare_children(void);

/* The real user id of a process: 0 or a negative errno. */
int ld_process_user(pid_t pid, uid_t *uid);

/* The parent of a process; 0 if that one does not live. */
pid_t ld_process_parent(pid_t pid);

/* End ROOT and its family by SIGKILL, without letting one escape by forking meanwhile. PIDFD, which stays
 * the caller's, says which process of that number is meant; -1 for a child that is not reaped. Nobody
 * is signalled who has got the number of one that ended meanwhile. */
void ld_process_end_family(pid_t root, int pidfd);

/* The same for several at once; each must be above 1, and a child of ours that is not reaped. */
void ld_process_end_families(const struct ld_pids *roots);

/* End everything that descends from this process, which should be a subreaper, by SIGKILL, detached
 * processes excepted; reaps its children. Returns when all are gone, or after two seconds. */
void ld_process_end_orphans(void);

#endif
