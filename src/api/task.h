/* Tasks that scripts start. */
#ifndef LD_API_TASK_H
#define LD_API_TASK_H

#include "script/script.h"

/* Add the traceback of every suspended task. */
void ld_api_task_traceback(struct ld_script *script, struct ld_text *text);

#endif
