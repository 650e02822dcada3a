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
        json_object_del(report, "ok");
        note_successor(target);
        json_object_set_new(report, "name", json_string(target->name));
        json_object_set_new(report, "pid",
                            ld_status_text_is_between(report) ? json_null()
                                                              : json_integer(target->holder.pid));
    }
    ld_text_fini(&why);
    return report;
}

/* Print JSON. What could act on a terminal and JSON does not escape by itself (DEL, and U+0080 to
 * U+009F) stands only in strings, and is escaped as it may be there. */
void ld_status_report_print(const json_t *value) {
    char *dump = json_dumps(value, JSON_INDENT(2) | JSON_ENCODE_ANY | JSON_REAL_PRECISION(15));
    struct ld_text text = {0};
    const char *at = dump != NULL ? dump : "null";
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
    free(dump);
}
