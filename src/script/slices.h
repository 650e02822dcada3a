/* The end of a Lua state in slices: a large heap takes long to be freed, and the loop goes on meanwhile. lua_close
 * cannot be called in parts, so it runs on a stack of its own, and is left and entered again where a block is freed.
 * All finalizers run in the first slice, as they would otherwise. */
#ifndef LD_SCRIPT_SLICES_H
#define LD_SCRIPT_SLICES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct ld_slices;

/* Make what is needed to have FUNCTION, which closes a state, called with ARG in slices; NULL if it cannot be had. */
struct ld_slices *ld_slices_new(void (*function)(void *arg), void *arg);

/* Call it, or continue, until it is ld_time_monotonic UNTIL; true when it has returned, and SLICES are freed. */
bool ld_slices_run(struct ld_slices *slices, uint64_t until);

/* To be called from the slice, before a block of SIZE bytes is freed that is not read again: end the slice if its time is
 * over, and come back in the next. Whole pages of a large block are given back; SIZE 0: it is not known. */
void ld_slices_pause(struct ld_slices *slices, void *block, size_t size);

/* The same when something else has been freed. */
void ld_slices_look(struct ld_slices *slices);

#endif
