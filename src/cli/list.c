/* lunad list */
#include <stdio.h>

#include "base/json.h"
#include "base/say.h"
#include "cli/client.h"
#include "cli/crew.h"
#include "cli/crew_report.h"
#include "cli/rundir.h"
#include "cli/screen.h"
#include "cli/status_report.h"
#include "cli/target.h"
#include "cli/verbs.h"
#include "host/status_rows.h"
#include "host/status_text.h"

#define SHORT_SECONDS 0.2 /* for an answer, after SILENT_MAX daemons did not give one */
#define SILENT_MAX    3

/* The list that is being made. */
struct list {
    const struct ld_rundir *dir;
    json_t *reports;
    int silent; /* how many did not answer */
};

/* Make the report of a daemon that has died, a new reference; NULL if nothing is left of it. */
static json_t *dead_report(const struct ld_target *target) {
    struct ld_text death = {0};
    json_t *report = NULL;
    ld_target_describe_death(target, &death);
    if (target->holder.state == LD_HOLDER_DEAD || !ld_text_is_empty(&death)) {
        report = json_pack("{s:o, s:s, s:s}", "name", ld_json_string(target->name), "state", "dead",
                           "error", ld_text_is_empty(&death) ? "it died" : death.data + 2);
    }
    ld_text_fini(&death);
    return report;
}

/* Add a daemon to the list if it runs or has died. */
static bool add_one(const char *name, void *arg) {
    struct list *list = arg;
    struct ld_target target = {.dir = list->dir};
    snprintf(target.name, sizeof target.name, "%s", name);
    if (ld_pidfile_inspect(&target.holder, list->dir->fd, name) == 0) {
        bool is_alive = target.holder.state == LD_HOLDER_ALIVE;
        double seconds = list->silent < SILENT_MAX ? LD_CLIENT_SECONDS : SHORT_SECONDS;
        bool waits = target.holder.waiting && ld_crew_worker(list->dir, name) > 0;
        json_t *report = waits      ? ld_crew_report_waiting(&target)
                         : is_alive ? ld_status_report_ask(&target, seconds)
                                    : NULL;
        list->silent += !waits && json_object_get(report, "error") != NULL;
        report = target.holder.state == LD_HOLDER_ALIVE ? report : dead_report(&target);
        if (report != NULL) {
            json_array_append_new(list->reports, report);
        }
    }
    return true;
}

/* Take from a report what a list shows; what a silent daemon does not say is null. */
static json_t *shorten_one(const json_t *report) {
    static const char *const keys[] = {"name",       "pid",    "script",   "mode",   "state",
                                       "generation", "uptime", "restarts", "worker", "error"};
    json_t *item = json_object();
    for (size_t i = 0; i < LD_COUNT(keys); i++) {
        json_t *value = json_object_get(report, keys[i]);
        json_object_set_new(item, keys[i], value != NULL ? json_incref(value) : json_null());
    }
    return item;
}

/* Make the list for --json. */
static json_t *shorten(const json_t *reports) {
    size_t index;
    const json_t *report;
    json_t *list = json_array();
    json_array_foreach(reports, index, report) {
        json_array_append_new(list, shorten_one(report));
    }
    return list;
}

/* Add how often a daemon was restarted, and how it had ended the last time. */
static void add_restarts(struct ld_text *row, const json_t *report) {
    const json_t *restarts = json_object_get(report, "restarts");
    int count = (int)json_integer_value(json_object_get(restarts, "count"));
    if (count > 0) {
        ld_text_format(row, "; restarts: %d", count);
        if (!ld_status_text_is_between(report)) { /* else its state says why */
            ld_status_rows_member(row, ", ", json_object_get(restarts, "last"), "message");
        }
    }
}

/* Print a row of the list. Its texts come from the daemon and are not trusted. */
static void print_row(const json_t *report, size_t width) {
    struct ld_text row = {0};
    struct ld_text state = {0};
    struct ld_text uptime = {0};
    bool answers = json_is_string(json_object_get(report, "script"));
    bool has_host = answers && !ld_status_text_is_between(report);
    ld_status_text_duration(&uptime, json_number_value(json_object_get(report, "uptime")));
    char pid[16] = "-";
    char generation[16] = "-";
    const json_t *number = json_object_get(report, "pid");
    const json_t *shown = json_object_get(report, "service_generation"); /* of a worker */
    shown = json_is_integer(shown) ? shown : json_object_get(report, "generation");
    if (json_is_integer(number)) {
        snprintf(pid, sizeof pid, "%d", (int)json_integer_value(number));
    }
    if (has_host) {
        snprintf(generation, sizeof generation, "%d", (int)json_integer_value(shown));
    }
    ld_status_rows_member(&row, "", report, "name");
    ld_text_format(&row, "%*s %8s  ", row.size < width ? (int)(width - row.size) : 0, "", pid);
    ld_status_text_state(&state, report);
    ld_screen_paint(&row, ld_screen_paint_of(ld_text_string(&state)), ld_text_string(&state),
                    state.size);
    ld_text_format(&row, "%*s %4s  %-10s ", state.size < 10 ? (int)(10 - state.size) : 0, "",
                   generation, has_host ? ld_text_string(&uptime) : "-");
    ld_status_rows_member(&row, "", report, answers ? "script" : "error");
    add_restarts(&row, report);
    ld_screen_show(&row);
    ld_text_fini(&row);
    ld_text_fini(&state);
    ld_text_fini(&uptime);
}

/* Print the list for people. */
static void print_list(const struct ld_rundir *dir, const json_t *reports) {
    size_t index;
    const json_t *report;
    struct ld_text head = {0};
    size_t width = 20; /* of the names */
    json_array_foreach(reports, index, report) {
        size_t length = json_string_length(json_object_get(report, "name"));
        width = length > width ? length : width;
    }
    if (json_array_size(reports) == 0) {
        ld_text_format(&head, "no daemon is running (%s)", ld_text_string(&dir->where));
        ld_screen_show(&head);
    } else {
        struct ld_text shown = {0};
        ld_text_format(&head, "%-*s %8s  %-10s %4s  %-10s %s", (int)width, "NAME", "PID", "STATE",
                       "GEN", "UPTIME", "SCRIPT");
        ld_screen_paint(&shown, LD_PAINT_BOLD, ld_text_string(&head), head.size);
        ld_screen_show(&shown);
        ld_text_fini(&shown);
    }
    json_array_foreach(reports, index, report) {
        print_row(report, width);
    }
    ld_text_fini(&head);
}

/* Print the list of what is in a run directory. */
static void print(const struct ld_call *call, const struct ld_rundir *dir) {
    struct list list = {.dir = dir, .reports = json_array()};
    ld_rundir_each(dir, add_one, &list);
    if (call->options->json) {
        json_t *items = shorten(list.reports);
        ld_status_report_print(items);
        json_decref(items);
    } else {
        print_list(dir, list.reports);
    }
    json_decref(list.reports);
}

/* List the daemons. */
static int run(const struct ld_call *call) {
    struct ld_rundir dir;
    int status = ld_rundir_open(&dir, call->options->run_dir);
    if (status == 0) {
        print(call, &dir);
    }
    ld_rundir_close(&dir);
    return status;
}

const struct ld_verb ld_verb_list = {
    .name = "list",
    .operands = "",
    .summary = "list the daemons that run, and those that have died",
    .options = LD_OPTIONS_JSON,
    .least = 0,
    .most = 0,
    .run = run,
};
