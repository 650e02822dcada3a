/* The words that another program in the process of a service is called with, in an upgrade. No verb: no person types
 * them. */
#ifndef LD_CLI_IMAGE_H
#define LD_CLI_IMAGE_H

#include <stdbool.h>

/* Whether WORD is one of them. */
bool ld_image_has(const char *word);

/* Take over, or try to; the exit status. */
int ld_image_run(int argc, char **argv);

#endif
