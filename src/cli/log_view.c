#include "cli/log_view.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/grow.h"
#include "base/log_line.h"

/* Whether all bytes are shown as they are. */
bool ld_log_view_is_plain(const struct ld_log_view *view) {
    return view->level == LD_LOG_DEBUG && view->since == NULL && !view->json;
}

/* Write an event as an object, or as it is if it is one. */
static int write_object(const struct ld_log_view *view, const char *bytes, size_t size) {
    struct ld_log_head head;
    if (ld_log_read_head(&head, bytes, size) && head.json) {
        return view->write(view->arg, bytes, size);
    }
    json_t *object = ld_log_read_event(bytes, size - (bytes[size - 1] == '\n'));
    char *dump = json_dumps(object, JSON_COMPACT);
    struct ld_text line = {0};
    if (dump != NULL) {
        ld_text_puts(&line, dump);
        ld_text_putc(&line, '\n');
    }
    int rc = dump == NULL || line.failed ? -ENOMEM : view->write(view->arg, line.data, line.size);
    ld_text_fini(&line);
    free(dump);
    json_decref(object);
    return rc;
}

/* Write a line or an event. */
static int write_unit(const struct ld_log_view *view, const char *bytes, size_t size) {
    return view->json ? write_object(view, bytes, size) : view->write(view->arg, bytes, size);
}

/* Keep a line or an event, instead of the oldest if there are enough. */
static int keep(struct ld_log_view *view, const char *bytes, size_t size) {
    struct ld_log_unit unit = {malloc(size), size};
    if (unit.bytes == NULL) {
        return -ENOMEM;
    }
    memcpy(unit.bytes, bytes, size);
    if (view->count == (size_t)view->lines) {
        free(view->units[view->oldest].bytes);
        view->units[view->oldest] = unit;
        view->oldest = (view->oldest + 1) % view->count;
        return 0;
    }
    struct ld_log_unit *grown =
        ld_grow_to(view->units, &view->capacity, view->count + 1, sizeof *grown);
    if (grown == NULL) {
        free(unit.bytes);
        return -ENOMEM;
    }
    view->units = grown;
    grown[view->count++] = unit;
    return 0;
}

/* Show a line or an event. */
static int show(struct ld_log_view *view, const char *bytes, size_t size) {
    return view->lines < 0    ? write_unit(view, bytes, size)
           : view->lines == 0 ? 0
                              : keep(view, bytes, size);
}

/* Show an event to which no further line has come. */
int ld_log_view_settle(struct ld_log_view *view) {
    int rc = view->event.failed ? -ENOMEM : 0;
    if (rc == 0 && view->event.size > 0) {
        rc = show(view, view->event.data, view->event.size);
    }
    ld_text_clear(&view->event);
    return rc;
}

/* Whether an event is among those that are asked for. What was written past the log counts as info, at the time
 * of the event before it. */
static bool is_wanted(struct ld_log_view *view, const struct ld_log_head *head) {
    if (head != NULL) {
        memcpy(view->time, head->time, sizeof view->time);
    }
    bool is_late = view->since == NULL || memcmp(view->time, view->since, sizeof view->time) >= 0;
    return is_late && (head != NULL ? head->level : (int)LD_LOG_INFO) >= view->level;
}

/* Take a line with its newline, which a torn one does not have. */
static int take_line(struct ld_log_view *view, const char *line, size_t size) {
    struct ld_log_head head;
    size_t length = size - (line[size - 1] == '\n');
    bool is_further = view->is_text && ld_log_read_is_further(line, length);
    int rc = 0;
    if (!is_further) {
        bool has_head = ld_log_read_head(&head, line, length);
        rc = ld_log_view_settle(view);
        view->is_text = has_head && !head.json;
        view->is_shown = is_wanted(view, has_head ? &head : NULL);
    }
    if (rc < 0 || !view->is_shown) {
        return rc;
    }
    if (!view->json) {
        return show(view, line, size);
    }
    ld_text_add(&view->event, line, size);
    return 0;
}

/* Show bytes, line by line. */
int ld_log_view_add(struct ld_log_view *view, const char *bytes, size_t size) {
    int rc = 0;
    if (ld_log_view_is_plain(view)) {
        return view->write(view->arg, bytes, size);
    }
    while (size > 0 && rc == 0) {
        const char *newline = memchr(bytes, '\n', size);
        size_t length = newline != NULL ? (size_t)(newline - bytes) + 1 : size;
        if (newline != NULL && view->line.size == 0) {
            rc = take_line(view, bytes, length);
        } else {
            ld_text_add(&view->line, bytes, length);
        }
        if (newline != NULL && view->line.size > 0) {
            rc = view->line.failed ? -ENOMEM : take_line(view, view->line.data, view->line.size);
            ld_text_clear(&view->line);
        }
        bytes += length;
        size -= length;
    }
    return rc;
}

/* Show what a file ends with. */
int ld_log_view_end_file(struct ld_log_view *view) {
    int rc = view->line.size > 0 ? ld_log_view_add(view, "\n", 1) : 0;
    return rc == 0 ? ld_log_view_settle(view) : rc;
}

/* Write what was kept. */
int ld_log_view_write_kept(struct ld_log_view *view) {
    int rc = 0;
    for (size_t i = 0; i < view->count; i++) {
        struct ld_log_unit *unit = &view->units[(view->oldest + i) % view->count];
        rc = rc == 0 ? write_unit(view, unit->bytes, unit->size) : rc;
        free(unit->bytes);
    }
    view->count = 0;
    view->lines = -1;
    return rc;
}

/* Free what is kept. */
void ld_log_view_fini(struct ld_log_view *view) {
    for (size_t i = 0; i < view->count; i++) {
        free(view->units[i].bytes);
    }
    free(view->units);
    ld_text_fini(&view->line);
    ld_text_fini(&view->event);
}
