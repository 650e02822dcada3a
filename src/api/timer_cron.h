/* Timers that follow the wall clock. */
#ifndef LD_API_TIMER_CRON_H
#define LD_API_TIMER_CRON_H

#include "script/script.h"

/* Handle a cron timer that is due. */
void ld_api_timer_cron_due(struct ld_script *script, ld_timer timer, struct ld_timer_info *info);

/* Run the jobs that came due while the script was loaded, after it has become the service in a program that the
 * one before is not in. */
void ld_api_timer_cron_run_held(struct ld_script *script);

/* Arm the cron timer whose job is at the top of the stack for its next moment. */
void ld_api_timer_cron_arm(lua_State *L, ld_timer timer);

/* Replace the job at the top of the stack by the script's function. */
void ld_api_timer_cron_unwrap(lua_State *L);

/* Add the specification of a cron timer to SPEC; its next moment in *NEXT, Unix time. Does not raise. */
void ld_api_timer_cron_describe(struct ld_script *script, ld_timer timer, struct ld_text *spec,
                                int64_t *next);

#endif
