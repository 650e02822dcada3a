/* Leaving the terminal: the two forks. */
#ifndef LD_DAEMON_DETACH_H
#define LD_DAEMON_DETACH_H

/* Fork twice and leave the session. In the caller: the pid-less 1, with the receiving end of a
 * report channel in *CHANNEL. In the daemon: 0, with the sending end. On failure a negative errno,
 * in the caller only. */
int ld_detach_fork(int *channel);

#endif
