#include "cli/crew_report.h"

#include <errno.h>
#include <string.h>

#include "api/module.h"
#include "base/json.h"
#include "cli/crew.h"
#include "cli/status_report.h"

#define GROUPS_MOST   100
#define SHORT_SECONDS 0.2 /* for an answer, after one worker did not give one */

/* Make the report of a worker without a process. */
json_t *ld_crew_report_waiting(const struct ld_target *worker) {
    return json_pack("{s:o, s:i, s:n, s:s, s:s}", "name", ld_json_string(worker->name), "worker",
                     (int)ld_crew_worker(worker->dir, worker->name), "pid", "state", "waiting",
                     "error", "it is about to be started again");
}

/* Make the same, with what the REPORT of its master knows of it: why it has no process. */
static json_t *make_waiting(const struct ld_target *worker, const json_t *report, unsigned number) {
    json_t *waiting = ld_crew_report_waiting(worker);
    json_t *known = json_array_get(json_object_get(report, "workers"), number - 1);
    json_t *restarts = json_object_get(known, "restarts");
    if (json_is_object(restarts)) {
        json_object_set(waiting, "restarts", restarts);
    }
    return waiting;
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

/* Append the first items of a list to that of the service, each with the number of its worker. */
static void append(json_t *report, const json_t *worker, const char *key) {
    size_t index;
    const json_t *item;
    json_t *list = json_object_get(report, key);
    json_array_foreach(json_object_get(worker, key), index, item) {
        if (json_array_size(list) >= LD_REPORT_FIRST) {
            return;
        }
        json_t *copy = json_copy((json_t *)item);
        json_object_set(copy, "worker", json_object_get(worker, "worker"));
        json_array_append_new(list, copy);
    }
}

/* What is in sum. */
static const char *const lists[] = {"timers", "signals", "children", "tasks", "retiring"};

/* Whether two groups have the same place, kind and name. */
static bool is_same_group(const json_t *one, const json_t *other) {
    static const char *const keys[] = {"where", "kind", "name"};
    bool is_same = true;
    for (size_t i = 0; i < LD_COUNT(keys) && is_same; i++) {
        is_same = json_equal(json_object_get(one, keys[i]), json_object_get(other, keys[i]));
    }
    return is_same;
}

/* Find the group in a list that is the same as another; NULL if there is none. */
static json_t *find_group(const json_t *list, const json_t *group) {
    size_t index;
    json_t *item;
    json_array_foreach(list, index, item) {
        if (is_same_group(item, group)) {
            return item;
        }
    }
    return NULL;
}

/* Move a group whose count has grown to its place among the others: the greatest come first. */
static void lift(json_t *list, const json_t *group) {
    size_t at = 0;
    while (json_array_get(list, at) != group) {
        at++;
    }
    json_t *moved = json_incref(json_array_get(list, at));
    size_t to = at;
    while (to > 0 && json_number_value(json_object_get(json_array_get(list, to - 1), "count")) <
                         json_number_value(json_object_get(moved, "count"))) {
        to--;
    }
    json_array_remove(list, at);
    json_array_insert_new(list, to, moved);
}

/* Add the groups of a worker to those of the service that are the same. Of what is reported of many workers, some is
 * in no group that is reported. */
static void add_groups(json_t *groups, const json_t *more) {
    size_t index;
    const json_t *item;
    json_t *list = json_object_get(groups, "places");
    json_array_foreach(json_object_get(more, "places"), index, item) {
        json_t *same = find_group(list, item);
        if (same != NULL) {
            add_number(same, item, "count");
        } else if (json_array_size(list) < GROUPS_MOST) {
            same = json_copy((json_t *)item);
            json_array_append_new(list, same);
        }
        if (same != NULL) {
            lift(list, same);
        } else {
            json_int_t others = json_integer_value(json_object_get(groups, "others"));
            json_int_t count = json_integer_value(json_object_get(item, "count"));
            json_object_set_new(groups, "others", json_integer(others + count));
        }
    }
    add_number(groups, more, "counted");
    add_number(groups, more, "others");
}

/* Forget what the master has for itself: nothing of it is the script's. */
static void clear(json_t *report) {
    json_t *totals = json_object_get(report, "totals");
    const char *key;
    json_t *groups;
    json_object_foreach(json_object_get(report, "groups"), key, groups) {
        json_object_update_new(groups,
                               json_pack("{s:i, s:[], s:i}", "counted", 0, "places", "others", 0));
    }
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

/* Note a file of the disk that differs from what a worker runs: the master runs nothing of the script. */
static void take_difference(json_t *code, const json_t *worker) {
    if (json_is_true(json_object_get(worker, "disk_differs")) &&
        !json_is_true(json_object_get(code, "disk_differs"))) {
        json_object_set_new(code, "disk_differs", json_true());
        json_object_set(code, "file", json_object_get(worker, "file"));
    }
}

/* Add the file of --state of a worker to those before it: their size in sum, the file that was saved longest ago, the
 * slowest save, and the first error. */
static void add_state_file(json_t *report, const json_t *worker) {
    static const char *const longest[] = {"ms", "held_ms"};
    const json_t *more = json_object_get(worker, "state_file");
    json_t *sum = json_object_get(report, "state_file");
    if (!json_is_object(more)) {
        return;
    }
    if (!json_is_object(sum)) {
        json_object_set_new(report, "state_file", json_copy((json_t *)more));
        return;
    }
    const json_t *time = json_object_get(more, "time");
    if (!json_is_number(time) ||
        json_number_value(time) < json_number_value(json_object_get(sum, "time"))) {
        json_object_set(sum, "time", (json_t *)time);
    }
    add_number(sum, more, "size");
    for (size_t i = 0; i < LD_COUNT(longest); i++) {
        take_larger(sum, more, longest[i]);
    }
    take_first(sum, more, "error");
}

/* Add the addresses that a worker listens to and those before it do not: all share them. */
static void add_listeners(json_t *report, const json_t *worker) {
    size_t index;
    json_t *item;
    json_t *list = json_object_get(report, "listeners");
    json_t *known = json_object();
    json_array_foreach(list, index, item) {
        const char *address = json_string_value(json_object_get(item, "address"));
        json_object_set(known, address != NULL ? address : "", json_true());
    }
    json_array_foreach(json_object_get(worker, "listeners"), index, item) {
        const char *address = json_string_value(json_object_get(item, "address"));
        if (address != NULL && json_object_get(known, address) == NULL) {
            json_array_append(list, item);
        }
    }
    json_decref(known);
    json_object_set_new(json_object_get(report, "totals"), "listeners",
                        json_integer((json_int_t)json_array_size(list)));
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
    take_difference(json_object_get(report, "code"), json_object_get(worker, "code"));
    add_state_file(report, worker);
    add_listeners(report, worker);
    take_first(report, worker, "text");
    take_first(json_object_get(report, "memory"), json_object_get(worker, "memory"), "limit");
    take_first(json_object_get(report, "slow"), json_object_get(worker, "slow"), "after");
    for (size_t i = 0; i < LD_COUNT(lags); i++) {
        take_larger(json_object_get(report, "loop"), json_object_get(worker, "loop"), lags[i]);
    }
    const char *key;
    json_t *groups;
    json_object_foreach(json_object_get(report, "groups"), key, groups) {
        add_groups(groups, json_object_get(json_object_get(worker, "groups"), key));
    }
    for (size_t i = 0; i < LD_COUNT(lists); i++) {
        append(report, worker, lists[i]);
        add_number(json_object_get(report, "totals"), json_object_get(worker, "totals"), lists[i]);
    }
}

/* Ask a worker for its report, a new reference; the master has made KNOWN. */
static json_t *ask(const struct ld_target *master, const json_t *known, unsigned number,
                   double seconds) {
    struct ld_target worker;
    json_t *report = NULL;
    int rc = ld_crew_find(&worker, master, number);
    if (rc == -ENOENT) {
        return json_pack("{s:o, s:i, s:n, s:s}", "name", ld_json_string(worker.name), "worker",
                         (int)number, "pid", "state", "stopped");
    }
    if (rc == 0 && ld_crew_is_up(&worker)) {
        report = ld_status_report_ask(&worker, seconds);
    }
    if (report == NULL) {
        return make_waiting(&worker, known, number);
    }
    if (!json_is_integer(json_object_get(report, "worker"))) { /* it does not answer */
        json_object_set_new(report, "worker", json_integer((json_int_t)number));
    }
    return report;
}

/* Whether a report is one that a process has made. */
static bool is_whole(const json_t *report) {
    return json_is_object(json_object_get(report, "totals"));
}

/* Add the workers. */
void ld_crew_report_add(json_t *report, const struct ld_target *target, double seconds) {
    unsigned count = ld_crew_count(target);
    json_t *workers = count > 0 ? json_array() : NULL;
    if (workers == NULL) {
        return;
    }
    if (is_whole(report)) {
        clear(report);
    }
    for (unsigned number = 1; number <= count; number++) {
        json_t *worker = ask(target, report, number, seconds);
        if (is_whole(report) && is_whole(worker)) {
            add_worker(report, worker);
        } else if (!is_whole(worker) && json_is_integer(json_object_get(worker, "pid"))) {
            seconds = SHORT_SECONDS;
        }
        json_array_append_new(workers, worker);
    }
    json_object_set_new(report, "workers", workers);
}
