#include "engine/reaper.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/base.h"
#include "base/time.h"
#include "engine/turn.h"
#include "posix/process.h"

#define FOREIGN_MS 2   /* until a foreign child is checked again */
#define RATION     200 /* a walk is followed by this many times its cost without one */
#define RATION_ALL 20  /* the same where walks alone tell of an end */
#define PAUSE_MS   250 /* at most: a walk that was interrupted seems dear */
#define BATCH      64  /* ends handled in one turn of the loop */

struct ld_reaper {
    uv_poll_t poll;   /* of the epoll set */
    uv_timer_t timer; /* for a walk that had to wait */
    unsigned open_handles;
    int epoll;
    struct epoll_event ended[BATCH]; /* those that are being handled */
    int ended_count;
    bool use_pidfds;
    bool holds; /* no walk */
    uint64_t next_walk;
    bool (*is_foreign)(pid_t pid);
    struct ld_watch **buckets;
    size_t bucket_count; /* a power of two */
    size_t watch_count;
};

/* The bucket of a pid. */
static struct ld_watch **bucket(const struct ld_reaper *reaper, pid_t pid) {
    return &reaper->buckets[(size_t)pid & (reaper->bucket_count - 1)];
}

/* Find the watch of PID. */
struct ld_watch *ld_reaper_find(const struct ld_reaper *reaper, pid_t pid) {
    struct ld_watch *watch = *bucket(reaper, pid);
    while (watch != NULL && watch->pid != pid) {
        watch = watch->next;
    }
    return watch;
}

/* Double the table when it is full; a failure only makes it slower. */
static void grow(struct ld_reaper *reaper) {
    size_t count = reaper->bucket_count * 2;
    struct ld_watch **buckets = calloc(count, sizeof(struct ld_watch *));
    if (buckets == NULL) {
        return;
    }
    for (size_t i = 0; i < reaper->bucket_count; i++) {
        struct ld_watch *next;
        for (struct ld_watch *watch = reaper->buckets[i]; watch != NULL; watch = next) {
            struct ld_watch **place = &buckets[(size_t)watch->pid & (count - 1)];
            next = watch->next;
            watch->next = *place;
            *place = watch;
        }
    }
    free(reaper->buckets);
    reaper->buckets = buckets;
    reaper->bucket_count = count;
}

/* The descriptor to watch PID by: PIDFD, or one that is opened; -ENOSYS if SIGCHLD announces
 * its end, or another negative errno. */
static int take_pidfd(const struct ld_reaper *reaper, pid_t pid, int pidfd) {
    if (reaper->use_pidfds) {
        return pidfd >= 0 ? pidfd : ld_process_open(pid);
    }
    if (pidfd >= 0) {
        close(pidfd);
    }
    return -ENOSYS;
}

/* Watch a child. */
int ld_reaper_watch(struct ld_reaper *reaper, struct ld_watch *watch, pid_t pid, int pidfd) {
    watch->pid = pid;
    watch->pidfd = take_pidfd(reaper, pid, pidfd);
    if (watch->pidfd >= 0) {
        struct epoll_event event = {.events = EPOLLIN, .data = {.ptr = watch}};
        if (epoll_ctl(reaper->epoll, EPOLL_CTL_ADD, watch->pidfd, &event) < 0) {
            int code = errno;
            close(watch->pidfd);
            return -code;
        }
    } else if (watch->pidfd != -ENOSYS) {
        return watch->pidfd;
    }
    if (reaper->watch_count++ >= reaper->bucket_count) {
        grow(reaper);
    }
    watch->next = *bucket(reaper, pid);
    *bucket(reaper, pid) = watch;
    return 0;
}

/* Stop watching. */
void ld_reaper_unwatch(struct ld_reaper *reaper, struct ld_watch *watch) {
    struct ld_watch **place = bucket(reaper, watch->pid);
    while (*place != NULL && *place != watch) {
        place = &(*place)->next;
    }
    if (*place == NULL) {
        return;
    }
    *place = watch->next;
    reaper->watch_count--;
    for (int i = 0; i < reaper->ended_count; i++) {
        if (reaper->ended[i].data.ptr == watch) {
            reaper->ended[i].data.ptr = NULL;
        }
    }
    if (watch->pidfd >= 0) {
        /* Closing alone leaves it in the set while a forked process has a copy. */
        epoll_ctl(reaper->epoll, EPOLL_CTL_DEL, watch->pidfd, NULL);
        close(watch->pidfd);
        watch->pidfd = -1;
    }
}

/* Reap PID, blocking if BLOCK; false if it has not ended. */
static bool reap(pid_t pid, bool block, struct ld_exit *exit) {
    siginfo_t info = {0};
    int rc;
    do {
        rc = waitid(P_PID, (id_t)pid, &info, WEXITED | (block ? 0 : WNOHANG));
    } while (rc < 0 && errno == EINTR);
    if (rc < 0) { /* ECHILD: other code has reaped it */
        *exit = (struct ld_exit){.status = -1};
        return true;
    }
    *exit = (struct ld_exit){.signaled = info.si_code != CLD_EXITED,
                             .status = info.si_status,
                             .core = info.si_code == CLD_DUMPED};
    return info.si_pid == pid;
}

/* Reap a watched child and tell its owner. */
static void finish(struct ld_reaper *reaper, struct ld_watch *watch) {
    struct ld_exit exit;
    if (reap(watch->pid, false, &exit)) {
        ld_reaper_unwatch(reaper, watch);
        watch->on_exit(watch, &exit);
    }
}

/* Wait for the end of a watched child. */
void ld_reaper_wait(struct ld_reaper *reaper, struct ld_watch *watch, struct ld_exit *exit) {
    reap(watch->pid, true, exit);
    ld_reaper_unwatch(reaper, watch);
}

/* Tell the owners of children whose pidfd says that they ended, as long as a turn of the loop
 * may take; the rest comes in the next turn. An owner may end other watches during this. */
static void finish_known(struct ld_reaper *reaper) {
    uint64_t end = ld_time_coarse() + LD_TURN_NS;
    reaper->ended_count = epoll_wait(reaper->epoll, reaper->ended, BATCH, 0);
    for (int i = 0; i < reaper->ended_count && (i == 0 || ld_time_coarse() < end); i++) {
        if (reaper->ended[i].data.ptr != NULL) {
            finish(reaper, reaper->ended[i].data.ptr);
        }
    }
    reaper->ended_count = 0;
}

static void on_timer(uv_timer_t *timer);

/* Reap every child that has ended, watched or not, as long as a turn of the loop may take. */
static void walk(struct ld_reaper *reaper) {
    uint64_t end = ld_time_coarse() + LD_TURN_NS;
    for (;;) {
        siginfo_t info = {0};
        struct ld_exit exit;
        if (waitid(P_ALL, 0, &info, WEXITED | WNOHANG | WNOWAIT) < 0 || info.si_pid == 0) {
            return;
        }
        struct ld_watch *watch = ld_reaper_find(reaper, info.si_pid);
        if (watch != NULL) {
            finish(reaper, watch);
        } else if (reaper->is_foreign != NULL && reaper->is_foreign(info.si_pid)) {
            uv_timer_start(&reaper->timer, on_timer, FOREIGN_MS, 0);
            return; /* it hides those after it until it is reaped */
        } else {
            reap(info.si_pid, false, &exit);
        }
        if (ld_time_coarse() >= end) {
            uv_timer_start(&reaper->timer, on_timer, 1, 0);
            return;
        }
    }
}

/* Walk now, and note when the next walk may be. */
static void walk_now(struct ld_reaper *reaper) {
    uint64_t start = uv_hrtime();
    if (reaper->holds) {
        return;
    }
    walk(reaper);
    uint64_t end = uv_hrtime();
    uint64_t pause = (end - start) * (reaper->use_pidfds ? RATION : RATION_ALL);
    uint64_t longest = PAUSE_MS * UINT64_C(1000000);
    reaper->next_walk = end + (pause < longest ? pause : longest);
}

/* Do the walk that had to wait. */
static void on_timer(uv_timer_t *timer) {
    walk_now(LD_CONTAINER_OF(timer, struct ld_reaper, timer));
}

/* Reap what has ended and is not watched by a pidfd. A walk costs time for each child, so when they
 * end one after the other, one walk serves many of them. */
void ld_reaper_sweep(struct ld_reaper *reaper) {
    uint64_t now = uv_hrtime();
    if (now >= reaper->next_walk) {
        walk_now(reaper);
    } else if (!uv_is_active((uv_handle_t *)&reaper->timer)) {
        uv_timer_start(&reaper->timer, on_timer, (reaper->next_walk - now) / 1000000 + 1, 0);
    }
}

/* Hold back walks. */
void ld_reaper_hold(struct ld_reaper *reaper, bool holds) {
    reaper->holds = holds && reaper->use_pidfds;
    if (!reaper->holds) {
        walk_now(reaper);
    }
}

/* Handle a pidfd that is readable. */
static void on_readable(uv_poll_t *poll, int status, int events) {
    (void)status;
    (void)events;
    finish_known(LD_CONTAINER_OF(poll, struct ld_reaper, poll));
}

/* Set which children to leave alone. */
void ld_reaper_set_foreign(struct ld_reaper *reaper, bool (*is_foreign)(pid_t pid)) {
    reaper->is_foreign = is_foreign;
}

/* Make a reaper. */
int ld_reaper_new(struct ld_reaper **out, uv_loop_t *loop, bool use_pidfds) {
    struct ld_reaper *reaper = calloc(1, sizeof *reaper);
    int rc = -ENOMEM;
    if (reaper == NULL) {
        return rc;
    }
    reaper->bucket_count = 16;
    reaper->use_pidfds = use_pidfds;
    reaper->buckets = calloc(reaper->bucket_count, sizeof(struct ld_watch *));
    reaper->epoll = epoll_create1(EPOLL_CLOEXEC);
    if (reaper->buckets != NULL) {
        rc = reaper->epoll < 0 ? -errno : uv_poll_init(loop, &reaper->poll, reaper->epoll);
    }
    if (rc < 0) {
        if (reaper->epoll >= 0) {
            close(reaper->epoll);
        }
        free(reaper->buckets);
        free(reaper);
        return rc;
    }
    uv_timer_init(loop, &reaper->timer);
    uv_poll_start(&reaper->poll, UV_READABLE, on_readable);
    uv_unref((uv_handle_t *)&reaper->poll);
    uv_unref((uv_handle_t *)&reaper->timer);
    reaper->open_handles = 2;
    prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0);
    *out = reaper;
    return 0;
}

/* Free everything after the last handle is closed. */
static void on_close(uv_handle_t *handle) {
    struct ld_reaper *reaper = handle->data;
    if (--reaper->open_handles == 0) {
        close(reaper->epoll);
        free(reaper->buckets);
        free(reaper);
    }
}

/* Close a reaper; the loop must turn once to free it. Remaining watches are told that the exit is
 * unknown. */
void ld_reaper_close(struct ld_reaper *reaper) {
    const struct ld_exit unknown = {.status = -1};
    for (size_t i = 0; i < reaper->bucket_count; i++) {
        struct ld_watch *watch;
        while ((watch = reaper->buckets[i]) != NULL) {
            ld_reaper_unwatch(reaper, watch);
            watch->on_exit(watch, &unknown);
        }
    }
    reaper->poll.data = reaper;
    reaper->timer.data = reaper;
    uv_close((uv_handle_t *)&reaper->poll, on_close);
    uv_close((uv_handle_t *)&reaper->timer, on_close);
}

/* Whether this process has any child at all. */
bool ld_reaper_has_children(void) {
    siginfo_t info = {0};
    return waitid(P_ALL, 0, &info, WEXITED | WNOHANG | WNOWAIT) == 0;
}

/* Stop watching: replace the epoll set that both processes share by an empty one. */
void ld_reaper_give_up(struct ld_reaper *reaper) {
    int epoll = epoll_create1(EPOLL_CLOEXEC);
    if (epoll >= 0) {
        dup3(epoll, reaper->epoll, O_CLOEXEC);
        close(epoll);
    }
}
