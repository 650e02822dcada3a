/* Scripts by which a shell completes command lines of lunad. */
#ifndef LD_CLI_COMPLETION_H
#define LD_CLI_COMPLETION_H

#include "cli/verbs.h"

/* Print the script for the shell that is the operand of CALL, made from the table of VERBS; or with "names" in its
 * place the names of what runs. The exit status. */
int ld_completion_print(const struct ld_call *call, const struct ld_verb *const *verbs,
                        size_t count);

#endif
