/* What a verb says: what a person asked for on stdout, complaints on stderr. */
#ifndef LD_SAY_H
#define LD_SAY_H

#include "base.h"

/* Print a formatted line on stdout. */
void ld_say(const char *format, ...) LD_PRINTF(1, 2);

/* Print "lunad: " and a formatted line on stderr. */
void ld_complain(const char *format, ...) LD_PRINTF(1, 2);

#endif
