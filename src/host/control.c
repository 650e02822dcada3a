#include "host/control.h"

#include <errno.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/base.h"
#include "base/text.h"
#include "engine/fair.h"
#include "host/lobby.h"
#include "posix/reserve.h"
#include "script/caller.h"

#define IDLE_MAX    128   /* peers that do not wait for an answer */
#define IDLE_MS     30000 /* without a request, or without reading an answer */
#define SCARCE_MS   500   /* the same when no descriptors are left */
#define RETRY_MS    100
#define ACCEPT_MAX  16 /* in one turn of the loop */
#define REQUEST_MAX ((size_t)1024 * 1024)

/* One client: requests in, answers out, a line each. */
struct peer {
    uv_pipe_t pipe;
    struct ld_control *control;
    LIST_ENTRY(peer) link;
    struct ld_text input;
    size_t start;    /* of the input that is not served yet */
    size_t searched; /* no newline before this */
    bool waiting;    /* for an answer of the host */
    bool is_heard;   /* while it waits: it may say that it will send nothing more */
    bool holds;      /* while it waits: it is to commit what it has asked for */
    unsigned unsent; /* how many answers, and parts of one, it has not read */
    bool refused;    /* it gets one answer, and no more */
    bool is_quiet;   /* nothing of it waits here for an answer: it is in the lobby */
    uint64_t last;   /* uv_now when it last did something */
    uint64_t served; /* see fair.h */
    struct ld_waiter waiter;
};

/* An answer on its way. */
struct answer {
    uv_write_t request;
    struct peer *peer;
    char *text;
};

struct ld_control {
    uv_poll_t *listener; /* freed by its close callback */
    uv_pipe_t
        first_pipe;    /* the first of the loop: libuv opens a descriptor for it and keeps that */
    int fd;            /* of the socket; -1: none */
    uv_timer_t timer;  /* looks for idle peers */
    uv_timer_t retry;  /* accepts clients that could not be accepted */
    uv_idle_t backlog; /* serves peers that have sent many requests */
    unsigned open_handles;
    LIST_HEAD(, peer) peers;
    struct ld_fair fair; /* to them */
    struct ld_lobby *lobby;
    uid_t owner;
    const struct ld_control_ops *ops;
    void *host;
};

static void on_alloc(uv_handle_t *handle, size_t suggested, uv_buf_t *buffer);
static void on_read(uv_stream_t *stream, ssize_t size, const uv_buf_t *buffer);
static void on_backlog(uv_idle_t *idle);
static void on_retry(uv_timer_t *timer);

/* Free the control after its last handle is closed. */
static void release(struct ld_control *control) {
    if (--control->open_handles == 0) {
        free(control);
    }
}

/* Free a peer that is closed. */
static void on_peer_closed(uv_handle_t *handle) {
    struct peer *peer = LD_CONTAINER_OF(handle, struct peer, pipe);
    struct ld_control *control = peer->control;
    ld_text_fini(&peer->input);
    free(peer);
    release(control);
}

/* Note whether a client may be answered by another thread. */
static void set_quiet(struct peer *peer, bool is_quiet) {
    int fd;
    if (is_quiet != peer->is_quiet && uv_fileno((const uv_handle_t *)&peer->pipe, &fd) == 0) {
        peer->is_quiet = is_quiet;
        if (is_quiet) {
            ld_lobby_enter(peer->control->lobby, fd);
        } else {
            ld_lobby_leave(peer->control->lobby, fd);
        }
    }
}

/* Close a peer; twice does nothing. */
static void close_peer(struct peer *peer) {
    struct ld_control *control = peer->control;
    if (uv_is_closing((uv_handle_t *)&peer->pipe)) {
        return;
    }
    if (peer->waiting) {
        control->ops->forget(control->host, &peer->waiter);
    }
    set_quiet(peer, false);
    LIST_REMOVE(peer, link);
    if (LIST_EMPTY(&control->peers)) {
        uv_timer_stop(&control->timer);
    }
    uv_close((uv_handle_t *)&peer->pipe, on_peer_closed);
    ld_reserve_fill(); /* before the script takes the descriptor that is free now */
}

static void serve_next(struct peer *peer);

/* Continue when an answer has been sent, or cannot be. */
static void on_answered(uv_write_t *request, int status) {
    struct answer *answer = LD_CONTAINER_OF(request, struct answer, request);
    struct peer *peer = answer->peer;
    free(answer->text);
    free(answer);
    if (status == UV_ECANCELED) {
        return; /* it is closing */
    }
    peer->unsent--;
    peer->last = uv_now(peer->pipe.loop);
    if (status < 0 || (peer->refused && peer->unsent == 0)) {
        close_peer(peer);
    } else {
        serve_next(peer);
    }
}

/* Send what a client did not read at once. */
static void send_later(struct peer *peer, char *text, size_t sent, size_t size) {
    struct answer *answer = malloc(sizeof *answer);
    if (answer == NULL) {
        free(text);
        close_peer(peer);
        return;
    }
    answer->peer = peer;
    answer->text = text;
    peer->unsent++;
    uv_buf_t buffer = uv_buf_init(text + sent, (unsigned)(size - sent));
    if (uv_write(&answer->request, (uv_stream_t *)&peer->pipe, &buffer, 1, on_answered) < 0) {
        free(text);
        free(answer);
        close_peer(peer);
    }
}

/* Send TEXT, which is taken over. */
static void send_text(struct peer *peer, char *text, size_t size) {
    uv_buf_t buffer = uv_buf_init(text, (unsigned)size);
    int sent = uv_try_write((uv_stream_t *)&peer->pipe, &buffer, 1);
    if (sent == (int)size) {
        free(text);
        if (peer->refused) {
            close_peer(peer);
        }
    } else if (sent >= 0 || sent == UV_EAGAIN) {
        send_later(peer, text, sent > 0 ? (size_t)sent : 0, size);
    } else {
        free(text);
        close_peer(peer);
    }
}

/* Send an answer that is a line; the text is taken over. */
static void send_line(struct peer *peer, struct ld_text *line) {
    if (line->data == NULL || line->failed) {
        ld_text_fini(line);
        close_peer(peer);
        return;
    }
    peer->last = uv_now(peer->pipe.loop);
    send_text(peer, line->data, line->size);
}

/* Send an answer; the reference is taken over. */
static void send_answer(struct peer *peer, json_t *answer) {
    struct ld_text text = {0};
    char *dump = answer != NULL ? json_dumps(answer, JSON_COMPACT | JSON_REAL_PRECISION(15)) : NULL;
    json_decref(answer);
    if (dump != NULL) {
        ld_text_puts(&text, dump);
        ld_text_putc(&text, '\n');
    }
    free(dump);
    send_line(peer, &text);
}

/* Make an error answer. */
static json_t *failure(const char *message) {
    return json_pack("{s:b, s:s}", "ok", 0, "error", message);
}

/* Refuse a client: one answer, and no more. */
static void refuse_peer(struct peer *peer, const char *message) {
    peer->refused = true;
    uv_read_stop((uv_stream_t *)&peer->pipe);
    send_answer(peer, failure(message));
}

/* Note that a client does not wait any more. */
static void end_wait(struct peer *peer) {
    peer->waiting = false;
    peer->is_heard = false;
    peer->holds = false;
}

/* Send how a reload, or what else was answered later, ended, and serve what the client has sent meanwhile. */
static void on_verdict(struct ld_waiter *waiter, json_t *answer) {
    struct peer *peer = LD_CONTAINER_OF(waiter, struct peer, waiter);
    end_wait(peer);
    send_answer(peer, answer);
    serve_next(peer);
}

/* The same for a line. */
static void on_line(struct ld_waiter *waiter, struct ld_text *answer) {
    struct peer *peer = LD_CONTAINER_OF(waiter, struct peer, waiter);
    end_wait(peer);
    send_line(peer, answer);
    serve_next(peer);
}

/* Whether a client can be sent a part of its answer. */
static bool can_tell_part(const struct ld_waiter *waiter) {
    const struct peer *peer = LD_CONTAINER_OF(waiter, const struct peer, waiter);
    return peer->unsent == 0 && !uv_is_closing((const uv_handle_t *)&peer->pipe);
}

/* Send a part of an answer. */
static bool tell_part(struct ld_waiter *waiter, json_t *part) {
    struct peer *peer = LD_CONTAINER_OF(waiter, struct peer, waiter);
    if (!can_tell_part(waiter)) {
        json_decref(part);
        return false;
    }
    peer->holds = json_is_true(json_object_get(part, "held"));
    send_answer(peer, part);
    if (peer->holds) {
        serve_next(peer);
    }
    return true;
}

/* Have a client wait for its answer. */
static void begin_wait(struct peer *peer) {
    peer->waiting = true;
    peer->waiter.done = on_verdict;
    peer->waiter.done_text = on_line;
    peer->waiter.can_tell = can_tell_part;
    peer->waiter.tell = tell_part;
}

/* Answer a request for the status, or begin to. */
static void serve_status(struct peer *peer, const json_t *request) {
    const struct ld_control *control = peer->control;
    struct ld_text answer = {0};
    begin_wait(peer);
    if (control->ops->status(control->host, &peer->waiter, request, &answer)) {
        end_wait(peer);
        send_line(peer, &answer);
    }
}

/* Have the host do what it answers later: run a chunk, for one. */
static void ask_later(struct peer *peer, const json_t *request,
                      json_t *(*ask)(void *, struct ld_waiter *, const json_t *, int)) {
    int fd = -1;
    uv_fileno((const uv_handle_t *)&peer->pipe, &fd);
    begin_wait(peer);
    json_t *refusal = ask(peer->control->host, &peer->waiter, request, fd);
    peer->is_heard =
        refusal == NULL && peer->waiting && json_is_true(json_object_get(request, "interactive"));
    if (refusal != NULL) {
        peer->waiting = false;
        send_answer(peer, refusal);
    }
}

/* Serve a request of a client that holds a reload: it can only commit that. */
static void serve_holder(struct peer *peer, const char *verb) {
    const struct ld_control *control = peer->control;
    if (strcmp(verb, "commit") != 0) {
        send_answer(peer, failure("a reload is held for this client: \"commit\" it, or close the "
                                  "connection to give it up"));
    } else if (control->ops->commit(control->host, &peer->waiter)) {
        peer->holds = false;
    }
}

/* Serve one request. */
static void serve_request(struct peer *peer, const json_t *request) {
    const struct ld_control_ops *ops = peer->control->ops;
    const struct {
        const char *verb;
        json_t *(*answer)(void *host);
    } verbs[] = {{"stop", ops->stop}, {"reopen", ops->reopen}};
    const struct {
        const char *verb;
        json_t *(*ask)(void *host, struct ld_waiter *waiter, const json_t *request, int fd);
    } later[] = {{"reload", ops->reload},   {"restart", ops->restart}, {"eval", ops->eval},
                 {"profile", ops->profile}, {"heap", ops->heap},       {"upgrade", ops->upgrade},
                 {"metrics", ops->metrics}};
    const char *verb = json_string_value(json_object_get(request, "verb"));
    if (verb == NULL) {
        send_answer(peer, failure("a request is an object with a \"verb\""));
        return;
    }
    if (peer->holds) {
        serve_holder(peer, verb);
        return;
    }
    if (strcmp(verb, "commit") == 0) {
        send_answer(peer, failure("no reload is held for this client"));
        return;
    }
    if (strcmp(verb, "status") == 0) {
        serve_status(peer, request);
        return;
    }
    for (size_t i = 0; i < LD_COUNT(later); i++) {
        if (strcmp(verb, later[i].verb) == 0) {
            ask_later(peer, request, later[i].ask);
            return;
        }
    }
    for (size_t i = 0; i < LD_COUNT(verbs); i++) {
        if (strcmp(verb, verbs[i].verb) == 0) {
            send_answer(peer, verbs[i].answer(peer->control->host));
            return;
        }
    }
    send_answer(peer, failure("unknown verb"));
}

/* Serve one line. */
static void serve_line(struct peer *peer, const char *line, size_t size) {
    json_error_t error;
    json_t *request = json_loadb(line, size, JSON_REJECT_DUPLICATES, &error);
    if (request == NULL) {
        struct ld_text message = {0};
        ld_text_format(&message, "this line is not a JSON object: %s", error.text);
        send_answer(peer, failure(ld_text_string(&message)));
        ld_text_fini(&message);
        return;
    }
    serve_request(peer, request);
    json_decref(request);
}

/* Whether a client can be served now. */
static bool is_servable(const struct peer *peer) {
    return !peer->refused && (!peer->waiting || peer->holds) && peer->unsent == 0 &&
           !uv_is_closing((const uv_handle_t *)&peer->pipe);
}

/* Find the end of the next whole line; false if it has not come. */
static bool find_line(struct peer *peer, size_t *end) {
    const struct ld_text *input = &peer->input;
    if (peer->searched < input->size) {
        const char *from = input->data + peer->searched;
        const char *newline = memchr(from, '\n', input->size - peer->searched);
        peer->searched = newline != NULL ? (size_t)(newline - input->data) : input->size;
    }
    *end = peer->searched;
    return peer->searched < input->size;
}

/* Remove what has been served from the input, if that is everything, or much. */
static void compact(struct peer *peer) {
    struct ld_text *input = &peer->input;
    if (peer->start > 0 && (peer->start == input->size || peer->start > REQUEST_MAX / 2)) {
        input->size -= peer->start;
        memmove(input->data, input->data + peer->start, input->size);
        peer->searched -= peer->start;
        peer->start = 0;
    }
}

/* Serve the next whole line, one in a turn of the loop: many requests at once delay the script no
 * more than a few. Nothing is read while a line is left. */
static void serve_next(struct peer *peer) {
    size_t end;
    if (is_servable(peer) && find_line(peer, &end)) {
        size_t start = peer->start;
        peer->start = end + 1;
        peer->searched = end + 1;
        serve_line(peer, peer->input.data + start, end - start);
    }
    if (!is_servable(peer)) {
        if (!(peer->is_heard || peer->holds) || peer->input.size > peer->start) {
            uv_read_stop((uv_stream_t *)&peer->pipe);
        }
        return;
    }
    if (find_line(peer, &end)) {
        uv_read_stop((uv_stream_t *)&peer->pipe);
        uv_idle_start(&peer->control->backlog, on_backlog);
        return;
    }
    compact(peer);
    if (peer->input.failed) {
        refuse_peer(peer, "not enough memory");
    } else if (peer->input.size - peer->start > REQUEST_MAX) {
        refuse_peer(peer, "a request has more than 1 MiB");
    } else {
        uv_read_start((uv_stream_t *)&peer->pipe, on_alloc, on_read);
        set_quiet(peer, peer->input.size == 0 && !peer->holds);
    }
}

/* Whether there is a line that can be served. */
static bool is_behind(struct peer *peer) {
    size_t end;
    return is_servable(peer) && find_line(peer, &end);
}

/* Whether a client can be served in this turn of the loop. */
static bool is_its_turn(struct peer *peer) {
    return ld_fair_serve(&peer->control->fair, &peer->served, uv_now(peer->pipe.loop));
}

/* Lend a buffer for a read, or none if the client must wait; it is used up before the next. */
static void on_alloc(uv_handle_t *handle, size_t suggested, uv_buf_t *buffer) {
    static char bytes[65536];
    bool served = is_its_turn(LD_CONTAINER_OF(handle, struct peer, pipe));
    (void)suggested;
    *buffer = uv_buf_init(bytes, served ? sizeof bytes : 0);
}

/* Whether a client has closed its connection, and does not only say that it will send nothing more. */
static bool is_gone(const struct peer *peer) {
    int fd;
    return uv_fileno((const uv_handle_t *)&peer->pipe, &fd) == 0 && ld_caller_is_gone(fd);
}

/* Handle what a client sends. */
static void on_read(uv_stream_t *stream, ssize_t size, const uv_buf_t *buffer) {
    struct peer *peer = LD_CONTAINER_OF(stream, struct peer, pipe);
    if (size == 0 || size == UV_ENOBUFS) { /* ENOBUFS: it must wait */
        return;
    }
    if (size < 0 && peer->waiting && !peer->holds && !is_gone(peer)) {
        uv_read_stop(stream);
        peer->control->ops->interrupt(peer->control->host, &peer->waiter);
        return;
    }
    if (size < 0 && peer->unsent > 0 && !is_gone(peer)) {
        uv_read_stop(stream);
        peer->refused = true; /* it is closed when it has read its answer */
        return;
    }
    if (size < 0) {
        close_peer(peer);
        return;
    }
    set_quiet(peer, false);
    peer->last = uv_now(stream->loop);
    ld_text_add(&peer->input, buffer->base, (size_t)size);
    serve_next(peer);
}

/* Serve one line of each peer that has more of them. */
static void on_backlog(uv_idle_t *idle) {
    struct ld_control *control = LD_CONTAINER_OF(idle, struct ld_control, backlog);
    struct peer *next;
    uv_idle_stop(idle); /* a peer that has more lines starts it again */
    for (struct peer *peer = LIST_FIRST(&control->peers); peer != NULL; peer = next) {
        next = LIST_NEXT(peer, link);
        if (is_behind(peer) && is_its_turn(peer)) {
            serve_next(peer);
        } else if (is_behind(peer)) {
            uv_idle_start(idle, on_backlog);
        }
    }
}

/* Close peers that have been idle for long. One that waits for an answer is not idle. */
static void on_timer(uv_timer_t *timer) {
    struct ld_control *control = LD_CONTAINER_OF(timer, struct ld_control, timer);
    uint64_t now = uv_now(timer->loop);
    struct peer *next;
    for (struct peer *peer = LIST_FIRST(&control->peers); peer != NULL; peer = next) {
        next = LIST_NEXT(peer, link);
        if (!peer->waiting && now - peer->last > IDLE_MS) {
            close_peer(peer);
        }
    }
}

/* Find the peer that has been idle longest, or NULL; count the idle ones in *COUNT, which may be NULL. */
static struct peer *find_oldest(const struct ld_control *control, size_t *count) {
    struct peer *oldest = NULL;
    size_t idle = 0;
    struct peer *peer;
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

/* Make room for one more peer: close the one that has been idle longest. */
static void make_room(const struct ld_control *control) {
    size_t idle;
    struct peer *oldest = find_oldest(control, &idle);
    if (idle >= IDLE_MAX) {
        close_peer(oldest);
    }
}

/* Whether a peer may send requests. */
static bool is_allowed(const struct ld_control *control, const struct peer *peer) {
    struct ucred user;
    socklen_t size = sizeof user;
    int fd;
    return uv_fileno((const uv_handle_t *)&peer->pipe, &fd) == 0 &&
           getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &user, &size) == 0 &&
           (user.uid == 0 || user.uid == control->owner);
}

/* Put a new peer into the list and begin to serve it. */
static void welcome(struct ld_control *control, struct peer *peer) {
    peer->last = uv_now(control->timer.loop);
    LIST_INSERT_HEAD(&control->peers, peer, link);
    uv_timer_start(&control->timer, on_timer, IDLE_MS, IDLE_MS);
    if (is_allowed(control, peer)) {
        uv_read_start((uv_stream_t *)&peer->pipe, on_alloc, on_read);
        set_quiet(peer, true);
    } else {
        refuse_peer(peer, "permission denied: this daemon belongs to another user");
    }
}

/* Serve the client on FD, which is taken over; NULL if it cannot be served. */
static struct peer *add_peer(struct ld_control *control, int fd) {
    struct peer *peer = calloc(1, sizeof *peer);
    if (peer == NULL) {
        close(fd);
        return NULL;
    }
    make_room(control);
    peer->control = control;
    control->open_handles++;
    uv_pipe_init(control->timer.loop, &peer->pipe, 0);
    if (uv_pipe_open(&peer->pipe, fd) < 0) {
        close(fd);
        uv_close((uv_handle_t *)&peer->pipe, on_peer_closed);
        return NULL;
    }
    welcome(control, peer);
    return peer;
}

/* Accept a client, with a descriptor of the reserve if no other is left; a descriptor or a negative errno.
 * libuv would drop the client. */
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

/* Accept waiting clients, but only some in one turn. Without a descriptor, close the client that has been
 * idle longest, and let the next one wait for a moment. */
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
    struct peer *oldest = find_oldest(control, NULL);
    if (oldest != NULL && uv_now(control->timer.loop) - oldest->last > SCARCE_MS) {
        close_peer(oldest);
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
        ld_lobby_set_listener(control->lobby, -1);
        uv_close((uv_handle_t *)control->listener, on_listener_closed);
        close(control->fd);
        control->listener = NULL;
    }
}

/* Replace the socket. */
int ld_control_listen(struct ld_control *control, int fd) {
    if (fd < 0) { /* a service without a name: nobody can ask for it */
        return 0;
    }
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
    ld_lobby_set_listener(control->lobby, fd);
    return uv_poll_start(listener, UV_READABLE, on_connection);
}

/* Open the control socket. */
int ld_control_open(struct ld_control **out, uv_loop_t *loop, int listener, uid_t owner,
                    struct ld_lobby *lobby) {
    struct ld_control *control = calloc(1, sizeof *control);
    if (control == NULL) {
        close(listener);
        return -ENOMEM;
    }
    control->fair = (struct ld_fair)LD_FAIR_INIT;
    control->lobby = lobby;
    control->owner = owner;
    control->open_handles = 4;
    uv_pipe_init(loop, &control->first_pipe, 0);
    uv_timer_init(loop, &control->timer);
    uv_timer_init(loop, &control->retry);
    uv_idle_init(loop, &control->backlog);
    *out = control;
    return ld_control_listen(control, listener);
}

/* Take over clients from the lobby. */
void ld_control_take_over(struct ld_control *control) {
    int fd;
    while ((fd = ld_lobby_take(control->lobby)) >= 0) {
        add_peer(control, fd);
    }
}

/* The descriptor of the socket. */
int ld_control_fd(const struct ld_control *control) {
    return control->listener != NULL ? control->fd : -1;
}

/* Whether answers are being written. */
bool ld_control_is_answering(const struct ld_control *control) {
    const struct peer *peer;
    bool any = false;
    LIST_FOREACH(peer, &control->peers, link) {
        any = any || peer->unsent > 0;
    }
    return any;
}

/* Call a function for every client that can be handed on. */
void ld_control_each(const struct ld_control *control,
                     void (*each)(void *arg, const struct ld_control_client *client), void *arg) {
    const struct peer *peer;
    LIST_FOREACH(peer, &control->peers, link) {
        struct ld_control_client client = {.input = ld_text_string(&peer->input) + peer->start,
                                           .size = peer->input.size - peer->start,
                                           .waiter = peer->waiting ? &peer->waiter : NULL};
        if (!peer->refused && peer->unsent == 0 &&
            uv_fileno((const uv_handle_t *)&peer->pipe, &client.fd) == 0) {
            each(arg, &client);
        }
    }
}

/* Go on with a client. */
struct ld_waiter *ld_control_restore(struct ld_control *control,
                                     const struct ld_control_client *client, bool waits) {
    struct peer *peer = add_peer(control, client->fd);
    if (peer == NULL || peer->refused) {
        return NULL;
    }
    set_quiet(peer, false);
    ld_text_add(&peer->input, client->input, client->size);
    size_t end;
    if (!waits && !find_line(peer, &end)) {
        set_quiet(peer, peer->input.size == 0);
        return NULL;
    }
    if (!waits) {
        uv_read_stop((uv_stream_t *)&peer->pipe);
        uv_idle_start(&control->backlog, on_backlog);
        return NULL;
    }
    begin_wait(peer);
    uv_read_stop((uv_stream_t *)&peer->pipe);
    return &peer->waiter;
}

/* Set what requests do. */
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
        close_peer(LIST_FIRST(&control->peers));
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
