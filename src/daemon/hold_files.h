/* The files of a service in the run directory: pidfile, with its claim, record and control socket. */
#ifndef LD_DAEMON_HOLD_FILES_H
#define LD_DAEMON_HOLD_FILES_H

#include "daemon/service.h"

/* Take them. 0, or the exit status to take, with the reason in WHY. */
int ld_hold_files_take(struct ld_service *service, struct ld_text *why);

/* Make those again that were removed, and log that, or, with RC below 0, that it cannot be done; the pidfile with
 * the pid HOST. service->listener may be new afterwards; true if the pidfile is. */
bool ld_hold_files_restore(struct ld_service *service, pid_t host, int rc);

/* Remove them and close what is held. The record of a service that DIED is kept. */
void ld_hold_files_release(struct ld_service *service, bool died);

/* Explain in WHY what the negative errno RC says is wrong with the pidfile; 1. */
int ld_hold_files_blame_pidfile(const struct ld_service *service, int rc, struct ld_text *why);

#endif
