/* What a signal handler writes to the log, perhaps as the last thing that its process does: it interrupts
 * whatever the log was doing. Nothing here allocates, locks or depends on a locale. */
#ifndef LD_BASE_LOG_LAST_H
#define LD_BASE_LOG_LAST_H

#include <stdbool.h>
#include <stddef.h>

#include "base/log_line.h"
#include "base/syslogger.h"

/* One message of lunad itself, and how it is written. */
struct ld_log_last {
    enum ld_log_level level;
    bool json;
    bool torn;         /* half a line comes before it */
    int priority;      /* of syslog */
    const char *ident; /* of syslog */
    const char *message;
    size_t size; /* newlines at its end are left out */
};

/* Write it as one event, in pieces that DRAIN takes. */
void ld_log_last_write(const struct ld_log_last *last,
                       void (*drain)(void *arg, const char *bytes, size_t size));

/* Send each of its lines to syslog. */
void ld_log_last_send(const struct ld_log_last *last, struct ld_syslogger *syslogger);

#endif
