#include "cli/status_report.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/json.h"
#include "base/say.h"
#include "cli/client.h"
#include "host/status_text.h"

/* Make the report of a daemon that does not answer. */
static json_t *silent_report(const struct ld_target *target, const char *why) {
    return json_pack("{s:o, s:i, s:s, s:o}", "name", ld_json_string(target->name), "pid",
                     (int)target->holder.pid, "state", "running", "error", ld_json_string(why));
}

/* Note the process that has answered, if another one has followed since the pidfile was read: the socket outlives a
 * crash. */
static void note_successor(struct ld_target *target) {
    struct ld_holder holder;
    if (ld_pidfile_inspect(&holder, target->dir->fd, target->name) == 0 &&
        holder.state == LD_HOLDER_ALIVE) {
        target->holder = holder;
    }
}

/* Complete a report. */
void ld_status_report_complete(json_t *report, struct ld_target *target) {
    json_object_del(report, "ok");
    note_successor(target);
    json_object_set_new(report, "name", json_string(target->name));
    json_object_set_new(report, "pid",
                        ld_status_text_is_between(report) ? json_null()
                                                          : json_integer(target->holder.pid));
}

/* Ask a running daemon for its report. */
json_t *ld_status_report_ask(struct ld_target *target, double seconds) {
    struct ld_text why = {0};
    json_t *report = NULL;
    const struct ld_request request = ld_target_request(target, "status", seconds);
    int rc = ld_client_ask(&request, &report, &why);
    if (rc < 0) {
        bool has_ended =
            rc != -EAGAIN && rc != -ETIMEDOUT && rc != -EREMOTEIO && ld_target_has_ended(target);
        report = has_ended ? NULL : silent_report(target, ld_text_string(&why));
    } else {
        ld_status_report_complete(report, target);
    }
    ld_text_fini(&why);
    return report;
}

/* Add a value in one line. */
static void add_line(struct ld_text *text, const json_t *value) {
    char *dump = json_dumps(value, JSON_ENCODE_ANY | JSON_REAL_PRECISION(15));
    ld_text_puts(text, dump != NULL ? dump : "null");
    free(dump);
}

/* Begin a line. */
static void indent(struct ld_text *text, int depth) {
    ld_text_format(text, "\n%*s", 2 * depth, "");
}

/* Whether there is a list in an item: then it is a report, and has more than one line. */
static bool is_report(const json_t *item) {
    const char *key;
    json_t *value;
    json_object_foreach((json_t *)item, key, value) {
        if (json_array_size(value) > 0) {
            return true;
        }
    }
    return false;
}

/* Add the members of an object, a line or more for each. */
static void add_members(struct ld_text *text, const json_t *object, int depth) {
    const char *key;
    json_t *value;
    bool is_first = true;
    json_object_foreach((json_t *)object, key, value) {
        json_t *name = json_string(key);
        ld_text_puts(text, is_first ? "" : ",");
        indent(text, depth);
        add_line(text, name);
        ld_text_puts(text, ": ");
        ld_status_report_add(text, value, depth);
        json_decref(name);
        is_first = false;
    }
}

/* Add the items of a list: a line for each, but reports. */
static void add_items(struct ld_text *text, const json_t *list, int depth) {
    size_t index;
    const json_t *item;
    json_array_foreach(list, index, item) {
        ld_text_puts(text, index > 0 ? "," : "");
        indent(text, depth);
        if (is_report(item)) {
            ld_status_report_add(text, item, depth);
        } else {
            add_line(text, item);
        }
    }
}

/* Add JSON. */
void ld_status_report_add(struct ld_text *text, const json_t *value, int depth) {
    if (json_object_size(value) > 0) {
        ld_text_putc(text, '{');
        add_members(text, value, depth + 1);
        indent(text, depth);
        ld_text_putc(text, '}');
    } else if (json_array_size(value) > 0) {
        ld_text_putc(text, '[');
        add_items(text, value, depth + 1);
        indent(text, depth);
        ld_text_putc(text, ']');
    } else {
        add_line(text, value);
    }
}

/* Print a line of JSON, or more. What could act on a terminal and JSON does not escape by itself (DEL, and U+0080 to
 * U+009F) stands only in strings, and is escaped as it may be there. */
void ld_status_report_print_text(const struct ld_text *json) {
    struct ld_text text = {0};
    const char *at = ld_text_string(json);
    for (; *at != '\0'; at++) {
        const unsigned char *byte = (const unsigned char *)at;
        if (byte[0] == 0x7F || (byte[0] == 0xC2 && byte[1] < 0xA0)) {
            ld_text_format(&text, "\\u%04x", byte[0] == 0x7F ? byte[0] : byte[1]);
            at += byte[0] == 0xC2;
        } else {
            ld_text_putc(&text, *at);
        }
    }
    ld_say_text(&text);
    ld_text_fini(&text);
}

/* Print JSON. */
void ld_status_report_print(const json_t *value) {
    struct ld_text text = {0};
    ld_status_report_add(&text, value, 0);
    ld_status_report_print_text(&text);
    ld_text_fini(&text);
}
