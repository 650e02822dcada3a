/* Lines that a person types on a terminal, edited by libedit, which is opened when a console needs it. */
#ifndef LD_CLI_REPL_LINE_H
#define LD_CLI_REPL_LINE_H

#include <jansson.h>

#include "base/text.h"
#include "cli/repl_wait.h"

struct ld_repl_line;

struct ld_repl_line_config {
    struct ld_repl_wait *wait; /* its on_output is set here */
    /* Find the names that may come after the SIZE bytes of TEXT: a new reference to a list of strings, or NULL. */
    json_t *(*complete)(void *arg, const char *text, size_t size);
    void *arg;
};

/* Open the terminal and the history. 0, or a negative errno with the reason in WHY. */
int ld_repl_line_open(struct ld_repl_line **out, const struct ld_repl_line_config *config,
                      struct ld_text *why);
void ld_repl_line_close(struct ld_repl_line *line);

enum ld_repl_key {
    LD_REPL_LINE,    /* there is one */
    LD_REPL_DROPPED, /* by Ctrl-C */
    LD_REPL_END,     /* by Ctrl-D, a signal, or the end of the host */
};

/* Read a line, without its newline, after PROMPT. */
enum ld_repl_key ld_repl_line_read(struct ld_repl_line *line, const char *prompt,
                                   struct ld_text *text);

#endif
