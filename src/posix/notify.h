/* Messages to a service manager, by systemd's protocol. No function here fails its caller: a manager
 * that does not listen makes no difference to the service. */
#ifndef LD_POSIX_NOTIFY_H
#define LD_POSIX_NOTIFY_H

#include "base/base.h"

/* Remember the socket that NOTIFY_SOCKET named; NULL: there is none. To be called before
 * privileges are dropped. */
void ld_notify_open(const char *socket);
void ld_notify_close(void);

/* Send formatted assignments: "READY=1\nSTATUS=…". */
void ld_notify_send(const char *format, ...) LD_PRINTF(1, 2);

/* Send RELOADING=1 with the time that systemd requires. */
void ld_notify_reloading(void);

#endif
