#include "engine/log_lines.h"

#include <string.h>

#include "base/log.h"

#define LONGEST 65536

/* Name the source. */
void ld_log_lines_init(struct ld_log_lines *lines, const char *daemon, const char *child, pid_t pid,
                       bool warn) {
    snprintf(lines->source, sizeof lines->source, "%s/%s[%d]", daemon, child, (int)pid);
    lines->warn = warn;
}

/* Free what is left. */
void ld_log_lines_fini(struct ld_log_lines *lines) {
    ld_text_fini(&lines->rest);
}

/* Log one line, or one piece of a line that IS_CUT. */
static void log_line(struct ld_log_lines *lines, const char *bytes, size_t size, bool is_cut) {
    struct ld_log_field fields[2];
    struct ld_log_event event = {.level = lines->warn ? LD_LOG_WARN : LD_LOG_INFO,
                                 .source = lines->source,
                                 .message = bytes,
                                 .size = size,
                                 .fields = fields};
    if (is_cut || lines->parts > 0) {
        event.field_count = ld_log_line_piece_fields(fields, lines->parts + 1, is_cut);
    }
    lines->parts = is_cut ? lines->parts + 1 : 0;
    ld_log_put(&event);
}

/* Log whole lines, none of which is cut. */
static void log_whole(const struct ld_log_lines *lines, const char *bytes, size_t size) {
    const struct ld_log_event event = {.level = lines->warn ? LD_LOG_WARN : LD_LOG_INFO,
                                       .source = lines->source,
                                       .message = bytes,
                                       .size = size};
    ld_log_put_lines(&event);
}

/* Log the line that began earlier, and forget it. */
static void log_rest(struct ld_log_lines *lines) {
    log_line(lines, ld_text_string(&lines->rest), lines->rest.size, false);
    ld_text_clear(&lines->rest);
}

/* Log a piece of the line that began earlier; keep an incomplete character at its end. */
static void log_piece(struct ld_log_lines *lines) {
    char left[4];
    const char *bytes = ld_text_string(&lines->rest);
    size_t size = ld_text_cut(bytes, lines->rest.size);
    size_t left_size = lines->rest.size - size;
    memcpy(left, bytes + size, left_size);
    log_line(lines, bytes, size, true);
    ld_text_clear(&lines->rest);
    ld_text_add(&lines->rest, left, left_size);
}

/* Keep what is not a whole line yet. */
static void keep(struct ld_log_lines *lines, const char *bytes, size_t size) {
    while (lines->rest.size + size > LONGEST) {
        size_t piece = LONGEST - lines->rest.size;
        ld_text_add(&lines->rest, bytes, piece);
        log_piece(lines);
        bytes += piece;
        size -= piece;
    }
    ld_text_add(&lines->rest, bytes, size);
}

/* Log the whole lines among some bytes. */
void ld_log_lines_add(struct ld_log_lines *lines, const char *bytes, size_t size) {
    if (bytes == NULL) {
        if (lines->rest.size > 0) {
            log_rest(lines);
        }
        ld_text_fini(&lines->rest);
        lines->parts = 0;
        return;
    }
    const char *newline;
    while ((newline = memchr(bytes, '\n', size)) != NULL) {
        size_t length = (size_t)(newline - bytes);
        bool has_begun = lines->rest.size > 0 || lines->parts > 0;
        if (has_begun || length > LONGEST) {
            keep(lines, bytes, length);
            log_rest(lines);
        } else { /* and those after it, as far as none can be too long */
            newline = memrchr(bytes, '\n', size <= LONGEST ? size : LONGEST + 1);
            length = (size_t)(newline - bytes);
            log_whole(lines, bytes, length + 1);
        }
        bytes += length + 1;
        size -= length + 1;
    }
    keep(lines, bytes, size);
}
