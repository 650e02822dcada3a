/* The children in the status report. */
#ifndef LD_API_CHILD_REPORT_H
#define LD_API_CHILD_REPORT_H

#include <lua.h>

#include "script/script.h"

/* The survey of the children, and of those that a supervisor will start again: see struct ld_part. */
size_t ld_api_child_report_count(const struct ld_script *script);
int ld_api_child_report_survey(lua_State *L);

#endif
