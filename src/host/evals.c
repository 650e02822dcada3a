/* Chunks that clients run in the service. A request only notes one; in a turn of the loop it is begun, and when
 * it has ended, its client is told in a turn too. One that has a time over or no client goes on, as a task of
 * the script. */
#include <stdlib.h>
#include <string.h>

#include "api/eval.h"
#include "base/json.h"
#include "base/time.h"
#include "engine/pulse.h"
#include "host/internal.h"
#include "posix/forked.h"

#define OUTPUT_MOST  ((size_t)1 << 20) /* that its client has not read */
#define SECONDS_MOST (3650 * 86400.0)

struct ld_eval_call {
    TAILQ_ENTRY(ld_eval_call) link;
    struct ld_host *host;
    struct ld_waiter *waiter; /* NULL: no client waits */
    int fd;                   /* of that client */
    json_t *chunk;            /* until it is begun; null for metrics */
    bool is_metrics;
    bool has_ended;
    json_t *answer;           /* then; NULL: it was ended */
    struct ld_text cancelled; /* where it was suspended when its client had it ended */
    unsigned generation;
    bool streams;      /* output is sent at once */
    double seconds;    /* that the client waits */
    uint64_t deadline; /* uv_now */
    struct ld_text output;
    uint64_t dropped; /* bytes of it */
    struct ld_eval eval;
};

/* Make an error answer. */
static json_t *failure(const char *message) {
    return json_pack("{s:b, s:s}", "ok", 0, "error", message);
}

/* Make an error answer of TEXT, which is emptied. */
static json_t *failure_of(struct ld_text *text) {
    json_t *answer =
        json_pack("{s:b, s:o}", "ok", 0, "error", ld_json_text(ld_text_string(text), text->size));
    ld_text_fini(text);
    return answer;
}

/* Take a call out of the list, and free it. */
static void free_call(struct ld_eval_call *call) {
    TAILQ_REMOVE(&call->host->evals, call, link);
    json_decref(call->chunk);
    json_decref(call->answer);
    ld_text_fini(&call->output);
    ld_text_fini(&call->cancelled);
    free(call);
}

/* Let go of the client. */
static void let_go(struct ld_eval_call *call) {
    call->waiter = NULL;
    call->fd = -1;
    ld_text_fini(&call->output);
    if (call->chunk == NULL && !call->has_ended) {
        ld_caller_let_go(&call->eval.caller);
    }
}

/* Take the output that has not been sent. */
static json_t *take_output(struct ld_eval_call *call) {
    if (call->dropped > 0) {
        ld_text_puts(&call->output, "... (");
        ld_text_add_count(&call->output, call->dropped);
        ld_text_puts(&call->output, " more bytes of output were dropped)\n");
        call->dropped = 0;
    }
    json_t *output = ld_json_text(ld_text_string(&call->output), call->output.size);
    ld_text_clear(&call->output);
    return output;
}

/* Tell the client how its chunk ended; the reference is taken over. */
static void answer(struct ld_eval_call *call, json_t *verdict) {
    struct ld_waiter *waiter = call->waiter;
    if (call->is_metrics) {
        verdict = ld_metrics_answer(call->host, verdict);
    } else {
        json_object_set_new(verdict, "output", take_output(call));
    }
    let_go(call); /* first: the client may send the next request */
    waiter->done(waiter, verdict);
}

/* Send output, if the client has read what was sent before; a chunk that prints much asks this for each line. */
static void send_output(struct ld_eval_call *call) {
    if (call->waiter != NULL && call->streams && call->output.size > 0 &&
        call->waiter->can_tell(call->waiter)) {
        json_t *part = json_pack("{s:o}", "output",
                                 ld_json_text(ld_text_string(&call->output), call->output.size));
        if (part != NULL && call->waiter->tell(call->waiter, part)) {
            ld_text_clear(&call->output);
        }
    }
}

/* Take what print was given, but not in a copy of the process: the client is that of the original. */
static bool on_print(struct ld_caller *caller, const char *text, size_t size) {
    struct ld_eval_call *call = LD_CONTAINER_OF(caller, struct ld_eval_call, eval.caller);
    if (call->waiter == NULL || call->is_metrics || ld_forked_is_copy()) {
        return false;
    }
    if (call->dropped > 0 || size >= OUTPUT_MOST - call->output.size) {
        call->dropped += size + 1;
    } else {
        ld_text_add(&call->output, text, size);
        ld_text_putc(&call->output, '\n');
    }
    send_output(call);
    return true;
}

/* Note how it ended. */
static void on_done(struct ld_eval *eval, json_t *verdict) {
    struct ld_eval_call *call = LD_CONTAINER_OF(eval, struct ld_eval_call, eval);
    ld_caller_leave(&eval->caller);
    call->has_ended = true;
    call->answer = verdict;
    if (call->waiter == NULL) {
        free_call(call);
    }
}

/* How many clients wait. */
static size_t count_waiting(const struct ld_host *host) {
    size_t count = 0;
    struct ld_eval_call *call;
    TAILQ_FOREACH(call, &host->evals, link) {
        count += call->waiter != NULL;
    }
    return count;
}

/* Read how long the client waits; false if that is no time. */
static bool read_seconds(const struct ld_host *host, const json_t *request, double *seconds) {
    const json_t *timeout = json_object_get(request, "timeout");
    *seconds = timeout != NULL ? json_number_value(timeout) : host->service->options->start_timeout;
    return (timeout == NULL || json_is_number(timeout)) && *seconds >= 0 &&
           *seconds <= SECONDS_MOST;
}

/* What a request wants run, or completed. */
static json_t *chunk_of(const json_t *request) {
    json_t *begun = json_object_get(request, "complete");
    return begun != NULL ? begun : json_object_get(request, "chunk");
}

/* Let go of clients that have gone while their chunks run: one that waits is not read from, so nothing else tells
 * of it before its time is over. Nothing is freed here: a walk over the list may be under way. */
static void let_go_of_gone(struct ld_host *host) {
    struct ld_eval_call *call;
    TAILQ_FOREACH(call, &host->evals, link) {
        bool is_running = call->chunk == NULL && !call->has_ended;
        if (call->waiter != NULL && is_running && ld_caller_is_gone(call->fd)) {
            answer(call, failure("the client has gone"));
        }
    }
}

/* Whether as many clients wait as may. */
static bool is_full(struct ld_host *host) {
    if (count_waiting(host) >= LD_CALLERS_MAX) {
        let_go_of_gone(host);
    }
    return count_waiting(host) >= LD_CALLERS_MAX;
}

/* Refuse a request, or return NULL and how long the client waits. */
static json_t *check(struct ld_host *host, const json_t *request, double *seconds) {
    if (!read_seconds(host, request, seconds)) {
        return failure("the \"timeout\" is not a number of seconds from 0 to ten years");
    }
    if (host->state == LD_HOST_STARTING) {
        return failure("the daemon is starting: its script is not ready yet");
    }
    if (host->state != LD_HOST_RUNNING) {
        return failure("the daemon is stopping");
    }
    return is_full(host) ? failure("too many evals at once (64)") : NULL;
}

/* Note a REQUEST to run CHUNK, or to collect metrics if that is null. */
static json_t *note(struct ld_host *host, struct ld_waiter *waiter, const json_t *request,
                    json_t *chunk, int fd) {
    double seconds = 0;
    json_t *refusal = check(host, request, &seconds);
    struct ld_eval_call *call = refusal == NULL ? calloc(1, sizeof *call) : NULL;
    if (call == NULL) {
        return refusal != NULL ? refusal : failure("not enough memory");
    }
    call->host = host;
    call->waiter = waiter;
    call->fd = fd;
    call->chunk = json_incref(chunk);
    call->is_metrics = json_is_null(chunk);
    call->eval.completes = json_object_get(request, "complete") != NULL;
    call->eval.caller.heeds_end = json_is_true(json_object_get(request, "interactive"));
    call->streams = json_is_true(json_object_get(request, "stream"));
    call->seconds = seconds;
    call->deadline = ld_alarm_deadline(host, seconds);
    call->eval.done = on_done;
    call->eval.own = call->is_metrics ? "report_metrics" : NULL;
    call->eval.caller.print = on_print;
    TAILQ_INSERT_TAIL(&host->evals, call, link);
    return NULL;
}

/* Note a chunk. */
json_t *ld_evals_ask(struct ld_host *host, struct ld_waiter *waiter, const json_t *request,
                     int fd) {
    json_t *chunk = chunk_of(request);
    return json_is_string(chunk) ? note(host, waiter, request, chunk, fd)
                                 : failure("eval needs a \"chunk\", which is a string");
}

/* Note a request for metrics. */
json_t *ld_evals_ask_metrics(struct ld_host *host, struct ld_waiter *waiter, const json_t *request,
                             int fd) {
    json_t *refusal = note(host, waiter, request, json_null(), fd);
    return refusal != NULL ? ld_metrics_answer(host, refusal) : NULL;
}

/* Find the call that a waiter waits for; NULL if there is none. */
static struct ld_eval_call *find(const struct ld_host *host, const struct ld_waiter *waiter) {
    struct ld_eval_call *call;
    TAILQ_FOREACH(call, &host->evals, link) {
        if (call->waiter == waiter) {
            return call;
        }
    }
    return NULL;
}

/* Forget a waiter. */
void ld_evals_forget(struct ld_host *host, const struct ld_waiter *waiter) {
    struct ld_eval_call *call = find(host, waiter);
    if (call != NULL) {
        let_go(call);
        if (call->chunk != NULL || call->has_ended) {
            free_call(call);
        }
    }
}

/* Interrupt. */
void ld_evals_interrupt(struct ld_host *host, const struct ld_waiter *waiter) {
    struct ld_eval_call *call = find(host, waiter);
    if (call == NULL || call->has_ended || ld_caller_is_gone(call->fd)) {
        return;
    }
    if (call->chunk != NULL) { /* the client is told when the loop turns */
        ld_text_puts(&call->cancelled, "before it began");
        json_decref(call->chunk);
        call->chunk = NULL;
        call->has_ended = true;
    } else {
        ld_eval_add_place(&call->eval, &call->cancelled);
        ld_eval_cancel(&call->eval);
    }
    ld_alarm_wake_at(host, 0);
}

/* Begin to run a chunk. The thread that watches the loop is told of it by the bell: it may sleep. */
static void begin(struct ld_eval_call *call) {
    json_t *chunk = call->chunk;
    uint64_t now = ld_time_monotonic();
    uint64_t now_ms = uv_now(&call->host->loop);
    uint64_t left = call->deadline > now_ms ? call->deadline - now_ms : 0;
    call->chunk = NULL;
    call->generation = call->host->script->generation;
    call->eval.chunk = json_string_value(chunk);
    call->eval.size = json_string_length(chunk);
    ld_caller_enter(&call->eval.caller, call->fd, now + left * 1000000);
    ld_pulse_ring();
    ld_eval_begin(&call->eval, call->host->script);
    json_decref(chunk);
}

/* The first chunk that is to be begun; NULL if there is none, or a reload is under way: what it changed in the
 * old generation would be lost. */
static struct ld_eval_call *find_next(const struct ld_host *host) {
    struct ld_eval_call *call;
    if (host->state != LD_HOST_RUNNING || host->reload.phase != LD_RELOAD_NONE) {
        return NULL;
    }
    TAILQ_FOREACH(call, &host->evals, link) {
        if (call->chunk != NULL) {
            return call;
        }
    }
    return NULL;
}

/* Make the answer to a client whose time is over. */
static json_t *make_late(const struct ld_eval_call *call) {
    struct ld_text text = {0};
    if (call->chunk != NULL) {
        ld_text_format(&text, "not run within %.10g s: the daemon is %s", call->seconds,
                       call->host->reload.phase != LD_RELOAD_NONE ? "reloading" : "busy");
    } else {
        ld_text_format(&text, "no end after %.10g s: it waits ", call->seconds);
        ld_eval_add_place(&call->eval, &text);
        ld_text_puts(&text, ", and goes on without its client");
    }
    return failure_of(&text);
}

/* Make the answer to a client whose chunk was ended. */
static json_t *make_ended(const struct ld_eval_call *call) {
    struct ld_text text = {0};
    if (!ld_text_is_empty(&call->cancelled)) {
        ld_text_puts(&text, "interrupted ");
        ld_text_append(&text, &call->cancelled);
    } else {
        ld_text_format(&text, "it was ended with generation %u, which a reload has replaced",
                       call->generation);
    }
    return failure_of(&text);
}

/* Tell a client what there is to tell, and see to it that the loop turns when its time is over. */
static void step(struct ld_eval_call *call) {
    struct ld_host *host = call->host;
    bool is_begun = call->chunk == NULL;
    if (call->waiter == NULL) {
        return;
    }
    if (call->has_ended) {
        json_t *verdict = call->answer != NULL ? call->answer : make_ended(call);
        call->answer = NULL;
        answer(call, verdict);
        free_call(call);
    } else if (!is_begun && host->state != LD_HOST_RUNNING) {
        answer(call, failure("the daemon is stopping"));
        free_call(call);
    } else if (uv_now(&host->loop) >= call->deadline) {
        answer(call, make_late(call));
        if (!is_begun) {
            free_call(call);
        }
    } else {
        send_output(call);
        ld_alarm_wake_at(host, call->deadline);
    }
}

/* Step all. One is begun in a turn, so that many delay the script no more than a few. A client that is told may
 * have sent its next request: that is noted after the others. */
void ld_evals_step(struct ld_host *host) {
    struct ld_eval_call *call = find_next(host);
    struct ld_eval_call *next;
    if (TAILQ_EMPTY(&host->evals)) {
        return;
    }
    if (call != NULL) {
        begin(call);
    }
    uv_update_time(&host->loop);
    for (call = TAILQ_FIRST(&host->evals); call != NULL; call = next) {
        next = TAILQ_NEXT(call, link);
        step(call);
    }
    if (find_next(host) != NULL) {
        ld_alarm_wake_at(host, 0);
    }
}

/* Tell all clients. */
void ld_evals_abandon(struct ld_host *host) {
    static const char message[] = "the daemon has stopped, and the chunk with it";
    struct ld_eval_call *next;
    for (struct ld_eval_call *call = TAILQ_FIRST(&host->evals); call != NULL; call = next) {
        bool is_running = call->chunk == NULL && !call->has_ended;
        next = TAILQ_NEXT(call, link);
        if (call->waiter != NULL) {
            json_t *verdict = call->answer;
            call->answer = NULL;
            answer(call, verdict != NULL ? verdict : failure(message));
        }
        if (!is_running) {
            free_call(call);
        }
    }
}
