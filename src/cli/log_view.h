/* What `lunad logs` shows of the bytes of a log: all of them, or the events that are asked for, or objects. */
#ifndef LD_CLI_LOG_VIEW_H
#define LD_CLI_LOG_VIEW_H

#include <stdbool.h>
#include <stddef.h>

#include "base/log_read.h"
#include "base/text.h"

struct ld_log_view {
    int level;         /* the least that is shown; 0: all */
    const char *since; /* LD_LOG_READ_TIME bytes, or NULL */
    bool json;

    /* Takes all of the bytes; 0, or a negative errno, which the functions here return. */
    int (*write)(void *arg, const char *bytes, size_t size);
    void *arg;

    struct ld_text line;         /* not whole yet */
    struct ld_text event;        /* of json, not whole yet */
    char time[LD_LOG_READ_TIME]; /* of the last event; all zero: none */
    bool is_text;                /* it was one in text: further lines may follow */
    bool is_shown;               /* they are shown if it is */

    /* The last LINES lines or objects are kept, a ring, instead of written; below 0: all are written. */
    long lines;
    struct ld_log_unit {
        char *bytes;
        size_t size;
    } * units;
    size_t count;
    size_t capacity;
    size_t oldest;
};

/* Whether all bytes are shown as they are. */
bool ld_log_view_is_plain(const struct ld_log_view *view);

/* Show bytes. */
int ld_log_view_add(struct ld_log_view *view, const char *bytes, size_t size);

/* Show an event to which no further line has come. */
int ld_log_view_settle(struct ld_log_view *view);

/* The same, and the last line of a file, which may not be whole. */
int ld_log_view_end_file(struct ld_log_view *view);

/* Write what was kept, and all that comes from now on. */
int ld_log_view_write_kept(struct ld_log_view *view);

void ld_log_view_fini(struct ld_log_view *view);

#endif
