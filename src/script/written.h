/* The files that a script has just written: under --watch they are no reason to reload it. */
#ifndef LD_SCRIPT_WRITTEN_H
#define LD_SCRIPT_WRITTEN_H

#include <stdbool.h>

struct ld_written;

/* Make an empty set; NULL if memory ran out. */
struct ld_written *ld_written_new(void);
void ld_written_free(struct ld_written *written); /* NULL does nothing */

/* Note that the script writes the file PATH. Without memory, nothing is noted. */
void ld_written_note(struct ld_written *written, const char *path);

/* Whether the file PATH is noted, by whatever name. */
bool ld_written_has(const struct ld_written *written, const char *path);

/* Forget all of them. */
void ld_written_clear(struct ld_written *written);

#endif
