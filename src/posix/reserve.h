/* Descriptors that are kept back, so that what must always work (the control socket, a reload, a
 * stop) can still open something when the script has used up the limit of open files. */
#ifndef LD_POSIX_RESERVE_H
#define LD_POSIX_RESERVE_H

#include <stdbool.h>
#include <stddef.h>

#include "base/text.h"

/* Check that COUNT more descriptors can be opened; 0 or a negative errno. */
int ld_reserve_check(size_t count);

/* Check that there are as many descriptors free as a start needs: libuv aborts in the middle of its work
 * if there are not. 0 or a negative errno with the reason in WHY. */
int ld_reserve_check_start(struct ld_text *why);

/* Start to keep descriptors back, as many as possible, and stop. */
void ld_reserve_open(void);
void ld_reserve_close(void);

/* Make them free until they are taken back; how many were closed for that. Such calls may be nested.
 * Descriptors still in use then are missing in the reserve until it is filled again. */
size_t ld_reserve_lend(void);
void ld_reserve_take_back(void);

/* The same with one that the others never lend: for what must not fail when a reload is done, and gives back
 * as many descriptors as it takes. */
void ld_reserve_lend_last(void);
void ld_reserve_take_back_last(void);

/* The INDEX-th of those that are kept back now, which another may be put on for a moment (dup3), until it is
 * /dev/null again; -1: there are not so many. */
int ld_reserve_at(size_t index);

/* Whether FD is kept back. */
bool ld_reserve_has(int fd);

/* Fill the reserve again, after something was closed that may have come from it. */
void ld_reserve_fill(void);

#endif
