#include "host/waiters.h"

/* Add a waiter. */
void ld_waiters_add(struct ld_waiter **list, struct ld_waiter *waiter) {
    waiter->next = *list;
    *list = waiter;
}

/* Take a waiter out. */
void ld_waiters_remove(struct ld_waiter **list, const struct ld_waiter *waiter) {
    while (*list != NULL && *list != waiter) {
        list = &(*list)->next;
    }
    if (*list != NULL) {
        *list = waiter->next;
    }
}

/* Move all. */
void ld_waiters_move(struct ld_waiter **list, struct ld_waiter **from) {
    struct ld_waiter **end = from;
    while (*end != NULL) {
        end = &(*end)->next;
    }
    *end = *list;
    *list = *from;
    *from = NULL;
}

/* Tell all. */
void ld_waiters_tell(struct ld_waiter **list, json_t *answer) {
    struct ld_waiter *waiter;
    while ((waiter = *list) != NULL) {
        *list = waiter->next;
        waiter->done(waiter, json_incref(answer));
    }
    json_decref(answer);
}
