/* What a request on the control socket can make the host do. */
#ifndef LD_HOST_CONTROL_OPS_H
#define LD_HOST_CONTROL_OPS_H

#include <jansson.h>

/* Somebody who waits for the verdict on a reload. */
struct ld_waiter {
    struct ld_waiter *next;
    /* Called once, with a new reference to the answer. */
    void (*done)(struct ld_waiter *waiter, json_t *answer);
};

/* Each answer is a new reference, to be sent. */
struct ld_control_ops {
    json_t *(*status)(void *host);
    json_t *(*stop)(void *host);
    json_t *(*reopen)(void *host);
    /* Ask for a reload; the verdict comes to WAITER from a later turn of the loop. */
    void (*reload)(void *host, struct ld_waiter *waiter);
    /* Forget a waiter whose peer has gone. */
    void (*forget)(void *host, struct ld_waiter *waiter);
};

#endif
