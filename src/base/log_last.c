#include "base/log_last.h"

#include <string.h>
#include <unistd.h>

#include "base/time.h"
#include "base/writer.h"

#define BUFFER_SIZE 4096 /* bytes that are written at once */

/* Write SIZE bytes of the message as a line of JSON. */
static void put_json(struct ld_writer *writer, const struct ld_log_last *last, const char *message,
                     size_t size) {
    ld_writer_puts(writer, "{\"time\":\"");
    ld_writer_time(writer, ld_time_real());
    ld_writer_puts(writer, "\",\"level\":\"");
    ld_writer_puts(writer, ld_log_line_level_name(last->level));
    ld_writer_puts(writer, "\",\"source\":\"lunad\",\"pid\":");
    ld_writer_decimal(writer, getpid(), 1);
    ld_writer_puts(writer, ",\"message\":");
    ld_writer_json(writer, message, size);
    ld_writer_puts(writer, "}\n");
}

/* Write SIZE bytes of the message as text; what follows the first line is indented. */
static void put_text(struct ld_writer *writer, const struct ld_log_last *last, size_t size) {
    const char *name = ld_log_line_level_name(last->level);
    const char *message = last->message;
    ld_writer_time(writer, ld_time_real());
    ld_writer_puts(writer, " ");
    ld_writer_puts(writer, name);
    ld_writer_add(writer, "     ", 6 - strlen(name));
    ld_writer_puts(writer, "lunad: ");
    const char *newline;
    while (size > 0 && (newline = memchr(message, '\n', size)) != NULL) {
        size_t length = (size_t)(newline - message);
        ld_writer_escaped(writer, message, length);
        ld_writer_puts(writer, size > length + 1 ? "\n    " : "");
        message += length + 1;
        size -= length + 1;
    }
    ld_writer_escaped(writer, message, size);
    ld_writer_puts(writer, "\n");
}

/* The size of the message without the newlines at its end. */
static size_t trimmed(const struct ld_log_last *last) {
    size_t size = last->size;
    while (size > 0 && last->message[size - 1] == '\n') {
        size--;
    }
    return size;
}

/* Write it. */
void ld_log_last_write(const struct ld_log_last *last,
                       void (*drain)(void *arg, const char *bytes, size_t size)) {
    static char buffer[BUFFER_SIZE];
    struct ld_writer writer = {.buffer = buffer, .capacity = sizeof buffer, .drain = drain};
    ld_writer_puts(&writer, last->torn ? "\n" : "");
    if (last->json) {
        put_json(&writer, last, last->message, trimmed(last));
    } else {
        put_text(&writer, last, trimmed(last));
    }
    ld_writer_flush(&writer);
}

/* Send one line to syslog, in the configured form. */
static void send_line(const struct ld_log_last *last, struct ld_syslogger *syslogger,
                      const char *line, size_t size) {
    static char buffer[BUFFER_SIZE];
    struct ld_writer writer = {.buffer = buffer, .capacity = sizeof buffer};
    if (last->json) {
        put_json(&writer, last, line, size);
        writer.size--; /* without the newline */
    } else {
        ld_writer_puts(&writer, "lunad: ");
        ld_writer_escaped(&writer, line, size);
    }
    const struct ld_syslogger_message message = {
        .priority = last->priority, .ident = last->ident, .text = buffer, .size = writer.size};
    ld_syslogger_send_from_handler(syslogger, &message);
}

/* Send each line. */
void ld_log_last_send(const struct ld_log_last *last, struct ld_syslogger *syslogger) {
    const char *message = last->message;
    size_t size = trimmed(last);
    while (size > 0) {
        const char *newline = memchr(message, '\n', size);
        size_t length = newline != NULL ? (size_t)(newline - message) : size;
        size_t taken = newline != NULL ? length + 1 : length;
        if (length > 0) {
            send_line(last, syslogger, message, length);
        }
        message += taken;
        size -= taken;
    }
}
