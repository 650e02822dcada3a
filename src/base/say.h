/* Output of the verbs: what was asked for on stdout, complaints on stderr. */
#ifndef LD_BASE_SAY_H
#define LD_BASE_SAY_H

#include "base/base.h"
#include "base/text.h"

/* Control characters are shown as \xNN. Without memory a complaint is cut, but it is made. */

/* Print a formatted message on stdout. Further lines of it are indented, but for a Lua traceback. */
void ld_say(const char *format, ...) LD_PRINTF(1, 2);

/* Print a text on stdout, whose lines are all its own: what a query was asked for. */
void ld_say_text(const struct ld_text *text);

/* Whether a text of ld_say_text could not be written, which it has complained of: then the exit
 * status is not 0. */
bool ld_say_has_lost(void);

/* Print "lunad: " and a formatted message on stderr, in the same form. */
void ld_say_error(const char *format, ...) LD_PRINTF(1, 2);

#endif
