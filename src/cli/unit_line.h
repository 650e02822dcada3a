/* What a service manager must know of a service, and the command lines of it. */
#ifndef LD_CLI_UNIT_LINE_H
#define LD_CLI_UNIT_LINE_H

#include <stdbool.h>

#include "base/text.h"
#include "cli/quote.h"
#include "daemon/options.h"

/* An option as it was given. */
struct ld_unit_option {
    const char *name;
    char *value; /* paths are absolute; NULL for a flag */
};

struct ld_unit {
    const struct ld_options *options;
    char *program; /* lunad itself; paths are absolute and have no control characters */
    char *name;
    char *script;
    char *run_dir;
    char **args;                  /* of the script; borrowed */
    bool has_restart;             /* --restart was given */
    struct ld_unit_option *given; /* but for --run-dir; of what is no list, the last one */
    size_t given_count;
    bool failed; /* memory ran out */
};

/* How the command line of a service is written. */
struct ld_unit_style {
    const char *verb; /* run or start */
    ld_quote_word *quote;
    const char *const *without; /* options that the manager takes care of; ends with NULL */
    const char *more;           /* options to add, or "" */
};

/* Add the command line that starts the service, without its program. */
void ld_unit_line_start(struct ld_text *text, const struct ld_unit *unit,
                        const struct ld_unit_style *style);

/* Add "VERB --run-dir DIR NAME". */
void ld_unit_line_verb(struct ld_text *text, const struct ld_unit *unit, const char *verb,
                       ld_quote_word *quote);

#endif
