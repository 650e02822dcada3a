/* A crew: the processes of a service with workers, the master NAME, and NAME-1 to NAME-N. The records of how they were started,
 * which their starter has written, say which is a worker; the processes themselves are not asked. */
#ifndef LD_CLI_CREW_H
#define LD_CLI_CREW_H

#include "cli/target.h"

/* Which worker the daemon NAME is; 0 if it is not one, and if NAME can be no daemon's. */
unsigned ld_crew_worker(const struct ld_rundir *dir, const char *name);

/* Whether the daemon NAME is a worker whose master runs. */
bool ld_crew_has_master(const struct ld_rundir *dir, const char *name);

/* The highest number of the workers of a daemon; 0 if it is not a master. */
unsigned ld_crew_count(const struct ld_target *target);

/* Find worker NUMBER of a master. It may not run at the moment: see its holder. 0; -ENOENT if there is none, because
 * it was stopped; or another negative errno. */
int ld_crew_find(struct ld_target *worker, const struct ld_target *master, unsigned number);

/* Find the running master that WORKER, which may have been stopped, is a worker of, and its number; false if there is
 * none. */
bool ld_crew_find_master(struct ld_target *master, const struct ld_target *worker,
                         unsigned *number);

/* Whether a process of a worker runs: not one that is about to be started again. */
bool ld_crew_is_up(const struct ld_target *worker);

/* Does work for a process; the exit status, after complaining. */
typedef int ld_crew_work(void *arg, struct ld_target *target);

/* Do WORK for each worker of a running target, or for the target itself if it has none. A worker that is about to be started
 * again is complained of, and is 1; one that was stopped is left out. The worst exit status. */
int ld_crew_each(struct ld_target *target, ld_crew_work *work, void *arg);

#endif
