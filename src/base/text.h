/* Text: a growing buffer, UTF-8, escaping for lines that people and tools read. */
#ifndef LD_BASE_TEXT_H
#define LD_BASE_TEXT_H

#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/base.h"

/* A growing, always NUL-terminated text. When memory runs out it keeps what it has and `failed`
 * is set. Zeroed means empty; free with ld_text_fini. */
struct ld_text {
    char *data;
    size_t size;
    size_t capacity;
    bool failed;
};

void ld_text_fini(struct ld_text *text);
void ld_text_clear(struct ld_text *text);
void ld_text_add(struct ld_text *text, const char *bytes, size_t size);
void ld_text_puts(struct ld_text *text, const char *string);

/* Add another text; if that one is incomplete, this one is too. */
void ld_text_append(struct ld_text *text, const struct ld_text *more);

/* The same so that a C string can hold it: zero bytes as \x00. */
void ld_text_append_plain(struct ld_text *text, const struct ld_text *more);

void ld_text_putc(struct ld_text *text, char byte);

/* Add a number: "1234". */
void ld_text_add_number(struct ld_text *text, uint64_t number);

/* Add a number with commas between its thousands: "1,234". */
void ld_text_add_count(struct ld_text *text, uint64_t number);

void ld_text_format(struct ld_text *text, const char *format, ...) LD_PRINTF(2, 3);
void ld_text_vformat(struct ld_text *text, const char *format, va_list args);

/* The text as a C string; "" when nothing was ever added, and "not enough memory" when nothing of it
 * could be kept. Owned by TEXT. */
const char *ld_text_string(const struct ld_text *text);

/* Whether nothing was added: what was added and could not be kept counts. */
bool ld_text_is_empty(const struct ld_text *text);

/* The length of the valid UTF-8 sequence at BYTES, or 0 if there is none. */
size_t ld_text_utf8_length(const char *bytes, size_t size);

/* How many of the SIZE bytes at BYTES to take so that a UTF-8 sequence which continues after them is not
 * cut: SIZE or up to 3 less, but at least 1. */
size_t ld_text_cut(const char *bytes, size_t size);

/* Add BYTES with every control character (C0 but TAB, DEL, C1) and every invalid UTF-8 byte as
 * \xNN; with INDENT, a newline stays and four spaces follow it. */
void ld_text_add_escaped(struct ld_text *text, const char *bytes, size_t size, bool indent);

/* Add BYTES with every invalid UTF-8 byte replaced by U+FFFD. */
void ld_text_add_utf8(struct ld_text *text, const char *bytes, size_t size);

/* A number that is the same for equal bytes, and hardly ever for others. */
uint64_t ld_text_hash(const char *bytes, size_t size);

#endif
