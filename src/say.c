#include "say.h"

#include <stdarg.h>

/* Print a line on stdout. */
void ld_say(const char *format, ...) {
    va_list args;
    va_start(args, format);
    vprintf(format, args);
    va_end(args);
    putchar('\n');
    fflush(stdout);
}

/* Print a complaint on stderr. */
void ld_complain(const char *format, ...) {
    va_list args;
    va_start(args, format);
    fflush(stdout);
    fputs("lunad: ", stderr);
    vfprintf(stderr, format, args);
    va_end(args);
    putc('\n', stderr);
}
