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

#endif
