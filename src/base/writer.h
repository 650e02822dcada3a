/* A writer of text that a signal handler can use: it has a fixed buffer, which it empties by a function,
 * and calls nothing that allocates, locks or depends on a locale. */
#ifndef LD_BASE_WRITER_H
#define LD_BASE_WRITER_H

#include <stddef.h>
#include <stdint.h>

struct ld_writer {
    char *buffer; /* borrowed */
    size_t capacity;
    size_t size;
    /* Takes all of the bytes; NULL: what does not fit into the buffer is dropped. */
    void (*drain)(void *arg, const char *bytes, size_t size);
    void *arg;
};

void ld_writer_add(struct ld_writer *writer, const char *bytes, size_t size);
void ld_writer_puts(struct ld_writer *writer, const char *string);

/* Add a number, with zeros before it so that it has at least WIDTH digits. */
void ld_writer_decimal(struct ld_writer *writer, long long number, int width);
void ld_writer_hex(struct ld_writer *writer, uint64_t number);

/* Add the Unix time NS, in nanoseconds, in the form of the log: 2026-11-22T10:11:12.123Z. */
void ld_writer_time(struct ld_writer *writer, int64_t ns);

/* Add BYTES with every control character and every byte that is not UTF-8 as \xNN. */
void ld_writer_escaped(struct ld_writer *writer, const char *bytes, size_t size);

/* Add BYTES as a JSON string, with its quotes; what is not UTF-8 is replaced. */
void ld_writer_json(struct ld_writer *writer, const char *bytes, size_t size);

/* Empty the buffer. */
void ld_writer_flush(struct ld_writer *writer);

#endif
