/* Messages to a service manager, by systemd's protocol. No function here fails its caller: a manager
 * that does not listen makes no difference to the service. */
#ifndef LD_POSIX_NOTIFY_H
#define LD_POSIX_NOTIFY_H

#include <stdbool.h>

#include "base/base.h"

/* Remember the socket that NOTIFY_SOCKET named, and connect to it; NULL: there is none. To be called before
 * privileges are dropped, and before a fork of a process that shall send as well. */
void ld_notify_open(const char *socket);
void ld_notify_close(void);

/* The descriptor of the connection, or -1; and the use of one that an earlier program in this process has opened
 * to the same SOCKET, which is taken over. */
int ld_notify_fd(void);
void ld_notify_adopt(const char *socket, int fd);

/* Send formatted assignments: "READY=1\nSTATUS=…", without waiting for a slow manager: what cannot be sent
 * now is kept, up to a limit, and sent before what comes later. */
void ld_notify_send(const char *format, ...) LD_PRINTF(1, 2);

/* Send WATCHDOG=1, which is not kept. */
void ld_notify_watchdog(void);

/* Send RELOADING=1 with the time that systemd requires. */
void ld_notify_reloading(void);

/* Try again to send what was kept; whether something is left: then call this again in a moment. */
bool ld_notify_is_behind(void);

#endif
