#include "peer.h"

#include <stdlib.h>
#include <string.h>

#include "base.h"
#include "reserve.h"

#define REQUEST_MAX ((size_t)1024 * 1024)

/* An answer on its way. */
struct answer {
    uv_write_t request;
    struct ld_peer *peer;
    char *text;
};

static void on_alloc(uv_handle_t *handle, size_t suggested, uv_buf_t *buffer);
static void on_read(uv_stream_t *stream, ssize_t size, const uv_buf_t *buffer);

/* Let the control free the peer. */
static void on_closed(uv_handle_t *handle) {
    struct ld_peer *peer = LD_CONTAINER_OF(handle, struct ld_peer, pipe);
    ld_text_fini(&peer->input);
    peer->events->closed(peer);
}

/* Close. */
void ld_peer_close(struct ld_peer *peer) {
    if (uv_is_closing((uv_handle_t *)&peer->pipe)) {
        return;
    }
    if (peer->waiting) {
        peer->ops->forget(peer->host, &peer->waiter);
    }
    peer->events->closing(peer);
    uv_close((uv_handle_t *)&peer->pipe, on_closed);
    ld_reserve_fill(); /* before the script takes the descriptor that is free now */
}

/* Go on after an answer was taken, or not. */
static void on_answered(uv_write_t *request, int status) {
    struct answer *answer = LD_CONTAINER_OF(request, struct answer, request);
    struct ld_peer *peer = answer->peer;
    free(answer->text);
    free(answer);
    if (status == UV_ECANCELED) {
        return; /* it is closing */
    }
    peer->unsent = false;
    peer->last = uv_now(peer->pipe.loop);
    if (status < 0 || peer->refused) {
        ld_peer_close(peer);
    } else {
        ld_peer_serve_next(peer);
    }
}

/* Send what a client did not take at once. */
static void send_later(struct ld_peer *peer, char *text, size_t sent, size_t size) {
    struct answer *answer = malloc(sizeof *answer);
    if (answer == NULL) {
        free(text);
        ld_peer_close(peer);
        return;
    }
    answer->peer = peer;
    answer->text = text;
    peer->unsent = true;
    uv_buf_t buffer = uv_buf_init(text + sent, (unsigned)(size - sent));
    if (uv_write(&answer->request, (uv_stream_t *)&peer->pipe, &buffer, 1, on_answered) < 0) {
        free(text);
        free(answer);
        ld_peer_close(peer);
    }
}

/* Send TEXT, which is taken over. */
static void send_text(struct ld_peer *peer, char *text, size_t size) {
    uv_buf_t buffer = uv_buf_init(text, (unsigned)size);
    int sent = uv_try_write((uv_stream_t *)&peer->pipe, &buffer, 1);
    if (sent == (int)size) {
        free(text);
        if (peer->refused) {
            ld_peer_close(peer);
        }
    } else if (sent >= 0 || sent == UV_EAGAIN) {
        send_later(peer, text, sent > 0 ? (size_t)sent : 0, size);
    } else {
        free(text);
        ld_peer_close(peer);
    }
}

/* Send an answer; the reference is taken over. */
static void send_answer(struct ld_peer *peer, json_t *answer) {
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
        ld_peer_close(peer);
        return;
    }
    peer->last = uv_now(peer->pipe.loop);
    send_text(peer, text.data, text.size);
}

/* Make an answer that says what is wrong. */
static json_t *failure(const char *message) {
    return json_pack("{s:b, s:s}", "ok", 0, "error", message);
}

/* Refuse a client: one answer, and no more. */
void ld_peer_refuse(struct ld_peer *peer, const char *message) {
    peer->refused = true;
    uv_read_stop((uv_stream_t *)&peer->pipe);
    send_answer(peer, failure(message));
}

/* Send the verdict on a reload, and go on with what the client has sent meanwhile. */
static void on_verdict(struct ld_waiter *waiter, json_t *answer) {
    struct ld_peer *peer = LD_CONTAINER_OF(waiter, struct ld_peer, waiter);
    peer->waiting = false;
    send_answer(peer, answer);
    ld_peer_serve_next(peer);
}

/* Ask the host for a reload. */
static void ask_reload(struct ld_peer *peer) {
    peer->waiting = true;
    peer->waiter.done = on_verdict;
    peer->ops->reload(peer->host, &peer->waiter);
}

/* Serve one request. */
static void serve_request(struct ld_peer *peer, const json_t *request) {
    const struct ld_control_ops *ops = peer->ops;
    const struct {
        const char *verb;
        json_t *(*answer)(void *host);
    } verbs[] = {{"status", ops->status}, {"stop", ops->stop}, {"reopen", ops->reopen}};
    const char *verb = json_string_value(json_object_get(request, "verb"));
    if (verb == NULL) {
        send_answer(peer, failure("a request is an object with a \"verb\""));
        return;
    }
    if (strcmp(verb, "reload") == 0) {
        ask_reload(peer);
        return;
    }
    for (size_t i = 0; i < LD_COUNT(verbs); i++) {
        if (strcmp(verb, verbs[i].verb) == 0) {
            send_answer(peer, verbs[i].answer(peer->host));
            return;
        }
    }
    send_answer(peer, failure("unknown verb"));
}

/* Serve one line. */
static void serve_line(struct ld_peer *peer, const char *line, size_t size) {
    json_error_t error;
    json_t *request = json_loadb(line, size, JSON_REJECT_DUPLICATES, &error);
    if (request == NULL) {
        struct ld_text message = {0};
        ld_text_format(&message, "this line is no JSON object: %s", error.text);
        send_answer(peer, failure(ld_text_string(&message)));
        ld_text_fini(&message);
        return;
    }
    serve_request(peer, request);
    json_decref(request);
}

/* Whether a client can be served now. */
static bool is_servable(const struct ld_peer *peer) {
    return !peer->refused && !peer->waiting && !peer->unsent &&
           !uv_is_closing((const uv_handle_t *)&peer->pipe);
}

/* Find the end of the next whole line; false if it has not come. */
static bool find_line(struct ld_peer *peer, size_t *end) {
    const struct ld_text *input = &peer->input;
    if (peer->searched < input->size) {
        const char *from = input->data + peer->searched;
        const char *newline = memchr(from, '\n', input->size - peer->searched);
        peer->searched = newline != NULL ? (size_t)(newline - input->data) : input->size;
    }
    *end = peer->searched;
    return peer->searched < input->size;
}

/* Forget what has been served, when that is everything, or much. */
static void compact(struct ld_peer *peer) {
    struct ld_text *input = &peer->input;
    if (peer->start > 0 && (peer->start == input->size || peer->start > REQUEST_MAX / 2)) {
        input->size -= peer->start;
        memmove(input->data, input->data + peer->start, input->size);
        peer->searched -= peer->start;
        peer->start = 0;
    }
}

/* Serve the next whole line, and no more than that in a turn of the loop: many requests at once cost
 * the script no more than a few. Nothing is read while something is left. */
void ld_peer_serve_next(struct ld_peer *peer) {
    size_t end;
    if (is_servable(peer) && find_line(peer, &end)) {
        size_t start = peer->start;
        peer->start = end + 1;
        peer->searched = end + 1;
        serve_line(peer, peer->input.data + start, end - start);
    }
    if (!is_servable(peer)) {
        uv_read_stop((uv_stream_t *)&peer->pipe);
        return;
    }
    if (find_line(peer, &end)) {
        uv_read_stop((uv_stream_t *)&peer->pipe);
        peer->events->behind(peer);
        return;
    }
    compact(peer);
    if (peer->input.failed) {
        ld_peer_refuse(peer, "not enough memory");
    } else if (peer->input.size - peer->start > REQUEST_MAX) {
        ld_peer_refuse(peer, "a request has more than 1 MiB");
    } else {
        uv_read_start((uv_stream_t *)&peer->pipe, on_alloc, on_read);
    }
}

/* Whether there is a line that can be served. */
bool ld_peer_is_behind(struct ld_peer *peer) {
    size_t end;
    return is_servable(peer) && find_line(peer, &end);
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
    struct ld_peer *peer = LD_CONTAINER_OF(stream, struct ld_peer, pipe);
    if (size < 0) {
        ld_peer_close(peer);
        return;
    }
    peer->last = uv_now(stream->loop);
    ld_text_add(&peer->input, buffer->base, (size_t)size);
    ld_peer_serve_next(peer);
}

/* Begin to read requests. */
void ld_peer_start(struct ld_peer *peer) {
    uv_read_start((uv_stream_t *)&peer->pipe, on_alloc, on_read);
}
