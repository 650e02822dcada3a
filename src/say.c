#include "say.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "text.h"

/* Print text that may come from anywhere: lines stay lines, and nothing acts on the terminal. */
static void print_lines(FILE *to, const struct ld_text *text) {
    struct ld_text shown = {0};
    const char *line = ld_text_string(text);
    const char *end = line + text->size;
    while (line < end) {
        const char *newline = memchr(line, '\n', (size_t)(end - line));
        size_t size = (size_t)((newline != NULL ? newline : end) - line);
        ld_text_add_escaped(&shown, line, size, false);
        ld_text_putc(&shown, '\n');
        line += size + 1;
    }
    if (text->size == 0) {
        ld_text_putc(&shown, '\n');
    }
    fputs(ld_text_string(&shown), to);
    ld_text_fini(&shown);
}

/* Print a text. */
void ld_say_text(const struct ld_text *text) {
    print_lines(stdout, text);
    fflush(stdout);
}

/* Print what printf would print. */
void ld_say(const char *format, ...) {
    struct ld_text text = {0};
    va_list args;
    va_start(args, format);
    ld_text_vformat(&text, format, args);
    va_end(args);
    ld_say_text(&text);
    ld_text_fini(&text);
}

/* Print a complaint on stderr. */
void ld_complain(const char *format, ...) {
    struct ld_text text = {0};
    va_list args;
    va_start(args, format);
    ld_text_puts(&text, "lunad: ");
    ld_text_vformat(&text, format, args);
    va_end(args);
    fflush(stdout);
    print_lines(stderr, &text);
    ld_text_fini(&text);
}
