/* A connection to the system's log, which never blocks for long and reports what it did not take. (The
 * C library's syslog() does neither.) */
#ifndef LD_BASE_SYSLOGGER_H
#define LD_BASE_SYSLOGGER_H

#include <stdbool.h>
#include <stddef.h>

/* One connection. Zeroed and with fd -1 it is closed. */
struct ld_syslogger {
    const char *path; /* of the socket; NULL: /dev/log. Not owned */
    int fd;
    bool stream; /* the other side wants a stream */
};

/* One message of facility daemon. TEXT is not NUL-terminated. */
struct ld_syslogger_message {
    int priority; /* LOG_INFO … */
    const char *ident;
    const char *text;
    size_t size;
    int wait_ms; /* how long to wait for a full socket */
};

/* Connect; 0 or a negative errno. */
int ld_syslogger_connect(struct ld_syslogger *syslogger);

/* Send one message, connecting first, or again, if that is necessary: 0 or a negative errno, such as
 * -ECONNREFUSED and -ENOENT if there is no listener, -EAGAIN if it does not keep up. */
int ld_syslogger_send(struct ld_syslogger *syslogger, const struct ld_syslogger_message *message);

/* The same in a signal handler: the message has no time stamp, for which the C library takes locks, and
 * is cut if it is long; nothing is waited for. */
void ld_syslogger_send_from_handler(struct ld_syslogger *syslogger,
                                    const struct ld_syslogger_message *message);

void ld_syslogger_close(struct ld_syslogger *syslogger);

#endif
