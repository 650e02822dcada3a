/* Why an exec has failed. The system's error concerns a file that it does not name: the command,
 * the interpreter of a script, or the loader of a program. */
#ifndef LD_ENGINE_EXEC_FAULT_H
#define LD_ENGINE_EXEC_FAULT_H

#include "base/text.h"
#include "engine/spawn.h"

/* Add to WHY which file is at fault, after ld_spawn_start(SPEC) has failed with CODE (a negative
 * errno) in its step "exec"; the command itself if no other is found. */
void ld_exec_fault_explain(const struct ld_spawn *spec, int code, struct ld_text *why);

#endif
