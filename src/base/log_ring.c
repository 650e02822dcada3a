#include "base/log_ring.h"

#include <stdbool.h>
#include <string.h>

static struct {
    char bytes[LD_LOG_RING_SIZE];
    size_t at;      /* where the next byte goes */
    bool is_filled; /* bytes after AT are older ones */
} ring;

/* Keep bytes. */
static void keep(const char *bytes, size_t size) {
    size_t room = sizeof ring.bytes - ring.at;
    size_t first = size < room ? size : room;
    memcpy(ring.bytes + ring.at, bytes, first);
    memcpy(ring.bytes, bytes + first, size - first);
    ring.is_filled = ring.is_filled || size >= room;
    ring.at = (ring.at + size) % sizeof ring.bytes;
}

/* Keep a line. */
void ld_log_ring_keep(const char *line, size_t size) {
    if (size > LD_LOG_RING_LINE) {
        keep(line, LD_LOG_RING_LINE);
        keep("...\n", 4);
        return;
    }
    keep(line, size);
    if (size > 0 && line[size - 1] != '\n') {
        keep("\n", 1);
    }
}

/* Add a part of the ring; with IS_CUT its first line is not whole, and left out. Returns whether it was
 * left out, or all of the part was. */
static bool add_part(struct ld_writer *writer, const char *bytes, size_t size, bool is_cut) {
    const char *newline = is_cut ? memchr(bytes, '\n', size) : NULL;
    if (is_cut && newline == NULL) {
        return true;
    }
    size_t skipped = is_cut ? (size_t)(newline - bytes) + 1 : 0;
    ld_writer_add(writer, bytes + skipped, size - skipped);
    return false;
}

/* Add all lines. The handler can have interrupted a line that was being kept; it is not counted yet. */
void ld_log_ring_write(struct ld_writer *writer) {
    bool is_cut = false;
    if (ring.is_filled) {
        is_cut = add_part(writer, ring.bytes + ring.at, sizeof ring.bytes - ring.at, true);
    }
    add_part(writer, ring.bytes, ring.at, is_cut);
}

/* Forget all lines. */
void ld_log_ring_clear(void) {
    ring.at = 0;
    ring.is_filled = false;
}
