/* How an event of the log looks as a line. */
#ifndef LD_LOGLINE_H
#define LD_LOGLINE_H

#include "log.h"
#include "text.h"

/* Add EVENT with its newline as text or as one JSON object. */
void ld_logline_text(struct ld_text *line, const struct ld_log_event *event);
void ld_logline_json(struct ld_text *line, const struct ld_log_event *event);

/* Add the fields in text form, each with a space before it. */
void ld_logline_fields(struct ld_text *line, const struct ld_log_event *event);

#endif
