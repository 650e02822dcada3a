/* A script: from its source to a running generation, and to its end.
 *
 * Only task.c calls into Lua from outside; what a callback does with the state, the pushing of
 * arguments too, happens inside that protected call. Nothing here calls upwards: a script that
 * wants something of its host says so in `wants`, and the host looks after the call. */
#ifndef LD_SCRIPT_SCRIPT_H
#define LD_SCRIPT_SCRIPT_H

#include "script/state.h"

/* Make a generation with its libraries; 0 or a negative errno with the reason in WHY. */
int ld_script_new(struct ld_script **out, const struct ld_setup *setup, unsigned generation,
                  struct ld_text *why);

/* Have it made from MEMORY, of another generation, which is held: what is in there is not read from the disk.
 * Before its source is compiled. */
void ld_script_recall(struct ld_script *script, struct ld_memory *memory);

/* Compile its source; 0 or a negative errno with the reason in WHY. */
int ld_script_load(struct ld_script *script, struct ld_text *why);

/* Run the chunk until it first gives control back. */
void ld_script_start(struct ld_script *script);

/* Whether it has become ready. */
bool ld_script_is_ready(const struct ld_script *script);

/* Whether anything of it is left that can still do something. */
bool ld_script_is_alive(const struct ld_script *script);

/* The same, timers aside. */
bool ld_script_is_busy(const struct ld_script *script);

/* Make it the service: from now on its errors are logged, each of them. */
void ld_script_serve(struct ld_script *script);

/* Let it start nothing new, because the daemon stops. */
void ld_script_restrain(struct ld_script *script);

/* End all of its tasks, give up what it made, and close the state. Not from inside a call. Where
 * luv has requests in flight (files, names, threads) that cannot be taken back, the state is closed
 * when they are done; until then nothing of it runs. What tasks do at their end is interrupted after
 * a while. */
void ld_script_close(struct ld_script *script);

/* The same for one that the loop goes on without. A large state is closed in slices, by ld_script_close_some; its
 * finalizers have run when this returns. Not many can be on their way: the oldest is closed at once then. */
void ld_script_close_in_slices(struct ld_script *script);

/* Continue to close such states until it is ld_time_monotonic UNTIL; whether one is left. */
bool ld_script_close_some(uint64_t until);

/* Stop accepting clients: close its listeners, or replace their descriptors by an inert socket. */
void ld_script_deafen(struct ld_script *script);

/* How many scripts are closed but for such requests, or slices. */
size_t ld_script_pending(void);

#endif
