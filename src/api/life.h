/* What the host asks of a script at the end of its life, and at a reload. */
#ifndef LD_API_LIFE_H
#define LD_API_LIFE_H

#include "script/script.h"
#include "script/task.h"

/* Take a task that calls the script's on_reload function, and is to be started with as many arguments as this
 * returns: none, or with IS_ROLLBACK one, "rollback". NULL in *TASK if there is no such function. Or -ENOMEM. */
int ld_api_life_take_on_reload(struct ld_script *script, bool is_rollback, struct ld_task **task);

/* Set lunad.state to a copy of the value at the top of FROM, made before DEADLINE (uv_hrtime); 0, or -1
 * with the reason in WHY, or -ETIME. */
int ld_api_life_set_state(struct ld_script *script, lua_State *from, uint64_t deadline,
                          struct ld_text *why);

/* Set lunad.state to what is PACKED (see pack.h); 0, or -1 with the reason in WHY. */
int ld_api_life_unpack_state(struct ld_script *script, const struct ld_text *packed,
                             struct ld_text *why);

/* Run the on_stop functions, the last one first, one after the other; script->on_stop.done is set when
 * they are done, at once or later. REASON is static. */
void ld_api_life_run_on_stop(struct ld_script *script, const char *reason);

/* Whether the script has on_stop functions. */
bool ld_api_life_has_on_stop(const struct ld_script *script);

#endif
