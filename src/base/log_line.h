/* An event of the log, and how it looks as a line. */
#ifndef LD_BASE_LOG_LINE_H
#define LD_BASE_LOG_LINE_H

#include <stdbool.h>
#include <stddef.h>

#include "base/text.h"

enum ld_log_level { LD_LOG_DEBUG, LD_LOG_INFO, LD_LOG_WARN, LD_LOG_ERROR };

/* One key=value after a message. Text is not NUL-terminated. */
struct ld_log_field {
    const char *key;
    enum { LD_FIELD_TEXT, LD_FIELD_INTEGER, LD_FIELD_NUMBER, LD_FIELD_BOOLEAN } type;
    union {
        struct {
            const char *data;
            size_t size;
        } text;
        long long integer;
        double number;
        bool boolean;
    } value;
};

/* One event. SOURCE is "lunad", the script's name, or "NAME/CHILD[PID]". */
struct ld_log_event {
    enum ld_log_level level;
    const char *source;
    const char *message;
    size_t size;
    const struct ld_log_field *fields;
    size_t field_count;
};

/* "debug" … "error", and back: -1 for an unknown name. */
const char *ld_log_line_level_name(enum ld_log_level level);
int ld_log_line_parse_level(const char *name);

/* Add EVENT with its newline as text or as one JSON object; one thread at a time. In text further lines are indented: those of the
 * message by four spaces, those of a field of several lines by eight, after a line with its key. */
void ld_log_line_text(struct ld_text *line, const struct ld_log_event *event);
void ld_log_line_json(struct ld_text *line, const struct ld_log_event *event);

/* Add the fields in text form in one line, each with a space before it. */
void ld_log_line_fields(struct ld_text *line, const struct ld_log_event *event);

/* Make the two fields that mark a piece of a line: its NUMBER, from 1, and, with IS_CUT, that the next
 * piece continues it. Returns how many they are. */
size_t ld_log_line_piece_fields(struct ld_log_field *fields, long long number, bool is_cut);

#endif
