#include "host/status_rows.h"

#include <string.h>
#include <time.h>

#define COLUMNS   5
#define WIDEST    48 /* of a column: what is longer moves the rest of its row */
#define LONGEST_S 1e15

#define GROUPED_FROM 20
#define GROUPS_SHOWN 10

/* Add BEFORE and a member's text. */
void ld_status_rows_member(struct ld_text *text, const char *before, const json_t *object,
                           const char *key) {
    const json_t *value = json_object_get(object, key);
    ld_text_puts(text, before);
    if (json_is_string(value)) {
        ld_text_add_escaped(text, json_string_value(value), json_string_length(value), false);
    } else {
        ld_text_putc(text, '-');
    }
}

/* Get a member's number. */
static double number_of(const json_t *object, const char *key) {
    return json_number_value(json_object_get(object, key));
}

/* Get a member's integer. */
static long long integer_of(const json_t *object, const char *key) {
    return (long long)json_integer_value(json_object_get(object, key));
}

/* Add a span. */
void ld_status_rows_span(struct ld_text *text, double seconds) {
    seconds = seconds > 0 && seconds < LONGEST_S ? seconds : 0;
    long long whole = (long long)(seconds + 0.5);
    if (seconds < 1) {
        ld_text_format(text, "%.1f s", seconds);
    } else if (whole < 60) {
        ld_text_format(text, "%lld s", whole);
    } else if (whole < 600 && whole % 60 > 0) {
        ld_text_format(text, "%lld min %lld s", whole / 60, whole % 60);
    } else if (whole < 3600) {
        ld_text_format(text, "%lld min", whole / 60);
    } else if (whole < 86400) {
        ld_text_format(text, "%lld h %lld min", whole / 3600, whole % 3600 / 60);
    } else {
        ld_text_format(text, "%lld d %lld h", whole / 86400, whole % 86400 / 3600);
    }
}

/* Add a moment. */
void ld_status_rows_moment(struct ld_text *text, double moment) {
    char date[40] = "?";
    struct tm local;
    time_t whole = moment > 0 && moment < LONGEST_S ? (time_t)moment : 0;
    if (localtime_r(&whole, &local) != NULL) {
        strftime(date, sizeof date, "%Y-%m-%d %H:%M:%S", &local);
    }
    ld_text_puts(text, date);
}

/* How many columns of a terminal a text takes: its characters. */
static int width_of(const struct ld_text *text) {
    int width = 0;
    for (size_t i = 0; i < text->size; i++) {
        width += ((unsigned char)text->data[i] & 0xC0) != 0x80;
    }
    return width;
}

/* Fills in the cells of a row, which are empty, from the item of a list. */
typedef void filler(struct ld_text cells[COLUMNS], const json_t *item);

/* Fill a row, and note how wide its columns are. */
static void measure(int widths[COLUMNS], struct ld_text cells[COLUMNS]) {
    for (int i = 0; i < COLUMNS; i++) {
        int width = width_of(&cells[i]);
        widths[i] = width > widths[i] && width <= WIDEST ? width : widths[i];
    }
}

/* Add a row. */
static void add_row(struct ld_text *text, const char *label, const int widths[COLUMNS],
                    struct ld_text cells[COLUMNS]) {
    int last = COLUMNS - 1;
    while (last > 0 && cells[last].size == 0) {
        last--;
    }
    ld_text_format(text, "\n  %-9s ", label);
    for (int i = 0; i <= last; i++) {
        int padding = i < last ? widths[i] - width_of(&cells[i]) : 0;
        ld_text_puts(text, ld_text_string(&cells[i]));
        bool has_column = widths[i] > 0 && i < last;
        ld_text_format(text, "%*s%s", padding > 0 ? padding : 0, "", has_column ? "  " : "");
    }
}

/* Walk over a list: note how wide the columns are, or, with TEXT, add a line for each item. */
static void walk_rows(struct ld_text *text, const json_t *list, const char *label, filler *fill,
                      int widths[COLUMNS]) {
    for (size_t i = 0; i < json_array_size(list); i++) {
        struct ld_text cells[COLUMNS] = {{0}};
        fill(cells, json_array_get(list, i));
        if (text == NULL) {
            measure(widths, cells);
        } else {
            add_row(text, label, widths, cells);
        }
        for (int k = 0; k < COLUMNS; k++) {
            ld_text_fini(&cells[k]);
        }
    }
}

/* Add a line for each item of a list, with columns as wide as their cells. */
static void add_rows(struct ld_text *text, const json_t *list, const char *label, filler *fill) {
    int widths[COLUMNS] = {0};
    walk_rows(NULL, list, label, fill, widths);
    walk_rows(text, list, label, fill, widths);
}

/* Add a count of things, in plural if they are many. */
static void add_counted(struct ld_text *text, long long count, const char *one, const char *many) {
    ld_text_puts(text, text->size > 0 ? ", " : "");
    ld_text_add_count(text, (uint64_t)(count > 0 ? count : 0));
    ld_text_format(text, " %s", count == 1 ? one : many);
}

/* Add how long the calls of a timer took. */
static void add_times(struct ld_text *text, const json_t *timer) {
    if (json_is_number(json_object_get(timer, "max_ms"))) {
        ld_text_format(text, ", %.3g ms (%.3g at most)", number_of(timer, "p50_ms"),
                       number_of(timer, "max_ms"));
    }
}

/* Fill in the row of a group: how many it has, their kind, name and place. */
static void fill_group(struct ld_text cells[COLUMNS], const json_t *group) {
    ld_text_add_count(&cells[0], (uint64_t)integer_of(group, "count"));
    ld_status_rows_member(&cells[1], "", group, "kind");
    if (json_is_string(json_object_get(group, "name"))) {
        ld_status_rows_member(&cells[2], "", group, "name");
    }
    if (json_is_string(json_object_get(group, "where"))) {
        ld_status_rows_member(&cells[3], "", group, "where");
    }
}

/* Add how many there are of a kind, and the groups of which there are most, if a list of all is long. */
void ld_status_rows_groups(struct ld_text *text, const json_t *report, const char *key) {
    const json_t *groups = json_object_get(json_object_get(report, "groups"), key);
    json_t *places = json_object_get(groups, "places");
    long long total = integer_of(json_object_get(report, "totals"), key);
    long long others = integer_of(groups, "counted");
    json_t *shown = json_array();
    if (total >= GROUPED_FROM && json_array_size(places) > 0) {
        ld_text_format(text, "\n  %-9s ", key);
        ld_text_add_count(text, (uint64_t)total);
        for (size_t i = 0; i < json_array_size(places) && i < GROUPS_SHOWN; i++) {
            json_array_append(shown, json_array_get(places, i));
            others -= integer_of(json_array_get(places, i), "count");
        }
        add_rows(text, shown, "", fill_group);
        if (others > 0) {
            ld_text_puts(text, "\n            ");
            ld_text_add_count(text, (uint64_t)others);
            ld_text_puts(text, " others");
        }
    }
    json_decref(shown);
}

/* Fill in the row of a timer: what it is, its name, when it is due, its counts, its place. */
static void fill_timer(struct ld_text cells[COLUMNS], const json_t *timer) {
    ld_status_rows_member(&cells[0], "", timer, "kind");
    if (json_is_string(json_object_get(timer, "spec"))) {
        ld_status_rows_member(&cells[0], " ", timer, "spec");
    } else if (json_is_number(json_object_get(timer, "interval"))) {
        ld_text_format(&cells[0], " %.10g s", number_of(timer, "interval"));
    }
    if (json_is_string(json_object_get(timer, "name"))) {
        ld_status_rows_member(&cells[1], "", timer, "name");
    }
    if (json_is_integer(json_object_get(timer, "next"))) {
        ld_status_rows_moment(&cells[2], number_of(timer, "next"));
        ld_text_puts(&cells[2], ", ");
    }
    ld_text_puts(&cells[2], "in ");
    ld_status_rows_span(&cells[2], number_of(timer, "due"));
    add_counted(&cells[3], integer_of(timer, "runs"), "run", "runs");
    if (integer_of(timer, "missed") > 0) {
        add_counted(&cells[3], integer_of(timer, "missed"), "missed", "missed");
    }
    if (integer_of(timer, "errors") > 0) {
        add_counted(&cells[3], integer_of(timer, "errors"), "error", "errors");
    }
    add_times(&cells[3], timer);
    ld_status_rows_member(&cells[4], "", timer, "where");
}

/* Add the timers. */
void ld_status_rows_timers(struct ld_text *text, const json_t *report) {
    add_rows(text, json_object_get(report, "timers"), "timer", fill_timer);
}

/* Fill in the row of a task: its name, what it waits for, and where. */
static void fill_task(struct ld_text cells[COLUMNS], const json_t *task) {
    bool has_words = json_is_string(json_object_get(task, "waits"));
    if (json_is_string(json_object_get(task, "name"))) {
        ld_status_rows_member(&cells[0], "", task, "name");
    }
    ld_status_rows_member(&cells[1], "", task, has_words ? "waits" : "state");
    if (json_is_number(json_object_get(task, "due"))) {
        ld_text_puts(&cells[1], ", ");
        ld_status_rows_span(&cells[1], number_of(task, "due"));
        ld_text_puts(&cells[1], " to go");
    } else if (json_is_number(json_object_get(task, "seconds"))) {
        ld_text_puts(&cells[1], ", ");
        ld_status_rows_span(&cells[1], number_of(task, "seconds"));
    }
    ld_status_rows_member(&cells[2], "", task, "where");
}

/* Add the tasks. */
void ld_status_rows_tasks(struct ld_text *text, const json_t *report) {
    add_rows(text, json_object_get(report, "tasks"), "task", fill_task);
}

/* Add the luv handles. */
void ld_status_rows_handles(struct ld_text *text, const json_t *report) {
    const char *kind;
    const json_t *count;
    json_t *handles = json_object_get(report, "handles");
    if (json_object_size(handles) == 0) {
        return;
    }
    ld_text_puts(text, "\n  handles   ");
    size_t from = text->size;
    json_object_foreach(handles, kind, count) {
        ld_text_puts(text, text->size > from ? ", " : "");
        ld_text_add_escaped(text, kind, strlen(kind), false);
        ld_text_format(text, " %lld", (long long)json_integer_value(count));
    }
}
