#include "lines.h"

#include <string.h>

#include "log.h"

#define LONGEST 65536

/* Name the source. */
void ld_lines_init(struct ld_lines *lines, const char *daemon, const char *child, pid_t pid,
                   bool warn) {
    snprintf(lines->source, sizeof lines->source, "%s/%s[%d]", daemon, child, (int)pid);
    lines->warn = warn;
}

/* Free what is left. */
void ld_lines_fini(struct ld_lines *lines) {
    ld_text_fini(&lines->rest);
}

/* Log one line. */
static void log_line(const struct ld_lines *lines, const char *bytes, size_t size) {
    struct ld_log_event event = {.level = lines->warn ? LD_LOG_WARN : LD_LOG_INFO,
                                 .source = lines->source,
                                 .message = bytes,
                                 .size = size};
    ld_log_event(&event);
}

/* Log the line that was begun earlier, and forget it. */
static void log_rest(struct ld_lines *lines) {
    log_line(lines, ld_text_string(&lines->rest), lines->rest.size);
    ld_text_clear(&lines->rest);
}

/* Keep what is not a whole line yet. */
static void keep(struct ld_lines *lines, const char *bytes, size_t size) {
    while (lines->rest.size + size > LONGEST) {
        size_t piece = LONGEST - lines->rest.size;
        ld_text_add(&lines->rest, bytes, piece);
        log_rest(lines);
        bytes += piece;
        size -= piece;
    }
    ld_text_add(&lines->rest, bytes, size);
}

/* Log the whole lines among some bytes. */
void ld_lines_add(struct ld_lines *lines, const char *bytes, size_t size) {
    if (bytes == NULL) {
        if (lines->rest.size > 0) {
            log_rest(lines);
        }
        ld_text_fini(&lines->rest);
        return;
    }
    const char *newline;
    while ((newline = memchr(bytes, '\n', size)) != NULL) {
        size_t length = (size_t)(newline - bytes);
        if (lines->rest.size > 0 || length > LONGEST) {
            keep(lines, bytes, length);
            log_rest(lines);
        } else {
            log_line(lines, bytes, length);
        }
        bytes += length + 1;
        size -= length + 1;
    }
    keep(lines, bytes, size);
}
