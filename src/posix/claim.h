/* A second lock on a daemon's name, which removing files does not remove: a listening socket in the
 * abstract namespace. The pidfile's lock decides; the claim tells a second start that the pidfile, or
 * the whole run directory, was removed under a daemon that still runs. Any user may bind any abstract
 * name, so one that a process of another user holds means nothing. */
#ifndef LD_POSIX_CLAIM_H
#define LD_POSIX_CLAIM_H

/* Claim NAME in the run directory at the path RUN_DIR: a descriptor, to be closed at the end;
 * -EWOULDBLOCK if a process of our user has claimed it; another negative errno if nothing is known. */
int ld_claim_take(const char *run_dir, const char *name);

#endif
