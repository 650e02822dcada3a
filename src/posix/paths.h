/* Where things are: run directory, log file, scripts, and the names made from them. Functions that
 * return a char * give malloc'd memory, or NULL when memory ran out. */
#ifndef LD_POSIX_PATHS_H
#define LD_POSIX_PATHS_H

#include <stdbool.h>

#include "base/text.h"

/* The ends of the names of a daemon's files in the run directory: NAME.pid and so on. */
#define LD_PATHS_PIDFILE ".pid"
#define LD_PATHS_RECORD  ".start"
#define LD_PATHS_SOCKET  ".sock"

/* PATH made absolute against the current directory, without resolving links. NULL also with errno
 * ENOENT, if the path is relative and the current directory has been removed. */
char *ld_paths_absolute(const char *path);

/* Why one of these just gave NULL, by errno, as text. */
const char *ld_paths_why_not(void);

/* Make relative LUNAD_RUN_DIR and LUNAD_LOG_DIR in the environment absolute, so that they mean the
 * same to a process in another directory. */
void ld_paths_fix_environment(void);

/* The run directory: CHOSEN (--run-dir) or NULL for the default. Absolute; NULL as above. */
char *ld_paths_run_dir(const char *chosen);

/* Search templates for --path and --cpath: each element of LIST (with ";" between) made absolute; a
 * directory becomes TEMPLATES, in which "DIR" is replaced by it. */
char *ld_paths_search(const char *list, const char *templates);

/* The path of the control socket of NAME; -ENAMETOOLONG if no socket can have it. */
int ld_paths_socket(char *path, size_t size, const char *run_dir, const char *name);

/* The default log file of NAME. Absolute. */
char *ld_paths_log_file(const char *name);

/* The file NAME among those that are kept for the user: in $LUNAD_STATE_DIR, else in /var/lib/lunad for root,
 * else in the user's directory of state files. Absolute. */
char *ld_paths_state_file(const char *name);

/* The daemon's name that SCRIPT implies: its file name without ".lua". Not checked. */
char *ld_paths_script_name(const char *script);

/* Whether a NAME argument means a script's path: it has a slash or ends in ".lua". */
bool ld_paths_is_script(const char *name);

/* The descriptor that a path such as /dev/stdin, /dev/fd/63 or /proc/self/fd/63 names: 0 or more,
 * open or not; -1 for any other path. */
int ld_paths_descriptor(const char *path);

/* Open the run directory: a descriptor, or a negative errno with the reason in WHY. With CREATE it
 * is made when missing, and must be safe to keep pidfiles in: a directory of ours, not a link, not
 * writable by others. Without it, a user other than root may look into its own and into root's. */
int ld_paths_open_run_dir(const char *path, bool create, struct ld_text *why);

#endif
