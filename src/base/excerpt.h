/* The line of a source that an error message is about, shown to a person at a terminal. */
#ifndef LD_BASE_EXCERPT_H
#define LD_BASE_EXCERPT_H

#include <stddef.h>

/* Print the line that MESSAGE, which begins with "file:line:", is about on stderr, with a caret below what it
 * names, if stderr is a terminal; in colour unless NO_COLOR is set. SCRIPT (or NULL) is a file whose name may be
 * cut in the message. Nothing is printed if there is no such line: the file is read with the rights of this
 * process, which must be those of whoever has written the message. */
void ld_excerpt_print(const char *message, const char *script);

#endif
