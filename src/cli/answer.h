/* What a chunk that runs in a daemon has printed and returned, shown to a person. */
#ifndef LD_CLI_ANSWER_H
#define LD_CLI_ANSWER_H

#include <jansson.h>
#include <stddef.h>

#include "base/text.h"

/* Print text of the daemon on stdout, on a terminal so that nothing acts on it; 0, or -ECANCELED after
 * complaining. */
int ld_answer_print(const char *bytes, size_t size);

/* Add the values in an ANSWER to LINE, with tabs between them and a newline after them, nothing for none; 0, -EPROTO if
 * it has no list of them, or -ENOMEM. */
int ld_answer_values(const json_t *answer, struct ld_text *line);

/* The same with the values in an ANSWER, in a line with tabs between them; also -EPROTO if it has none, and
 * -ENOMEM. */
int ld_answer_print_values(const json_t *answer);

#endif
