/* The two forks by which a daemon leaves the terminal. */
#ifndef LD_DAEMON_DETACH_H
#define LD_DAEMON_DETACH_H

/* Fork twice and leave the session. Returns 1 in the caller, with the receiving end of a channel of
 * start reports in *CHANNEL, and 0 in the daemon, with the sending end. On failure a negative
 * errno, in the caller only; a failure of the second fork is reported over the channel. */
int ld_detach_fork(int *channel);

#endif
