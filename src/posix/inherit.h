/* What a process inherits over fork and exec and must not inherit by accident. */
#ifndef LD_POSIX_INHERIT_H
#define LD_POSIX_INHERIT_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

/* Open /dev/null on every closed descriptor of 0, 1, 2, so that nothing else ever becomes one. */
void ld_inherit_fill_std(void);

/* In the environment of one of several supervised children: which one it is, from 1 on. A lunad
 * among them adds it to its default name, so that they can run side by side. */
#define LD_INSTANCE_VARIABLE "LUNAD_INSTANCE"

#define LD_PASSED_FIRST 3 /* the first descriptor that a service manager passes */

/* How many listening sockets a service manager has passed to this process (LISTEN_FDS, LISTEN_PID),
 * from descriptor 3 on. */
int ld_inherit_passed_fds(void);

/* The name of the socket INDEX, from 0, of those (LISTEN_FDNAMES), or "unknown"; to be freed. NULL without
 * memory. */
char *ld_inherit_passed_name(int index);

/* Close every descriptor above 2 but those that were passed and SPARED (-1: none); or, with KEEP_OPEN, only
 * mark them close-on-exec. Those that are not closed are always marked. */
void ld_inherit_seal_fds(bool keep_open, int spared);

/* Let every signal do its default again, and block all of them. */
void ld_inherit_reset_signals(void);

/* Block all signals, and unblock them. */
void ld_inherit_block_signals(void);
void ld_inherit_unblock_signals(void);

/* Remove the variables that a service manager meant for this process alone. */
void ld_inherit_clean_environment(void);

/* Whether this process has a controlling terminal: after that has hung up it has none. */
bool ld_inherit_has_terminal(void);

/* Whether what this process writes to stdout can still be read: a pipe or socket may have no reader. */
bool ld_inherit_has_reader(void);

/* The exit status when it cannot: a shell shows the same for death by SIGPIPE. */
#define LD_STATUS_NO_READER (128 + 13)

/* Send stdin to /dev/null; 0 or a negative errno. */
int ld_inherit_null_stdin(void);

#endif
