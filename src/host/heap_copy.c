/* A walk over the heap for a client, in a copy of the process: the service goes on. One at a time. */
#include <stdlib.h>
#include <string.h>

#include "host/copy.h"
#include "host/internal.h"
#include "script/caller.h"
#include "script/heap_walk.h"

#define WALK_SECONDS 20.0 /* of the walk; then it tells what it has */
#define COPY_SECONDS 25.0 /* of the copy; then it is killed */
#define CPU_SECONDS  30   /* should this process not come to that */
#define REPORT_MOST  ((size_t)1 << 20)
#define LOOK_MS      100 /* between looks for the client */

struct ld_heap_copy {
    struct ld_host *host;
    struct ld_copy *copy;
    struct ld_waiter *waiter;
    int client;        /* its descriptor */
    uint64_t deadline; /* uv_now */
};

/* Make an error answer. */
static json_t *failure(const char *message) {
    return json_pack("{s:b, s:s}", "ok", 0, "error", message);
}

/* In the copy: walk. */
static void walk(void *arg, struct ld_text *report) {
    const struct ld_heap_copy *heap = arg;
    json_t *result = ld_heap_walk(heap->host->script, WALK_SECONDS);
    char *dump = result != NULL ? json_dumps(result, JSON_COMPACT) : NULL;
    if (dump != NULL) {
        ld_text_puts(report, dump);
    }
}

/* Forget it, and tell the client unless ANSWER is NULL. */
static void forget(struct ld_heap_copy *heap, json_t *answer) {
    struct ld_waiter *waiter = heap->waiter;
    heap->host->heap_copy = NULL;
    free(heap);
    if (answer != NULL) {
        waiter->done(waiter, answer);
    }
}

/* End the copy, and tell the client. */
static void finish(struct ld_heap_copy *heap, json_t *answer) {
    ld_copy_end(heap->copy);
    forget(heap, answer);
}

/* Make the answer of a report that is whole. */
static json_t *make_answer(const struct ld_heap_copy *heap, const struct ld_text *text) {
    json_t *report = json_loadb(ld_text_string(text), text->size, JSON_REJECT_DUPLICATES, NULL);
    if (!json_is_object(report)) {
        json_decref(report);
        return failure(
            "the copy of the process that walks over the heap has died: memory may be short");
    }
    json_object_set_new(report, "ok", json_true());
    json_object_set_new(report, "fork_ms", json_real(ld_copy_fork_ms(heap->copy)));
    return report;
}

/* Tell the client what the copy has found. */
static void on_report(void *arg, const struct ld_text *report) {
    struct ld_heap_copy *heap = arg;
    forget(heap, make_answer(heap, report));
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
    struct ld_heap_copy *heap = refusal == NULL ? calloc(1, sizeof *heap) : NULL;
    if (heap == NULL) {
        return refusal != NULL ? refusal : failure("not enough memory");
    }
    heap->host = host;
    heap->waiter = waiter;
    heap->client = fd;
    const struct ld_copy_job job = {.run = walk,
                                    .done = on_report,
                                    .arg = heap,
                                    .report_most = REPORT_MOST,
                                    .cpu_seconds = CPU_SECONDS};
    int rc = ld_copy_make(&heap->copy, &host->loop, &job);
    if (rc < 0) {
        free(heap);
        return failure(strerror(-rc));
    }
    heap->deadline = ld_alarm_deadline(host, COPY_SECONDS);
    host->heap_copy = heap;
    ld_alarm_wake_at(host, 0);
    return NULL;
}

/* End it without an answer. */
void ld_heap_copy_forget(struct ld_host *host, const struct ld_waiter *waiter) {
    if (host->heap_copy != NULL && host->heap_copy->waiter == waiter) {
        finish(host->heap_copy, NULL);
    }
}

/* End it when its time is over, or its client has gone: one that waits is not read from. */
void ld_heap_copy_step(struct ld_host *host) {
    struct ld_heap_copy *heap = host->heap_copy;
    if (heap == NULL) {
        return;
    }
    uv_update_time(&host->loop);
    uint64_t now = uv_now(&host->loop);
    if (host->state != LD_HOST_RUNNING) {
        finish(heap, failure("the daemon is stopping"));
    } else if (ld_caller_is_gone(heap->client)) {
        finish(heap, failure("the client has gone"));
    } else if (now >= heap->deadline) {
        finish(heap, failure("the walk over the heap has not ended within 25 s"));
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
