#include "host/status_text.h"

#include <math.h>
#include <string.h>

#include "base/time.h"
#include "host/status_rows.h"

#define PLACES_SHOWN 3

#define LONGEST_S 1e15 /* what is longer is not a duration */

/* Add BEFORE and a member's text; its lines stay lines, indented. */
static void add_lines(struct ld_text *text, const char *before, const json_t *object,
                      const char *key) {
    const json_t *value = json_object_get(object, key);
    ld_text_puts(text, before);
    ld_text_add_escaped(text, json_string_value(value), json_string_length(value), true);
}

/* Get a member's number. */
static double number_of(const json_t *object, const char *key) {
    return json_number_value(json_object_get(object, key));
}

/* Get a member's integer. */
static long long integer_of(const json_t *object, const char *key) {
    return (long long)json_integer_value(json_object_get(object, key));
}

/* Add a duration. */
void ld_status_text_duration(struct ld_text *text, double seconds) {
    seconds = seconds > 0 && seconds < LONGEST_S ? seconds : 0;
    long whole = (long)seconds;
    if (seconds < 60) {
        ld_text_format(text, "%.*fs", seconds < 10 ? 1 : 0, seconds);
    } else if (whole < 3600) {
        ld_text_format(text, "%ldm %lds", whole / 60, whole % 60);
    } else if (whole < 86400) {
        ld_text_format(text, "%ldh %ldm", whole / 3600, whole % 3600 / 60);
    } else {
        ld_text_format(text, "%ldd %ldh", whole / 86400, whole % 86400 / 3600);
    }
}

/* Add a number of bytes. */
void ld_status_text_bytes(struct ld_text *text, double bytes) {
    if (bytes < 1024 * 1024) {
        ld_text_format(text, "%.0f KiB", ceil(bytes / 1024));
    } else {
        ld_text_format(text, "%.1f MiB", bytes / (1024 * 1024));
    }
}

/* Whether there is no host at the moment. */
bool ld_status_text_is_between(const json_t *report) {
    return json_is_number(json_object_get(json_object_get(report, "restarts"), "due"));
}

/* Add the state. */
void ld_status_text_state(struct ld_text *text, const json_t *report) {
    const json_t *restarts = json_object_get(report, "restarts");
    ld_status_rows_member(text, "", report, "state");
    if (ld_status_text_is_between(report)) {
        ld_text_format(text, " in %.1f s", number_of(restarts, "due"));
        ld_status_rows_member(text, " (", json_object_get(restarts, "last"), "message");
        ld_text_putc(text, ')');
    }
}

/* Add how often a process was started again, after TITLE, and how the last one has ended. */
static void add_ends(struct ld_text *text, const char *title, const json_t *restarts) {
    const json_t *last = json_object_get(restarts, "last");
    if (json_is_object(last)) {
        double ago = (double)ld_time_real() / LD_TIME_SECOND - number_of(last, "time");
        ld_text_format(text, "%s%lld so far", title, integer_of(restarts, "count"));
        ld_status_rows_member(text, "; the last time ", last, "message");
        ld_text_puts(text, " after ");
        ld_status_text_duration(text, number_of(last, "seconds"));
        ld_text_puts(text, ", ");
        ld_status_text_duration(text, ago);
        ld_text_puts(text, " ago");
        if (json_is_string(json_object_get(last, "report"))) {
            ld_status_rows_member(text, ", report in ", last, "report");
        }
    }
}

/* Add how often the daemon was restarted, and why. */
static void add_restarts(struct ld_text *text, const json_t *report) {
    add_ends(text, "\n  restarts  ", json_object_get(report, "restarts"));
}

/* Add the script, with its arguments. */
static void add_script(struct ld_text *text, const json_t *report) {
    size_t index;
    const json_t *word;
    ld_status_rows_member(text, "\n  script    ", report, "script");
    json_array_foreach(json_object_get(report, "args"), index, word) {
        bool is_plain =
            json_string_length(word) > 0 && strchr(json_string_value(word), ' ') == NULL;
        ld_text_puts(text, is_plain ? " " : " \"");
        ld_text_add_escaped(text, json_string_value(word), json_string_length(word), false);
        ld_text_puts(text, is_plain ? "" : "\"");
    }
    ld_status_rows_member(text, " (", report, "mode");
    ld_text_putc(text, ')');
}

/* Add the generation; of a worker that of the service, and its own if that is another one: it counts from 1 in each process. */
static void add_generation(struct ld_text *text, const json_t *report) {
    long long own = integer_of(report, "generation");
    long long of_service = integer_of(report, "service_generation");
    ld_text_format(text, ", generation %lld", of_service > 0 ? of_service : own);
    if (of_service > 0 && of_service != own) {
        ld_text_format(text, " (%lld of this process)", own);
    }
}

/* Add the first lines: name, state, pid, uptime, generation, script. */
static void add_headline(struct ld_text *text, const json_t *report) {
    ld_status_rows_member(text, "", report, "name");
    ld_status_rows_member(text, ": ", report, "state");
    ld_text_format(text, ", pid %lld, up ", integer_of(report, "pid"));
    ld_status_text_duration(text, number_of(report, "uptime"));
    add_generation(text, report);
    if (json_is_string(json_object_get(report, "text"))) {
        ld_status_rows_member(text, "\n  status    ", report, "text");
    }
    add_script(text, report);
}

/* Add the places with the most errors. */
static void add_places(struct ld_text *text, const json_t *errors) {
    size_t index;
    const json_t *place;
    const json_t *places = json_object_get(errors, "places");
    double now = (double)ld_time_real() / LD_TIME_SECOND;
    long long others = integer_of(errors, "elsewhere");
    json_array_foreach(places, index, place) {
        if (index >= PLACES_SHOWN) {
            others += integer_of(place, "count");
            continue;
        }
        ld_text_puts(text, "\n            ");
        ld_text_add_count(text, (uint64_t)integer_of(place, "count"));
        ld_status_rows_member(text, " in ", place, "what");
        ld_status_rows_member(text, " at ", place, "where");
        ld_text_puts(text, integer_of(place, "count") > 1 ? ", the last " : ", ");
        ld_status_text_duration(text, now - number_of(place, "last"));
        ld_text_puts(text, " ago");
    }
    if (others > 0) {
        ld_text_puts(text, "\n            ");
        ld_text_add_count(text, (uint64_t)others);
        ld_text_puts(text, " at other places");
    }
}

/* Add that the code is on probation, and that it is not what the disk has. */
static void add_code(struct ld_text *text, const json_t *report) {
    const json_t *probation = json_object_get(report, "probation");
    const json_t *code = json_object_get(report, "code");
    bool from_memory = json_is_true(json_object_get(code, "from_memory"));
    bool differs = json_is_true(json_object_get(code, "disk_differs"));
    if (json_is_object(probation)) {
        ld_text_format(text,
                       "\n  probation %.1f of %.10g s left, then generation %lld is forgotten",
                       number_of(probation, "left"), number_of(probation, "seconds"),
                       integer_of(probation, "good"));
    }
    bool is_older = integer_of(code, "generation") != integer_of(report, "generation");
    if (differs || (from_memory && is_older)) {
        ld_text_puts(text, "\n  code      ");
        if (from_memory && is_older) {
            ld_text_format(text, "that of generation %lld, from memory; ",
                           integer_of(code, "generation"));
        } else if (from_memory) {
            ld_text_puts(text, "from memory; ");
        }
        if (differs) {
            add_lines(text, "disk differs: ", code, "file");
        } else {
            ld_text_puts(text, "the disk has the same");
        }
    }
}

/* Add reloads and errors, if there were any. */
static void add_history(struct ld_text *text, const json_t *report) {
    const json_t *reloads = json_object_get(report, "reloads");
    const json_t *errors = json_object_get(report, "errors");
    const json_t *last = json_object_get(reloads, "last");
    if (json_is_object(last)) {
        static const char words[] = "rolled back ";
        long long undone = integer_of(json_object_get(report, "code"), "rolled_back");
        const char *error = json_string_value(json_object_get(last, "error"));
        bool was_undone = error != NULL && strncmp(error, words, strlen(words)) == 0;
        ld_text_format(text, "\n  reloads   %lld ok, %lld refused", integer_of(reloads, "ok"),
                       integer_of(reloads, "failed") - undone);
        if (undone > 0) {
            ld_text_format(text, ", %lld undone", undone);
        }
        ld_text_puts(text, "; the last ");
        ld_status_rows_moment(text, number_of(last, "time"));
        if (json_is_false(json_object_get(last, "ok"))) {
            add_lines(text, was_undone ? " was undone: " : " was refused: ", last, "error");
        } else {
            ld_text_format(text, " in %.1f ms", number_of(last, "ms"));
        }
    }
    if (integer_of(errors, "count") > 0) {
        ld_text_puts(text, "\n  errors    ");
        ld_text_add_count(text, (uint64_t)integer_of(errors, "count"));
        last = json_object_get(errors, "last");
        if (json_is_object(last)) {
            ld_text_puts(text, "; the last ");
            ld_status_rows_moment(text, number_of(last, "time"));
            add_lines(text, ": ", last, "message");
        }
        add_places(text, errors);
    }
}

/* Add what is watched, if the option is given. */
static void add_watch(struct ld_text *text, const json_t *report) {
    const json_t *watch = json_object_get(report, "watch");
    if (json_is_object(watch)) {
        long long files = integer_of(watch, "files");
        ld_text_format(text, "\n  watch     %lld file%s", files, files == 1 ? "" : "s");
    }
}

/* Add the file of --state, if the option is given. */
static void add_state_file(struct ld_text *text, const json_t *report) {
    const json_t *file = json_object_get(report, "state_file");
    if (!json_is_object(file)) {
        return;
    }
    ld_status_rows_member(text, "\n  state     ", file, "file");
    if (json_is_number(json_object_get(file, "time"))) {
        double ago = (double)ld_time_real() / LD_TIME_SECOND - number_of(file, "time");
        ld_text_puts(text, ", ");
        ld_status_text_bytes(text, number_of(file, "size"));
        ld_text_puts(text, ", saved ");
        ld_status_text_duration(text, ago);
        ld_text_puts(text, " ago");
    } else {
        ld_text_puts(text, ", not saved yet");
    }
    if (json_is_string(json_object_get(file, "error"))) {
        add_lines(text, "; ", file, "error");
    }
}

/* Add what the process uses. */
static void add_resources(struct ld_text *text, const json_t *report) {
    const json_t *memory = json_object_get(report, "memory");
    const json_t *loop = json_object_get(report, "loop");
    const json_t *log = json_object_get(report, "log");
    ld_text_puts(text, "\n  memory    ");
    ld_status_text_bytes(text, number_of(memory, "lua"));
    ld_text_puts(text, " Lua");
    if (json_is_integer(json_object_get(memory, "limit"))) {
        ld_text_puts(text, " of ");
        ld_status_text_bytes(text, number_of(memory, "limit"));
    }
    ld_text_puts(text, ", ");
    ld_status_text_bytes(text, number_of(memory, "rss"));
    ld_text_format(text, " resident\n  loop      %.2f ms late at the median, %.2f ms at most",
                   number_of(loop, "lag_p50_ms"), number_of(loop, "lag_max_ms"));
    const json_t *slow = json_object_get(report, "slow");
    if (json_is_number(json_object_get(slow, "after"))) {
        ld_text_format(text, "\n  slow      %lld callbacks took longer than %.10g s",
                       integer_of(slow, "count"), number_of(slow, "after"));
    }
    ld_status_rows_member(text, "\n  log       ", log, "file");
    ld_status_rows_member(text, ", level ", log, "level");
    if (integer_of(log, "dropped") > 0) {
        ld_text_format(text, ", %lld lines dropped", integer_of(log, "dropped"));
    }
}

/* Say how many more there are than the list of this KEY has; ITEM is one of them. */
static void add_rest(struct ld_text *text, const json_t *report, const char *key,
                     const char *item) {
    long long listed = (long long)json_array_size(json_object_get(report, key));
    long long rest = integer_of(json_object_get(report, "totals"), key) - listed;
    if (rest > 0 && !json_is_true(json_object_get(report, "full"))) {
        ld_text_format(text, "\n  %-9s and %lld more", item, rest);
    }
}

/* Add information about a child: one that waits for its next start has no process. */
static void add_child(struct ld_text *text, const json_t *child) {
    bool has_process = json_is_integer(json_object_get(child, "pid"));
    if (has_process) {
        ld_text_format(text, ", pid %lld", integer_of(child, "pid"));
    }
    ld_status_rows_member(text, ", ", child, "state");
    if (has_process) {
        ld_text_puts(text, ", ");
        ld_status_text_duration(text, number_of(child, "seconds"));
    } else {
        ld_text_puts(text, " to be started again");
    }
    if (has_process && json_is_false(json_object_get(child, "ready"))) {
        ld_text_puts(text, ", not ready yet");
    }
    if (integer_of(child, "restarts") > 0) {
        ld_text_format(text, ", restarts: %lld", integer_of(child, "restarts"));
    }
    ld_status_rows_member(text, ": ", child, "command");
}

/* Add the children of a report. */
static void add_children(struct ld_text *text, const json_t *report) {
    size_t index;
    const json_t *item;
    json_array_foreach(json_object_get(report, "children"), index, item) {
        ld_status_rows_member(text, "\n  child     ", item, "name");
        add_child(text, item);
    }
}

/* Add the addresses that the script listens to. */
static void add_listeners(struct ld_text *text, const json_t *report) {
    size_t index;
    const json_t *item;
    json_array_foreach(json_object_get(report, "listeners"), index, item) {
        ld_status_rows_member(text, "\n  listener  ", item, "address");
        if (json_is_true(json_object_get(item, "held"))) {
            ld_text_puts(text, ", held");
        }
    }
}

/* Add the generations that are retiring. */
static void add_retiring(struct ld_text *text, const json_t *report) {
    size_t index;
    const json_t *item;
    json_array_foreach(json_object_get(report, "retiring"), index, item) {
        ld_text_format(text, "\n  retiring  generation %lld, %lld handles open",
                       integer_of(item, "generation"), integer_of(item, "handles"));
    }
}

/* Add the signals that have a handler. */
static void add_signals(struct ld_text *text, const json_t *report) {
    size_t index;
    const json_t *item;
    json_array_foreach(json_object_get(report, "signals"), index, item) {
        ld_status_rows_member(text, "\n  signal    ", item, "name");
        ld_text_format(text, ", delivered %lld times", integer_of(item, "count"));
    }
}

/* Add the lists that a report has. */
void ld_status_text_lists(struct ld_text *text, const json_t *report) {
    ld_status_rows_timers(text, report);
    add_children(text, report);
    add_listeners(text, report);
    add_retiring(text, report);
    ld_status_rows_tasks(text, report);
}

/* Add what the script has. */
static void add_things(struct ld_text *text, const json_t *report) {
    ld_status_rows_groups(text, report, "timers");
    ld_status_rows_timers(text, report);
    add_rest(text, report, "timers", "timer");
    add_signals(text, report);
    ld_status_rows_groups(text, report, "children");
    add_children(text, report);
    add_rest(text, report, "children", "child");
    add_listeners(text, report);
    add_rest(text, report, "listeners", "listener");
    add_retiring(text, report);
    add_rest(text, report, "retiring", "retiring");
    ld_status_rows_groups(text, report, "tasks");
    ld_status_rows_tasks(text, report);
    add_rest(text, report, "tasks", "task");
    ld_status_rows_handles(text, report);
}

/* Add a worker, whatever is known of it. */
static void add_worker(struct ld_text *text, const json_t *worker) {
    ld_status_rows_member(text, "\n  worker    ", worker, "name");
    ld_status_rows_member(text, ", ", worker, "state");
    if (json_is_integer(json_object_get(worker, "pid"))) {
        ld_text_format(text, ", pid %lld", integer_of(worker, "pid"));
    }
    if (json_is_string(json_object_get(worker, "error"))) {
        ld_status_rows_member(text, ": ", worker, "error");
        add_ends(text, "; restarts: ", json_object_get(worker, "restarts"));
    }
    if (json_is_object(json_object_get(worker, "memory"))) {
        const json_t *memory = json_object_get(worker, "memory");
        ld_text_puts(text, ", up ");
        ld_status_text_duration(text, number_of(worker, "uptime"));
        add_generation(text, worker);
        ld_text_puts(text, ", ");
        ld_status_text_bytes(text, number_of(memory, "lua"));
        ld_text_puts(text, " Lua, ");
        ld_status_text_bytes(text, number_of(memory, "rss"));
        ld_text_puts(text, " resident, errors: ");
        ld_text_add_count(text, (uint64_t)integer_of(json_object_get(worker, "errors"), "count"));
        long long restarts = integer_of(json_object_get(worker, "restarts"), "count");
        if (restarts > 0) {
            ld_text_format(text, ", restarts: %lld", restarts);
        }
    }
}

/* Add the workers of a master: what each of them has is in its own report. */
static void add_workers(struct ld_text *text, const json_t *workers) {
    size_t index;
    const json_t *worker;
    json_array_foreach(workers, index, worker) {
        add_worker(text, worker);
    }
}

/* Add messages, if there were any. */
static void add_messages(struct ld_text *text, const json_t *report) {
    static const char *const others[] = {"waiting", "refused", "unheard", "lost"};
    const json_t *messages = json_object_get(report, "messages");
    if (integer_of(messages, "sent") + integer_of(messages, "received") == 0) {
        return;
    }
    ld_text_puts(text, "\n  messages  ");
    ld_text_add_count(text, (uint64_t)integer_of(messages, "sent"));
    ld_text_puts(text, " sent, ");
    ld_text_add_count(text, (uint64_t)integer_of(messages, "received"));
    ld_text_puts(text, " received");
    for (size_t i = 0; i < LD_COUNT(others); i++) {
        if (integer_of(messages, others[i]) > 0) {
            ld_text_puts(text, ", ");
            ld_text_add_count(text, (uint64_t)integer_of(messages, others[i]));
            ld_text_format(text, " %s", others[i]);
        }
    }
}

/* Add the report. */
void ld_status_text(struct ld_text *text, const json_t *report) {
    if (ld_status_text_is_between(report)) {
        ld_status_rows_member(text, "", report, "name");
        ld_text_puts(text, ": ");
        ld_status_text_state(text, report);
        add_script(text, report);
        add_restarts(text, report);
        return;
    }
    add_headline(text, report);
    add_restarts(text, report);
    add_code(text, report);
    add_history(text, report);
    add_watch(text, report);
    add_state_file(text, report);
    add_resources(text, report);
    add_messages(text, report);
    if (json_is_array(json_object_get(report, "workers"))) {
        add_listeners(text, report);
        add_rest(text, report, "listeners", "listener");
        add_workers(text, json_object_get(report, "workers"));
        return;
    }
    add_things(text, report);
}
