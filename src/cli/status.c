/* lunad status */
#include <stdint.h>

#include "base/json.h"
#include "base/say.h"
#include "cli/client.h"
#include "cli/crew_report.h"
#include "cli/screen.h"
#include "cli/status_report.h"
#include "cli/status_stream.h"
#include "cli/target.h"
#include "cli/verbs.h"
#include "host/status_rows.h"
#include "host/status_text.h"

static json_t *reports;                /* for --json */
static struct ld_status_stream stream; /* for --full */

/* Print a report for people. */
static void print_report(const json_t *report) {
    struct ld_text text = {0};
    if (json_is_string(json_object_get(report, "error"))) {
        ld_status_rows_member(&text, "", report, "name");
        ld_text_format(&text, ": running, pid %d, but ",
                       (int)json_integer_value(json_object_get(report, "pid")));
        ld_status_rows_member(&text, "", report, "error");
    } else {
        ld_status_text(&text, report);
    }
    ld_screen_show_report(&text);
    ld_text_fini(&text);
}

/* Print how a daemon is that does not run. */
static void print_dead(const struct ld_target *target, bool left_pidfile, const char *death) {
    struct ld_text text = {0};
    ld_text_format(&text, "%s: ", target->name);
    if (left_pidfile) {
        ld_text_format(&text, "dead, but its pidfile is there, in %s (lunad stop removes it)%s",
                       target->dir->path, death);
    } else {
        ld_text_format(&text, "not running (%s)%s", ld_text_string(&target->dir->where), death);
    }
    struct ld_text shown = {0};
    ld_text_add_escaped(&shown, ld_text_string(&text), text.size, true);
    ld_screen_show_report(&shown);
    ld_text_fini(&shown);
    ld_text_fini(&text);
}

/* Add a report to what --json shows. */
static void add_report(const struct ld_call *call, json_t *report) {
    if (call->options->full) {
        ld_status_stream_add(&stream, report);
    } else {
        json_array_append(reports, report);
    }
}

/* Show a daemon that does not run; return its exit status by LSB. */
static int show_dead(const struct ld_call *call, const struct ld_target *target) {
    bool left_pidfile = target->holder.state == LD_HOLDER_DEAD;
    struct ld_text death = {0};
    ld_target_describe_death(target, &death);
    if (call->options->json) {
        json_t *report = json_pack(
            "{s:o, s:n, s:s, s:o, s:s*}", "name", ld_json_string(target->name), "pid", "state",
            left_pidfile ? "dead" : "not running", "run_dir", ld_json_string(target->dir->path),
            "death", ld_text_is_empty(&death) ? NULL : death.data + 2);
        add_report(call, report);
        json_decref(report);
    } else {
        print_dead(target, left_pidfile, ld_text_string(&death));
    }
    ld_text_fini(&death);
    return left_pidfile ? 1 : 3;
}

/* Show a daemon. */
static int show_one(const struct ld_call *call, const struct ld_rundir *dir, const char *argument) {
    struct ld_target target;
    int status = ld_target_find(&target, dir, argument);
    if (status != 0) {
        return status;
    }
    bool is_alive = target.holder.state == LD_HOLDER_ALIVE;
    if (is_alive && call->options->full) {
        status = ld_status_stream_ask(&stream, &target);
        return target.holder.state == LD_HOLDER_ALIVE ? status : show_dead(call, &target);
    }
    json_t *report = is_alive ? ld_status_report_ask(&target, LD_CLIENT_SECONDS) : NULL;
    if (target.holder.state != LD_HOLDER_ALIVE) {
        return show_dead(call, &target);
    }
    ld_crew_report_add(report, &target, LD_CLIENT_SECONDS);
    if (call->options->json) {
        add_report(call, report);
    } else {
        print_report(report);
    }
    json_decref(report);
    return 0;
}

/* Whether a call names nothing: then it means all, as a list. */
static bool is_list(const struct ld_call *call) {
    return call->argv[call->operand] == NULL && !call->options->all &&
           call->options->config == NULL;
}

/* Show what a call is about. */
static int draw(void *arg) {
    const struct ld_call *call = arg;
    return is_list(call) ? ld_verb_list.run(call)
                         : ld_target_each_of(call, LD_TARGET_IMPLIED, show_one);
}

/* Whether a call names one daemon: then --json prints its object, and no list. */
static bool names_one(const struct ld_call *call) {
    char **names = call->argv + call->operand;
    return names[0] != NULL && names[1] == NULL;
}

/* Show daemons with all that they have. */
static int show_fully(const struct ld_call *call) {
    bool is_list = !names_one(call);
    ld_status_stream_begin(&stream, call->options->json, is_list);
    int status = ld_target_each_of(call, LD_TARGET_IMPLIED, show_one);
    ld_status_stream_end(&stream, is_list);
    return status;
}

/* Show daemons. */
static int run(const struct ld_call *call) {
    if (call->options->live && call->options->json) {
        ld_say_error("status: --watch and --json exclude each other");
        return 2;
    }
    if (call->options->full && (call->options->live || is_list(call))) {
        ld_say_error("status: --full wants a NAME, and no --watch");
        return 2;
    }
    if (call->options->live) {
        return ld_screen_watch(draw, (void *)(uintptr_t)call);
    }
    if (is_list(call)) {
        return ld_verb_list.run(call);
    }
    if (call->options->full) {
        return show_fully(call);
    }
    reports = json_array();
    int status = ld_target_each_of(call, LD_TARGET_IMPLIED, show_one);
    bool is_one = names_one(call);
    if (call->options->json && (!is_one || json_array_size(reports) > 0)) {
        ld_status_report_print(is_one ? json_array_get(reports, 0) : reports);
    }
    json_decref(reports);
    return status;
}

const struct ld_verb ld_verb_status = {
    .name = "status",
    .operands = "[NAME...]",
    .summary = "show how daemons are doing",
    .options = LD_OPTIONS_LIVE | LD_OPTIONS_JSON | LD_OPTIONS_CONFIG | LD_OPTIONS_ALL,
    .least = 0,
    .most = -1,
    .run = run,
};
