/* The children in the status report. */
#ifndef LD_API_CHILD_REPORT_H
#define LD_API_CHILD_REPORT_H

#include <jansson.h>

#include "script/script.h"

/* Report the children, and those that a supervisor will start again: see struct ld_part. */
json_t *ld_api_child_report(struct ld_script *script, size_t *total);

#endif
