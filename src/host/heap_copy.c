/* A walk over the heap for a client, in a copy of the process: the service goes on. One at a time. The copy
 * owns nothing (see posix/forked.h), writes its report to a pipe, and is killed when the client has gone, when
 * it takes too long, and with this process. */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <unistd.h>

#include "base/time.h"
#include "host/internal.h"
#include "posix/inherit.h"
#include "posix/process.h"
#include "posix/reserve.h"
#include "script/caller.h"
#include "script/heap_walk.h"

#define WALK_SECONDS 20.0 /* of the walk; then it tells what it has */
#define COPY_SECONDS 25.0 /* of the copy; then it is killed */
#define CPU_SECONDS  30   /* should this process not come to that */
#define REPORT_MOST  ((size_t)1 << 20)
#define NICE         10
#define LOOK_MS      100 /* between looks for the client */

struct ld_heap_copy {
    struct ld_host *host;
    uv_poll_t poll; /* of the pipe */
    int fd;
    int pidfd; /* -1: the kernel has none */
    struct ld_waiter *waiter;
    int client; /* its descriptor */
    struct ld_text report;
    uint64_t deadline; /* uv_now */
    double fork_ms;
};

/* Make an error answer. */
static json_t *failure(const char *message) {
    return json_pack("{s:b, s:s}", "ok", 0, "error", message);
}

/* Write all bytes. */
static void write_all(int fd, const char *bytes, size_t size) {
    while (size > 0) {
        ssize_t done = write(fd, bytes, size);
        if (done < 0 && errno != EINTR) {
            return;
        }
        bytes += done > 0 ? done : 0;
        size -= done > 0 ? (size_t)done : 0;
    }
}

/* Be the copy: write the report to FD. */
_Noreturn static void be_copy(struct ld_script *script, int fd, pid_t original) {
    const struct rlimit cpu = {.rlim_cur = CPU_SECONDS, .rlim_max = CPU_SECONDS};
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != original) {
        _exit(1);
    }
    ld_inherit_seal_fds(false, fd);
    setrlimit(RLIMIT_CPU, &cpu);
    setpriority(PRIO_PROCESS, 0, NICE);
    json_t *report = ld_heap_walk(script, WALK_SECONDS);
    char *dump = report != NULL ? json_dumps(report, JSON_COMPACT) : NULL;
    if (dump != NULL) {
        write_all(fd, dump, strlen(dump));
    }
    _exit(dump == NULL);
}

/* Free what is closed. */
static void on_closed(uv_handle_t *handle) {
    free(handle->data);
}

/* Kill the process, if it has not ended. */
static void kill_process(const struct ld_heap_copy *copy) {
    if (copy->pidfd >= 0) {
        ld_process_signal(copy->pidfd, SIGKILL);
        close(copy->pidfd);
    }
}

/* End the copy, if it has not ended. */
static void end(struct ld_heap_copy *copy) {
    copy->host->heap_copy = NULL;
    kill_process(copy);
    ld_text_fini(&copy->report);
    uv_close((uv_handle_t *)&copy->poll, on_closed);
    close(copy->fd); /* then the copy cannot write, should it live */
    ld_reserve_fill();
}

/* Tell the client, and end the copy. */
static void finish(struct ld_heap_copy *copy, json_t *answer) {
    struct ld_waiter *waiter = copy->waiter;
    end(copy);
    waiter->done(waiter, answer);
}

/* Make the answer of a report that is whole. */
static json_t *make_answer(const struct ld_heap_copy *copy) {
    json_t *report =
        json_loadb(ld_text_string(&copy->report), copy->report.size, JSON_REJECT_DUPLICATES, NULL);
    if (!json_is_object(report)) {
        json_decref(report);
        return failure(
            "the copy of the process that walks over the heap has died: memory may be short");
    }
    json_object_set_new(report, "ok", json_true());
    json_object_set_new(report, "fork_ms", json_real(copy->fork_ms));
    return report;
}

/* Read the report. */
static void on_readable(uv_poll_t *poll, int status, int events) {
    struct ld_heap_copy *copy = poll->data;
    char bytes[16384];
    ssize_t size = 1;
    (void)status;
    (void)events;
    while (size > 0 && copy->report.size <= REPORT_MOST) {
        size = read(copy->fd, bytes, sizeof bytes);
        ld_text_add(&copy->report, bytes, size > 0 ? (size_t)size : 0);
    }
    bool is_waiting = size < 0 && (errno == EAGAIN || errno == EINTR);
    if (!is_waiting) {
        finish(copy, make_answer(copy));
    }
}

/* Fork; 0 or a negative errno. */
static int make_copy(struct ld_heap_copy *copy) {
    int ends[2];
    pid_t original = getpid();
    if (pipe2(ends, O_CLOEXEC) < 0) {
        return -errno;
    }
    uint64_t before = ld_time_monotonic();
    pid_t pid = fork();
    if (pid == 0) {
        be_copy(copy->host->script, ends[1], original);
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
        close(copy->fd);
    }
    return -code;
}

/* Refuse, or NULL. */
static json_t *check(const struct ld_host *host) {
    if (host->state == LD_HOST_STARTING) {
        return failure("the daemon is starting: its script is not ready yet");
    }
    if (host->state != LD_HOST_RUNNING) {
        return failure("the daemon is stopping");
    }
    return host->heap_copy != NULL ? failure("another walk over the heap is under way") : NULL;
}

/* Begin. */
json_t *ld_heap_copy_ask(struct ld_host *host, struct ld_waiter *waiter, int fd) {
    json_t *refusal = check(host);
    struct ld_heap_copy *copy = refusal == NULL ? calloc(1, sizeof *copy) : NULL;
    if (copy == NULL) {
        return refusal != NULL ? refusal : failure("not enough memory");
    }
    copy->host = host;
    copy->waiter = waiter;
    copy->client = fd;
    int rc = make_copy(copy);
    if (rc == 0) {
        rc = uv_poll_init(&host->loop, &copy->poll, copy->fd);
        if (rc < 0) {
            kill_process(copy);
            close(copy->fd);
        }
    }
    if (rc < 0) {
        free(copy);
        return failure(strerror(-rc));
    }
    copy->poll.data = copy;
    copy->deadline = ld_alarm_deadline(host, COPY_SECONDS);
    host->heap_copy = copy;
    uv_poll_start(&copy->poll, UV_READABLE, on_readable);
    ld_alarm_wake_at(host, 0);
    return NULL;
}

/* End it without an answer. */
void ld_heap_copy_forget(struct ld_host *host, const struct ld_waiter *waiter) {
    if (host->heap_copy != NULL && host->heap_copy->waiter == waiter) {
        end(host->heap_copy);
    }
}

/* End it when its time is over, or its client has gone: one that waits is not read from. */
void ld_heap_copy_step(struct ld_host *host) {
    struct ld_heap_copy *copy = host->heap_copy;
    if (copy == NULL) {
        return;
    }
    uv_update_time(&host->loop);
    uint64_t now = uv_now(&host->loop);
    if (host->state != LD_HOST_RUNNING) {
        finish(copy, failure("the daemon is stopping"));
    } else if (ld_caller_is_gone(copy->client)) {
        finish(copy, failure("the client has gone"));
    } else if (now >= copy->deadline) {
        finish(copy, failure("the walk over the heap has not ended within 25 s"));
    } else {
        ld_alarm_wake_at(host, now + LOOK_MS);
    }
}

/* End it because the daemon ends. */
void ld_heap_copy_abandon(struct ld_host *host) {
    if (host->heap_copy != NULL) {
        finish(host->heap_copy, failure("the daemon has stopped"));
    }
}
