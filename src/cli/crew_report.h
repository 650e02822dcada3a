/* The status of a service with workers, made of those of its processes. */
#ifndef LD_CLI_CREW_REPORT_H
#define LD_CLI_CREW_REPORT_H

#include <jansson.h>

#include "cli/target.h"

/* Make the report of a worker that has no process at the moment, a new reference. */
json_t *ld_crew_report_waiting(const struct ld_target *worker);

/* Add to the REPORT of a master those of its workers, and what they have in sum, if TARGET is a master: a worker
 * has SECONDS to answer. */
void ld_crew_report_add(json_t *report, const struct ld_target *target, double seconds);

#endif
