/* Words for the status report: the name of a function as its source says it, and what a suspended task waits
 * for. */
#ifndef LD_API_DESCRIBE_H
#define LD_API_DESCRIBE_H

#include <lua.h>

#include "api/groups.h"
#include "base/text.h"
#include "script/state.h"

#define LD_DESCRIBE_NAME 100

/* The text of the file that names were last looked up in; zeroed means none, to be freed with
 * ld_api_describe_fini. It belongs to one report. */
struct ld_describe {
    const struct ld_script *script;
    const char *source; /* Lua's, of a function */
    int loads;          /* of texts */
    struct ld_text text;
};

void ld_api_describe_fini(struct ld_describe *describe);

/* Find the name of the Lua function at the top of L: that on the line that it begins on, if the text is that of a
 * file that has not changed since the generation was loaded, or was given. "" if there is none. */
void ld_api_describe_function(struct ld_describe *describe, lua_State *L,
                              char name[LD_DESCRIBE_NAME]);

/* Find where the suspended task on CO is, its innermost line that is not lunad's own, and the outermost function of
 * the script that it runs, which is pushed on L too, or nil: for KEY, which keeps the place that it has if there is none. What it
 * points to is valid until the task goes on. */
void ld_api_describe_task(lua_State *L, lua_State *CO, struct ld_group_key *key);

/* Find the text that names the file, or else the chunk, of the function of AR: its size in *SIZE. Of one that is longer
 * than LD_GROUP_FILE, the end, which is longer by a byte. */
const char *ld_api_describe_file(const lua_Debug *ar, size_t *size);

/* Add what the suspended TASK waits for: "sleep", "exec backup.sh", "read of 10.0.0.1:80". Runs protected, on L,
 * and may raise. */
void ld_api_describe_wait(lua_State *L, struct ld_describe *describe, struct ld_task *task,
                          struct ld_text *text);

#endif
