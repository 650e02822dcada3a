#include "base/log_read.h"

#include <ctype.h>
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/base.h"
#include "base/json.h"
#include "base/log_line.h"
#include "base/text.h"

#define INDENT     4     /* of further lines */
#define FIELDS_MAX 65536 /* bytes of a line that is searched for fields */
#define SAME_MAX   64    /* fields with one key; of more only the last is told */

/* A part of a text. */
struct part {
    const char *at;
    size_t size;
};

/* Whether AT is a time of the log. */
static bool is_time(const char *at) {
    static const char form[] = "0000-00-00T00:00:00.000Z";
    for (size_t i = 0; i < LD_LOG_READ_TIME; i++) {
        if (form[i] == '0' ? !isdigit((unsigned char)at[i]) : at[i] != form[i]) {
            return false;
        }
    }
    return true;
}

/* Find the level whose name AT begins with, followed by END; -1 if there is none. */
static int find_level(const char *at, size_t size, char end) {
    for (int level = LD_LOG_DEBUG; level <= LD_LOG_ERROR; level++) {
        size_t length = strlen(ld_log_line_level_name((enum ld_log_level)level));
        if (size > length && at[length] == end &&
            memcmp(at, ld_log_line_level_name((enum ld_log_level)level), length) == 0) {
            return level;
        }
    }
    return -1;
}

/* Take the beginning of an object. */
static bool read_json_head(struct ld_log_head *head, const char *line, size_t size) {
    static const char before_time[] = "{\"time\":\"";
    static const char before_level[] = "\",\"level\":\"";
    size_t time = sizeof before_time - 1;
    size_t level = time + LD_LOG_READ_TIME;
    size_t after = level + sizeof before_level - 1;
    if (size <= after || memcmp(line, before_time, time) != 0 || !is_time(line + time) ||
        memcmp(line + level, before_level, sizeof before_level - 1) != 0) {
        return false;
    }
    *head = (struct ld_log_head){
        .time = line + time, .level = find_level(line + after, size - after, '"'), .json = true};
    return head->level >= 0;
}

/* Take the beginning of an event. */
bool ld_log_read_head(struct ld_log_head *head, const char *line, size_t size) {
    if (size > 0 && line[0] == '{') {
        return read_json_head(head, line, size);
    }
    if (size < LD_LOG_READ_TIME + 8 || !is_time(line) || line[LD_LOG_READ_TIME] != ' ') {
        return false;
    }
    *head = (struct ld_log_head){
        .time = line,
        .level = find_level(line + LD_LOG_READ_TIME + 1, size - LD_LOG_READ_TIME - 1, ' ')};
    return head->level >= 0;
}

/* Whether a line is indented. */
bool ld_log_read_is_further(const char *line, size_t size) {
    return size >= INDENT && memcmp(line, "    ", INDENT) == 0;
}

/* The length of the key that AT begins with, before "="; 0 if there is none. */
static size_t key_length(const char *at, size_t size) {
    size_t length = 0;
    while (length < size && (isalnum((unsigned char)at[length]) ||
                             (at[length] != '\0' && strchr("_.-", at[length]) != NULL))) {
        length++;
    }
    return length < size && at[length] == '=' ? length : 0;
}

/* The length of the value that AT begins with, up to a blank or the end; 0 if there is none. */
static size_t value_length(const char *at, size_t size) {
    size_t length = 0;
    if (size == 0 || at[0] != '"') {
        while (length < size && at[length] != ' ' && at[length] != '"' && at[length] != '=') {
            length++;
        }
        return length == size || at[length] == ' ' ? length : 0;
    }
    for (length = 1; length < size && at[length] != '"'; length++) {
        length += at[length] == '\\';
    }
    bool is_whole = length < size && (length + 1 == size || at[length + 1] == ' ');
    return is_whole ? length + 1 : 0;
}

/* The length of " key=value" at AT; 0 if there is none. */
static size_t field_length(const char *at, size_t size) {
    size_t key = size > 1 && at[0] == ' ' ? key_length(at + 1, size - 1) : 0;
    size_t value = key > 0 ? value_length(at + key + 2, size - key - 2) : 0;
    return value > 0 ? key + 2 + value : 0;
}

/* Find where the fields begin that a line ends with: its size if it has none. */
static size_t find_fields(const char *line, size_t size) {
    size_t start = size;
    size_t at = size <= FIELDS_MAX ? 0 : size;
    while (at < size) {
        size_t length = field_length(line + at, size - at);
        start = length == 0 ? size : start == size ? at : start;
        const char *next = length > 0 ? NULL : memchr(line + at + 1, ' ', size - at - 1);
        at = length > 0 ? at + length : next != NULL ? (size_t)(next - line) : size;
    }
    return start;
}

/* The digit that a hexadecimal character stands for. */
static int hex_digit(char byte) {
    static const char digits[] = "0123456789abcdef";
    const char *at = strchr(digits, byte | 0x20);
    return at != NULL ? (int)(at - digits) : 0;
}

/* Make a string of a value in quotes. */
static json_t *read_quoted(const char *at, size_t size) {
    struct ld_text text = {0};
    for (size_t i = 1; i + 1 < size; i++) {
        bool is_hex = at[i] == '\\' && i + 4 < size && at[i + 1] == 'x' &&
                      isxdigit((unsigned char)at[i + 2]) && isxdigit((unsigned char)at[i + 3]);
        if (is_hex) {
            ld_text_putc(&text, (char)(hex_digit(at[i + 2]) * 16 + hex_digit(at[i + 3])));
            i += 3;
        } else {
            i += at[i] == '\\' && i + 2 < size;
            ld_text_putc(&text, at[i]);
        }
    }
    json_t *value = text.failed ? NULL : ld_json_text(ld_text_string(&text), text.size);
    ld_text_fini(&text);
    return value;
}

/* Make a number, true or false of a value without quotes; NULL if it is a word. */
static json_t *read_plain(const char *word) {
    char *end = NULL;
    if (strcmp(word, "true") == 0 || strcmp(word, "false") == 0) {
        return json_boolean(word[0] == 't');
    }
    if (!isdigit((unsigned char)word[word[0] == '-'])) {
        return NULL;
    }
    errno = 0;
    long long integer = strtoll(word, &end, 10);
    if (*end == '\0') {
        return errno == 0 ? json_integer(integer) : NULL;
    }
    double number = strtod(word, &end);
    return *end == '\0' && strpbrk(word, "xX") == NULL && isfinite(number) ? json_real(number)
                                                                           : NULL;
}

/* Make the value of a field. */
static json_t *read_value(const char *at, size_t size) {
    char word[64];
    if (at[0] == '"') {
        return read_quoted(at, size);
    }
    if (size < sizeof word) {
        memcpy(word, at, size);
        word[size] = '\0';
        json_t *value = read_plain(word);
        if (value != NULL) {
            return value;
        }
    }
    return ld_json_text(at, size);
}

/* Set a field beside the members that are there. */
static void set_field(json_t *object, const char *key, size_t size, json_t *value) {
    struct ld_text name = {0};
    ld_text_add(&name, key, size);
    while (!name.failed && name.size < size + SAME_MAX &&
           json_object_get(object, ld_text_string(&name)) != NULL) {
        ld_text_putc(&name, '_');
    }
    json_object_set_new(object, ld_text_string(&name), value);
    ld_text_fini(&name);
}

/* Set the fields of a line, which is nothing else. */
static void set_fields(json_t *object, const char *at, size_t size) {
    while (size > 0) {
        size_t length = field_length(at, size);
        size_t key = key_length(at + 1, size - 1);
        set_field(object, at + 1, key, read_value(at + key + 2, length - key - 2));
        at += length;
        size -= length;
    }
}

/* Take the next line from TEXT, without its newline. */
static struct part take_line(struct part *text) {
    const char *newline = memchr(text->at, '\n', text->size);
    struct part line = {text->at, newline != NULL ? (size_t)(newline - text->at) : text->size};
    size_t taken = newline != NULL ? line.size + 1 : line.size;
    text->at += taken;
    text->size -= taken;
    return line;
}

/* Whether LINE, without the indent of further lines, begins a field of several lines: "key=", before one that is
 * indented more. */
static bool begins_block(struct part line, const struct part *rest) {
    return key_length(line.at, line.size) + 1 == line.size && line.size > 1 &&
           rest->size >= (size_t)2 * INDENT &&
           memcmp(rest->at, "        ", (size_t)2 * INDENT) == 0;
}

/* Take the indent of a further line away. */
static struct part without_indent(struct part line) {
    size_t indent = line.size < INDENT ? line.size : INDENT;
    return (struct part){line.at + indent, line.size - indent};
}

/* Set the fields of several lines that REST begins with. */
static void set_blocks(json_t *object, struct part key, struct part *rest) {
    struct ld_text value = {0};
    bool is_first = true;
    while (rest->size > 0) {
        struct part line = take_line(rest);
        struct part next = without_indent(line);
        if (!begins_block(next, rest)) {
            next = without_indent(next);
            ld_text_puts(&value, is_first ? "" : "\n");
            ld_text_add(&value, next.at, next.size);
            is_first = false;
            continue;
        }
        set_field(object, key.at, key.size - 1, ld_json_text(ld_text_string(&value), value.size));
        ld_text_clear(&value);
        key = next;
        is_first = true;
    }
    set_field(object, key.at, key.size - 1, ld_json_text(ld_text_string(&value), value.size));
    ld_text_fini(&value);
}

/* Set message and fields: FIRST is the first line after the source. */
static void set_message(json_t *object, struct part first, struct part rest) {
    struct ld_text message = {0};
    struct part last = first;
    struct part key = {0};
    while (rest.size > 0) {
        struct part line = without_indent(take_line(&rest));
        if (begins_block(line, &rest)) {
            key = line;
            break;
        }
        ld_text_add(&message, last.at, last.size);
        ld_text_putc(&message, '\n');
        last = line;
    }
    size_t fields = find_fields(last.at, last.size);
    ld_text_add(&message, last.at, fields);
    json_object_set_new(object, "message", ld_json_text(ld_text_string(&message), message.size));
    set_fields(object, last.at + fields, last.size - fields);
    if (key.size > 0) {
        set_blocks(object, key, &rest);
    }
    ld_text_fini(&message);
}

/* Make an object of an event in text. */
json_t *ld_log_read_event(const char *text, size_t size) {
    struct ld_log_head head;
    struct part rest = {text, size};
    struct part line = take_line(&rest);
    json_t *object = json_object();
    const char *source = line.at + LD_LOG_READ_TIME + 7;
    if (!ld_log_read_head(&head, line.at, line.size) || head.json) {
        json_object_set_new(object, "message", ld_json_text(line.at, line.size));
        json_object_set_new(object, "raw", json_true());
        return object;
    }
    const char *colon = memchr(source, ':', line.size - LD_LOG_READ_TIME - 7);
    const char *end = line.at + line.size;
    size_t source_size = colon != NULL ? (size_t)(colon - source) : 0;
    const char *message = colon == NULL ? source : end - colon > 1 ? colon + 2 : end;
    json_object_set_new(object, "time", ld_json_text(head.time, LD_LOG_READ_TIME));
    json_object_set_new(object, "level",
                        json_string(ld_log_line_level_name((enum ld_log_level)head.level)));
    json_object_set_new(object, "source", ld_json_text(source, source_size));
    set_message(object, (struct part){message, (size_t)(end - message)}, rest);
    return object;
}
