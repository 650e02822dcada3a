/* The status report for people. */
#ifndef LD_HOST_STATUS_TEXT_H
#define LD_HOST_STATUS_TEXT_H

#include <jansson.h>

#include "base/text.h"

/* Add REPORT (as from ld_snapshot_take) as lines of text, without a newline at the end. With "full": true in it, its lists
 * follow. */
void ld_status_text(struct ld_text *text, const json_t *report);

/* Add only the lists that REPORT has, each line after a newline. */
void ld_status_text_lists(struct ld_text *text, const json_t *report);

/* Add a duration in a form for people: "3d 4h", "12.5s". */
void ld_status_text_duration(struct ld_text *text, double seconds);

/* Add a number of bytes in a form for people: "12 KiB", "3.4 MiB". */
void ld_status_text_bytes(struct ld_text *text, double bytes);

/* Add the state of a report: "running", or "restarting in 3.2 s (killed by SIGSEGV)". */
void ld_status_text_state(struct ld_text *text, const json_t *report);

/* Whether a report is that of a keeper which waits to start the next host. */
bool ld_status_text_is_between(const json_t *report);

#endif
