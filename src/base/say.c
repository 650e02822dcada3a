#include "base/say.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/text.h"

/* Whether a further line of a message belongs to a Lua traceback, which is shown as it is. */
static bool is_traceback(const char *line, size_t size) {
    static const char head[] = "stack traceback:";
    return size > 0 &&
           (line[0] == '\t' || (size == sizeof head - 1 && memcmp(line, head, size) == 0));
}

/* Add one line of a message. A further one is indented, so that it cannot pass for a message. */
static void add_line(struct ld_text *shown, const char *line, size_t size, bool further) {
    if (further && !is_traceback(line, size)) {
        ld_text_puts(shown, "    ");
    }
    ld_text_add_escaped(shown, line, size, false);
    ld_text_putc(shown, '\n');
}

static bool is_lost; /* something that was asked for could not be written */

/* Complain, once, that what was asked for could not be written to stdout. */
static void complain_of_stdout(int error) {
    if (!is_lost) {
        is_lost = true;
        ld_say_error("stdout: %s", strerror(error));
    }
}

/* Print text that may come from anywhere so that nothing acts on the terminal. False when memory ran
 * out; then nothing is printed. With INDENT all of it is one message. */
static bool print_lines(FILE *to, const struct ld_text *text, bool indent) {
    struct ld_text shown = {0};
    const char *line = ld_text_string(text);
    const char *end = line + text->size;
    bool further = false;
    do {
        const char *newline = memchr(line, '\n', (size_t)(end - line));
        size_t size = (size_t)((newline != NULL ? newline : end) - line);
        add_line(&shown, line, size, indent && further);
        line += size + 1;
        further = true;
    } while (line < end);
    bool failed = text->failed || shown.failed;
    if (!failed) {
        fwrite(shown.data, 1, shown.size, to);
    }
    fflush(to);
    ld_text_fini(&shown);
    return !failed;
}

/* Print the beginning of a message without asking for memory. */
static void print_beginning(FILE *to, const char *format, va_list args) {
    char beginning[512];
    int size = vsnprintf(beginning, sizeof beginning, format, args);
    for (char *at = beginning; size >= 0 && *at != '\0'; at++) {
        if ((unsigned char)*at < ' ' || (unsigned char)*at >= 0x7F) {
            *at = '?';
        }
    }
    fprintf(to, "%s\n", size >= 0 ? beginning : "not enough memory");
    fflush(to);
}

/* Print BEFORE and a message. */
static void print_message(FILE *to, const char *before, const char *format, va_list args) {
    struct ld_text text = {0};
    va_list again;
    va_copy(again, args);
    ld_text_puts(&text, before);
    ld_text_vformat(&text, format, args);
    if (!print_lines(to, &text, true)) {
        fputs(before, to);
        print_beginning(to, format, again);
    }
    va_end(again);
    ld_text_fini(&text);
}

/* Print a text. */
void ld_say_text(const struct ld_text *text) {
    errno = 0;
    if (!print_lines(stdout, text, false)) {
        ld_say_error("not enough memory");
        is_lost = true;
    } else if (ferror(stdout)) {
        complain_of_stdout(errno);
    }
}

/* Print what printf would print. */
void ld_say(const char *format, ...) {
    va_list args;
    va_start(args, format);
    print_message(stdout, "", format, args);
    va_end(args);
}

/* Whether a text was lost. */
bool ld_say_has_lost(void) {
    return is_lost;
}

/* Print a complaint on stderr. */
void ld_say_error(const char *format, ...) {
    va_list args;
    va_start(args, format);
    fflush(stdout);
    print_message(stderr, "lunad: ", format, args);
    va_end(args);
}
