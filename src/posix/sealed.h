/* Bytes in memory that one process hands to another by a descriptor, and that no process can change: a sealed
 * memfd. What the bytes say is still to be judged by who reads them. */
#ifndef LD_POSIX_SEALED_H
#define LD_POSIX_SEALED_H

#include <stdbool.h>
#include <stddef.h>

/* Make a descriptor, at its beginning, of SIZE bytes; NAME is for /proc. Or a negative errno. */
int ld_sealed_make(const char *name, const char *bytes, size_t size);

/* Whether FD is of such bytes, MOST of them at most. Nothing is read. */
bool ld_sealed_is_sound(int fd, size_t most);

#endif
