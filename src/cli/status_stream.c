#include "cli/status_stream.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "base/say.h"
#include "cli/client.h"
#include "cli/crew.h"
#include "cli/crew_report.h"
#include "cli/screen.h"
#include "cli/status_report.h"
#include "host/status_rows.h"
#include "host/status_text.h"

#define PART_SECONDS 30.0 /* for the next part of a list */

/* The lists, in the order in which they come. */
static const char *const lists[] = {"timers", "children", "tasks", "listeners", "retiring"};

/* A report that comes in parts. */
struct flow {
    struct ld_status_stream *stream;
    struct ld_target *target;
    bool has_head;
    bool is_plain; /* the daemon has answered as if it was asked for a short one */
    size_t list;   /* that is next, of those that have not begun */
    bool is_open;  /* the one before it has not ended */
};

/* Print the line of JSON that waits, with what joins it to the next. */
static void flush(struct ld_status_stream *stream, const char *join) {
    if (stream->pending.size > 0) {
        ld_text_puts(&stream->pending, join);
        ld_status_report_print_text(&stream->pending);
    }
    ld_text_clear(&stream->pending);
}

/* Add a line of JSON: the first in its list or object, or after others. */
static void add_line(struct ld_status_stream *stream, const char *text) {
    flush(stream, stream->is_first ? "" : ",");
    ld_text_format(&stream->pending, "%*s", 2 * stream->depth, "");
    ld_text_puts(&stream->pending, text);
    stream->is_first = false;
}

/* Add the line that begins a list or object, or the one that ends it. */
static void open_level(struct ld_status_stream *stream, const char *text) {
    add_line(stream, text);
    stream->is_first = true;
    stream->depth++;
}

static void close_level(struct ld_status_stream *stream, const char *text) {
    stream->depth--;
    stream->is_first = true; /* nothing of that level comes before its end */
    add_line(stream, text);
}

/* Begin a document. */
void ld_status_stream_begin(struct ld_status_stream *stream, bool is_json, bool is_list) {
    *stream = (struct ld_status_stream){.is_json = is_json, .is_first = true};
    if (is_json && is_list) {
        open_level(stream, "[");
    }
}

/* End it. */
void ld_status_stream_end(struct ld_status_stream *stream, bool is_list) {
    if (stream->is_json && is_list) {
        close_level(stream, "]");
    }
    flush(stream, "");
    ld_text_fini(&stream->pending);
}

/* Add a value. */
static void add_json(struct ld_status_stream *stream, const json_t *value) {
    struct ld_text text = {0};
    ld_status_report_add(&text, value, stream->depth);
    add_line(stream, ld_text_string(&text));
    ld_text_fini(&text);
}

/* Add a member of an object. */
static void add_member(struct ld_status_stream *stream, const char *key, const json_t *value) {
    struct ld_text text = {0};
    ld_text_format(&text, "\"%s\": ", key);
    ld_status_report_add(&text, value, stream->depth);
    add_line(stream, ld_text_string(&text));
    ld_text_fini(&text);
}

/* Begin an object with the members of a report. */
static void open_report(struct ld_status_stream *stream, json_t *report) {
    const char *key;
    json_t *value;
    open_level(stream, "{");
    json_object_foreach(report, key, value) {
        add_member(stream, key, value);
    }
}

/* Show a report to people. */
static void show(const json_t *report) {
    struct ld_text text = {0};
    if (json_is_string(json_object_get(report, "error"))) {
        ld_status_rows_member(&text, "", report, "name");
        ld_text_puts(&text, ": running, but ");
        ld_status_rows_member(&text, "", report, "error");
    } else {
        ld_status_text(&text, report);
    }
    ld_screen_show_report(&text);
    ld_text_fini(&text);
}

/* Add a whole report. */
void ld_status_stream_add(struct ld_status_stream *stream, const json_t *report) {
    if (stream->is_json) {
        add_json(stream, report);
    } else {
        show(report);
    }
}

/* Take the head of a report. */
static void take_head(struct flow *flow, json_t *report) {
    flow->has_head = true;
    ld_status_report_complete(report, flow->target);
    if (flow->stream->is_json) {
        open_report(flow->stream, report);
        return;
    }
    if (!flow->is_plain) {
        json_object_set_new(report, "full", json_true());
    }
    show(report);
}

/* End the list that is open. */
static void close_list(struct flow *flow) {
    if (flow->is_open) {
        close_level(flow->stream, "]");
        flow->stream->is_first = false;
        flow->is_open = false;
    }
}

/* Go on to a list, the lists before which are empty if they have not come; to the end, if it is none of them. */
static void go_to(struct flow *flow, const char *name) {
    struct ld_status_stream *stream = flow->stream;
    struct ld_text text = {0};
    if (flow->list > 0 && flow->is_open && strcmp(lists[flow->list - 1], name) == 0) {
        return;
    }
    close_list(flow);
    while (flow->list < LD_COUNT(lists) && !flow->is_open) {
        const char *next = lists[flow->list++];
        ld_text_clear(&text);
        flow->is_open = strcmp(next, name) == 0;
        ld_text_format(&text, "\"%s\": [%s", next, flow->is_open ? "" : "]");
        if (flow->is_open) {
            open_level(stream, ld_text_string(&text));
        } else {
            add_line(stream, ld_text_string(&text));
        }
    }
    ld_text_fini(&text);
}

/* Show items of a list to people. */
static void show_items(const char *name, json_t *items) {
    struct ld_text text = {0};
    json_t *report = json_pack("{s:O}", name, items);
    ld_status_text_lists(&text, report);
    if (text.size > 0) { /* each line begins with its newline */
        memmove(text.data, text.data + 1, text.size--);
        ld_screen_show(&text);
    }
    json_decref(report);
    ld_text_fini(&text);
}

/* Add items to the list that is open, a line for each. */
static void add_items(struct ld_status_stream *stream, const json_t *items) {
    size_t index;
    const json_t *item;
    struct ld_text lines = {0};
    json_array_foreach(items, index, item) {
        char *dump = json_dumps(item, JSON_ENCODE_ANY | JSON_REAL_PRECISION(15));
        if (index > 0) {
            ld_text_format(&lines, ",\n%*s", 2 * stream->depth, "");
        }
        ld_text_puts(&lines, dump != NULL ? dump : "null");
        free(dump);
    }
    if (lines.size > 0) {
        add_line(stream, ld_text_string(&lines));
    }
    ld_text_fini(&lines);
}

/* Take items of a list. */
static int take_items(struct flow *flow, const char *name, json_t *items) {
    if (!flow->has_head) {
        return -EPROTO;
    }
    if (!flow->stream->is_json) {
        show_items(name, items);
        return 0;
    }
    go_to(flow, name);
    if (flow->is_open) {
        add_items(flow->stream, items);
    }
    return flow->is_open ? 0 : -EPROTO;
}

/* Take a part. */
static int on_part(void *arg, const json_t *part) {
    struct flow *flow = arg;
    json_t *report = json_object_get(part, "report");
    json_t *items = json_object_get(part, "items");
    const char *name = json_string_value(json_object_get(part, "list"));
    if (json_is_object(report) && !flow->has_head) {
        take_head(flow, report);
        return 0;
    }
    if (name != NULL && json_is_array(items)) {
        return take_items(flow, name, items);
    }
    if (json_is_true(json_object_get(part, "ok")) && !flow->has_head) {
        flow->is_plain = true;
        json_t *copy = json_copy((json_t *)part);
        take_head(flow, copy);
        json_decref(copy);
        return 0;
    }
    return json_object_get(part, "ok") != NULL ? 0 : -EPROTO;
}

/* End a report that has begun, with WHY it is torn, or NULL. */
static void end_report(struct flow *flow, const char *why) {
    struct ld_status_stream *stream = flow->stream;
    if (!stream->is_json) {
        return;
    }
    if (!flow->is_plain) {
        go_to(flow, "");
    }
    if (why != NULL) {
        json_t *error = ld_json_string(why);
        add_member(stream, "error", error);
        json_decref(error);
    }
    close_level(stream, "}");
    stream->is_first = false;
}

/* Add the report of one process; 0, or 1 after complaining. */
static int ask_one(struct ld_status_stream *stream, struct ld_target *target) {
    struct flow flow = {.stream = stream, .target = target};
    struct ld_text why = {0};
    json_t *answer = NULL;
    json_t *body = json_pack("{s:b}", "full", 1);
    struct ld_request request = ld_target_request(target, "status", PART_SECONDS);
    request.body = body;
    request.on_part = on_part;
    request.is_list = true;
    request.arg = &flow;
    int rc = ld_client_ask(&request, &answer, &why);
    json_decref(answer);
    json_decref(body);
    if (flow.has_head && rc == -ECONNRESET) { /* it could not say why */
        ld_text_clear(&why);
        ld_text_puts(&why, "it has ended, or was upgraded, or nothing was read for 30 s: "
                           "the lists are not whole");
    }
    if (flow.has_head) {
        end_report(&flow, rc < 0 ? ld_text_string(&why) : NULL);
    } else { /* it says so itself, or has ended */
        json_t *report = ld_status_report_ask(target, LD_CLIENT_SECONDS);
        if (report != NULL) {
            ld_status_stream_add(stream, report);
        }
        json_decref(report);
    }
    if (flow.has_head && rc < 0) {
        ld_say_error("status: %s: %s", target->name, ld_text_string(&why));
    }
    ld_text_fini(&why);
    return flow.has_head && rc < 0;
}

/* Add the reports of the workers of a service; as ask_one. */
static int ask_workers(struct ld_status_stream *stream, const struct ld_target *target,
                       unsigned count) {
    int status = 0;
    for (unsigned number = 1; number <= count; number++) {
        struct ld_target worker;
        int rc = ld_crew_find(&worker, target, number);
        if (rc == 0 && ld_crew_is_up(&worker)) {
            int torn = ask_one(stream, &worker);
            status = torn > status ? torn : status;
        } else if (rc == 0) {
            json_t *waiting = ld_crew_report_waiting(&worker);
            ld_status_stream_add(stream, waiting);
            json_decref(waiting);
        }
    }
    return status;
}

/* Add the report of a daemon. */
int ld_status_stream_ask(struct ld_status_stream *stream, struct ld_target *target) {
    unsigned count = ld_crew_count(target);
    if (count == 0) {
        return ask_one(stream, target);
    }
    json_t *sum = ld_status_report_ask(target, LD_CLIENT_SECONDS);
    if (sum == NULL) {
        return 0;
    }
    ld_crew_report_add(sum, target, LD_CLIENT_SECONDS);
    if (!stream->is_json) {
        show(sum);
    } else {
        json_object_del(sum, "workers");
        open_report(stream, sum);
        open_level(stream, "\"workers\": [");
    }
    json_decref(sum);
    int status = ask_workers(stream, target, count);
    if (stream->is_json) {
        close_level(stream, "]");
        close_level(stream, "}");
        stream->is_first = false;
    }
    return status;
}
