/* The report of a daemon, as the verbs status and list show it. */
#ifndef LD_CLI_STATUS_REPORT_H
#define LD_CLI_STATUS_REPORT_H

#include <jansson.h>

#include "cli/target.h"

/* Ask a running daemon for its report and wait SECONDS for it. A new reference. Where the daemon
 * does not answer, the report has name, pid, state, and the reason as "error". NULL if it has ended
 * meanwhile; the holder of TARGET says so then. */
json_t *ld_status_report_ask(struct ld_target *target, double seconds);

/* Give a REPORT that has come the name and pid of its TARGET, which may have been followed by another process. */
void ld_status_report_complete(json_t *report, struct ld_target *target);

/* Add JSON to a text: a line for each member, and for each item of a list, DEPTH deep in an object. */
void ld_status_report_add(struct ld_text *text, const json_t *value, int depth);

/* Print such a text on stdout, with a newline. */
void ld_status_report_print_text(const struct ld_text *json);

/* Print JSON on stdout, with a newline. */
void ld_status_report_print(const json_t *value);

#endif
