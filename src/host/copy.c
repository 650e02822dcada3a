#include "host/copy.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <unistd.h>

#include "base/file.h"
#include "base/time.h"
#include "posix/inherit.h"
#include "posix/process.h"
#include "posix/reserve.h"

#define NICE 10

struct ld_copy {
    struct ld_copy_job job;
    uv_poll_t poll; /* of the pipe */
    int fd;
    int pidfd; /* -1: the kernel has none */
    struct ld_text report;
    double fork_ms;
};

/* Be the copy. */
_Noreturn static void be_copy(const struct ld_copy_job *job, int fd, pid_t original) {
    const struct rlimit cpu = {.rlim_cur = job->cpu_seconds, .rlim_max = job->cpu_seconds};
    struct ld_text report = {0};
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != original) {
        _exit(1);
    }
    ld_inherit_seal_fds(false, fd);
    setrlimit(RLIMIT_CPU, &cpu);
    setpriority(PRIO_PROCESS, 0, NICE);
    job->run(job->arg, &report);
    _exit(report.failed || ld_file_write(fd, ld_text_string(&report), report.size) < 0);
}

/* Free what is closed. */
static void on_closed(uv_handle_t *handle) {
    free(handle->data);
}

/* Kill the process, if it has not ended. */
static void kill_process(const struct ld_copy *copy) {
    if (copy->pidfd >= 0) {
        ld_process_signal(copy->pidfd, SIGKILL);
        close(copy->pidfd);
    }
}

/* End it. */
void ld_copy_end(struct ld_copy *copy) {
    if (copy == NULL) {
        return;
    }
    kill_process(copy);
    ld_text_fini(&copy->report);
    uv_close((uv_handle_t *)&copy->poll, on_closed);
    close(copy->fd); /* then the copy cannot write, should it live */
    ld_reserve_fill();
}

/* Read the report. */
static void on_readable(uv_poll_t *poll, int status, int events) {
    struct ld_copy *copy = poll->data;
    char bytes[16384];
    ssize_t size = 1;
    (void)status;
    (void)events;
    while (size > 0 && copy->report.size <= copy->job.report_most) {
        size = read(copy->fd, bytes, sizeof bytes);
        ld_text_add(&copy->report, bytes, size > 0 ? (size_t)size : 0);
    }
    bool is_waiting = size < 0 && (errno == EAGAIN || errno == EINTR);
    if (!is_waiting) {
        uv_poll_stop(poll);
        copy->job.done(copy->job.arg, &copy->report);
        ld_copy_end(copy);
    }
}

/* Fork; 0 or a negative errno. */
static int make_process(struct ld_copy *copy) {
    int ends[2];
    pid_t original = getpid();
    if (pipe2(ends, O_CLOEXEC) < 0) {
        return -errno;
    }
    uint64_t before = ld_time_monotonic();
    pid_t pid = fork();
    if (pid == 0) {
        be_copy(&copy->job, ends[1], original);
    }
    int code = pid < 0 ? errno : 0;
    copy->fork_ms = (double)(ld_time_monotonic() - before) / 1e6;
    close(ends[1]);
    copy->fd = ends[0];
    copy->pidfd = pid > 0 ? ld_process_open(pid) : -1;
    if (code == 0 && fcntl(copy->fd, F_SETFL, O_NONBLOCK) < 0) {
        code = errno;
    }
    if (code != 0) {
        kill_process(copy);
        close(copy->fd);
    }
    return -code;
}

/* Make a copy. */
int ld_copy_make(struct ld_copy **out, uv_loop_t *loop, const struct ld_copy_job *job) {
    struct ld_copy *copy = calloc(1, sizeof *copy);
    if (copy == NULL) {
        return -ENOMEM;
    }
    copy->job = *job;
    int rc = make_process(copy);
    if (rc == 0) {
        rc = uv_poll_init(loop, &copy->poll, copy->fd);
        if (rc < 0) {
            kill_process(copy);
            close(copy->fd);
        }
    }
    if (rc < 0) {
        free(copy);
        return rc;
    }
    copy->poll.data = copy;
    uv_poll_start(&copy->poll, UV_READABLE, on_readable);
    *out = copy;
    return 0;
}

/* For how long this process stood still. */
double ld_copy_fork_ms(const struct ld_copy *copy) {
    return copy->fork_ms;
}
