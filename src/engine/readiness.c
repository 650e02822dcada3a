/* The set is an epoll set of its own inside the loop's. Its owner may close a descriptor at any time, also
 * by ways that nothing can see. The kernel then forgets it silently; or, if a duplicate is open
 * somewhere, continues to report it, and it cannot be taken out of the set any more: then the set is made
 * again. */
#include "engine/readiness.h"

#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "base/base.h"
#include "base/grow.h"
#include "engine/libc.h"

#define BATCH    64  /* events handled in one turn of the loop */
#define CHECK_MS 500 /* between checks for closed descriptors, while any are waited for */

/* A descriptor that is waited for. */
struct watch {
    LIST_HEAD(, ld_ready_wait) waits;
    uint32_t number; /* to tell it from an earlier one of the same descriptor */
    bool is_used;
};

struct ld_readiness {
    int set;
    uv_poll_t poll;
    uv_timer_t check;
    unsigned open_handles;
    struct watch *watches; /* by descriptor */
    size_t capacity;
    size_t used;
    uint32_t last_number;
};

/* The events of epoll for those of a watch's waiters. */
static uint32_t wanted(const struct watch *watch) {
    const struct ld_ready_wait *wait;
    uint32_t events = 0;
    LIST_FOREACH(wait, &watch->waits, link) {
        events |= (wait->events & UV_READABLE) != 0 ? EPOLLIN | EPOLLRDHUP | EPOLLPRI : 0U;
        events |= (wait->events & UV_WRITABLE) != 0 ? EPOLLOUT : 0U;
    }
    return events;
}

/* Change the set for a watch; 0 or a negative errno. */
static int control(const struct ld_readiness *readiness, int operation, int fd) {
    const struct watch *watch = &readiness->watches[fd];
    struct epoll_event event = {.events = wanted(watch)};
    event.data.u64 = (uint64_t)watch->number << 32 | (uint32_t)fd;
    return ld_libc_epoll_ctl(readiness->set, operation, fd, &event) < 0 ? -errno : 0;
}

/* Do nothing: closing frees. */
static void on_closed(uv_handle_t *handle) {
    struct ld_readiness *readiness = handle->data;
    if (--readiness->open_handles == 0) {
        free(readiness->watches);
        free(readiness);
    }
}

/* Stop watching a descriptor that has no waiters left. */
static void drop(struct ld_readiness *readiness, int fd) {
    control(readiness, EPOLL_CTL_DEL, fd);
    readiness->watches[fd].is_used = false;
    if (--readiness->used == 0) {
        uv_timer_stop(&readiness->check);
    }
}

/* Watch for what the waiters that are left want. */
static void adjust(struct ld_readiness *readiness, int fd) {
    if (LIST_EMPTY(&readiness->watches[fd].waits)) {
        drop(readiness, fd);
    } else {
        control(readiness, EPOLL_CTL_MOD, fd);
    }
}

LIST_HEAD(ld_ready_waits, ld_ready_wait);

/* Move the waits of a descriptor for one of EVENTS, or all if that is an error, to ENDED. */
static void collect(struct watch *watch, int events, struct ld_ready_waits *ended) {
    struct ld_ready_wait *next;
    for (struct ld_ready_wait *wait = LIST_FIRST(&watch->waits); wait != NULL; wait = next) {
        next = LIST_NEXT(wait, link);
        if (events >= 0 && (wait->events & events) == 0) {
            continue;
        }
        LIST_REMOVE(wait, link);
        LIST_INSERT_HEAD(ended, wait, link);
    }
}

/* End the waits of a descriptor for one of EVENTS, or all with an error. What a waiter does may end other
 * waits and begin new ones, so those that end are taken out first. */
static void end_waits(struct ld_readiness *readiness, int fd, int events) {
    struct ld_ready_waits ended = LIST_HEAD_INITIALIZER(ended);
    struct ld_ready_wait *wait;
    collect(&readiness->watches[fd], events, &ended);
    adjust(readiness, fd);
    while ((wait = LIST_FIRST(&ended)) != NULL) {
        LIST_REMOVE(wait, link);
        wait->is_waiting = false;
        wait->on_ready(wait, events < 0 ? events : wait->events & events);
    }
}

static void on_poll(uv_poll_t *poll, int status, int events);

/* Make the set again, because it has a descriptor that was closed and cannot be taken out. */
static void make_again(struct ld_readiness *readiness) {
    int set = epoll_create1(EPOLL_CLOEXEC);
    if (set < 0) {
        uv_poll_stop(&readiness->poll); /* or the loop would spin: the next check tries again */
        return;
    }
    uv_poll_stop(&readiness->poll);
    dup3(set, readiness->set, O_CLOEXEC);
    close(set);
    uv_poll_start(&readiness->poll, UV_READABLE, on_poll);
    for (size_t fd = 0; fd < readiness->capacity; fd++) {
        int rc = readiness->watches[fd].is_used ? control(readiness, EPOLL_CTL_ADD, (int)fd) : 0;
        if (rc < 0 && rc != -EEXIST) { /* it exists if a task that was just told waits for it */
            end_waits(readiness, (int)fd, -EBADF);
        }
    }
}

/* What a waiter is told of events of epoll. An error and a hang-up are for the one to find who reads or
 * writes. */
static int translate(uint32_t events) {
    if ((events & (EPOLLERR | EPOLLHUP)) != 0) {
        return UV_READABLE | UV_WRITABLE;
    }
    return ((events & (EPOLLIN | EPOLLRDHUP | EPOLLPRI)) != 0 ? UV_READABLE : 0) |
           ((events & EPOLLOUT) != 0 ? UV_WRITABLE : 0);
}

/* Find the watch that an event is for; NULL if that is over. */
static const struct watch *find(const struct ld_readiness *readiness, uint64_t data) {
    size_t fd = (uint32_t)data;
    const struct watch *watch = fd < readiness->capacity ? &readiness->watches[fd] : NULL;
    return watch != NULL && watch->is_used && watch->number == data >> 32 ? watch : NULL;
}

/* End the waits whose events have come. An event without a watch is of a descriptor that was closed,
 * unless a waiter that was told just before has ended that watch. */
static void on_poll(uv_poll_t *poll, int status, int events) {
    struct ld_readiness *readiness = LD_CONTAINER_OF(poll, struct ld_readiness, poll);
    struct epoll_event ready[BATCH];
    (void)status;
    (void)events;
    int count = epoll_wait(readiness->set, ready, BATCH, 0);
    for (int i = 0; i < count; i++) {
        int fd = (int)(uint32_t)ready[i].data.u64;
        if (find(readiness, ready[i].data.u64) != NULL) {
            bool is_open = fcntl(fd, F_GETFD) >= 0;
            end_waits(readiness, fd, is_open ? translate(ready[i].events) : -EBADF);
        } else if (i == 0) {
            make_again(readiness);
            return;
        }
    }
}

/* Hear of events again, if the set could not be made again when it had to be. */
static void heed(struct ld_readiness *readiness) {
    if (!uv_is_active((uv_handle_t *)&readiness->poll)) {
        uv_poll_start(&readiness->poll, UV_READABLE, on_poll);
    }
}

/* End the waits for descriptors that were closed. */
static void on_check(uv_timer_t *timer) {
    struct ld_readiness *readiness = LD_CONTAINER_OF(timer, struct ld_readiness, check);
    for (size_t fd = 0; fd < readiness->capacity; fd++) {
        if (readiness->watches[fd].is_used && control(readiness, EPOLL_CTL_MOD, (int)fd) < 0) {
            end_waits(readiness, (int)fd, -EBADF);
        }
    }
    heed(readiness);
}

/* Make a set. */
int ld_readiness_new(struct ld_readiness **out, uv_loop_t *loop) {
    struct ld_readiness *readiness = calloc(1, sizeof *readiness);
    *out = NULL;
    if (readiness == NULL) {
        return -ENOMEM;
    }
    readiness->set = epoll_create1(EPOLL_CLOEXEC);
    int rc = readiness->set < 0 ? -errno : uv_poll_init(loop, &readiness->poll, readiness->set);
    if (rc < 0) {
        if (readiness->set >= 0) {
            close(readiness->set);
        }
        free(readiness);
        return rc;
    }
    uv_timer_init(loop, &readiness->check);
    readiness->poll.data = readiness;
    readiness->check.data = readiness;
    readiness->open_handles = 2;
    *out = readiness;
    return uv_poll_start(&readiness->poll, UV_READABLE, on_poll);
}

/* Close a set. */
void ld_readiness_close(struct ld_readiness *readiness) {
    uv_close((uv_handle_t *)&readiness->poll, on_closed);
    uv_close((uv_handle_t *)&readiness->check, on_closed);
    close(readiness->set);
    readiness->set = -1;
}

int ld_readiness_fd(const struct ld_readiness *readiness) {
    return readiness->set;
}

/* Tell the first waiter of each watch where its list begins, since the watches have moved. */
static void relink(struct watch *watches, size_t count) {
    for (size_t i = 0; i < count; i++) {
        struct ld_ready_wait *first = LIST_FIRST(&watches[i].waits);
        if (first != NULL) {
            first->link.le_prev = &LIST_FIRST(&watches[i].waits);
        }
    }
}

/* Make room for the watch of a descriptor. */
static int reserve(struct ld_readiness *readiness, int fd) {
    size_t before = readiness->capacity;
    if ((size_t)fd >= before) {
        struct watch *grown =
            ld_grow_to(readiness->watches, &readiness->capacity, (size_t)fd + 1, sizeof *grown);
        if (grown == NULL) {
            return -ENOMEM;
        }
        readiness->watches = grown;
        memset(grown + before, 0, (readiness->capacity - before) * sizeof *grown);
        relink(grown, before);
    }
    return 0;
}

/* Begin to watch a descriptor for its first waiter. */
static int begin(struct ld_readiness *readiness, int fd) {
    readiness->watches[fd].number = ++readiness->last_number;
    int rc = control(readiness, EPOLL_CTL_ADD, fd);
    if (rc ==
        -EEXIST) { /* a watch of the same file that could not be taken out when it was closed */
        rc = control(readiness, EPOLL_CTL_MOD, fd);
    }
    if (rc < 0) {
        return rc;
    }
    readiness->watches[fd].is_used = true;
    if (readiness->used++ == 0) {
        uv_timer_start(&readiness->check, on_check, CHECK_MS, CHECK_MS);
        heed(readiness);
    }
    return 0;
}

/* Begin to wait. */
int ld_readiness_wait(struct ld_readiness *readiness, struct ld_ready_wait *wait) {
    int rc = wait->fd < 0 || fcntl(wait->fd, F_GETFD) < 0 ? -EBADF : reserve(readiness, wait->fd);
    if (rc < 0) {
        return rc;
    }
    if (readiness->watches[wait->fd].is_used &&
        control(readiness, EPOLL_CTL_MOD, wait->fd) < 0) { /* of a closed one with this number */
        end_waits(readiness, wait->fd, -EBADF);
    }
    struct watch *watch = &readiness->watches[wait->fd];
    LIST_INSERT_HEAD(&watch->waits, wait, link);
    rc = watch->is_used ? control(readiness, EPOLL_CTL_MOD, wait->fd) : begin(readiness, wait->fd);
    if (rc < 0) {
        LIST_REMOVE(wait, link);
        return rc == -EPERM ? 1 : rc;
    }
    wait->is_waiting = true;
    return 0;
}

/* End all waits for a descriptor. */
void ld_readiness_end(struct ld_readiness *readiness, int fd) {
    if (fd >= 0 && (size_t)fd < readiness->capacity && readiness->watches[fd].is_used) {
        end_waits(readiness, fd, -EBADF);
    }
}

/* End a wait. */
void ld_readiness_forget(struct ld_readiness *readiness, struct ld_ready_wait *wait) {
    if (wait->is_waiting) {
        wait->is_waiting = false;
        LIST_REMOVE(wait, link);
        if (readiness->watches[wait->fd].is_used) {
            adjust(readiness, wait->fd);
        }
    }
}
