/* status and list. */
#include <errno.h>

#include "client.h"
#include "cmd.h"
#include "jsontext.h"
#include "say.h"
#include "status_text.h"
#include "target.h"

#define ASK_SECONDS   2.0
#define SHORT_SECONDS 0.2 /* in a list, after SILENT_MAX that did not answer */
#define SILENT_MAX    3

/* What is being made. */
static struct {
    json_t *reports; /* for --json */
    bool first;
    int silent; /* how many did not answer */
} output;

/* What can be said of a daemon that does not answer. */
static json_t *silent_report(const struct ld_target *target, const char *why) {
    return json_pack("{s:o, s:i, s:s, s:o}", "name", ld_json_string(target->name), "pid",
                     (int)target->holder.pid, "state", "running", "error", ld_json_string(why));
}

/* Ask a running daemon for its report, which has SECONDS; a new reference. NULL if it has ended
 * meanwhile; then the target says so. */
static json_t *ask(struct ld_target *target, double seconds) {
    struct ld_text why = {0};
    json_t *report = NULL;
    const struct ld_request request = {.run_fd = target->dir->fd,
                                       .name = target->name,
                                       .verb = "status",
                                       .seconds = seconds,
                                       .pid = target->holder.pid};
    int rc = ld_client_ask(&request, &report, &why);
    if (rc < 0) {
        bool has_ended = rc != -ETIMEDOUT && rc != -EREMOTEIO && ld_target_has_ended(target);
        report = has_ended ? NULL : silent_report(target, ld_text_string(&why));
    } else {
        json_object_del(report, "ok");
        json_object_set_new(report, "name", json_string(target->name));
        json_object_set_new(report, "pid", json_integer(target->holder.pid));
    }
    ld_text_fini(&why);
    return report;
}

/* Print a report for people. */
static void print_report(const json_t *report) {
    struct ld_text text = {0};
    if (json_is_string(json_object_get(report, "error"))) {
        ld_status_member(&text, "", report, "name");
        ld_text_format(&text, ": running, pid %d, but ",
                       (int)json_integer_value(json_object_get(report, "pid")));
        ld_status_member(&text, "", report, "error");
    } else {
        ld_status_text(&text, report);
    }
    ld_say_text(&text);
    ld_text_fini(&text);
}

/* Show one that does not run; its exit status by LSB. */
static int show_dead(const struct ld_call *call, const struct ld_target *target) {
    bool left_pidfile = target->holder.state == LD_HOLDER_DEAD;
    struct ld_text death = {0};
    ld_target_death_text(target, &death);
    if (call->options->json) {
        json_array_append_new(output.reports,
                              json_pack("{s:o, s:n, s:s, s:o, s:s*}", "name",
                                        ld_json_string(target->name), "pid", "state",
                                        left_pidfile ? "dead" : "not running", "run_dir",
                                        ld_json_string(target->dir->path), "death",
                                        ld_text_is_empty(&death) ? NULL : death.data + 2));
    } else if (left_pidfile) {
        ld_say("%s: dead, but its pidfile is there, in %s (lunad stop removes it)%s", target->name,
               target->dir->path, ld_text_string(&death));
    } else {
        ld_say("%s: not running (%s)%s", target->name, ld_text_string(&target->dir->where),
               ld_text_string(&death));
    }
    ld_text_fini(&death);
    return left_pidfile ? 1 : 3;
}

/* Show one. */
static int show_one(const struct ld_call *call, const struct ld_rundir *dir, const char *argument) {
    struct ld_target target;
    int status = ld_target_find(&target, dir, argument);
    if (status != 0) {
        return status;
    }
    bool is_alive = target.holder.state == LD_HOLDER_ALIVE;
    json_t *report = is_alive ? ask(&target, ASK_SECONDS) : NULL;
    if (target.holder.state != LD_HOLDER_ALIVE) {
        return show_dead(call, &target);
    }
    if (call->options->json) {
        json_array_append(output.reports, report);
    } else {
        print_report(report);
    }
    json_decref(report);
    return 0;
}

/* Print JSON with a newline. What could act on a terminal and JSON does not escape by itself (DEL, and
 * U+0080 to U+009F) stands only in strings, and is escaped as it may be there. */
static void print_json(const json_t *value) {
    char *dump = json_dumps(value, JSON_INDENT(2) | JSON_ENCODE_ANY | JSON_REAL_PRECISION(15));
    const char *at = dump != NULL ? dump : "null";
    for (; *at != '\0'; at++) {
        const unsigned char *byte = (const unsigned char *)at;
        if (byte[0] == 0x7F || (byte[0] == 0xC2 && byte[1] < 0xA0)) {
            printf("\\u%04x", byte[0] == 0x7F ? byte[0] : byte[1]);
            at += byte[0] == 0xC2;
        } else {
            putchar(*at);
        }
    }
    putchar('\n');
    free(dump);
}

/* Show how daemons are doing. */
int ld_cmd_status(const struct ld_call *call) {
    output.reports = json_array();
    int status = ld_target_each(call, show_one);
    bool is_one = call->argv[call->operand + 1] == NULL;
    if (call->options->json && (!is_one || json_array_size(output.reports) > 0)) {
        print_json(is_one ? json_array_get(output.reports, 0) : output.reports);
    }
    json_decref(output.reports);
    return status;
}

/* What can be said of a daemon that has died, a new reference; NULL if there is nothing of it. */
static json_t *dead_report(const struct ld_target *target) {
    struct ld_text death = {0};
    json_t *report = NULL;
    ld_target_death_text(target, &death);
    if (target->holder.state == LD_HOLDER_DEAD || !ld_text_is_empty(&death)) {
        report = json_pack("{s:o, s:s, s:s}", "name", ld_json_string(target->name), "state", "dead",
                           "error", ld_text_is_empty(&death) ? "it died" : death.data + 2);
    }
    ld_text_fini(&death);
    return report;
}

/* Add one to the list: what runs, and what has died. */
static bool list_one(const char *name, void *arg) {
    struct ld_target target = {.dir = arg};
    snprintf(target.name, sizeof target.name, "%s", name);
    if (ld_pidfile_inspect(&target.holder, target.dir->fd, name) == 0) {
        bool is_alive = target.holder.state == LD_HOLDER_ALIVE;
        double seconds = output.silent < SILENT_MAX ? ASK_SECONDS : SHORT_SECONDS;
        json_t *report = is_alive ? ask(&target, seconds) : NULL;
        output.silent += json_object_get(report, "error") != NULL;
        report = target.holder.state == LD_HOLDER_ALIVE ? report : dead_report(&target);
        if (report != NULL) {
            json_array_append_new(output.reports, report);
        }
    }
    return true;
}

/* What everybody needs of one daemon; what a silent one does not say is null. */
static json_t *shorten_one(const json_t *report) {
    static const char *const keys[] = {"name",  "pid",        "script", "mode",
                                       "state", "generation", "uptime", "error"};
    json_t *item = json_object();
    for (size_t i = 0; i < LD_COUNT(keys); i++) {
        json_t *value = json_object_get(report, keys[i]);
        json_object_set_new(item, keys[i], value != NULL ? json_incref(value) : json_null());
    }
    return item;
}

/* The list for --json. */
static json_t *shorten(const json_t *reports) {
    size_t index;
    const json_t *report;
    json_t *list = json_array();
    json_array_foreach(reports, index, report) {
        json_array_append_new(list, shorten_one(report));
    }
    return list;
}

/* Print a row of the list, in which any text may have come from anywhere. */
static void print_row(const json_t *report) {
    struct ld_text row = {0};
    struct ld_text uptime = {0};
    bool answers = json_is_string(json_object_get(report, "script"));
    ld_status_duration(&uptime, json_number_value(json_object_get(report, "uptime")));
    ld_status_member(&row, "", report, "name");
    char pid[16] = "-";
    const json_t *number = json_object_get(report, "pid");
    if (json_is_integer(number)) {
        snprintf(pid, sizeof pid, "%d", (int)json_integer_value(number));
    }
    ld_text_format(&row, "%*s %8s  ", row.size < 20 ? (int)(20 - row.size) : 0, "", pid);
    size_t before = row.size;
    ld_status_member(&row, "", report, "state");
    size_t width = row.size - before;
    char generation[16] = "-";
    if (answers) {
        snprintf(generation, sizeof generation, "%d",
                 (int)json_integer_value(json_object_get(report, "generation")));
    }
    ld_text_format(&row, "%*s %4s  %-10s ", width < 10 ? (int)(10 - width) : 0, "", generation,
                   answers ? ld_text_string(&uptime) : "-");
    ld_status_member(&row, "", report, answers ? "script" : "error");
    ld_say_text(&row);
    ld_text_fini(&row);
    ld_text_fini(&uptime);
}

/* Print the list for people. */
static void print_list(const struct ld_rundir *dir, const json_t *reports) {
    size_t index;
    const json_t *report;
    if (json_array_size(reports) == 0) {
        ld_say("no daemon is running (%s)", ld_text_string(&dir->where));
        return;
    }
    ld_say("%-20s %8s  %-10s %4s  %-10s %s", "NAME", "PID", "STATE", "GEN", "UPTIME", "SCRIPT");
    json_array_foreach(reports, index, report) {
        print_row(report);
    }
}

/* List the daemons. */
int ld_cmd_list(const struct ld_call *call) {
    struct ld_rundir dir;
    int status = ld_rundir_open(&dir, call->options->run_dir);
    if (status == 0) {
        output.reports = json_array();
        ld_rundir_each(&dir, list_one, &dir);
        if (call->options->json) {
            json_t *list = shorten(output.reports);
            print_json(list);
            json_decref(list);
        } else {
            print_list(&dir, output.reports);
        }
        json_decref(output.reports);
    }
    ld_rundir_close(&dir);
    return status;
}
