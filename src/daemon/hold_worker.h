/* The files of the workers of a master, NAME-1 and so on: pidfile, claim, record and control socket of each.
 * Whoever holds those of the master holds these too, a keeper or the master itself, so that they outlive a
 * worker that crashes, and can be made where the workers themselves may not write. */
#ifndef LD_DAEMON_HOLD_WORKER_H
#define LD_DAEMON_HOLD_WORKER_H

#include "daemon/handover.h"
#include "daemon/service.h"

/* Take those of all workers that there are to be. 0, or the exit status to take, with the reason in WHY. */
int ld_hold_worker_take_all(struct ld_service *service, struct ld_text *why);

/* Write PID, the process of WORKER, into its pidfile, which is made if there is none yet: a descriptor that the
 * worker takes the witness with (posix/pidfile.h), or a negative errno: -EBUSY if another daemon has the
 * name, which is logged. */
int ld_hold_worker_lock(struct ld_service *service, int worker, pid_t pid);

/* The control socket of a worker whose files are held: a new descriptor, or a negative errno. */
int ld_hold_worker_socket(const struct ld_service *service, int worker);

/* Show that a worker whose files are held has no process now. The pid of the last one stays: it means nothing without
 * the witness, where that of another process would be taken for the worker's. */
void ld_hold_worker_wait(const struct ld_service *service, int worker);

/* Remove the files of a worker; does nothing if they are not held. */
void ld_hold_worker_drop(struct ld_service *service, int worker);

/* Make removed files of workers again; true if there are new ones, which the workers have to ask for. */
bool ld_hold_worker_restore(struct ld_service *service);

/* Remove the files of all workers. */
void ld_hold_worker_release(struct ld_service *service);

/* In a host below the keeper that holds the files: close what was inherited of them. */
void ld_hold_worker_forget(struct ld_service *service);

/* Leave all of them to another program, a new reference; hold again what was left in LIST: 0 or a negative errno. */
json_t *ld_hold_worker_leave(struct ld_handover *handover, const struct ld_service *service);
int ld_hold_worker_take_over(struct ld_handover *handover, const json_t *list,
                             struct ld_service *service);

#endif
