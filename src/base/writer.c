#include "base/writer.h"

#include <stdbool.h>
#include <string.h>

#include "base/text.h"
#include "base/time.h"

#define DAY 86400

static const char digits[] = "0123456789abcdef";
static const char capitals[] = "0123456789ABCDEF"; /* of escapes, as in the log */

/* Empty the buffer. */
void ld_writer_flush(struct ld_writer *writer) {
    if (writer->size > 0 && writer->drain != NULL) {
        size_t size = writer->size;
        writer->size = 0; /* first: what drains it may fault */
        writer->drain(writer->arg, writer->buffer, size);
    }
}

/* Add bytes. */
void ld_writer_add(struct ld_writer *writer, const char *bytes, size_t size) {
    while (size > 0) {
        if (writer->size == writer->capacity && writer->drain == NULL) {
            return;
        }
        if (writer->size == writer->capacity) {
            ld_writer_flush(writer);
        }
        size_t room = writer->capacity - writer->size;
        size_t part = size < room ? size : room;
        memcpy(writer->buffer + writer->size, bytes, part);
        writer->size += part;
        bytes += part;
        size -= part;
    }
}

/* Add a string. */
void ld_writer_puts(struct ld_writer *writer, const char *string) {
    ld_writer_add(writer, string, strlen(string));
}

/* Add a number in a base, with at least WIDTH digits. */
static void add_number(struct ld_writer *writer, uint64_t number, unsigned base, int width) {
    char text[24];
    size_t at = sizeof text;
    do {
        text[--at] = digits[number % base];
        number /= base;
        width--;
    } while (number > 0 || (width > 0 && at > 0));
    ld_writer_add(writer, text + at, sizeof text - at);
}

/* Add a decimal number. */
void ld_writer_decimal(struct ld_writer *writer, long long number, int width) {
    if (number < 0) {
        ld_writer_puts(writer, "-");
    }
    add_number(writer, number < 0 ? 0 - (uint64_t)number : (uint64_t)number, 10, width);
}

/* Add a hexadecimal number. */
void ld_writer_hex(struct ld_writer *writer, uint64_t number) {
    ld_writer_puts(writer, "0x");
    add_number(writer, number, 16, 1);
}

/* Add the date of a day since 1970-01-01. A year begins in March here, so that a leap day is its last
 * one; 400 years have 146097 days. */
static void add_date(struct ld_writer *writer, int64_t day) {
    day += 719468; /* since 0000-03-01 */
    int64_t era = day / 146097;
    int64_t of_era = day % 146097;
    int64_t year = (of_era - of_era / 1460 + of_era / 36524 - of_era / 146096) / 365;
    int64_t of_year = of_era - (365 * year + year / 4 - year / 100);
    int64_t month = (5 * of_year + 2) / 153; /* 0: March */
    ld_writer_decimal(writer, year + era * 400 + (month >= 10), 4);
    ld_writer_puts(writer, "-");
    ld_writer_decimal(writer, month < 10 ? month + 3 : month - 9, 2);
    ld_writer_puts(writer, "-");
    ld_writer_decimal(writer, of_year - (153 * month + 2) / 5 + 1, 2);
}

/* Add a time. */
void ld_writer_time(struct ld_writer *writer, int64_t ns) {
    ns = ns > 0 ? ns : 0;
    int64_t seconds = ns / LD_TIME_SECOND;
    add_date(writer, seconds / DAY);
    ld_writer_puts(writer, "T");
    ld_writer_decimal(writer, seconds % DAY / 3600, 2);
    ld_writer_puts(writer, ":");
    ld_writer_decimal(writer, seconds % 3600 / 60, 2);
    ld_writer_puts(writer, ":");
    ld_writer_decimal(writer, seconds % 60, 2);
    ld_writer_puts(writer, ".");
    ld_writer_decimal(writer, ns % LD_TIME_SECOND / 1000000, 3);
    ld_writer_puts(writer, "Z");
}

/* The length of the character at BYTES, if it may be shown as it is, else 0. */
static size_t shown_length(const char *bytes, size_t size) {
    unsigned char first = (unsigned char)bytes[0];
    if (first < 0x80) {
        return (first >= ' ' && first != 0x7F) || first == '\t' ? 1 : 0;
    }
    bool is_control = first == 0xC2 && size > 1 && (unsigned char)bytes[1] < 0xA0;
    return is_control ? 0 : ld_text_utf8_length(bytes, size);
}

/* Add bytes, escaped. */
void ld_writer_escaped(struct ld_writer *writer, const char *bytes, size_t size) {
    while (size > 0) {
        size_t length = shown_length(bytes, size);
        if (length > 0) {
            ld_writer_add(writer, bytes, length);
        } else {
            ld_writer_puts(writer, "\\x");
            ld_writer_add(writer, &capitals[(unsigned char)bytes[0] >> 4], 1);
            ld_writer_add(writer, &capitals[(unsigned char)bytes[0] & 15], 1);
            length = 1;
        }
        bytes += length;
        size -= length;
    }
}

/* Add one character that JSON has to escape. */
static void add_json_escape(struct ld_writer *writer, unsigned char byte) {
    if (byte >= 0x80) {
        ld_writer_puts(writer, "\xEF\xBF\xBD"); /* U+FFFD */
    } else if (byte == '"' || byte == '\\') {
        ld_writer_puts(writer, "\\");
        ld_writer_add(writer, (const char *)&byte, 1);
    } else {
        ld_writer_puts(writer, "\\u00");
        ld_writer_add(writer, &digits[byte >> 4], 1);
        ld_writer_add(writer, &digits[byte & 15], 1);
    }
}

/* Add bytes as a JSON string. */
void ld_writer_json(struct ld_writer *writer, const char *bytes, size_t size) {
    ld_writer_puts(writer, "\"");
    while (size > 0) {
        unsigned char byte = (unsigned char)bytes[0];
        bool is_plain = byte >= ' ' && byte != '"' && byte != '\\';
        size_t length = is_plain ? ld_text_utf8_length(bytes, size) : 0;
        if (length > 0) {
            ld_writer_add(writer, bytes, length);
        } else {
            add_json_escape(writer, byte);
            length = 1;
        }
        bytes += length;
        size -= length;
    }
    ld_writer_puts(writer, "\"");
}
