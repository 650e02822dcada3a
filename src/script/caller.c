#include "script/caller.h"

#include <pthread.h>
#include <stdbool.h>

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static LIST_HEAD(, ld_caller) callers = LIST_HEAD_INITIALIZER(callers);
static atomic_size_t count; /* of them: without any, the thread takes no lock */

/* Note a caller. */
void ld_caller_enter(struct ld_caller *caller, int fd, uint64_t deadline) {
    pthread_mutex_lock(&mutex);
    caller->fd = fd;
    caller->deadline = deadline;
    caller->over_at = 0;
    atomic_store(&caller->is_due, false);
    LIST_INSERT_HEAD(&callers, caller, link);
    count++;
    pthread_mutex_unlock(&mutex);
}

/* Note that a caller is over. */
static void end(struct ld_caller *caller, uint64_t at, const char *reason) {
    caller->fd = -1;
    if (caller->over_at == 0) {
        caller->over_at = at;
        caller->reason = reason;
    }
}

/* Note that a client does not wait. The time is that of no call: there is patience with its code. */
void ld_caller_let_go(struct ld_caller *caller) {
    pthread_mutex_lock(&mutex);
    end(caller, 1, "interrupted, as it held the loop and no client waits for it");
    pthread_mutex_unlock(&mutex);
}

/* Forget a caller. */
void ld_caller_leave(struct ld_caller *caller) {
    pthread_mutex_lock(&mutex);
    LIST_REMOVE(caller, link);
    count--;
    pthread_mutex_unlock(&mutex);
}

/* Fill in descriptors: no event but a client's end is waited for, which is always told. */
size_t ld_caller_poll(struct pollfd polls[LD_CALLERS_MAX], uint64_t *until) {
    size_t filled = 0;
    struct ld_caller *caller;
    if (count == 0) {
        return 0;
    }
    pthread_mutex_lock(&mutex);
    LIST_FOREACH(caller, &callers, link) {
        bool is_over = caller->over_at != 0;
        *until = !is_over && caller->deadline < *until ? caller->deadline : *until;
        if (!is_over && caller->fd >= 0 && filled < LD_CALLERS_MAX) {
            polls[filled++] =
                (struct pollfd){.fd = caller->fd, .events = caller->heeds_end ? POLLRDHUP : 0};
        }
    }
    pthread_mutex_unlock(&mutex);
    return filled;
}

/* Check what has happened to a connection. */
static int look_at(int fd) {
    struct pollfd poller = {.fd = fd, .events = POLLRDHUP};
    return fd >= 0 && poll(&poller, 1, 0) > 0 ? poller.revents : 0;
}

/* Whether a client has closed its connection. */
bool ld_caller_is_gone(int fd) {
    return (look_at(fd) & (POLLHUP | POLLERR)) != 0;
}

/* Note which are over. */
void ld_caller_notice(uint64_t now) {
    struct ld_caller *caller;
    if (count == 0) {
        return;
    }
    pthread_mutex_lock(&mutex);
    LIST_FOREACH(caller, &callers, link) {
        int events = caller->over_at == 0 ? look_at(caller->fd) : 0;
        if ((events & (POLLHUP | POLLERR)) != 0) {
            end(caller, now, "interrupted, as it held the loop and its client has gone");
        } else if (caller->heeds_end && (events & POLLRDHUP) != 0) {
            end(caller, now, "interrupted");
        } else if (caller->over_at == 0 && caller->deadline <= now) {
            end(caller, now, "interrupted, as it held the loop when its --timeout was over");
        }
    }
    pthread_mutex_unlock(&mutex);
}

/* Judge. */
uint64_t ld_caller_judge(uint64_t since, uint64_t patience, uint64_t now) {
    uint64_t next = UINT64_MAX;
    struct ld_caller *caller;
    if (count == 0) {
        return next;
    }
    pthread_mutex_lock(&mutex);
    LIST_FOREACH(caller, &callers, link) {
        if (caller->over_at != 0) {
            uint64_t at = caller->over_at >= since ? caller->over_at : since + patience;
            atomic_store(&caller->is_due, at <= now);
            next = at < next ? at : next;
        }
    }
    pthread_mutex_unlock(&mutex);
    return next;
}
