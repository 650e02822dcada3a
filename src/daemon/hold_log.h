/* The log file of a service: opened, checked and rotated with the rights that it may be touched with. Where the
 * user dropped to can change the path to the file, these are the rights of that user. */
#ifndef LD_DAEMON_HOLD_LOG_H
#define LD_DAEMON_HOLD_LOG_H

#include "daemon/service.h"

/* Open the log of the service. 0, or the exit status to take, with the reason in WHY. */
int ld_hold_log_take(struct ld_service *service, struct ld_text *why);

/* Open the log of a service that goes on as another program: OPENER gives the descriptor of the file. 0 or a
 * negative errno. */
int ld_hold_log_resume(struct ld_service *service, ld_log_opener *opener, void *arg);

/* Check that it can be opened; the file is removed if it did not exist before. As above. */
int ld_hold_log_check(struct ld_service *service, struct ld_text *why);

/* Open the log file; the opener of the log. ARG is the service. A descriptor or a negative errno. */
int ld_hold_log_open(void *arg);

/* Move the log file away if it has at least half of the size of --log-max-size, in the directory that was found
 * at the start, and open the log file; likewise. */
int ld_hold_log_rotate(void *arg);

#endif
