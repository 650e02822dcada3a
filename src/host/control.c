#include "host/control.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/base.h"
#include "host/peer.h"
#include "posix/reserve.h"

#define IDLE_MAX   128   /* peers that ask for nothing; those who wait for an answer do not count */
#define IDLE_MS    30000 /* without a word, or without taking an answer */
#define SCARCE_MS  500   /* the same when there are no descriptors left */
#define RETRY_MS   100
#define ACCEPT_MAX 16 /* in one turn of the loop */

struct ld_control {
    uv_poll_t *listener;  /* freed by its close callback */
    uv_pipe_t first_pipe; /* of the loop: with that libuv opens a descriptor for good */
    int fd;               /* of the socket; -1: none */
    uv_timer_t timer;     /* looks for idle peers */
    uv_timer_t retry;     /* accepts who could not be accepted */
    uv_idle_t backlog;    /* serves those that have sent many requests */
    unsigned open_handles;
    LIST_HEAD(, ld_peer) peers;
    size_t peer_count;
    uid_t owner;
    const struct ld_control_ops *ops;
    void *host;
};

static void on_retry(uv_timer_t *timer);

/* Free the control after its last handle is closed. */
static void release(struct ld_control *control) {
    if (--control->open_handles == 0) {
        free(control);
    }
}

/* Take a peer that closes out of the list. */
static void on_peer_closing(struct ld_peer *peer) {
    struct ld_control *control = peer->control;
    LIST_REMOVE(peer, link);
    control->peer_count--;
    if (LIST_EMPTY(&control->peers)) {
        uv_timer_stop(&control->timer);
    }
}

/* Free a peer that is closed. */
static void on_peer_closed(struct ld_peer *peer) {
    struct ld_control *control = peer->control;
    free(peer);
    release(control);
}

/* Serve one line of each peer that has more of them. */
static void on_backlog(uv_idle_t *idle) {
    struct ld_control *control = LD_CONTAINER_OF(idle, struct ld_control, backlog);
    struct ld_peer *next;
    uv_idle_stop(idle); /* who has still more starts it again */
    for (struct ld_peer *peer = LIST_FIRST(&control->peers); peer != NULL; peer = next) {
        next = LIST_NEXT(peer, link);
        if (ld_peer_is_behind(peer)) {
            ld_peer_serve_next(peer);
        }
    }
}

/* Serve the rest of what a peer has sent in the next turns. */
static void on_peer_behind(struct ld_peer *peer) {
    struct ld_control *control = peer->control;
    uv_idle_start(&control->backlog, on_backlog);
}

static const struct ld_peer_events events = {on_peer_closing, on_peer_closed, on_peer_behind};

/* Close peers that have been idle for long. One that waits for us is not idle. */
static void on_timer(uv_timer_t *timer) {
    struct ld_control *control = LD_CONTAINER_OF(timer, struct ld_control, timer);
    uint64_t now = uv_now(timer->loop);
    struct ld_peer *next;
    for (struct ld_peer *peer = LIST_FIRST(&control->peers); peer != NULL; peer = next) {
        next = LIST_NEXT(peer, link);
        if (!peer->waiting && now - peer->last > IDLE_MS) {
            ld_peer_close(peer);
        }
    }
}

/* The peer that has been idle longest, or NULL; how many are idle in *COUNT, which may be NULL. */
static struct ld_peer *find_oldest(const struct ld_control *control, size_t *count) {
    struct ld_peer *oldest = NULL;
    size_t idle = 0;
    struct ld_peer *peer;
    LIST_FOREACH(peer, &control->peers, link) {
        if (!peer->waiting) {
            idle++;
            oldest = oldest == NULL || peer->last <= oldest->last ? peer : oldest;
        }
    }
    if (count != NULL) {
        *count = idle;
    }
    return oldest;
}

/* Make room for one more: the peer that has been idle longest goes. */
static void make_room(const struct ld_control *control) {
    size_t idle;
    struct ld_peer *oldest = find_oldest(control, &idle);
    if (idle >= IDLE_MAX) {
        ld_peer_close(oldest);
    }
}

/* Whether a peer may ask us anything. */
static bool is_allowed(const struct ld_control *control, const struct ld_peer *peer) {
    struct ucred user;
    socklen_t size = sizeof user;
    int fd;
    return uv_fileno((const uv_handle_t *)&peer->pipe, &fd) == 0 &&
           getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &user, &size) == 0 &&
           (user.uid == 0 || user.uid == control->owner);
}

/* Put a new peer into the list and begin to serve it. */
static void welcome(struct ld_control *control, struct ld_peer *peer) {
    peer->last = uv_now(control->timer.loop);
    LIST_INSERT_HEAD(&control->peers, peer, link);
    control->peer_count++;
    uv_timer_start(&control->timer, on_timer, IDLE_MS, IDLE_MS);
    if (is_allowed(control, peer)) {
        ld_peer_start(peer);
    } else {
        ld_peer_refuse(peer, "permission denied: this daemon belongs to another user");
    }
}

/* Handle that a peer whose descriptor could not be used is closed. */
static void on_unopened_closed(uv_handle_t *handle) {
    on_peer_closed(LD_CONTAINER_OF(handle, struct ld_peer, pipe));
}

/* Serve the client behind FD, which is taken over. */
static void add_peer(struct ld_control *control, int fd) {
    struct ld_peer *peer = calloc(1, sizeof *peer);
    if (peer == NULL) {
        close(fd);
        return;
    }
    make_room(control);
    peer->events = &events;
    peer->control = control;
    peer->ops = control->ops;
    peer->host = control->host;
    control->open_handles++;
    uv_pipe_init(control->timer.loop, &peer->pipe, 0);
    if (uv_pipe_open(&peer->pipe, fd) < 0) {
        close(fd);
        uv_close((uv_handle_t *)&peer->pipe, on_unopened_closed);
        return;
    }
    welcome(control, peer);
}

/* Accept a client, with a descriptor of the reserve if there is no other: a descriptor or a negative
 * errno. libuv would drop the client. */
static int accept_client(const struct ld_control *control) {
    int fd = accept4(control->fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
    if (fd < 0 && (errno == EMFILE || errno == ENFILE)) {
        ld_reserve_lend();
        fd = accept4(control->fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
        int code = errno;
        ld_reserve_take_back();
        errno = code;
    }
    return fd < 0 ? -errno : fd;
}

/* Accept who waits, but not for ever. Without a descriptor the client that has been idle longest goes,
 * and the next one has to wait for a moment. */
static void accept_clients(struct ld_control *control) {
    int fd = 0;
    for (int i = 0; i < ACCEPT_MAX && fd >= 0; i++) {
        fd = accept_client(control);
        if (fd >= 0) {
            add_peer(control, fd);
        }
    }
    if (fd >= 0 || fd == -EAGAIN || fd == -EINTR || fd == -ECONNABORTED) {
        return;
    }
    struct ld_peer *oldest = find_oldest(control, NULL);
    if (oldest != NULL && uv_now(control->timer.loop) - oldest->last > SCARCE_MS) {
        ld_peer_close(oldest);
    }
    uv_poll_stop(control->listener);
    uv_timer_start(&control->retry, on_retry, RETRY_MS, 0);
}

/* Handle a connection. */
static void on_connection(uv_poll_t *listener, int status, int poll_events) {
    (void)status;
    (void)poll_events;
    accept_clients(listener->data);
}

/* Try again. */
static void on_retry(uv_timer_t *timer) {
    struct ld_control *control = LD_CONTAINER_OF(timer, struct ld_control, retry);
    uv_poll_start(control->listener, UV_READABLE, on_connection);
}

/* Free a handle that has memory of its own. */
static void on_listener_closed(uv_handle_t *handle) {
    free(handle);
}

/* Stop listening. */
static void close_listener(struct ld_control *control) {
    if (control->listener != NULL) {
        uv_timer_stop(&control->retry);
        uv_close((uv_handle_t *)control->listener, on_listener_closed);
        close(control->fd);
        control->listener = NULL;
    }
}

/* Listen on a socket instead of the one before. */
int ld_control_listen(struct ld_control *control, int fd) {
    uv_poll_t *listener = malloc(sizeof *listener);
    int rc = listener != NULL ? uv_poll_init(control->timer.loop, listener, fd) : -ENOMEM;
    if (rc < 0) {
        free(listener);
        close(fd);
        return rc;
    }
    close_listener(control);
    listener->data = control;
    control->listener = listener;
    control->fd = fd;
    return uv_poll_start(listener, UV_READABLE, on_connection);
}

/* Open the control socket. */
int ld_control_open(struct ld_control **out, uv_loop_t *loop, int listener, uid_t owner) {
    struct ld_control *control = calloc(1, sizeof *control);
    if (control == NULL) {
        close(listener);
        return -ENOMEM;
    }
    control->owner = owner;
    control->open_handles = 4;
    uv_pipe_init(loop, &control->first_pipe, 0);
    uv_timer_init(loop, &control->timer);
    uv_timer_init(loop, &control->retry);
    uv_idle_init(loop, &control->backlog);
    *out = control;
    return ld_control_listen(control, listener);
}

/* Say what requests do. */
void ld_control_serve(struct ld_control *control, const struct ld_control_ops *ops, void *host) {
    control->ops = ops;
    control->host = host;
}

/* Free a handle of the control itself. */
static void on_closed(uv_handle_t *handle) {
    release(handle->data);
}

/* Close the control socket. */
void ld_control_close(struct ld_control *control) {
    while (!LIST_EMPTY(&control->peers)) {
        ld_peer_close(LIST_FIRST(&control->peers));
    }
    control->first_pipe.data = control;
    control->timer.data = control;
    control->retry.data = control;
    control->backlog.data = control;
    close_listener(control);
    uv_close((uv_handle_t *)&control->first_pipe, on_closed);
    uv_close((uv_handle_t *)&control->timer, on_closed);
    uv_close((uv_handle_t *)&control->retry, on_closed);
    uv_close((uv_handle_t *)&control->backlog, on_closed);
}
