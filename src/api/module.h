/* What the parts of the Lua module do for the host, beside being libraries. */
#ifndef LD_API_MODULE_H
#define LD_API_MODULE_H

#include <jansson.h>
#include <lua.h>
#include <stdbool.h>

#include "script/script.h"
#include "script/task.h"

/* Open the module, and set it in place of what it replaces (print, os.exit, …). For
 * ld_setup.open_libraries. */
int ld_api_module_open(lua_State *L);

/* Deliver a signal to the script's own handlers; false if it has none. */
bool ld_api_signal_deliver(struct ld_script *script, int signo);

/* Drop all timers and signal handlers of a script that has been replaced. */
void ld_api_timer_drop_all(struct ld_script *script);
void ld_api_signal_drop_all(struct ld_script *script);

/* Run what of cron came due while NEXT was loaded beside OLD: by one of the two, if neither has run it.
 * To be called when NEXT has become the service. */
void ld_api_cron_hand_over(struct ld_script *old, struct ld_script *next);

/* Take a task that is to be started without arguments and calls the script's on_reload function;
 * NULL in *TASK if there is no such function. 0 or -ENOMEM. */
int ld_api_life_take_on_reload(struct ld_script *script, struct ld_task **task);

/* Set lunad.state to a copy of the value at the top of FROM, made before DEADLINE (uv_hrtime); 0, or -1
 * with the reason in WHY, or -ETIME. */
int ld_api_life_set_state(struct ld_script *script, lua_State *from, uint64_t deadline,
                          struct ld_text *why);

/* Run the on_stop functions, the last one first, one after the other; script->stop_done is set when
 * they are done, at once or later. REASON is static. */
void ld_api_life_run_on_stop(struct ld_script *script, const char *reason);

/* Make good the claims of a script that has become the service: the kept children it asked for are
 * its own now. */
void ld_api_child_take_over(struct ld_script *script);

/* Kill the children of a script that is to be as if it had never been, and all that came of them. */
void ld_api_child_kill_all(struct ld_script *script);

/* End the children that a script had when it was replaced: SIGTERM, and SIGKILL after a while. Commands
 * of lunad.exec may finish. */
void ld_api_child_retire(struct ld_script *script);

/* Add the names of the commands and children of a replaced script that run and were not told to end. */
void ld_api_child_name_unfinished(struct ld_script *script, struct ld_text *text);

/* Push what lunad's own Lua shares with C, a table. */
void ld_api_module_push_core(lua_State *L);

/* Parts of the status report, each a new reference. */
json_t *ld_api_timer_report(struct ld_script *script);
json_t *ld_api_signal_report(struct ld_script *script);
json_t *ld_api_task_report(struct ld_script *script);
json_t *ld_api_child_report(struct ld_script *script);

/* Add the traceback of every suspended task. */
void ld_api_task_traceback(struct ld_script *script, struct ld_text *text);

#endif
