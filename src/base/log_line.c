#include "base/log_line.h"

#include <ctype.h>
#include <jansson.h>
#include <math.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/json.h"
#include "base/time.h"

#define TIME_SIZE 48

static const char *const level_names[] = {"debug", "info", "warn", "error"};
static const char *const level_columns[] = {" debug ", " info  ", " warn  ", " error "};

/* The name of a level. */
const char *ld_log_line_level_name(enum ld_log_level level) {
    return level_names[level];
}

/* The level of a name, or -1. */
int ld_log_line_parse_level(const char *name) {
    for (size_t i = 0; i < LD_COUNT(level_names); i++) {
        if (strcmp(name, level_names[i]) == 0) {
            return (int)i;
        }
    }
    return -1;
}

/* Write the time in UTC with milliseconds: 2026-11-22T10:11:12.123Z. The text of a second is made once. */
static void format_time(char out[TIME_SIZE]) {
    static char text[TIME_SIZE];
    static size_t length;
    static time_t second = -1;
    int64_t now = ld_time_real();
    time_t seconds = (time_t)(now / LD_TIME_SECOND);
    int ms = (int)(now % LD_TIME_SECOND / 1000000);
    if (seconds != second) {
        struct tm utc;
        gmtime_r(&seconds, &utc);
        length = strftime(text, sizeof text - sizeof ".123Z", "%Y-%m-%dT%H:%M:%S", &utc);
        second = seconds;
    }
    const char rest[] = {
        '.', (char)('0' + ms / 100 % 10), (char)('0' + ms / 10 % 10), (char)('0' + ms % 10), 'Z',
        '\0'};
    memcpy(out, text, length);
    memcpy(out + length, rest, sizeof rest);
}

/* How many bytes of a message count: newlines at its end do not. */
static size_t trimmed(const char *message, size_t size) {
    while (size > 0 && message[size - 1] == '\n') {
        size--;
    }
    return size;
}

/* Whether a value needs no quotes after "key=". */
static bool is_bare(const char *value, size_t size) {
    for (size_t i = 0; i < size; i++) {
        unsigned char byte = (unsigned char)value[i];
        if (byte <= ' ' || byte == '"' || byte == '=' || byte == '\\' || byte == 0x7F) {
            return false;
        }
    }
    return size > 0;
}

/* Add a value in quotes, so that where it ends is never in doubt. */
static void add_quoted(struct ld_text *line, const char *value, size_t size) {
    ld_text_putc(line, '"');
    size_t plain = 0;
    for (size_t i = 0; i < size; i++) {
        if (value[i] == '"' || value[i] == '\\') {
            ld_text_add_escaped(line, value + plain, i - plain, false);
            ld_text_putc(line, '\\');
            plain = i;
        }
    }
    ld_text_add_escaped(line, value + plain, size - plain, false);
    ld_text_putc(line, '"');
}

/* Add a key, with an underscore for every byte that may not be in one. */
static void add_key(struct ld_text *line, const char *key) {
    if (key[0] == '\0') {
        ld_text_putc(line, '_');
    }
    for (const char *at = key; *at != '\0'; at++) {
        ld_text_putc(line, isalnum((unsigned char)*at) || strchr("_.-", *at) ? *at : '_');
    }
}

/* Add a field's value in text form. */
static void add_value(struct ld_text *line, const struct ld_log_field *field) {
    switch (field->type) {
    case LD_FIELD_TEXT:
        if (is_bare(field->value.text.data, field->value.text.size)) {
            ld_text_add_escaped(line, field->value.text.data, field->value.text.size, false);
        } else {
            add_quoted(line, field->value.text.data, field->value.text.size);
        }
        break;
    case LD_FIELD_INTEGER:
        ld_text_format(line, "%lld", field->value.integer);
        break;
    case LD_FIELD_NUMBER:
        ld_text_format(line, "%.14g", field->value.number);
        break;
    case LD_FIELD_BOOLEAN:
        ld_text_puts(line, field->value.boolean ? "true" : "false");
        break;
    }
}

/* Whether a field has lines of which one is indented by a TAB, as in a traceback, which a person is to read. Other
 * values of several lines are data. */
static bool is_block(const struct ld_log_field *field) {
    if (field->type != LD_FIELD_TEXT || field->value.text.size == 0 ||
        field->value.text.data[0] == '\n') {
        return false;
    }
    const char *at = field->value.text.data;
    const char *end = at + trimmed(at, field->value.text.size);
    bool is_indented = false;
    while (!is_indented && (at = memchr(at, '\n', (size_t)(end - at))) != NULL) {
        at++;
        is_indented = *at == '\t';
    }
    return is_indented;
}

/* Add the fields of several lines, each with its key on a line and its own lines after that. */
static void add_blocks(struct ld_text *line, const struct ld_log_event *event) {
    for (size_t i = 0; i < event->field_count; i++) {
        const struct ld_log_field *field = &event->fields[i];
        if (!is_block(field)) {
            continue;
        }
        ld_text_puts(line, "\n    ");
        add_key(line, field->key);
        ld_text_putc(line, '=');
        const char *at = field->value.text.data;
        const char *end = at + trimmed(at, field->value.text.size);
        while (at != NULL) {
            const char *newline = memchr(at, '\n', (size_t)(end - at));
            ld_text_puts(line, "\n        ");
            ld_text_add_escaped(line, at, (size_t)((newline != NULL ? newline : end) - at), false);
            at = newline != NULL ? newline + 1 : NULL;
        }
    }
}

/* Add the fields in a line, or those that have no more. */
static void add_fields(struct ld_text *line, const struct ld_log_event *event, bool all) {
    for (size_t i = 0; i < event->field_count; i++) {
        if (!all && is_block(&event->fields[i])) {
            continue;
        }
        ld_text_putc(line, ' ');
        add_key(line, event->fields[i].key);
        ld_text_putc(line, '=');
        add_value(line, &event->fields[i]);
    }
}

/* Add all fields in one line. */
void ld_log_line_fields(struct ld_text *line, const struct ld_log_event *event) {
    add_fields(line, event, true);
}

/* Add the event as a line of text. */
void ld_log_line_text(struct ld_text *line, const struct ld_log_event *event) {
    char time[TIME_SIZE];
    format_time(time);
    ld_text_puts(line, time);
    ld_text_puts(line, level_columns[event->level]);
    ld_text_add_escaped(line, event->source, strlen(event->source), false);
    ld_text_puts(line, ": ");
    ld_text_add_escaped(line, event->message, trimmed(event->message, event->size), true);
    add_fields(line, event, false);
    add_blocks(line, event);
    ld_text_putc(line, '\n');
}

/* Make the JSON value of a field. */
static json_t *json_field(const struct ld_log_field *field) {
    switch (field->type) {
    case LD_FIELD_TEXT:
        return ld_json_text(field->value.text.data, field->value.text.size);
    case LD_FIELD_INTEGER:
        return json_integer(field->value.integer);
    case LD_FIELD_NUMBER:
        return isfinite(field->value.number) ? json_real(field->value.number) : json_null();
    case LD_FIELD_BOOLEAN:
        return json_boolean(field->value.boolean);
    }
    return NULL;
}

/* Set a member and take over the value. Without memory for it the line fails. */
static void set(struct ld_text *line, json_t *object, const char *key, json_t *value) {
    if (json_object_set_new(object, key, value) < 0) {
        line->failed = true;
    }
}

/* Set a field beside the members that are there, never over one of them. */
static void set_field(struct ld_text *line, json_t *object, const struct ld_log_field *field) {
    struct ld_text key = {0};
    ld_text_add_utf8(&key, field->key, strlen(field->key));
    while (!key.failed && json_object_get(object, ld_text_string(&key)) != NULL) {
        ld_text_putc(&key, '_');
    }
    line->failed = line->failed || key.failed;
    set(line, object, ld_text_string(&key), json_field(field));
    ld_text_fini(&key);
}

/* Add the event as a line with one JSON object. */
void ld_log_line_json(struct ld_text *line, const struct ld_log_event *event) {
    char time[TIME_SIZE];
    format_time(time);
    json_t *object = json_object();
    set(line, object, "time", json_string(time));
    set(line, object, "level", json_string(ld_log_line_level_name(event->level)));
    set(line, object, "source", ld_json_string(event->source));
    set(line, object, "pid", json_integer(getpid()));
    set(line, object, "message", ld_json_text(event->message, event->size));
    for (size_t i = 0; i < event->field_count; i++) {
        set_field(line, object, &event->fields[i]);
    }
    char *dump = line->failed ? NULL : json_dumps(object, JSON_COMPACT);
    json_decref(object);
    if (dump == NULL) {
        line->failed = true;
        return;
    }
    ld_text_puts(line, dump);
    ld_text_putc(line, '\n');
    free(dump);
}

/* The fields of a piece of a line. */
size_t ld_log_line_piece_fields(struct ld_log_field *fields, long long number, bool is_cut) {
    fields[0] =
        (struct ld_log_field){.key = "part", .type = LD_FIELD_INTEGER, .value.integer = number};
    fields[1] =
        (struct ld_log_field){.key = "cut", .type = LD_FIELD_BOOLEAN, .value.boolean = true};
    return is_cut ? 2 : 1;
}
