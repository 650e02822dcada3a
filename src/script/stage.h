/* The stages of a generation's life. */
#ifndef LD_SCRIPT_STAGE_H
#define LD_SCRIPT_STAGE_H

#include <stdbool.h>

enum ld_stage {
    LD_STAGE_MADE,     /* its chunk has not yet returned or yielded for the first time */
    LD_STAGE_STARTED,  /* the chunk has; the generation is not the service */
    LD_STAGE_SERVICE,  /* signals, clients and the control socket are its own */
    LD_STAGE_REPLACED, /* another generation is the service; this one finishes what it has begun */
    LD_STAGE_STOPPING, /* the daemon stops: it runs, and may not start anything new */
    LD_STAGE_CLOSING,  /* its tasks are ended: none begins, none suspends */
    LD_STAGE_CLOSED,   /* only its state is left, which luv may still have a request for */
};

/* Move *STAGE to TO. Aborts if a generation cannot go from the one to the other. */
void ld_stage_move(enum ld_stage *stage, enum ld_stage to);

/* Whether the generation has not been made the service, and can become it. */
static inline bool ld_stage_is_new(enum ld_stage stage) {
    return stage <= LD_STAGE_STARTED;
}

/* Whether it may not start anything new. */
static inline bool ld_stage_is_ending(enum ld_stage stage) {
    return stage >= LD_STAGE_STOPPING;
}

/* Whether it is closing or closed. */
static inline bool ld_stage_is_closing(enum ld_stage stage) {
    return stage >= LD_STAGE_CLOSING;
}

#endif
