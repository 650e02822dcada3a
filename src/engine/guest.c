/* The host's loop watches the guest's epoll descriptor, and a timer for the guest's next timeout.
 * New watchers of the guest enter its epoll set only when it runs, so once a
 * turn, before the host's loop waits, a guest with something new is run without waiting. */
#include "engine/guest.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/base.h"
#include "base/log.h"
#include "base/text.h"
#include "engine/signals.h"
#include "posix/reserve.h"

#define LARGE     64  /* active handles */
#define NAMES_MAX 100 /* of connections, in one message */

struct ld_guest {
    uv_loop_t loop;
    uv_prepare_t prepare;
    uv_poll_t poll;
    uv_timer_t timer;
    unsigned open_handles; /* of ours, on the host's loop */
    void (*ended)(void *arg);
    void *ended_arg;
    struct ld_guest *next;
};

static struct ld_guest *guests;  /* all of them */
static struct ld_guest *running; /* the one whose loop runs */

/* Make a loop look alive, or undo that. libuv neither runs nor times a loop that has nothing to
 * wait for, but handles that do not keep a script alive must be served while other things do. */
static void pretend(struct ld_guest *guest, bool alive) {
    if (alive) {
        guest->loop.active_reqs.count++;
    } else {
        guest->loop.active_reqs.count--;
    }
}

/* Milliseconds until the guest must be run; -1: it waits for descriptors only. Also
 * 0 if a watcher is new, which the descriptor that we watch does not know yet. */
static int next_timeout(struct ld_guest *guest) {
    bool has_new = guest->loop.watcher_queue[0] != (void *)&guest->loop.watcher_queue;
    pretend(guest, true);
    int timeout = has_new ? 0 : uv_backend_timeout(&guest->loop);
    pretend(guest, false);
    return timeout;
}

/* Run what is due, without waiting. */
static void run(struct ld_guest *guest) {
    bool alive = uv_loop_alive(&guest->loop);
    if (!alive) {
        pretend(guest, true);
    }
    running = guest;
    uv_run(&guest->loop, UV_RUN_NOWAIT);
    running = NULL;
    if (!alive) {
        pretend(guest, false);
    }
}

/* Bring the time up to date. Not during a run: timers that are always due would never end it. */
void ld_guest_refresh(struct ld_guest *guest) {
    if (running != guest) {
        uv_update_time(&guest->loop);
    }
}

/* Handle the guest's next timeout. */
static void on_timer(uv_timer_t *timer) {
    run(LD_CONTAINER_OF(timer, struct ld_guest, timer));
}

/* Handle events on the guest's descriptors. */
static void on_poll(uv_poll_t *poll, int status, int events) {
    (void)status;
    (void)events;
    run(LD_CONTAINER_OF(poll, struct ld_guest, poll));
}

/* Make the host's loop wait no longer than the guest may. */
static void arm(struct ld_guest *guest) {
    uv_update_time(&guest->loop);
    int timeout = next_timeout(guest);
    if (timeout < 0) {
        uv_timer_stop(&guest->timer);
    } else {
        uv_timer_start(&guest->timer, on_timer, (uint64_t)timeout, 0);
    }
}

/* Run the guest if it has news, before the host's loop waits. */
static void on_prepare(uv_prepare_t *prepare) {
    struct ld_guest *guest = LD_CONTAINER_OF(prepare, struct ld_guest, prepare);
    if (next_timeout(guest) == 0) {
        run(guest);
    }
    if (guest->ended != NULL && !ld_guest_is_alive(guest)) {
        void (*ended)(void *) = guest->ended;
        guest->ended = NULL;
        ended(guest->ended_arg);
        return;
    }
    arm(guest);
}

/* Arm all guests again. */
void ld_guest_arm_all(void) {
    for (struct ld_guest *guest = guests; guest != NULL; guest = guest->next) {
        if (!uv_is_closing((uv_handle_t *)&guest->timer)) {
            arm(guest);
        }
    }
}

/* Free a guest after the last of our handles is closed. */
static void on_closed(uv_handle_t *handle) {
    struct ld_guest *guest = handle->data;
    if (--guest->open_handles > 0) {
        return;
    }
    struct ld_guest **place = &guests;
    while (*place != guest) {
        place = &(*place)->next;
    }
    *place = guest->next;
    if (uv_loop_close(&guest->loop) == 0) {
        free(guest);
        ld_reserve_fill(); /* before a script takes the descriptors that are free now */
    } else {               /* a thread may be writing into it */
        ld_log(LD_LOG_WARN, "luv: a request was begun while its state was closed: it is left");
    }
}

/* Make a guest. */
int ld_guest_open(struct ld_guest **out, uv_loop_t *host) {
    struct ld_guest *guest = calloc(1, sizeof *guest);
    if (guest == NULL) {
        return UV_ENOMEM;
    }
    int rc = uv_loop_init(&guest->loop);
    if (rc < 0) {
        free(guest);
        return rc;
    }
    rc = uv_poll_init(host, &guest->poll, uv_backend_fd(&guest->loop));
    if (rc < 0) {
        uv_loop_close(&guest->loop);
        free(guest);
        return rc;
    }
    uv_prepare_init(host, &guest->prepare);
    uv_timer_init(host, &guest->timer);
    guest->prepare.data = guest;
    guest->poll.data = guest;
    guest->timer.data = guest;
    guest->open_handles = 3;
    uv_prepare_start(&guest->prepare, on_prepare);
    uv_poll_start(&guest->poll, UV_READABLE, on_poll);
    uv_unref((uv_handle_t *)&guest->prepare);
    uv_unref((uv_handle_t *)&guest->poll);
    uv_unref((uv_handle_t *)&guest->timer);
    guest->next = guests;
    guests = guest;
    *out = guest;
    return 0;
}

/* The loop for the library. */
uv_loop_t *ld_guest_loop(struct ld_guest *guest) {
    return &guest->loop;
}

/* Whether anything is alive. */
bool ld_guest_is_alive(const struct ld_guest *guest) {
    return uv_loop_alive(&guest->loop);
}

/* Whether a request is pending. */
bool ld_guest_has_requests(const struct ld_guest *guest) {
    return guest->loop.active_reqs.count > 0;
}

/* What a walk over the handles looks for, and finds. */
struct search {
    int fd;
    pid_t pid;
    size_t count;
    bool found;
    struct ld_text *text;
};

/* Whether a handle is a stream that can have a peer or listen. */
static bool is_stream(const uv_handle_t *handle) {
    return handle->type == UV_TCP || handle->type == UV_NAMED_PIPE;
}

/* The descriptor of a handle, or -1. */
static int fd_of(const uv_handle_t *handle) {
    int fd;
    return uv_fileno(handle, &fd) == 0 ? fd : -1;
}

/* Whether a stream listens. */
static bool is_listening(const uv_handle_t *handle) {
    int on = 0;
    socklen_t size = sizeof on;
    int fd = is_stream(handle) ? fd_of(handle) : -1;
    return fd >= 0 && getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &on, &size) == 0 && on != 0;
}

/* Walk over all handles that are not closing. */
static struct search walk(const struct ld_guest *guest, uv_walk_cb each, struct search search) {
    uv_walk((uv_loop_t *)(uintptr_t)&guest->loop, each, &search);
    return search;
}

/* Count a handle. */
static void count_one(uv_handle_t *handle, void *arg) {
    ((struct search *)arg)->count += !uv_is_closing(handle);
}

/* How many handles are open. */
size_t ld_guest_count(const struct ld_guest *guest) {
    return walk(guest, count_one, (struct search){.fd = -1}).count;
}

/* Count a handle among those of its kind. */
static void count_kind(uv_handle_t *handle, void *arg) {
    size_t *counts = arg;
    if (!uv_is_closing(handle) && handle->type < UV_HANDLE_TYPE_MAX) {
        counts[handle->type]++;
    }
}

/* Count handles by kind. */
void ld_guest_count_kinds(const struct ld_guest *guest,
                          void (*each)(void *arg, const char *kind, size_t count), void *arg) {
    size_t counts[UV_HANDLE_TYPE_MAX] = {0};
    uv_walk((uv_loop_t *)(uintptr_t)&guest->loop, count_kind, counts);
    for (int type = 0; type < UV_HANDLE_TYPE_MAX; type++) {
        const char *kind = uv_handle_type_name((uv_handle_type)type);
        if (counts[type] > 0 && kind != NULL) {
            each(arg, kind, counts[type]);
        }
    }
}

/* Whether a handle is a stream that is connected. */
static bool is_connected(const uv_handle_t *handle) {
    return is_stream(handle) && !uv_is_closing(handle) &&
           (uv_is_readable((const uv_stream_t *)handle) ||
            uv_is_writable((const uv_stream_t *)handle));
}

/* Look for a connected stream. */
static void find_connected(uv_handle_t *handle, void *arg) {
    if (is_connected(handle)) {
        ((struct search *)arg)->found = true;
    }
}

/* Whether a search takes long. */
bool ld_guest_is_large(const struct ld_guest *guest) {
    return guest->loop.active_handles > LARGE;
}

/* Whether a stream is connected. */
bool ld_guest_is_connected(const struct ld_guest *guest) {
    return walk(guest, find_connected, (struct search){.fd = -1}).found;
}

/* Name the peer of a connected stream. */
static void name_connected(uv_handle_t *handle, void *arg) {
    struct search *search = arg;
    struct sockaddr_storage peer;
    char host[64] = "";
    int size = sizeof peer;
    if (!is_connected(handle) || search->count++ >= NAMES_MAX) {
        return;
    }
    const char *comma = ld_text_is_empty(search->text) ? "" : ", ";
    if (handle->type == UV_TCP &&
        uv_tcp_getpeername((const uv_tcp_t *)handle, (struct sockaddr *)&peer, &size) == 0 &&
        uv_ip_name((const struct sockaddr *)&peer, host, sizeof host) == 0) {
        int port = ntohs(((const struct sockaddr_in *)&peer)->sin_port); /* where IPv6 has it too */
        bool six = peer.ss_family == AF_INET6;
        ld_text_format(search->text, "%sconnection with %s%s%s:%d", comma, six ? "[" : "", host,
                       six ? "]" : "", port);
    } else {
        ld_text_format(search->text, "%sconnection %s", comma,
                       handle->type == UV_TCP ? "whose other side has gone"
                                              : "by a pipe or Unix socket");
    }
}

/* Name the connected peers. */
void ld_guest_name_connected(const struct ld_guest *guest, struct ld_text *text) {
    size_t count = walk(guest, name_connected, (struct search){.fd = -1, .text = text}).count;
    if (count > NAMES_MAX) {
        ld_text_format(text, " and %zu connections more", count - NAMES_MAX);
    }
}

/* Look for a descriptor. */
static void find_fd(uv_handle_t *handle, void *arg) {
    struct search *search = arg;
    search->found = search->found || (is_stream(handle) && fd_of(handle) == search->fd);
}

/* Whether a stream has a descriptor. */
bool ld_guest_has_fd(const struct ld_guest *guest, int fd) {
    return walk(guest, find_fd, (struct search){.fd = fd}).found;
}

/* Look for a descriptor that closing the handle would close. */
static void find_owned_fd(uv_handle_t *handle, void *arg) {
    struct search *search = arg;
    bool owns = is_stream(handle) || handle->type == UV_TTY || handle->type == UV_UDP;
    search->found = search->found || (owns && fd_of(handle) == search->fd);
}

/* Look for a descriptor of any handle. */
static void find_any_fd(uv_handle_t *handle, void *arg) {
    struct search *search = arg;
    search->found = search->found || fd_of(handle) == search->fd;
}

/* Whether a descriptor is what a loop itself works with. */
static bool is_of_loop(const uv_loop_t *loop, int fd) {
    return fd == uv_backend_fd(loop) || fd == loop->async_io_watcher.fd ||
           fd == loop->signal_pipefd[0] || fd == loop->signal_pipefd[1] || fd == loop->inotify_fd;
}

/* Find which loop has a descriptor. */
enum ld_guest_fd ld_guest_find_fd(const struct ld_guest *guest, int fd) {
    struct search on_host = {.fd = fd};
    uv_walk(guest->prepare.loop, find_any_fd, &on_host);
    if (on_host.found || is_of_loop(guest->prepare.loop, fd)) {
        return LD_GUEST_FD_HOST;
    }
    for (const struct ld_guest *at = guests; at != NULL; at = at->next) {
        if (is_of_loop(&at->loop, fd)) {
            return LD_GUEST_FD_HOST;
        }
        if (at != guest && walk(at, find_any_fd, (struct search){.fd = fd}).found) {
            return LD_GUEST_FD_OTHER;
        }
    }
    bool owned = walk(guest, find_owned_fd, (struct search){.fd = fd}).found;
    return owned ? LD_GUEST_FD_OWN : LD_GUEST_FD_NONE;
}

/* Find the loop of a stream by its descriptor. */
uv_loop_t *ld_guest_loop_of_fd(int fd) {
    struct ld_guest *guest = guests;
    while (guest != NULL && !ld_guest_has_fd(guest, fd)) {
        guest = guest->next;
    }
    return guest != NULL ? &guest->loop : NULL;
}

/* Whether the loop that is running has an epoll set. */
bool ld_guest_is_running(int set) {
    return running != NULL && set == uv_backend_fd(&running->loop);
}

/* Look for a child. */
static void find_child(uv_handle_t *handle, void *arg) {
    struct search *search = arg;
    if (handle->type == UV_PROCESS && uv_is_active(handle) &&
        uv_process_get_pid((uv_process_t *)handle) == search->pid) {
        search->found = true;
    }
}

/* Whether a process is a child of a library. */
bool ld_guest_has_child(pid_t pid) {
    for (const struct ld_guest *guest = guests; guest != NULL; guest = guest->next) {
        if (walk(guest, find_child, (struct search){.pid = pid}).found) {
            return true;
        }
    }
    return false;
}

/* Close a stream that listens. */
static void close_listener(uv_handle_t *handle, void *arg) {
    (void)arg;
    if (!uv_is_closing(handle) && is_listening(handle)) {
        uv_close(handle, NULL);
    }
}

/* Close all streams that listen. */
void ld_guest_close_listeners(struct ld_guest *guest) {
    uv_walk(&guest->loop, close_listener, NULL);
}

/* Close a handle. */
static void close_one(uv_handle_t *handle, void *arg) {
    (void)arg;
    if (!uv_is_closing(handle)) {
        uv_close(handle, NULL);
    }
}

/* Close everything. */
void ld_guest_close_handles(struct ld_guest *guest) {
    uv_walk(&guest->loop, close_one, NULL);
}

/* Be told of the end. */
void ld_guest_on_end(struct ld_guest *guest, void (*ended)(void *arg), void *arg) {
    guest->ended = ended;
    guest->ended_arg = arg;
    uv_ref((uv_handle_t *)&guest->prepare); /* the host's loop must not end before */
}

/* Close a guest. */
void ld_guest_close(struct ld_guest *guest) {
    if (ld_guest_count(guest) > 0) { /* what was made while the library was closed */
        ld_guest_close_handles(guest);
        if (guest->loop.active_reqs.count == 0) {
            uv_run(&guest->loop, UV_RUN_NOWAIT); /* no handle has a callback by now */
        }
    }
    uv_close((uv_handle_t *)&guest->prepare, on_closed);
    uv_close((uv_handle_t *)&guest->poll, on_closed);
    uv_close((uv_handle_t *)&guest->timer, on_closed);
}

/* Restore the default of a signal. */
static void give_signal_up(uv_handle_t *handle, void *arg) {
    const struct sigaction dfl = {.sa_handler = SIG_DFL};
    (void)arg;
    if (handle->type == UV_SIGNAL && uv_is_active(handle)) {
        ld_signals_sigaction(((uv_signal_t *)handle)->signum, &dfl, NULL);
    }
}

/* Give everything up. */
void ld_guest_give_up_all(int blank) {
    for (struct ld_guest *guest = guests; guest != NULL; guest = guest->next) {
        walk(guest, give_signal_up, (struct search){.fd = -1});
        dup3(blank, uv_backend_fd(&guest->loop), O_CLOEXEC);
        dup3(blank, guest->loop.async_io_watcher.fd, O_CLOEXEC);
    }
}
