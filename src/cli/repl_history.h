/* What was typed into consoles before: a file with a line for each. */
#ifndef LD_CLI_REPL_HISTORY_H
#define LD_CLI_REPL_HISTORY_H

#include <stddef.h>

#include "base/text.h"

#define LD_REPL_HISTORY_LINES 1000 /* that are remembered */

struct ld_repl_history {
    int fd; /* -1: nothing is kept */
};

/* Open the file of this user, mode 0600, and call EACH with its last lines. A negative errno with the reason in
 * WHY if it cannot be kept: it is no file of this user's own, or reached through a link. */
int ld_repl_history_open(struct ld_repl_history *history, void (*each)(void *arg, const char *line),
                         void *arg, struct ld_text *why);
void ld_repl_history_close(struct ld_repl_history *history);

/* Add a LINE, without its newline. */
void ld_repl_history_add(const struct ld_repl_history *history, const char *line);

#endif
