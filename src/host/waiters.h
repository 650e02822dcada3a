/* Lists of clients, and other parts, that wait for an answer. */
#ifndef LD_HOST_WAITERS_H
#define LD_HOST_WAITERS_H

#include "host/control.h"

/* Put a waiter first in a list. */
void ld_waiters_add(struct ld_waiter **list, struct ld_waiter *waiter);

/* Take a waiter out of a list, if it is there. */
void ld_waiters_remove(struct ld_waiter **list, const struct ld_waiter *waiter);

/* Move all of FROM to the front of a list. */
void ld_waiters_move(struct ld_waiter **list, struct ld_waiter **from);

/* Empty a list, and tell each of it the answer, whose reference is taken over. */
void ld_waiters_tell(struct ld_waiter **list, json_t *answer);

#endif
