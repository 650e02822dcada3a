/* What a service holds while it runs: its log, its pidfile and claim, its record, its sockets; and the
 * rights that it gives up before the script is loaded. */
#ifndef LD_DAEMON_HOLD_H
#define LD_DAEMON_HOLD_H

#include "daemon/service.h"

/* Take hold of log, directory, pidfile, record, control socket and sockets (steps 9 to 13). 0, or the
 * exit status to take, with the reason in WHY. */
int ld_hold_take(struct ld_service *service, struct ld_text *why);

/* Check that ld_hold_take and ld_hold_drop could succeed but for the name, which may be held: the
 * log can be opened, the directory be gone to, the user be become. Leaves no file that was not there;
 * this process has the rights of the service afterwards. Likewise. */
int ld_hold_check(struct ld_service *service, struct ld_text *why);

/* Say in the pidfile that we are the daemon, and become what the script runs as (step 14); likewise.
 * Where rights are given up, every descriptor is closed that only the keeper needs. */
int ld_hold_drop(struct ld_service *service, struct ld_text *why);

/* Open the log file, as the log's opener: through a way that the user dropped to can bend only with
 * that user's rights. ARG is the service. A descriptor or a negative errno. */
int ld_hold_open_log(void *arg);

/* When file_watch is readable: make pidfile (of the host, HOST), record and control socket again if
 * one was removed, or the run directory with them. Then service->listener may be a new socket. */
void ld_hold_restore_files(struct ld_service *service, pid_t host);

/* Remove the files and let go; the record stays of one that DIED. */
void ld_hold_release(struct ld_service *service, bool died);

/* Remove pidfile, control socket and record that a dead daemon left in the run directory DIR; does nothing
 * while a process holds the lock. */
void ld_hold_remove_stale(int dir, const char *name);

#endif
