/* The rows of the status report for people that are aligned with each other: timers and tasks. */
#ifndef LD_HOST_STATUS_ROWS_H
#define LD_HOST_STATUS_ROWS_H

#include <jansson.h>

#include "base/text.h"

/* Add a line for each timer, and each task, of REPORT; and one for the luv handles, if there are any. */
void ld_status_rows_timers(struct ld_text *text, const json_t *report);
void ld_status_rows_tasks(struct ld_text *text, const json_t *report);
void ld_status_rows_handles(struct ld_text *text, const json_t *report);

/* Add how many timers, children or tasks (KEY) the REPORT is about, and where most of them are, if they are many. */
void ld_status_rows_groups(struct ld_text *text, const json_t *report, const char *key);

/* Add BEFORE and the string KEY of OBJECT, in one line whatever is in it; "-" if it is not a string. */
void ld_status_rows_member(struct ld_text *text, const char *before, const json_t *object,
                           const char *key);

/* Add a span of time as people write it: "9 h 59 min", "12 min", "3 s", "0.4 s". */
void ld_status_rows_span(struct ld_text *text, double seconds);

/* Add a moment, Unix time, as local date and time. */
void ld_status_rows_moment(struct ld_text *text, double moment);

#endif
