/* How an event of the log looks as a line. */
#ifndef LD_BASE_LOG_LINE_H
#define LD_BASE_LOG_LINE_H

#include "base/log.h"
#include "base/text.h"

/* Add EVENT with its newline as text or as one JSON object. */
void ld_log_line_text(struct ld_text *line, const struct ld_log_event *event);
void ld_log_line_json(struct ld_text *line, const struct ld_log_event *event);

/* Add the fields in text form, each with a space before it. */
void ld_log_line_fields(struct ld_text *line, const struct ld_log_event *event);

#endif
