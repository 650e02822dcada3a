/* What status and list show: lines on stdout, with colour on a terminal, or a screen that is drawn again and again. */
#ifndef LD_CLI_SCREEN_H
#define LD_CLI_SCREEN_H

#include <stdbool.h>

#include "base/text.h"

/* How a piece of text is shown. */
enum ld_paint { LD_PAINT_BOLD, LD_PAINT_LABEL, LD_PAINT_GOOD, LD_PAINT_BUSY, LD_PAINT_BAD };

/* Add SIZE bytes, as they are, in a colour, if stdout is a terminal that is to have some. */
void ld_screen_paint(struct ld_text *text, enum ld_paint paint, const char *bytes, size_t size);

/* The paint of a state: of "running", "stopping", "dead", … */
enum ld_paint ld_screen_paint_of(const char *state);

/* Show a text that may have paint in it, and is otherwise free of control characters: print it, or add it to the
 * screen that is being drawn. */
void ld_screen_show(const struct ld_text *text);

/* The same of a status report: the labels and the state in its lines are painted. */
void ld_screen_show_report(const struct ld_text *text);

/* Have DRAW show things, once in a second, until q, Ctrl-C or the end of the terminal; it returns an exit status. The
 * exit status: 0, or 2 after complaining that stdin and stdout are not a terminal, or because DRAW returned that. */
int ld_screen_watch(int (*draw)(void *arg), void *arg);

#endif
