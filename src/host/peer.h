/* One client of the control socket: requests in, answers out, a line each. */
#ifndef LD_HOST_PEER_H
#define LD_HOST_PEER_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/queue.h>
#include <uv.h>

#include "base/text.h"
#include "host/control_ops.h"

struct ld_peer;

/* What a peer tells its control. */
struct ld_peer_events {
    void (*closing)(struct ld_peer *peer); /* it serves no more */
    void (*closed)(struct ld_peer *peer);  /* it can be freed */
    void (*behind)(struct ld_peer *peer);  /* it has sent more than was served in this turn */
};

struct ld_peer {
    uv_pipe_t pipe;
    const struct ld_peer_events *events;
    void *control;
    const struct ld_control_ops *ops;
    void *host;
    LIST_ENTRY(ld_peer) link; /* of the control */
    struct ld_text input;
    size_t start;    /* of the input that is not served yet */
    size_t searched; /* from the start to here there is no newline */
    bool waiting;    /* for an answer of the host */
    bool unsent;     /* it has not taken its last answer */
    bool refused;    /* it gets one answer, and no more */
    uint64_t last;   /* uv_now when it last did something */
    struct ld_waiter waiter;
};

/* Begin to read requests; the pipe is connected and everything of the control's is set. */
void ld_peer_start(struct ld_peer *peer);

/* Give one answer that says what is wrong, and no more. */
void ld_peer_refuse(struct ld_peer *peer, const char *message);

/* Close; twice does nothing. */
void ld_peer_close(struct ld_peer *peer);

/* Serve the next whole line, if there is one and it can be answered now. */
void ld_peer_serve_next(struct ld_peer *peer);

/* Whether there is such a line. */
bool ld_peer_is_behind(struct ld_peer *peer);

#endif
