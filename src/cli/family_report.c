#include "cli/family_report.h"

#include <string.h>

#include "base/json.h"
#include "cli/family.h"
#include "cli/status_report.h"

#define SHORT_SECONDS 0.2 /* for an answer, after one worker did not give one */

/* Make the report of a worker without a process. */
json_t *ld_family_report_waiting(const struct ld_target *worker) {
    return json_pack("{s:o, s:i, s:n, s:s, s:s}", "name", ld_json_string(worker->name), "worker",
                     (int)ld_family_worker(worker->dir, worker->name), "pid", "state", "waiting",
                     "error", "it is about to be started again");
}

/* Add the number KEY of FROM to that of TO. */
static void add_number(json_t *to, const json_t *from, const char *key) {
    const json_t *before = json_object_get(to, key);
    const json_t *more = json_object_get(from, key);
    if (json_is_integer(before) && json_is_integer(more)) {
        json_object_set_new(to, key,
                            json_integer(json_integer_value(before) + json_integer_value(more)));
    }
}

/* Add the numbers KEYS of the member GROUP. */
static void add_numbers(json_t *report, const json_t *worker, const char *group,
                        const char *const *keys) {
    for (; *keys != NULL; keys++) {
        add_number(json_object_get(report, group), json_object_get(worker, group), *keys);
    }
}

/* Make the number KEY of TO the larger one. */
static void take_larger(json_t *to, const json_t *from, const char *key) {
    json_t *other = json_object_get(from, key);
    if (json_number_value(other) > json_number_value(json_object_get(to, key))) {
        json_object_set(to, key, other);
    }
}

/* Append the items of a list to that of the service, each with the number of its worker. */
static void append(json_t *report, const json_t *worker, const char *key) {
    size_t index;
    const json_t *item;
    json_t *list = json_object_get(report, key);
    json_array_foreach(json_object_get(worker, key), index, item) {
        json_t *copy = json_copy((json_t *)item);
        json_object_set(copy, "worker", json_object_get(worker, "worker"));
        json_array_append_new(list, copy);
    }
}

/* What is in sum. */
static const char *const lists[] = {"timers", "signals", "children", "tasks", "retiring"};

/* Forget what the master has for itself: nothing of it is the script's. */
static void clear(json_t *report) {
    json_t *totals = json_object_get(report, "totals");
    for (size_t i = 0; i < LD_COUNT(lists); i++) {
        json_object_set_new(report, lists[i], json_array());
        json_object_set_new(totals, lists[i], json_integer(0));
    }
}

/* Take the later of the last errors. */
static void take_error(json_t *report, const json_t *worker) {
    json_t *errors = json_object_get(report, "errors");
    json_t *last = json_object_get(json_object_get(worker, "errors"), "last");
    const json_t *before = json_object_get(errors, "last");
    if (json_is_object(last) && json_number_value(json_object_get(last, "time")) >=
                                    json_number_value(json_object_get(before, "time"))) {
        json_object_set(errors, "last", last);
    }
    json_array_extend(json_object_get(errors, "places"),
                      json_object_get(json_object_get(worker, "errors"), "places"));
}

/* Take what the script has set for a process, from the first one that has it: the master has none. */
static void take_first(json_t *to, const json_t *from, const char *key) {
    json_t *value = json_object_get(from, key);
    if (json_is_null(json_object_get(to, key)) && value != NULL) {
        json_object_set(to, key, value);
    }
}

/* Add what a worker has to the report of the service. */
static void add_worker(json_t *report, const json_t *worker) {
    static const char *const errors[] = {"count", "elsewhere", NULL};
    static const char *const memory[] = {"lua", "rss", NULL};
    static const char *const messages[] = {"sent",    "received", "waiting", "refused",
                                           "unheard", "lost",     NULL};
    static const char *const lags[] = {"lag_p50_ms", "lag_p99_ms", "lag_max_ms"};
    static const char *const slow[] = {"count", NULL};
    static const char *const log[] = {"dropped", NULL};
    add_numbers(report, worker, "errors", errors);
    add_numbers(report, worker, "memory", memory);
    add_numbers(report, worker, "messages", messages);
    add_numbers(report, worker, "slow", slow);
    add_numbers(report, worker, "log", log);
    add_number(report, worker, "fds");
    take_error(report, worker);
    take_first(report, worker, "text");
    take_first(json_object_get(report, "memory"), json_object_get(worker, "memory"), "limit");
    take_first(json_object_get(report, "slow"), json_object_get(worker, "slow"), "after");
    for (size_t i = 0; i < LD_COUNT(lags); i++) {
        take_larger(json_object_get(report, "loop"), json_object_get(worker, "loop"), lags[i]);
    }
    for (size_t i = 0; i < LD_COUNT(lists); i++) {
        append(report, worker, lists[i]);
        add_number(json_object_get(report, "totals"), json_object_get(worker, "totals"), lists[i]);
    }
}

/* Ask a worker for its report, a new reference. */
static json_t *ask(struct ld_target *worker, double seconds) {
    json_t *report = ld_family_is_up(worker) ? ld_status_report_ask(worker, seconds) : NULL;
    return report != NULL ? report : ld_family_report_waiting(worker);
}

/* Add the workers. */
void ld_family_report_add(json_t *report, const struct ld_target *target, double seconds) {
    unsigned count = ld_family_count(target);
    json_t *workers = count > 0 ? json_array() : NULL;
    bool answers = json_is_object(json_object_get(report, "totals"));
    if (workers != NULL && answers) {
        clear(report);
    }
    for (unsigned number = 1; workers != NULL && number <= count; number++) {
        struct ld_target worker;
        json_t *one = ld_family_find(&worker, target, number) == 0 ? ask(&worker, seconds) : NULL;
        bool is_silent = one != NULL && json_is_object(json_object_get(one, "totals")) == false;
        if (one != NULL && answers && !is_silent) {
            add_worker(report, one);
        }
        seconds = is_silent && ld_family_is_up(&worker) ? SHORT_SECONDS : seconds;
        json_array_append_new(workers, one);
    }
    if (workers != NULL) {
        json_object_set_new(report, "workers", workers);
    }
}
