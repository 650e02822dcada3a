/* Our ends of the pipes to a child: outlets bring its output, an inlet takes its input. Both are
 * embedded in what owns them, which must live until their close callback. */
#ifndef LD_ENGINE_PIPES_H
#define LD_ENGINE_PIPES_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/queue.h>
#include <uv.h>

#include "base/text.h"

/* Called when a pipe's handle is closed. */
typedef void ld_pipes_closed(void *owner);

struct ld_outlet {
    uv_pipe_t pipe;
    bool open;
    unsigned holds;  /* reasons not to read */
    uint64_t served; /* see fair.h */
    void *owner;
    /* Bytes, or NULL at the end, before which the outlet is closed. */
    void (*on_bytes)(struct ld_outlet *outlet, const char *bytes, size_t size);
    ld_pipes_closed *on_closed;
};

struct ld_pipes_pending;

struct ld_inlet {
    uv_pipe_t pipe;
    STAILQ_HEAD(, ld_pipes_pending) pending; /* writes that have not ended, if it is open */
    bool open;
    bool closing; /* when everything is written */
    int error;    /* what ended the writing */
    void *owner;
    void (*on_drained)(struct ld_inlet *inlet); /* nothing waits to be written */
    ld_pipes_closed *on_closed;
};

/* Make a pipe whose other end, in *THEIRS, is for the child. 0 or a negative errno; the handle is
 * to be closed in either case if it is open then. The callbacks and the owner must be set. */
int ld_pipes_open_outlet(struct ld_outlet *outlet, uv_loop_t *loop, int *theirs);
int ld_pipes_open_inlet(struct ld_inlet *inlet, uv_loop_t *loop, int *theirs);

/* The same with a pipe that exists: FD is our end, and is taken over unless this fails. */
int ld_pipes_adopt_outlet(struct ld_outlet *outlet, uv_loop_t *loop, int fd);
int ld_pipes_adopt_inlet(struct ld_inlet *inlet, uv_loop_t *loop, int fd);

void ld_pipes_close_outlet(struct ld_outlet *outlet);
void ld_pipes_close_inlet(struct ld_inlet *inlet);

/* Start reading, unless held. Outlets that are readable at the same time, and whose owners take
 * long, are read in rotation, with turns of the loop between. */
void ld_pipes_read(struct ld_outlet *outlet);

/* Hand on what is in the pipe now, unless held, or until the owner holds it. */
void ld_pipes_drain(struct ld_outlet *outlet);

/* Add a reason (a bit) not to read, and remove reasons. */
void ld_pipes_hold(struct ld_outlet *outlet, unsigned reason);
void ld_pipes_unhold(struct ld_outlet *outlet, unsigned reason);

/* Write; what the pipe does not take at once is copied and waits. 0 or a negative errno: -EPIPE
 * when the reader is gone, -EBADF when the inlet is not open. */
int ld_pipes_write(struct ld_inlet *inlet, const char *bytes, size_t size);

/* How many bytes wait. */
size_t ld_pipes_unwritten(const struct ld_inlet *inlet);

/* Add the bytes that wait to TEXT; they still wait. */
void ld_pipes_copy_unwritten(const struct ld_inlet *inlet, struct ld_text *text);

/* Close when everything is written. */
void ld_pipes_finish(struct ld_inlet *inlet);

#endif
