#include "posix/process.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/file.h"

#define WATCH_MS   100
#define BUSY_TICKS 3 /* of ten in that time, on a machine that others load as well */
#define EXITING    4 /* a flag of the kernel's: PF_EXITING */

/* Send a signal to one process. */
int ld_process_kill(pid_t pid, int signo) {
    if (pid <= 1) {
        return -EINVAL;
    }
    return kill(pid, signo) < 0 ? -errno : 0;
}

/* Send a signal to a process group. */
int ld_process_kill_group(pid_t pid, int signo) {
    if (pid <= 1) {
        return -EINVAL;
    }
    return kill(-pid, signo) < 0 ? -errno : 0;
}

/* Open a pidfd. */
int ld_process_open(pid_t pid) {
    if (pid <= 1) {
        return -EINVAL;
    }
    int fd = (int)syscall(SYS_pidfd_open, pid, 0);
    return fd < 0 ? -errno : fd;
}

/* Send a signal through a pidfd. */
int ld_process_signal(int pidfd, int signo) {
    return syscall(SYS_pidfd_send_signal, pidfd, signo, NULL, 0) < 0 ? -errno : 0;
}

/* Wait for the end of a process. */
bool ld_process_has_ended(int pidfd, int timeout_ms) {
    struct pollfd poller = {.fd = pidfd, .events = POLLIN};
    return poll(&poller, 1, timeout_ms) > 0;
}

/* Read /proc/PID/stat. */
bool ld_process_read(struct ld_process *process, pid_t pid) {
    char path[40];
    struct ld_text stat = {0};
    struct ld_process read = {.pid = pid};
    unsigned flags = 0;
    unsigned long user = 0;
    unsigned long system = 0;
    snprintf(path, sizeof path, "/proc/%d/stat", (int)pid);
    int rc = ld_file_load(path, &stat);
    const char *name_end = strrchr(ld_text_string(&stat), ')'); /* a name may have ")" too */
    bool is_read =
        rc == 0 && name_end != NULL &&
        sscanf(name_end,
               ") %c %d %d %d %*d %*d %u %*u %*u %*u %*u %lu %lu %*d %*d %*d %*d %*d %*d %llu",
               &read.state, &read.parent, &read.group, &read.session, &flags, &user, &system,
               &read.started) == 8;
    ld_text_fini(&stat);
    read.computed = user + system;
    read.is_exiting = (flags & EXITING) != 0;
    *process = is_read ? read : (struct ld_process){.pid = pid, .state = 'X'};
    return process->state != 'X' && process->state != 'Z';
}

/* Whether a process is stopped. */
bool ld_process_is_stopped(pid_t pid) {
    struct ld_process process;
    ld_process_read(&process, pid);
    return process.state == 'T' || process.state == 't';
}

/* Find out what a process does. */
enum ld_activity ld_process_activity(pid_t pid) {
    struct ld_process process;
    ld_process_read(&process, pid);
    if (process.state != 'T' && process.state != 't' && process.state != 'X') {
        unsigned long before = process.computed;
        poll(NULL, 0, WATCH_MS);
        ld_process_read(&process, pid);
        if (process.state == 'R' || process.computed - before >= BUSY_TICKS) {
            return LD_ACTIVITY_COMPUTES;
        }
    }
    switch (process.state) {
    case 'X':
    case 'Z':
        return LD_ACTIVITY_GONE;
    case 'T':
        return LD_ACTIVITY_STOPPED;
    case 't':
        return LD_ACTIVITY_TRACED;
    case 'D':
        return LD_ACTIVITY_BLOCKED;
    default:
        return LD_ACTIVITY_SLEEPS;
    }
}

/* Find the real user id of a process. */
int ld_process_user(pid_t pid, uid_t *uid) {
    char path[40];
    struct ld_text status = {0};
    unsigned id = 0;
    snprintf(path, sizeof path, "/proc/%d/status", (int)pid);
    int rc = ld_file_load(path, &status);
    const char *line = rc == 0 ? strstr(ld_text_string(&status), "\nUid:") : NULL;
    if (rc == 0 && (line == NULL || sscanf(line, "\nUid: %u", &id) != 1)) {
        rc = -ESRCH;
    }
    *uid = id;
    ld_text_fini(&status);
    return rc;
}

/* Find the parent of a live process. */
pid_t ld_process_parent(pid_t pid) {
    struct ld_process process;
    return ld_process_read(&process, pid) ? process.parent : 0;
}
