/* lunad heap */
#include <errno.h>

#include "base/json.h"
#include "base/say.h"
#include "cli/client.h"
#include "cli/crew.h"
#include "cli/status_report.h"
#include "cli/target.h"
#include "cli/verbs.h"
#include "host/status_rows.h"
#include "host/status_text.h"

#define SECONDS     30.0
#define PATHS_SHOWN 40

/* Get a member's number. */
static double number_of(const json_t *object, const char *key) {
    return json_number_value(json_object_get(object, key));
}

/* Add a number of objects, right-aligned. */
static void add_count(struct ld_text *text, double number, int width) {
    struct ld_text count = {0};
    ld_text_add_count(&count, (uint64_t)(number > 0 ? number : 0));
    ld_text_format(text, "%*s", width, ld_text_string(&count));
    ld_text_fini(&count);
}

/* Add a number of bytes, right-aligned. */
static void add_bytes(struct ld_text *text, double bytes) {
    struct ld_text size = {0};
    ld_status_text_bytes(&size, bytes);
    ld_text_format(text, "%12s", ld_text_string(&size));
    ld_text_fini(&size);
}

/* Sum up the bytes of a list. */
static double sum_of(const json_t *list) {
    size_t index;
    const json_t *item;
    double sum = 0;
    json_array_foreach(list, index, item) {
        sum += number_of(item, "bytes");
    }
    return sum;
}

/* Print the report for people. */
static void print(const char *name, const json_t *report) {
    size_t index;
    const json_t *item;
    struct ld_text text = {0};
    ld_text_format(&text, "%s: ", name);
    ld_status_text_bytes(&text, number_of(report, "lua"));
    ld_text_puts(&text, " of Lua, ");
    ld_status_text_bytes(&text, sum_of(json_object_get(report, "types")));
    ld_text_puts(&text, " of it reachable, ");
    add_count(&text, number_of(report, "objects"), 0);
    ld_text_format(&text, " objects, generation %.0f", number_of(report, "generation"));
    if (json_is_false(json_object_get(report, "complete"))) {
        ld_text_puts(&text, " (there was no time, or memory, for all of them)");
    }
    ld_text_format(&text, "\n\n  %-10s %12s %11s", "TYPE", "COUNT", "SIZE");
    json_array_foreach(json_object_get(report, "types"), index, item) {
        ld_text_puts(&text, "\n  ");
        size_t before = text.size;
        ld_status_rows_member(&text, "", item, "type");
        ld_text_format(&text, "%*s", (int)(text.size - before < 10 ? 10 - (text.size - before) : 0),
                       "");
        add_count(&text, number_of(item, "count"), 13);
        add_bytes(&text, number_of(item, "bytes"));
    }
    ld_text_format(&text, "\n\n  %11s %12s  %s", "HOLDS", "OBJECTS", "PATH");
    json_array_foreach(json_object_get(report, "paths"), index, item) {
        if (index < PATHS_SHOWN) {
            ld_text_puts(&text, "\n ");
            add_bytes(&text, number_of(item, "bytes"));
            add_count(&text, number_of(item, "objects"), 13);
            ld_status_rows_member(&text, "  ", item, "path");
            ld_status_rows_member(&text, " (", item, "type");
            ld_text_putc(&text, ')');
        }
    }
    ld_say_text(&text);
    ld_text_fini(&text);
}

/* What is shown of the processes that are asked. */
struct shown {
    bool is_json;
    bool is_first;
    json_t *reports; /* of --json */
};

/* Show the ANSWER of a process, which is taken over. */
static void show(struct shown *shown, const char *name, json_t *answer) {
    if (shown->is_json) {
        json_object_del(answer, "ok");
        json_object_set_new(answer, "name", ld_json_string(name));
        json_array_append_new(shown->reports, answer);
        return;
    }
    if (!shown->is_first) {
        ld_say("%s", "");
    }
    shown->is_first = false;
    print(name, answer);
    json_decref(answer);
}

/* Ask a process, and show what it answers. */
static int ask(void *arg, struct ld_target *target) {
    struct ld_text why = {0};
    json_t *answer = NULL;
    json_t *body = json_object(); /* so that it is asked once */
    struct ld_request request = ld_target_request(target, "heap", SECONDS);
    request.body = body;
    int rc = ld_client_ask(&request, &answer, &why);
    if (rc == 0 && !json_is_array(json_object_get(answer, "paths"))) {
        rc = -EPROTO;
        ld_text_puts(&why, "it does not answer as a lunad does");
    }
    if (rc < 0) {
        ld_say_error("%s: %s", target->name, ld_text_string(&why));
        json_decref(answer);
    } else {
        show(arg, target->name, answer);
    }
    json_decref(body);
    ld_text_fini(&why);
    return rc < 0;
}

/* Print what --json shows: an object for one process, a list for the workers of a service. */
static void print_json(const struct shown *shown, bool is_list) {
    if (shown->is_json && (is_list || json_array_size(shown->reports) > 0)) {
        ld_status_report_print(is_list ? shown->reports : json_array_get(shown->reports, 0));
    }
}

/* Show what the heap of a daemon holds. */
static int run(const struct ld_call *call) {
    struct ld_rundir dir;
    struct ld_target target;
    int status = ld_rundir_open(&dir, call->options->run_dir);
    if (status == 0) {
        status = ld_target_find_running(&target, &dir, call->argv[call->operand]);
    }
    if (status == 0) {
        struct shown shown = {call->options->json, true, json_array()};
        status = ld_crew_each(&target, ask, &shown);
        print_json(&shown, ld_crew_count(&target) > 0);
        json_decref(shown.reports);
    }
    ld_rundir_close(&dir);
    return status;
}

const struct ld_verb ld_verb_heap = {
    .name = "heap",
    .operands = "NAME",
    .summary = "show what the Lua heap holds, by type and by path",
    .options = LD_OPTIONS_JSON,
    .least = 1,
    .most = 1,
    .run = run,
};
