/* What a service holds while it runs: its log, its pidfile and claim, its record, its sockets; and
 * the rights that it gives up before the script is loaded. */
#ifndef LD_DAEMON_HOLD_H
#define LD_DAEMON_HOLD_H

#include "daemon/service.h"

/* Take hold of log, directory, pidfile, record, control socket and the sockets of --listen. 0,
 * or the exit status to take, with the reason in WHY. */
int ld_hold_take(struct ld_service *service, struct ld_text *why);

/* Check that ld_hold_take and ld_hold_drop could succeed, apart from the name, which may be in use:
 * open the log, change the directory, set the limits, become the user. Leaves no new file. The
 * process keeps the rights of the service. 0 or an exit status, as above. */
int ld_hold_check(struct ld_service *service, struct ld_text *why);

/* Write our pid into the pidfile, set limits and user, and with a keeper close every descriptor
 * that only the keeper needs. 0 or an exit status, as above. */
int ld_hold_drop(struct ld_service *service, struct ld_text *why);

/* Call this when file_watch is readable: make pidfile (with the pid HOST), record, control socket
 * and run directory again if they were removed. service->listener may be new afterwards; true if the
 * pidfile is. */
bool ld_hold_restore_files(struct ld_service *service, pid_t host);

/* Write NAME.start again, without the death that ld_record_note_death has noted in it: it was not the end of
 * the service. If that fails, the death stays in it. */
void ld_hold_forget_death(const struct ld_service *service);

/* Remove the files and close what is held. The record of a service that DIED is kept. */
void ld_hold_release(struct ld_service *service, bool died);

/* Remove pidfile, control socket and record that a dead daemon left in the run directory DIR, and those of its
 * workers; does nothing while a process holds the lock. */
void ld_hold_remove_stale(int dir, const char *name);

#endif
