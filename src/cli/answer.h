/* What a chunk that runs in a daemon has printed and returned, shown to a person. */
#ifndef LD_CLI_ANSWER_H
#define LD_CLI_ANSWER_H

#include <jansson.h>
#include <stddef.h>

/* Print text of the daemon on stdout, on a terminal so that nothing acts on it; 0, or -ECANCELED after
 * complaining. */
int ld_answer_print(const char *bytes, size_t size);

/* The same with the values in an ANSWER, in a line with tabs between them; also -EPROTO if it has none, and
 * -ENOMEM. */
int ld_answer_print_values(const json_t *answer);

#endif
