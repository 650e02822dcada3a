#include "control.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base.h"
#include "log.h"
#include "text.h"

#define CLIENTS_MAX 64
#define REQUEST_MAX (1024 * 1024)
#define IDLE_MS     30000 /* without a word, or without taking an answer */

struct client {
    uv_pipe_t pipe;
    struct ld_control *control;
    struct client *next;
    struct client *previous;
    struct ld_text input;
    size_t start;    /* of the input that is not served yet */
    size_t searched; /* from the start to here there is no newline */
    bool waiting;    /* for an answer of the host */
    bool unsent;     /* it has not taken its last answer */
    bool refused;    /* it gets one answer, and no more */
    uint64_t last;   /* when it last did something */
    struct ld_waiter waiter;
};

struct ld_control {
    uv_pipe_t listener;
    uv_timer_t timer;  /* looks for idle clients */
    uv_idle_t backlog; /* serves those that have sent many requests */
    unsigned open_handles;
    struct client *first;
    size_t client_count;
    uid_t owner;
    const struct ld_control_ops *ops;
    void *host;
};

/* An answer on its way. */
struct answer {
    uv_write_t request;
    struct client *client;
    char *text;
};

/* Free the control after its last handle is closed. */
static void release(struct ld_control *control) {
    if (--control->open_handles == 0) {
        free(control);
    }
}

/* Free a client after its handle is closed. */
static void on_client_closed(uv_handle_t *handle) {
    struct client *client = LD_CONTAINER_OF(handle, struct client, pipe);
    struct ld_control *control = client->control;
    ld_text_fini(&client->input);
    free(client);
    release(control);
}

/* Close a client; twice does nothing. */
static void close_client(struct client *client) {
    struct ld_control *control = client->control;
    if (uv_is_closing((uv_handle_t *)&client->pipe)) {
        return;
    }
    if (client->waiting) {
        control->ops->forget(control->host, &client->waiter);
    }
    if (client->previous != NULL) {
        client->previous->next = client->next;
    } else {
        control->first = client->next;
    }
    if (client->next != NULL) {
        client->next->previous = client->previous;
    }
    control->client_count--;
    if (control->first == NULL) {
        uv_timer_stop(&control->timer);
    }
    uv_close((uv_handle_t *)&client->pipe, on_client_closed);
}

static void serve_next(struct client *client);
static void on_backlog(uv_idle_t *idle);
static void on_alloc(uv_handle_t *handle, size_t suggested, uv_buf_t *buffer);
static void on_read(uv_stream_t *stream, ssize_t size, const uv_buf_t *buffer);

/* Go on after an answer was taken, or not. */
static void on_answered(uv_write_t *request, int status) {
    struct answer *answer = LD_CONTAINER_OF(request, struct answer, request);
    struct client *client = answer->client;
    free(answer->text);
    free(answer);
    if (status == UV_ECANCELED) {
        return; /* it is closing */
    }
    client->unsent = false;
    client->last = uv_now(client->pipe.loop);
    if (status < 0 || client->refused) {
        close_client(client);
    } else {
        serve_next(client);
    }
}

/* Send what a client did not take at once. */
static void send_later(struct client *client, char *text, size_t sent, size_t size) {
    struct answer *answer = malloc(sizeof *answer);
    if (answer == NULL) {
        free(text);
        close_client(client);
        return;
    }
    answer->client = client;
    answer->text = text;
    client->unsent = true;
    uv_buf_t buffer = uv_buf_init(text + sent, (unsigned)(size - sent));
    if (uv_write(&answer->request, (uv_stream_t *)&client->pipe, &buffer, 1, on_answered) < 0) {
        free(text);
        free(answer);
        close_client(client);
    }
}

/* Send TEXT, which is taken over. */
static void send_text(struct client *client, char *text, size_t size) {
    uv_buf_t buffer = uv_buf_init(text, (unsigned)size);
    int sent = uv_try_write((uv_stream_t *)&client->pipe, &buffer, 1);
    if (sent == (int)size) {
        free(text);
        if (client->refused) {
            close_client(client);
        }
    } else if (sent >= 0 || sent == UV_EAGAIN) {
        send_later(client, text, sent > 0 ? (size_t)sent : 0, size);
    } else {
        free(text);
        close_client(client);
    }
}

/* Send an answer; the reference is taken over. */
static void send_answer(struct client *client, json_t *answer) {
    struct ld_text text = {0};
    char *dump = answer != NULL ? json_dumps(answer, JSON_COMPACT | JSON_REAL_PRECISION(15)) : NULL;
    json_decref(answer);
    if (dump != NULL) {
        ld_text_puts(&text, dump);
        ld_text_putc(&text, '\n');
    }
    free(dump);
    if (text.data == NULL || text.failed) {
        ld_text_fini(&text);
        close_client(client);
        return;
    }
    client->last = uv_now(client->pipe.loop);
    send_text(client, text.data, text.size);
}

/* Make an answer that says what is wrong. */
static json_t *failure(const char *message) {
    return json_pack("{s:b, s:s}", "ok", 0, "error", message);
}

/* Refuse a client: one answer, and no more. */
static void refuse(struct client *client, const char *message) {
    client->refused = true;
    uv_read_stop((uv_stream_t *)&client->pipe);
    send_answer(client, failure(message));
}

/* Send the verdict on a reload, and go on with what the client has sent meanwhile. */
static void on_verdict(struct ld_waiter *waiter, json_t *answer) {
    struct client *client = LD_CONTAINER_OF(waiter, struct client, waiter);
    client->waiting = false;
    send_answer(client, answer);
    serve_next(client);
}

/* Ask the host for a reload. */
static void ask_reload(struct client *client) {
    client->waiting = true;
    client->waiter.done = on_verdict;
    client->control->ops->reload(client->control->host, &client->waiter);
}

/* Serve one request. */
static void serve_request(struct client *client, const json_t *request) {
    const struct ld_control *control = client->control;
    const struct {
        const char *verb;
        json_t *(*answer)(void *host);
    } verbs[] = {{"status", control->ops->status},
                 {"origin", control->ops->origin},
                 {"stop", control->ops->stop},
                 {"reopen", control->ops->reopen}};
    const char *verb = json_string_value(json_object_get(request, "verb"));
    if (verb == NULL) {
        send_answer(client, failure("a request is an object with a \"verb\""));
        return;
    }
    if (strcmp(verb, "reload") == 0) {
        ask_reload(client);
        return;
    }
    for (size_t i = 0; i < LD_COUNT(verbs); i++) {
        if (strcmp(verb, verbs[i].verb) == 0) {
            send_answer(client, verbs[i].answer(control->host));
            return;
        }
    }
    send_answer(client, failure("unknown verb"));
}

/* Serve one line. */
static void serve_line(struct client *client, const char *line, size_t size) {
    json_error_t error;
    json_t *request = json_loadb(line, size, JSON_REJECT_DUPLICATES, &error);
    if (request == NULL) {
        struct ld_text message = {0};
        ld_text_format(&message, "this line is no JSON object: %s", error.text);
        send_answer(client, failure(ld_text_string(&message)));
        ld_text_fini(&message);
        return;
    }
    serve_request(client, request);
    json_decref(request);
}

/* Whether a client can be served now. */
static bool is_servable(const struct client *client) {
    return !client->refused && !client->waiting && !client->unsent &&
           !uv_is_closing((const uv_handle_t *)&client->pipe);
}

/* Find the end of the next whole line; false if it has not come. */
static bool find_line(struct client *client, size_t *end) {
    const struct ld_text *input = &client->input;
    if (client->searched < input->size) {
        const char *from = input->data + client->searched;
        const char *newline = memchr(from, '\n', input->size - client->searched);
        client->searched = newline != NULL ? (size_t)(newline - input->data) : input->size;
    }
    *end = client->searched;
    return client->searched < input->size;
}

/* Forget what has been served, when that is everything, or much. */
static void compact(struct client *client) {
    struct ld_text *input = &client->input;
    if (client->start == input->size || client->start > REQUEST_MAX / 2) {
        input->size -= client->start;
        memmove(input->data, input->data + client->start, input->size);
        client->searched -= client->start;
        client->start = 0;
    }
}

/* Serve the next whole line, if there is one, and no more than that in a turn of the loop: many
 * requests at once cost the script no more than a few. Nothing is read while something is left. */
static void serve_next(struct client *client) {
    size_t end;
    if (is_servable(client) && find_line(client, &end)) {
        size_t start = client->start;
        client->start = end + 1;
        client->searched = end + 1;
        serve_line(client, client->input.data + start, end - start);
    }
    if (!is_servable(client)) {
        uv_read_stop((uv_stream_t *)&client->pipe);
        return;
    }
    if (find_line(client, &end)) {
        uv_read_stop((uv_stream_t *)&client->pipe);
        uv_idle_start(&client->control->backlog, on_backlog);
        return;
    }
    compact(client);
    if (client->input.failed || client->input.size - client->start > REQUEST_MAX) {
        refuse(client, "a request has more than 1 MiB");
    } else {
        uv_read_start((uv_stream_t *)&client->pipe, on_alloc, on_read);
    }
}

/* Serve one line of each client that has more of them. */
static void on_backlog(uv_idle_t *idle) {
    struct ld_control *control = LD_CONTAINER_OF(idle, struct ld_control, backlog);
    struct client *next;
    size_t end;
    uv_idle_stop(idle); /* who has still more starts it again */
    for (struct client *client = control->first; client != NULL; client = next) {
        next = client->next;
        if (is_servable(client) && find_line(client, &end)) {
            serve_next(client);
        }
    }
}

/* Lend a buffer for a read; it is used up before the next. */
static void on_alloc(uv_handle_t *handle, size_t suggested, uv_buf_t *buffer) {
    static char bytes[65536];
    (void)handle;
    (void)suggested;
    *buffer = uv_buf_init(bytes, sizeof bytes);
}

/* Handle what a client sends. */
static void on_read(uv_stream_t *stream, ssize_t size, const uv_buf_t *buffer) {
    struct client *client = LD_CONTAINER_OF(stream, struct client, pipe);
    if (size < 0) {
        close_client(client);
        return;
    }
    client->last = uv_now(stream->loop);
    ld_text_add(&client->input, buffer->base, (size_t)size);
    serve_next(client);
}

/* Close clients that have been idle for long. One that waits for us is not idle. */
static void on_timer(uv_timer_t *timer) {
    struct ld_control *control = LD_CONTAINER_OF(timer, struct ld_control, timer);
    uint64_t now = uv_now(timer->loop);
    struct client *next;
    for (struct client *client = control->first; client != NULL; client = next) {
        next = client->next;
        if (!client->waiting && now - client->last > IDLE_MS) {
            close_client(client);
        }
    }
}

/* Make room for one more client: the one that has been idle longest goes. */
static void make_room(struct ld_control *control) {
    struct client *oldest = NULL;
    for (struct client *client = control->first; client != NULL; client = client->next) {
        if (!client->waiting && (oldest == NULL || client->last <= oldest->last)) {
            oldest = client;
        }
    }
    if (control->client_count >= CLIENTS_MAX && oldest != NULL) {
        close_client(oldest);
    }
}

/* Whether the peer of a client may ask us anything. */
static bool is_allowed(const struct client *client) {
    struct ucred peer;
    socklen_t size = sizeof peer;
    int fd;
    return uv_fileno((const uv_handle_t *)&client->pipe, &fd) == 0 &&
           getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &size) == 0 &&
           (peer.uid == 0 || peer.uid == client->control->owner);
}

/* Put a new client into the list and begin to serve it. */
static void welcome(struct ld_control *control, struct client *client) {
    client->last = uv_now(control->timer.loop);
    client->next = control->first;
    if (client->next != NULL) {
        client->next->previous = client;
    }
    control->first = client;
    control->client_count++;
    uv_timer_start(&control->timer, on_timer, IDLE_MS, IDLE_MS);
    if (is_allowed(client)) {
        uv_read_start((uv_stream_t *)&client->pipe, on_alloc, on_read);
    } else {
        refuse(client, "permission denied: this daemon belongs to another user");
    }
}

/* Accept a client. */
static void on_connection(uv_stream_t *listener, int status) {
    struct ld_control *control = LD_CONTAINER_OF(listener, struct ld_control, listener);
    struct client *client = status < 0 ? NULL : calloc(1, sizeof *client);
    if (client == NULL) {
        return; /* out of descriptors or memory: libuv drops the connection */
    }
    make_room(control);
    client->control = control;
    control->open_handles++;
    uv_pipe_init(listener->loop, &client->pipe, 0);
    if (uv_accept(listener, (uv_stream_t *)&client->pipe) < 0) {
        uv_close((uv_handle_t *)&client->pipe, on_client_closed);
        return;
    }
    welcome(control, client);
}

/* Open the control socket. */
int ld_control_open(struct ld_control **out, uv_loop_t *loop, int listener, uid_t owner,
                    const struct ld_control_ops *ops, void *host) {
    struct ld_control *control = calloc(1, sizeof *control);
    if (control == NULL) {
        return -ENOMEM;
    }
    control->owner = owner;
    control->ops = ops;
    control->host = host;
    control->open_handles = 3;
    uv_pipe_init(loop, &control->listener, 0);
    uv_timer_init(loop, &control->timer);
    uv_idle_init(loop, &control->backlog);
    *out = control;
    int rc = uv_pipe_open(&control->listener, listener);
    return rc < 0 ? rc : uv_listen((uv_stream_t *)&control->listener, SOMAXCONN, on_connection);
}

/* Free a handle of the control itself. */
static void on_closed(uv_handle_t *handle) {
    release(handle->data);
}

/* Close the control socket. */
void ld_control_close(struct ld_control *control) {
    while (control->first != NULL) {
        close_client(control->first);
    }
    control->listener.data = control;
    control->timer.data = control;
    control->backlog.data = control;
    uv_close((uv_handle_t *)&control->listener, on_closed);
    uv_close((uv_handle_t *)&control->timer, on_closed);
    uv_close((uv_handle_t *)&control->backlog, on_closed);
}
