/* Small services around files. */
#ifndef LD_BASE_FILE_H
#define LD_BASE_FILE_H

#include <sys/stat.h>
#include <sys/types.h>

#include "base/text.h"

/* Make the directory that PATH is in, and those above it, with MODE; 0 or a negative errno. */
int ld_file_make_parents(const char *path, mode_t mode);

/* Read all of FD into TEXT; 0 or a negative errno. */
int ld_file_read(int fd, struct ld_text *text);

/* Read all of the file PATH into TEXT; 0 or a negative errno. */
int ld_file_load(const char *path, struct ld_text *text);

/* Write all of BYTES to a blocking FD; 0 or a negative errno. */
int ld_file_write(int fd, const char *bytes, size_t size);

/* Find the facts of NAME in DIR, of a link itself. A disk may fail for a moment: tried twice. 0 or a
 * negative errno. */
int ld_file_find(int dir, const char *name, struct stat *facts);

/* Remove NAME from DIR, where it may be missing. A disk may fail for a moment: tried twice. */
void ld_file_remove(int dir, const char *name);

/* Open PATH, in the directory DIR unless it is absolute, for appending, as a log is opened: never
 * through a link, mode 0640 and group GID (or -1) when it is made; with DIR AT_FDCWD its directory is
 * made when missing. A descriptor or a negative errno. */
int ld_file_open_log(int dir, const char *path, long gid);

#endif
