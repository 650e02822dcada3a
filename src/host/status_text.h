/* The status report for people. */
#ifndef LD_HOST_STATUS_TEXT_H
#define LD_HOST_STATUS_TEXT_H

#include <jansson.h>

#include "base/text.h"

/* Add REPORT (as from ld_snapshot_take) as lines of text, without a newline at the end. */
void ld_status_text(struct ld_text *text, const json_t *report);

/* Add BEFORE and the string KEY of OBJECT, in one line whatever is in it; "-" if it is not a string. */
void ld_status_text_member(struct ld_text *text, const char *before, const json_t *object,
                           const char *key);

/* Add a duration in a form for people: "3d 4h", "12.5s". */
void ld_status_text_duration(struct ld_text *text, double seconds);

/* Add the state of a report: "running", or "restarting in 3.2 s (killed by SIGSEGV)". */
void ld_status_text_state(struct ld_text *text, const json_t *report);

/* Whether a report is that of a keeper which waits to start the next host. */
bool ld_status_text_is_between(const json_t *report);

#endif
