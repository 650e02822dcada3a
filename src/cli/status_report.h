/* The report of a daemon, as the verbs status and list show it. */
#ifndef LD_CLI_STATUS_REPORT_H
#define LD_CLI_STATUS_REPORT_H

#include <jansson.h>

#include "cli/target.h"

/* Ask a running daemon for its report and wait SECONDS for it. A new reference. Where the daemon
 * does not answer, the report has name, pid, state, and the reason as "error". NULL if it has ended
 * meanwhile; the holder of TARGET says so then. */
json_t *ld_status_report_ask(struct ld_target *target, double seconds);

/* Print JSON on stdout, with a newline. */
void ld_status_report_print(const json_t *value);

#endif
