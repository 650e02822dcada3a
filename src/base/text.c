#include "base/text.h"

#include <string.h>

#include "base/grow.h"

static const char replacement[] = "\xEF\xBF\xBD"; /* U+FFFD */

/* Free the bytes of a text and make it empty. */
void ld_text_fini(struct ld_text *text) {
    free(text->data);
    *text = (struct ld_text){0};
}

/* Make a text empty, keeping its memory for the next use. */
void ld_text_clear(struct ld_text *text) {
    text->size = 0;
    text->failed = false;
    if (text->data != NULL) {
        text->data[0] = '\0';
    }
}

/* Make room for MORE bytes and the NUL; false when memory ran out. */
static bool reserve(struct ld_text *text, size_t more) {
    if (text->failed) {
        return false;
    }
    char *data = ld_grow_to(text->data, &text->capacity, text->size + more + 1, 1);
    if (data == NULL) {
        text->failed = true;
        return false;
    }
    text->data = data;
    return true;
}

/* Add SIZE bytes. */
void ld_text_add(struct ld_text *text, const char *bytes, size_t size) {
    if (!reserve(text, size)) {
        return;
    }
    if (size > 0) {
        memcpy(text->data + text->size, bytes, size);
    }
    text->size += size;
    text->data[text->size] = '\0';
}

/* Add a C string. */
void ld_text_puts(struct ld_text *text, const char *string) {
    ld_text_add(text, string, strlen(string));
}

/* Add another text. */
void ld_text_append(struct ld_text *text, const struct ld_text *more) {
    ld_text_add(text, ld_text_string(more), more->size);
    text->failed = text->failed || more->failed;
}

/* Add another text without zero bytes. */
void ld_text_append_plain(struct ld_text *text, const struct ld_text *more) {
    for (size_t at = 0; at < more->size; at++) {
        const char *part = more->data + at;
        size_t size = strnlen(part, more->size - at);
        ld_text_add(text, part, size);
        at += size;
        if (at < more->size) {
            ld_text_puts(text, "\\x00");
        }
    }
    text->failed = text->failed || more->failed;
}

/* Add one byte. */
void ld_text_putc(struct ld_text *text, char byte) {
    ld_text_add(text, &byte, 1);
}

/* Add a number; printf would take ten times as long. */
void ld_text_add_number(struct ld_text *text, uint64_t number) {
    char digits[20];
    size_t at = sizeof digits;
    do {
        digits[--at] = (char)('0' + number % 10);
        number /= 10;
    } while (number > 0);
    ld_text_add(text, digits + at, sizeof digits - at);
}

/* Add a number with commas. */
void ld_text_add_count(struct ld_text *text, uint64_t number) {
    if (number >= 1000) {
        ld_text_add_count(text, number / 1000);
        ld_text_format(text, ",%03u", (unsigned)(number % 1000));
    } else {
        ld_text_format(text, "%u", (unsigned)number);
    }
}

/* Add what printf would print. */
void ld_text_format(struct ld_text *text, const char *format, ...) {
    va_list args;
    va_start(args, format);
    ld_text_vformat(text, format, args);
    va_end(args);
}

/* Add what vprintf would print. */
void ld_text_vformat(struct ld_text *text, const char *format, va_list args) {
    va_list again;
    va_copy(again, args);
    int size = vsnprintf(NULL, 0, format, args);
    if (size >= 0 && reserve(text, (size_t)size)) {
        vsnprintf(text->data + text->size, (size_t)size + 1, format, again);
        text->size += (size_t)size;
    }
    va_end(again);
}

/* The text as a C string. */
const char *ld_text_string(const struct ld_text *text) {
    if (text->failed && text->size == 0) {
        return "not enough memory";
    }
    return text->data != NULL ? text->data : "";
}

/* Whether nothing was added. */
bool ld_text_is_empty(const struct ld_text *text) {
    return text->size == 0 && !text->failed;
}

/* How many bytes a sequence that starts with LEAD has, by RFC 3629; 0 for none. */
static size_t utf8_expected(unsigned char lead) {
    if (lead < 0x80) {
        return 1;
    }
    if (lead >= 0xC2 && lead <= 0xDF) {
        return 2;
    }
    if (lead >= 0xE0 && lead <= 0xEF) {
        return 3;
    }
    return lead >= 0xF0 && lead <= 0xF4 ? 4 : 0;
}

/* Whether the second byte is allowed after the first: no overlong form, surrogate or too large. */
static bool utf8_second_fits(unsigned char first, unsigned char second) {
    switch (first) {
    case 0xE0:
        return second >= 0xA0;
    case 0xED:
        return second <= 0x9F;
    case 0xF0:
        return second >= 0x90;
    case 0xF4:
        return second <= 0x8F;
    default:
        return true;
    }
}

/* The length of the valid UTF-8 sequence at BYTES, or 0. */
size_t ld_text_utf8_length(const char *bytes, size_t size) {
    const unsigned char *at = (const unsigned char *)bytes;
    size_t length = size > 0 ? utf8_expected(at[0]) : 0;
    if (length == 0 || length > size) {
        return 0;
    }
    for (size_t i = 1; i < length; i++) {
        if ((at[i] & 0xC0) != 0x80) {
            return 0;
        }
    }
    return length == 1 || utf8_second_fits(at[0], at[1]) ? length : 0;
}

/* How many bytes to take. */
size_t ld_text_cut(const char *bytes, size_t size) {
    for (size_t back = 1; back <= 3 && back < size; back++) {
        unsigned char byte = (unsigned char)bytes[size - back];
        if ((byte & 0xC0) != 0x80) { /* the beginning of the last sequence */
            return utf8_expected(byte) > back ? size - back : size;
        }
    }
    return size;
}

/* Whether the sequence at BYTES needs no escape in a line. */
static bool printable(const char *bytes, size_t length) {
    unsigned char first = (unsigned char)bytes[0];
    if (length == 1) {
        return first == '\t' || (first >= 0x20 && first != 0x7F);
    }
    return length > 2 || first != 0xC2 || (unsigned char)bytes[1] >= 0xA0;
}

/* Add the escape for the sequence at BYTES; its length in bytes. */
static size_t add_escape(struct ld_text *text, const char *bytes, size_t length, bool indent) {
    if (indent && bytes[0] == '\n') {
        ld_text_puts(text, "\n    ");
        return 1;
    }
    if (length == 2) { /* C1: U+0080 to U+009F */
        ld_text_format(text, "\\x%02X", (unsigned char)bytes[1]);
        return 2;
    }
    ld_text_format(text, "\\x%02X", (unsigned char)bytes[0]);
    return 1;
}

/* Whether each of eight bytes is a printable character of ASCII. A byte that is not leaves the highest bit of
 * its own, or of one after it, set. */
static bool are_plain(const char *bytes) {
    const uint64_t each = 0x0101010101010101;
    uint64_t word;
    memcpy(&word, bytes, sizeof word);
    uint64_t del = word ^ (each * 0x7F);
    return ((word | ((word - each * 0x20) & ~word) | ((del - each) & ~del)) & (each * 0x80)) == 0;
}

/* How many bytes at the beginning are printable characters of ASCII; perhaps some less. */
static size_t count_plain(const char *bytes, size_t size) {
    size_t count = 0;
    while (size - count >= sizeof(uint64_t) && are_plain(bytes + count)) {
        count += sizeof(uint64_t);
    }
    return count;
}

/* Add bytes that must not act on a terminal or forge a line. */
void ld_text_add_escaped(struct ld_text *text, const char *bytes, size_t size, bool indent) {
    size_t plain = 0; /* where the run of bytes that need no escape began */
    if (size == 0) {
        return; /* BYTES may be NULL, to which not even 0 may be added */
    }
    for (size_t i = count_plain(bytes, size); i < size; i += count_plain(bytes + i, size - i)) {
        size_t length = ld_text_utf8_length(bytes + i, size - i);
        if (length > 0 && printable(bytes + i, length)) {
            i += length;
            continue;
        }
        ld_text_add(text, bytes + plain, i - plain);
        i += add_escape(text, bytes + i, length, indent);
        plain = i;
    }
    ld_text_add(text, bytes + plain, size - plain);
}

/* Add bytes as valid UTF-8. */
void ld_text_add_utf8(struct ld_text *text, const char *bytes, size_t size) {
    for (size_t i = 0; i < size;) {
        size_t length = ld_text_utf8_length(bytes + i, size - i);
        if (length == 0) {
            ld_text_puts(text, replacement);
            length = 1;
        } else {
            ld_text_add(text, bytes + i, length);
        }
        i += length;
    }
}

/* Hash by FNV-1a. */
uint64_t ld_text_hash(const char *bytes, size_t size) {
    uint64_t hash = 14695981039346656037ULL;
    for (size_t i = 0; i < size; i++) {
        hash = (hash ^ (unsigned char)bytes[i]) * 1099511628211ULL;
    }
    return hash;
}
