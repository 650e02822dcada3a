/* The output of a child as lines of the log. */
#ifndef LD_ENGINE_LOG_LINES_H
#define LD_ENGINE_LOG_LINES_H

#include <sys/types.h>

#include "base/text.h"

/* The beginning of the current line. Zeroed means none; free with ld_log_lines_fini. */
struct ld_log_lines {
    char source[160];
    bool warn;       /* level warn instead of info */
    long long parts; /* of this line, logged already */
    struct ld_text rest;
};

/* Name the source of the lines: DAEMON/CHILD[PID]. */
void ld_log_lines_init(struct ld_log_lines *lines, const char *daemon, const char *child, pid_t pid,
                       bool warn);
void ld_log_lines_fini(struct ld_log_lines *lines);

/* Log the whole lines among BYTES; NULL at the end logs what is left. A line over 64 KiB is logged
 * in pieces, which have fields that say so: part=1 cut=true, part=2 cut=true, part=3. No UTF-8
 * sequence is cut. */
void ld_log_lines_add(struct ld_log_lines *lines, const char *bytes, size_t size);

#endif
