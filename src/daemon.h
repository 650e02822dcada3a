/* Becoming a daemon: the parts of a process that outlive exec and fork and must not be inherited by
 * chance, and the two forks. */
#ifndef LD_DAEMON_H
#define LD_DAEMON_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

/* Open /dev/null on every closed descriptor of 0, 1, 2, so that nothing else ever becomes one. */
void ld_daemon_fill_std(void);

#define LD_PASSED_FIRST 3 /* the first descriptor that a service manager passes */

/* How many listening sockets a service manager has passed to this process (LISTEN_FDS, LISTEN_PID),
 * from descriptor 3 on. */
int ld_daemon_passed_fds(void);

/* Close every descriptor above 2 but those that were passed; or, with KEEP_OPEN, only mark them
 * close-on-exec. Those passed are always marked. */
void ld_daemon_seal_fds(bool keep_open);

/* Let every signal do its default again, and block all of them. */
void ld_daemon_reset_signals(void);

/* Block no signal any more. */
void ld_daemon_unblock_signals(void);

/* Take what service managers say to this process alone out of the environment. */
void ld_daemon_clean_environment(void);

/* Fork twice and leave the session. In the caller: the pid-less 1, with the receiving end of a
 * report channel in *CHANNEL. In the daemon: 0, with the sending end. On failure a negative errno,
 * in the caller only. */
int ld_daemon_detach(int *channel);

/* Whether this process has a controlling terminal: it has none any more once that has hung up. */
bool ld_daemon_has_terminal(void);

/* Whether what this process writes to stdout can still be read: a pipe or socket may have no reader. */
bool ld_daemon_has_reader(void);

/* The exit status when it cannot: a shell shows the same for death by SIGPIPE. */
#define LD_STATUS_NO_READER (128 + 13)

/* Send stdin to /dev/null; 0 or a negative errno. */
int ld_daemon_null_stdin(void);

#endif
