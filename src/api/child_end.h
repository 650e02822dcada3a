/* How children end with their generation, and the processes that they leave behind. */
#ifndef LD_API_CHILD_END_H
#define LD_API_CHILD_END_H

#include "api/child_box.h"

/* What to do to strays. */
enum ld_strays { LD_STRAYS_COUNT, LD_STRAYS_TERM, LD_STRAYS_KILL };

/* Kill the children of a script that is given up, and all that descends from them. */
void ld_api_child_end_discard(struct ld_script *script);

/* End the children that a script had when it was replaced: SIGTERM, and SIGKILL after a while. Commands
 * of lunad.exec may finish. */
void ld_api_child_end_retire(struct ld_script *old, struct ld_script *next);

/* Add the names of the commands and children of a replaced script that run and were not told to end. */
void ld_api_child_end_name_unfinished(struct ld_script *script, struct ld_text *text);

/* Count the processes that a marked child left behind at its end, detached ones excepted; ask them to
 * end, or kill them, and all that descends from them. */
size_t ld_api_child_end_strays(const struct ld_script *script, const struct ld_child_box *box,
                               enum ld_strays how);

#endif
