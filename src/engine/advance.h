/* Moving a frozen clock (clock.h) forward, turn by turn of the loop: everything that is due on the way
 * fires at its time, what that arms too. One at a time. */
#ifndef LD_ENGINE_ADVANCE_H
#define LD_ENGINE_ADVANCE_H

#include <uv.h>

/* Told when the clock has arrived. WHY is NULL, or says why it could not go further: static. */
typedef void ld_advance_done(void *arg, const char *why);

/* Move the clock to TARGET (of ld_clock_now) while LOOP turns. 0, -EBUSY if it is being moved, -EINVAL if it
 * is not frozen, or another negative errno. DONE is not called from inside this. */
int ld_advance_start(uv_loop_t *loop, uint64_t target, ld_advance_done *done, void *arg);

/* Leave the clock where it is; DONE is not called. */
void ld_advance_cancel(void);

/* Change by COUNT the number of things that must end before the clock goes on. */
void ld_advance_hold(int count);

#endif
