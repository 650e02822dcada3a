#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "api/module.h"
#include "api/survey.h"
#include "base/file.h"
#include "base/json.h"
#include "base/log.h"
#include "base/time.h"
#include "host/internal.h"
#include "host/workers.h"
#include "posix/fds.h"
#include "posix/reserve.h"

#define ARGUMENT_MOST 500     /* bytes of an argument */
#define AT_ONCE_NS    1000000 /* for counting, in a report that is made at once */

/* Make a JSON string of a text, or of its beginning, null of an empty one. */
static json_t *json_text_or_null(const struct ld_text *text) {
    return text->size > 0 ? ld_json_cut(ld_text_string(text), text->size, LD_REPORT_TEXT)
                          : json_null();
}

/* Name the state. */
const char *ld_snapshot_state(const struct ld_host *host) {
    switch (host->state) {
    case LD_HOST_STARTING:
        return "starting";
    case LD_HOST_RUNNING:
        return host->reload.phase != LD_RELOAD_NONE ? "reloading" : "running";
    case LD_HOST_STOPPING:
    case LD_HOST_ENDED:
        return "stopping";
    }
    return "?";
}

/* Report how reloads ended. */
static json_t *report_reloads(const struct ld_host *host) {
    const struct ld_reload *reload = &host->reload;
    json_t *report =
        json_pack("{s:I, s:I}", "ok", (json_int_t)reload->ok, "failed", (json_int_t)reload->failed);
    json_t *last = json_null();
    if (reload->last_time > 0) {
        last = json_pack("{s:b, s:o, s:f, s:f}", "ok", reload->last_ok, "error",
                         json_text_or_null(&reload->last_error), "time", reload->last_time, "ms",
                         reload->last_ms);
    }
    json_object_set_new(report, "last", last);
    return report;
}

/* Report how long the code is on probation, null if it is not. */
static json_t *report_probation(const struct ld_host *host) {
    const struct ld_probation *probation = &host->probation;
    uint64_t now = uv_now(&host->loop);
    double left = probation->until > now ? (double)(probation->until - now) / 1e3 : 0;
    return probation->phase == LD_PROBATION_NONE
               ? json_null()
               : json_pack("{s:f, s:f, s:i}", "seconds", probation->seconds, "left", left, "good",
                           (int)probation->good_generation);
}

/* Report where the code is from: that of which generation it is, and a file that is another on disk. */
static json_t *report_code(struct ld_host *host) {
    const char *differs = ld_disk_differs(host);
    return json_pack("{s:i, s:b, s:I, s:b, s:o}", "generation",
                     (int)(host->code != 0 ? host->code : host->script->generation), "from_memory",
                     host->script->recall != NULL, "rolled_back",
                     (json_int_t)host->reload.rolled_back, "disk_differs", differs != NULL, "file",
                     differs != NULL ? ld_json_string(differs) : json_null());
}

/* Compare two places: the one with more errors comes first, then the later one. */
static int compare_places(const void *a, const void *b) {
    const struct ld_tally_place *one = *(const struct ld_tally_place *const *)a;
    const struct ld_tally_place *other = *(const struct ld_tally_place *const *)b;
    if (one->count != other->count) {
        return one->count > other->count ? -1 : 1;
    }
    return one->last > other->last ? -1 : one->last < other->last;
}

/* List the places where uncaught errors happened, the worst first. */
static json_t *report_places(const struct ld_tally *tally) {
    const struct ld_tally_place *places[LD_TALLY_PLACES];
    json_t *list = json_array();
    for (size_t i = 0; i < tally->used; i++) {
        places[i] = &tally->places[i];
    }
    qsort(places, tally->used, sizeof(void *), compare_places);
    for (size_t i = 0; i < tally->used; i++) {
        const struct ld_tally_place *at = places[i];
        json_array_append_new(
            list, json_pack("{s:o, s:o, s:o, s:I, s:f, s:f}", "where", ld_json_string(at->where),
                            "what", ld_json_string(at->what), "message",
                            ld_json_text(at->message, strlen(at->message)), "count",
                            (json_int_t)at->count, "first", at->first, "last", at->last));
    }
    return list;
}

/* Report the last error of the generations before, null if there was none. */
static json_t *report_earlier(const struct ld_tally *tally) {
    const struct ld_tally_place *last = ld_tally_last(tally);
    return last->count > 0
               ? json_pack("{s:o, s:f}", "message",
                           ld_json_text(last->message, strlen(last->message)), "time", last->last)
               : json_null();
}

/* Report uncaught errors of all generations; the last one of this, or else of those before. */
static json_t *report_errors(const struct ld_host *host) {
    const struct ld_script *script = host->script;
    json_t *last = script->errors.count == 0 ? report_earlier(&host->tally) : json_null();
    if (script->errors.count > 0) {
        last = json_pack("{s:o, s:f}", "message", json_text_or_null(&script->errors.last), "time",
                         script->errors.last_time);
    }
    return json_pack("{s:I, s:o, s:o, s:I}", "count", (json_int_t)host->tally.count, "last", last,
                     "places", report_places(&host->tally), "elsewhere",
                     (json_int_t)host->tally.elsewhere.count);
}

/* Read the resident memory in bytes. */
static json_int_t resident_size(void) {
    struct ld_text text = {0};
    unsigned long pages = 0;
    int fd = open("/proc/self/statm", O_RDONLY | O_CLOEXEC);
    if (fd >= 0) {
        ld_file_read(fd, &text);
        close(fd);
    }
    if (sscanf(ld_text_string(&text), "%*u %lu", &pages) != 1) {
        pages = 0;
    }
    ld_text_fini(&text);
    return (json_int_t)pages * (json_int_t)sysconf(_SC_PAGESIZE);
}

/* Report the memory that is used. */
static json_t *report_memory(const struct ld_script *script) {
    size_t limit = ld_heap_limit(script);
    return json_pack("{s:I, s:I, s:o}", "lua", (json_int_t)script->heap.size, "rss",
                     resident_size(), "limit",
                     limit > 0 ? json_integer((json_int_t)limit) : json_null());
}

/* Report how late the loop is. */
static json_t *report_loop(const struct ld_host *host) {
    return json_pack("{s:f, s:f, s:f}", "lag_p50_ms",
                     (double)ld_lag_quantile(&host->lag, 0.50) / 1e6, "lag_p99_ms",
                     (double)ld_lag_quantile(&host->lag, 0.99) / 1e6, "lag_max_ms",
                     (double)host->lag.max_ns / 1e6);
}

/* Compare two places of callbacks: the one that took longest comes first. */
static int compare_laps(const void *a, const void *b) {
    const struct ld_lap_place *one = *(const struct ld_lap_place *const *)a;
    const struct ld_lap_place *other = *(const struct ld_lap_place *const *)b;
    return one->times.max_ns > other->times.max_ns ? -1 : one->times.max_ns < other->times.max_ns;
}

/* List the places of callbacks that were measured, the longest first. */
static json_t *report_callbacks(const struct ld_laps *laps) {
    const struct ld_lap_place *places[LD_LAPS_PLACES];
    json_t *list = json_array();
    for (size_t i = 0; i < laps->used; i++) {
        places[i] = laps->places[i];
    }
    qsort(places, laps->used, sizeof(void *), compare_laps);
    for (size_t i = 0; i < laps->used; i++) {
        json_t *item =
            json_pack("{s:o, s:o, s:I, s:I}", "where", ld_json_string(places[i]->where), "what",
                      ld_json_string(places[i]->what), "measured",
                      (json_int_t)places[i]->times.total, "slow", (json_int_t)places[i]->slow);
        ld_laps_report(places[i], item);
        json_array_append_new(list, item);
    }
    return list;
}

/* Report what --slow found. */
static json_t *report_slow(const struct ld_laps *laps) {
    return json_pack("{s:o, s:I}", "after",
                     laps->slow_ns > 0 ? json_real((double)laps->slow_ns / 1e9) : json_null(),
                     "count", (json_int_t)laps->slow);
}

/* What of a list is reported. */
struct part {
    json_t *list;
    size_t skipped;
    size_t most;
};

/* Report a listening socket; false if none more is wanted. */
static bool report_listener(void *arg, const struct ld_listener_facts *facts) {
    struct part *part = arg;
    json_array_append_new(
        part->list, json_pack("{s:o, s:i, s:b, s:b}", "address", ld_json_string(facts->address),
                              "fd", facts->fd, "inherited", facts->inherited, "held", facts->held));
    return json_array_size(part->list) < part->most;
}

/* List the listening sockets. */
json_t *ld_snapshot_listeners(const struct ld_host *host, size_t skipped, size_t most) {
    struct part part = {.list = json_array(), .most = most};
    ld_listeners_each(host->listeners, skipped, report_listener, &part);
    return part.list;
}

/* List the generations that have been replaced and have not finished. */
json_t *ld_snapshot_retiring(const struct ld_host *host, size_t skipped, size_t most) {
    json_t *list = json_array();
    for (const struct ld_retired *at = host->retired; at != NULL && json_array_size(list) < most;
         at = at->next) {
        if (skipped > 0) {
            skipped--;
            continue;
        }
        const struct ld_script *script = at->script;
        size_t handles = script->guest != NULL ? ld_guest_count(script->guest) : 0;
        json_array_append_new(list, json_pack("{s:i, s:i, s:i, s:b}", "generation",
                                              (int)script->generation, "handles", (int)handles,
                                              "commands", (int)script->commands, "stopping",
                                              !script->on_stop.done));
    }
    return list;
}

/* Count the luv handles of a kind. */
static void add_kind(void *arg, const char *kind, size_t count) {
    json_object_set_new(arg, kind, json_integer((json_int_t)count));
}

/* Report the open luv handles by kind. */
static json_t *report_handles(const struct ld_script *script) {
    json_t *kinds = json_object();
    if (script->guest != NULL) {
        ld_guest_count_kinds(script->guest, add_kind, kinds);
    }
    return kinds;
}

/* List the arguments of the script. */
static json_t *report_args(const struct ld_setup *setup) {
    json_t *list = json_array();
    char *const *word = setup->words + setup->script;
    for (word += *word != NULL; *word != NULL && json_array_size(list) < LD_REPORT_MOST; word++) {
        json_array_append_new(list, ld_json_cut(*word, strlen(*word), ARGUMENT_MOST));
    }
    return list;
}

/* Report where the log goes. */
static json_t *report_log(void) {
    static const char *const sinks[] = {"stderr", NULL, "syslog", "none"};
    const char *file = ld_log_path() != NULL ? ld_log_path() : sinks[ld_log_sink()];
    return json_pack("{s:o, s:s, s:I}", "file", ld_json_string(file), "level",
                     ld_log_line_level_name(ld_log_level()), "dropped",
                     (json_int_t)ld_log_dropped());
}

/* Add a member, which is taken over; without memory the report becomes NULL. */
static void add(json_t **report, const char *key, json_t *value) {
    if (json_object_set_new(*report, key, value) < 0) {
        json_decref(*report);
        *report = NULL;
    }
}

/* Count the generations that have been replaced and have not finished. */
static json_int_t count_retiring(const struct ld_host *host) {
    json_int_t count = 0;
    for (const struct ld_retired *at = host->retired; at != NULL; at = at->next) {
        count++;
    }
    return count;
}

/* Add how many there are of each kind, and what parts report of which there is little. OWN of the tasks are lunad's. */
static void add_totals(json_t **report, struct ld_host *host, size_t own) {
    json_t *totals = json_object();
    for (size_t i = 0; i < LD_API_MODULE_SURVEYED; i++) {
        const struct ld_part *part = ld_api_module_surveyed[i];
        size_t count = part->count(host->script);
        size_t others = part == &ld_api_task_part && own < count ? own : 0;
        json_object_set_new(totals, part->name, json_integer((json_int_t)(count - others)));
    }
    if (ld_api_module_report(host->script, *report, totals) < 0) {
        json_decref(*report);
        *report = NULL;
    }
    json_object_set_new(totals, "listeners",
                        json_integer((json_int_t)ld_listeners_count(host->listeners)));
    json_object_set_new(totals, "retiring", json_integer(count_retiring(host)));
    add(report, "totals", totals);
}

/* Report what a reload or an upgrade that is under way waits for, null if there is none. */
static json_t *report_wait(const struct ld_host *host) {
    char words[32];
    int worker = ld_master_find_awaited(host);
    enum ld_upgrade_phase upgrade = host->upgrade.phase;
    enum ld_reload_phase reload = host->reload.phase;
    snprintf(words, sizeof words, "worker %d", worker);
    return worker > 0                     ? json_string(words)
           : upgrade == LD_UPGRADE_TRIAL  ? json_string("the trial of the program")
           : upgrade == LD_UPGRADE_ASKING ? json_string("its on_reload function")
           : reload == LD_RELOAD_ASKING   ? json_string("its on_reload function")
           : reload == LD_RELOAD_LOADING  ? json_string("the new code, which is not ready")
           : reload == LD_RELOAD_HELD     ? json_string("the word to commit what is ready")
                                          : json_null();
}

/* Make the status report without its long lists. */
json_t *ld_snapshot_head(struct ld_host *host, json_t *groups, size_t own) {
    struct ld_script *script = host->script;
    json_t *report = json_pack(
        "{s:s, s:i, s:o, s:s, s:s, s:b, s:o, s:f, s:i}", "name", host->service->name, "pid",
        (int)getpid(), "script", ld_json_string(host->setup.place), "mode",
        host->setup.daemon ? "daemon" : "foreground", "state", ld_snapshot_state(host), "ready",
        host->state != LD_HOST_STARTING, "text", json_text_or_null(&script->status_text), "uptime",
        (double)(uv_hrtime() - host->started) / 1e9, "generation", (int)script->generation);
    size_t lent = ld_reserve_lend(); /* to read about the process itself */
    add(&report, "worker",
        host->service->worker > 0 ? json_integer(host->service->worker) : json_null());
    add(&report, "service_generation",
        host->service->worker > 0 ? json_integer(host->service->generation) : json_null());
    add(&report, "workers", ld_master_report(host));
    add(&report, "args", report_args(&host->setup));
    add(&report, "restarts", ld_service_report_restarts(host->service, -1));
    add(&report, "reloads", report_reloads(host));
    add(&report, "waits_for", report_wait(host));
    add(&report, "probation", report_probation(host));
    add(&report, "code", report_code(host));
    add(&report, "errors", report_errors(host));
    add(&report, "watch",
        host->service->options->watch ? json_pack("{s:i}", "files", (int)host->watch.loaded)
                                      : json_null());
    add(&report, "state_file", ld_saving_report(host));
    add(&report, "memory", report_memory(script));
    add(&report, "messages", ld_mailing_report(host));
    add(&report, "loop", report_loop(host));
    add(&report, "slow", report_slow(&host->laps));
    add(&report, "callbacks", report_callbacks(&host->laps));
    add_totals(&report, host, own);
    add(&report, "groups", groups);
    add(&report, "handles", report_handles(script));
    add(&report, "log", report_log());
    add(&report, "fds", json_integer((json_int_t)ld_fds_count() + (json_int_t)lent));
    ld_reserve_take_back();
    return report;
}

/* Make the status report at once. */
json_t *ld_snapshot_take(struct ld_host *host) {
    json_t *lists[LD_API_MODULE_SURVEYED];
    json_t *groups = json_object();
    size_t own = 0;
    uint64_t give_up = ld_time_monotonic() + AT_ONCE_NS;
    for (size_t i = 0; i < LD_API_MODULE_SURVEYED; i++) {
        const struct ld_part *part = ld_api_module_surveyed[i];
        struct ld_survey survey;
        ld_api_survey_begin(&survey, host->script, part, LD_REPORT_MOST);
        ld_api_survey_run(&survey, UINT64_MAX, give_up, SIZE_MAX);
        json_object_set_new(groups, part->name, ld_api_survey_report(&survey));
        lists[i] = json_incref(survey.items);
        own += survey.own;
        ld_api_survey_end(&survey);
    }
    json_t *report = ld_snapshot_head(host, groups, own);
    for (size_t i = 0; i < LD_API_MODULE_SURVEYED; i++) {
        add(&report, ld_api_module_surveyed[i]->name, lists[i]);
    }
    add(&report, "listeners", ld_snapshot_listeners(host, 0, LD_REPORT_MOST));
    add(&report, "retiring", ld_snapshot_retiring(host, 0, LD_REPORT_MOST));
    return report;
}
