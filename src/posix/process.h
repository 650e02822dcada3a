/* One other process: signalling it safely, and what the kernel says about it. */
#ifndef LD_POSIX_PROCESS_H
#define LD_POSIX_PROCESS_H

#include <stdbool.h>
#include <sys/types.h>

/* Send SIGNO to one process, or to the process group that PID leads. Every signal to another
 * process goes through one of these or a pidfd of ld_process_open: a pid below 2 would mean a
 * group, every process, or init, and is refused with -EINVAL. 0 or a negative errno. */
int ld_process_kill(pid_t pid, int signo);
int ld_process_kill_group(pid_t pid, int signo);

/* A pidfd for PID, or a negative errno: -EINVAL for a pid below 2, -ENOSYS without pidfds. */
int ld_process_open(pid_t pid);

/* Send SIGNO through a pidfd; 0 or a negative errno. */
int ld_process_signal(int pidfd, int signo);

/* Whether the process of a pidfd has ended, waiting up to TIMEOUT_MS for it. */
bool ld_process_has_ended(int pidfd, int timeout_ms);

/* What /proc/PID/stat says, by proc(5). */
struct ld_process {
    pid_t pid;
    pid_t parent;
    pid_t group;
    pid_t session;
    char state;                 /* 'X' if there is no such process */
    unsigned long long started; /* in clock ticks since the boot */
    unsigned long computed;     /* clock ticks of CPU time */
    bool is_exiting;
};

/* Read it; false if the process does not live: it is gone, or a zombie. */
bool ld_process_read(struct ld_process *process, pid_t pid);

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

/* The real user id of a process: 0 or a negative errno. */
int ld_process_user(pid_t pid, uid_t *uid);

/* The parent of a process; 0 if the process does not live. */
pid_t ld_process_parent(pid_t pid);

#endif
