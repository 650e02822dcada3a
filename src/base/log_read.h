/* Lines of a log, read back. */
#ifndef LD_BASE_LOG_READ_H
#define LD_BASE_LOG_READ_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>

#define LD_LOG_READ_TIME 24 /* bytes of a time: 2026-11-22T10:11:12.123Z */

/* The beginning of an event. */
struct ld_log_head {
    const char *time; /* LD_LOG_READ_TIME bytes in the line */
    int level;        /* enum ld_log_level */
    bool json;
};

/* Take the beginning of an event from a LINE without its newline; false for a further line of one, and for what
 * was written past the log. */
bool ld_log_read_head(struct ld_log_head *head, const char *line, size_t size);

/* Whether LINE can be a further line of an event in text. */
bool ld_log_read_is_further(const char *line, size_t size);

/* Make an object of an event in text, with all of its lines: time, level, source, message and fields. Fields are
 * what the last line of the message ends with in the form of fields, and blocks of several lines. What is not an
 * event becomes the message, and "raw" is true. A new reference; NULL when memory ran out. */
json_t *ld_log_read_event(const char *text, size_t size);

#endif
