/* What requests on the control socket do. */
#include <string.h>
#include <unistd.h>

#include "host/internal.h"
#include "host/workers.h"

#define SECONDS_MOST (3650 * 86400.0)

/* Answer "status", or begin to. */
static bool ask_status(void *arg, struct ld_waiter *waiter, const json_t *request,
                       struct ld_text *answer) {
    return ld_inquiry_ask(arg, waiter, request, answer);
}

/* Answer "stop"; join a stop that is under way. */
static json_t *answer_stop(void *arg) {
    struct ld_host *host = arg;
    if (host->state == LD_HOST_RUNNING || host->state == LD_HOST_STARTING) {
        ld_actions_stop(host);
    }
    return json_pack("{s:b, s:i, s:f}", "ok", 1, "pid", (int)getpid(), "timeout",
                     host->service->options->stop_timeout);
}

/* Answer "reopen". */
static json_t *answer_reopen(void *arg) {
    int rc = ld_actions_reopen_log(arg);
    return rc < 0 ? json_pack("{s:b, s:s}", "ok", 0, "error", strerror(-rc))
                  : json_pack("{s:b}", "ok", 1);
}

/* Make the answer to a request that cannot be served. */
static json_t *failure(const char *message) {
    return json_pack("{s:b, s:s}", "ok", 0, "error", message);
}

/* Find what is wrong with a request for a reload; NULL if it can be served. */
static const char *find_fault(const struct ld_host *host, const json_t *request) {
    const json_t *check = json_object_get(request, "check");
    const json_t *hold = json_object_get(request, "hold");
    const json_t *workers = json_object_get(request, "workers");
    const json_t *probation = json_object_get(request, "probation");
    double seconds = json_number_value(probation);
    json_int_t count = json_integer_value(workers);
    if (workers != NULL && (count < 1 || count > LD_WORKERS_MAX)) {
        return "\"workers\" must be a number from 1 to 256";
    }
    if (count > 1 && !host->service->is_master) {
        return host->service->worker > 0
                   ? "it is a worker: how many there are is asked of its service"
                   : "it was started without workers, and gets some by a start: lunad restart, "
                     "with --config if that says so";
    }
    if (check != NULL && !json_is_boolean(check)) {
        return "\"check\" must be true or false";
    }
    if (hold != NULL && !json_is_boolean(hold)) {
        return "\"hold\" must be true or false";
    }
    if (json_is_true(check) && json_is_true(hold)) {
        return "a reload that is only checked cannot be held";
    }
    return probation == NULL ||
                   (json_is_number(probation) && seconds >= 0 && seconds <= SECONDS_MOST)
               ? NULL
               : "\"probation\" must be a number of seconds from 0 to ten years";
}

/* Begin to answer "reload": do it, only try it ("check"), or hold it until the client commits it ("hold"). */
static json_t *ask_reload(void *arg, struct ld_waiter *waiter, const json_t *request, int fd) {
    struct ld_host *host = arg;
    const json_t *workers = json_object_get(request, "workers");
    const json_t *probation = json_object_get(request, "probation");
    const char *fault = find_fault(host, request);
    bool is_check = json_is_true(json_object_get(request, "check"));
    bool is_held = json_is_true(json_object_get(request, "hold"));
    (void)fd;
    if (fault != NULL) {
        return failure(fault);
    }
    if (is_held && !ld_reload_ask_held(host, waiter)) {
        return failure("another reload waits to be held");
    }
    if (workers != NULL && host->service->is_master) {
        host->master.wanted = (int)json_integer_value(workers);
    }
    if (is_check) {
        ld_reload_ask_trial(host, waiter);
        return NULL;
    }
    if (probation != NULL) {
        ld_reload_note_probation(host, json_number_value(probation));
    }
    if (!is_held) {
        ld_reload_ask(host, waiter);
    }
    return NULL;
}

/* Do what "commit" asks for. */
static bool commit_reload(void *arg, const struct ld_waiter *waiter) {
    return ld_reload_commit(arg, waiter);
}

/* Answer "restart", which a master has for its workers. */
static json_t *answer_restart(void *arg, struct ld_waiter *waiter, const json_t *request, int fd) {
    json_int_t worker = json_integer_value(json_object_get(request, "worker"));
    struct ld_host *host = arg;
    (void)waiter;
    (void)fd;
    if (!host->service->is_master) {
        return failure("it has no workers: start it with --workers");
    }
    if (worker < 1 || worker > host->service->workers) {
        return failure("there is no such worker");
    }
    if (host->state != LD_HOST_RUNNING) {
        return failure("it is starting, or stopping");
    }
    ld_master_restart(host, (int)worker);
    return json_pack("{s:b}", "ok", 1);
}

/* Begin to answer "eval". */
static json_t *ask_eval(void *arg, struct ld_waiter *waiter, const json_t *request, int fd) {
    return ld_evals_ask(arg, waiter, request, fd);
}

/* Interrupt an eval. */
static void interrupt(void *arg, struct ld_waiter *waiter) {
    ld_evals_interrupt(arg, waiter);
}

/* Begin to answer "profile". */
static json_t *ask_profile(void *arg, struct ld_waiter *waiter, const json_t *request, int fd) {
    return ld_profiling_ask(arg, waiter, request, fd);
}

/* Begin to answer "heap". */
static json_t *ask_heap(void *arg, struct ld_waiter *waiter, const json_t *request, int fd) {
    (void)request;
    return ld_heap_copy_ask(arg, waiter, fd);
}

/* Begin to answer "metrics". */
static json_t *ask_metrics(void *arg, struct ld_waiter *waiter, const json_t *request, int fd) {
    return ld_evals_ask_metrics(arg, waiter, request, fd);
}

/* Begin to answer "upgrade". */
static json_t *ask_upgrade(void *arg, struct ld_waiter *waiter, const json_t *request, int fd) {
    (void)fd;
    return ld_upgrade_ask(arg, waiter, request);
}

/* Forget a client that waits for an answer. */
static void forget_waiter(void *arg, struct ld_waiter *waiter) {
    ld_reload_forget(arg, waiter);
    ld_evals_forget(arg, waiter);
    ld_profiling_forget(arg, waiter);
    ld_heap_copy_forget(arg, waiter);
    ld_inquiry_forget(arg, waiter);
    ld_upgrade_forget(arg, waiter);
}

/* Serve requests. */
void ld_requests_serve(struct ld_host *host) {
    static const struct ld_control_ops ops = {
        ask_status,     answer_stop, answer_reopen, ask_reload, commit_reload,
        answer_restart, ask_eval,    ask_profile,   ask_heap,   ask_metrics,
        ask_upgrade,    interrupt,   forget_waiter};
    ld_control_serve(host->control, &ops, host);
}
