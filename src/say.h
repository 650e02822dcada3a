/* What a verb says: what a person asked for on stdout, complaints on stderr. */
#ifndef LD_SAY_H
#define LD_SAY_H

#include "base.h"
#include "text.h"

/* Print a formatted line on stdout. */
void ld_say(const char *format, ...) LD_PRINTF(1, 2);

/* Print a text on stdout. Control characters in it are shown as \xNN, newlines excepted; so do the
 * others here. */
void ld_say_text(const struct ld_text *text);

/* Print "lunad: " and a formatted line on stderr. */
void ld_complain(const char *format, ...) LD_PRINTF(1, 2);

#endif
