/* The files of a log that is rotated: NAME, and older ones as NAME.1, NAME.2, ... */
#ifndef LD_BASE_LOG_FILES_H
#define LD_BASE_LOG_FILES_H

#include <stdint.h>

#define LD_LOG_FILES_KEEP_MAX 999 /* older files */

/* If the file NAME in the directory DIR (AT_FDCWD with a path) has SIZE bytes or more, rename it to NAME.1,
 * after NAME.1 to NAME.2, and so on up to NAME.KEEP; the oldest is removed when there is no free number, but
 * a file that a process can still write to is kept, with a number after KEEP, until that has ended. Nothing
 * is opened to be written, and no link is followed. Does nothing if NAME is missing or smaller. 0, or a
 * negative errno: -EEXIST if what has one of the numbers is not a regular file, -EAGAIN if another process
 * renames them now. What an interrupted rotation leaves is a free number, which the next one fills. */
int ld_log_files_rotate(int dir, const char *name, uint64_t size, int keep);

#endif
