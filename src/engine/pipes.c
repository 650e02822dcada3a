#include "engine/pipes.h"

#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "base/base.h"
#include "engine/fair.h"

/* More than a pipe holds: libuv reads on, up to 32 times, as long as the buffer comes back full,
 * and nothing else has a turn. */
#define READ_SIZE ((size_t)128 * 1024)
#define PIECE_MAX 0x40000000U /* libuv counts bytes in an unsigned */

/* A write that did not go through at once. */
struct ld_pipes_pending {
    uv_write_t request;
    STAILQ_ENTRY(ld_pipes_pending) link;
    struct ld_inlet *inlet;
    size_t size;
    char bytes[];
};

/* Make a pipe; our end, the writing one if WRITING, goes to libuv. */
static int open_pipe(uv_loop_t *loop, uv_pipe_t *pipe, bool writing, int *theirs) {
    int ends[2];
    if (pipe2(ends, O_CLOEXEC) < 0) {
        return -errno;
    }
    uv_pipe_init(loop, pipe, 0);
    *theirs = ends[writing ? 0 : 1];
    int rc = uv_pipe_open(pipe, ends[writing ? 1 : 0]);
    if (rc < 0) {
        close(ends[writing ? 1 : 0]);
    }
    return rc;
}

/* Tell the owner of an outlet that it is closed. */
static void on_outlet_closed(uv_handle_t *handle) {
    struct ld_outlet *outlet = LD_CONTAINER_OF(handle, struct ld_outlet, pipe);
    outlet->on_closed(outlet->owner);
}

/* Give our end of a pipe that exists to libuv; 0 or a negative errno. */
static int adopt_pipe(uv_loop_t *loop, uv_pipe_t *pipe, int fd) {
    uv_pipe_init(loop, pipe, 0);
    return uv_pipe_open(pipe, fd);
}

/* Adopt an outlet. */
int ld_pipes_adopt_outlet(struct ld_outlet *outlet, uv_loop_t *loop, int fd) {
    outlet->open = true;
    return adopt_pipe(loop, &outlet->pipe, fd);
}

/* Open an outlet. */
int ld_pipes_open_outlet(struct ld_outlet *outlet, uv_loop_t *loop, int *theirs) {
    int rc = open_pipe(loop, &outlet->pipe, false, theirs);
    outlet->open = *theirs >= 0;
    return rc;
}

/* Close an outlet. */
void ld_pipes_close_outlet(struct ld_outlet *outlet) {
    if (outlet->open) {
        outlet->open = false;
        uv_close((uv_handle_t *)&outlet->pipe, on_outlet_closed);
    }
}

/* Lend a buffer for a read, or none if it must wait. It is consumed before the next read, so one
 * buffer serves all. */
static void on_alloc(uv_handle_t *handle, size_t suggested, uv_buf_t *buffer) {
    static char bytes[READ_SIZE];
    static struct ld_fair fair = LD_FAIR_INIT;
    struct ld_outlet *outlet = LD_CONTAINER_OF(handle, struct ld_outlet, pipe);
    (void)suggested;
    bool served = ld_fair_serve(&fair, &outlet->served, uv_now(handle->loop));
    *buffer = uv_buf_init(bytes, served ? READ_SIZE : 0);
}

/* Handle output. */
static void on_read(uv_stream_t *pipe, ssize_t size, const uv_buf_t *buffer) {
    struct ld_outlet *outlet = LD_CONTAINER_OF(pipe, struct ld_outlet, pipe);
    if (size > 0) {
        outlet->on_bytes(outlet, buffer->base, (size_t)size);
    } else if (size < 0 && size != UV_ENOBUFS) { /* ENOBUFS: it must wait */
        ld_pipes_close_outlet(outlet);
        outlet->on_bytes(outlet, NULL, 0);
    }
}

/* Hand on what is in the pipe now, as long as the owner takes it. */
void ld_pipes_drain(struct ld_outlet *outlet) {
    static char bytes[READ_SIZE];
    int fd;
    int left = 0;
    if (uv_fileno((const uv_handle_t *)&outlet->pipe, &fd) < 0 || ioctl(fd, FIONREAD, &left) < 0) {
        return;
    }
    while (left > 0 && outlet->open && outlet->holds == 0) {
        ssize_t size = read(fd, bytes, sizeof bytes);
        if (size <= 0) {
            return; /* interrupted or not, what follows is the end */
        }
        left -= (int)size;
        outlet->on_bytes(outlet, bytes, (size_t)size);
    }
}

/* Begin to read. */
void ld_pipes_read(struct ld_outlet *outlet) {
    if (outlet->open && outlet->holds == 0) {
        uv_read_start((uv_stream_t *)&outlet->pipe, on_alloc, on_read);
    }
}

/* Add a reason not to read. */
void ld_pipes_hold(struct ld_outlet *outlet, unsigned reason) {
    outlet->holds |= reason;
    if (outlet->open) {
        uv_read_stop((uv_stream_t *)&outlet->pipe);
    }
}

/* Remove a reason not to read. */
void ld_pipes_unhold(struct ld_outlet *outlet, unsigned reason) {
    outlet->holds &= ~reason;
    ld_pipes_read(outlet);
}

/* Tell the owner of an inlet that it is closed. */
static void on_inlet_closed(uv_handle_t *handle) {
    struct ld_inlet *inlet = LD_CONTAINER_OF(handle, struct ld_inlet, pipe);
    inlet->on_closed(inlet->owner);
}

/* Open an inlet. */
int ld_pipes_open_inlet(struct ld_inlet *inlet, uv_loop_t *loop, int *theirs) {
    int rc = open_pipe(loop, &inlet->pipe, true, theirs);
    inlet->open = *theirs >= 0;
    STAILQ_INIT(&inlet->pending);
    return rc;
}

/* Adopt an inlet. */
int ld_pipes_adopt_inlet(struct ld_inlet *inlet, uv_loop_t *loop, int fd) {
    inlet->open = true;
    STAILQ_INIT(&inlet->pending);
    return adopt_pipe(loop, &inlet->pipe, fd);
}

/* Close an inlet. */
void ld_pipes_close_inlet(struct ld_inlet *inlet) {
    if (inlet->open) {
        inlet->open = false;
        uv_close((uv_handle_t *)&inlet->pipe, on_inlet_closed);
    }
}

/* Return how many bytes wait. */
size_t ld_pipes_unwritten(const struct ld_inlet *inlet) {
    return inlet->open ? inlet->pipe.write_queue_size : 0;
}

/* Close if that is due, and tell the owner that nothing waits. */
static void settle(struct ld_inlet *inlet) {
    if (inlet->error == 0 && ld_pipes_unwritten(inlet) > 0) {
        return;
    }
    if (inlet->closing || inlet->error != 0) {
        ld_pipes_close_inlet(inlet);
    }
    inlet->on_drained(inlet);
}

/* Handle the end of a write. */
static void on_written(uv_write_t *request, int status) {
    struct ld_pipes_pending *pending = LD_CONTAINER_OF(request, struct ld_pipes_pending, request);
    struct ld_inlet *inlet = pending->inlet;
    STAILQ_REMOVE_HEAD(&inlet->pending, link); /* writes end in the order in which they began */
    free(pending);
    if (status == UV_ECANCELED) {
        return; /* it is closing */
    }
    inlet->error = status;
    settle(inlet);
}

/* Queue what could not be written at once; its size, or a negative errno. */
static int write_later(struct ld_inlet *inlet, const char *bytes, size_t size) {
    struct ld_pipes_pending *pending = malloc(sizeof *pending + size);
    if (pending == NULL) {
        return -ENOMEM;
    }
    memcpy(pending->bytes, bytes, size);
    pending->inlet = inlet;
    pending->size = size;
    uv_buf_t buffer = uv_buf_init(pending->bytes, (unsigned)size);
    int rc = uv_write(&pending->request, (uv_stream_t *)&inlet->pipe, &buffer, 1, on_written);
    if (rc < 0) {
        free(pending);
        return rc;
    }
    STAILQ_INSERT_TAIL(&inlet->pending, pending, link);
    return (int)size;
}

/* Write. */
int ld_pipes_write(struct ld_inlet *inlet, const char *bytes, size_t size) {
    if (inlet->error != 0 || !inlet->open || inlet->closing) {
        return inlet->error != 0 ? inlet->error : -EBADF;
    }
    while (size > 0) {
        unsigned piece = size > PIECE_MAX ? PIECE_MAX : (unsigned)size;
        uv_buf_t buffer = uv_buf_init((char *)(uintptr_t)bytes, piece);
        int taken = uv_try_write((uv_stream_t *)&inlet->pipe, &buffer, 1);
        if (taken == UV_EAGAIN) {
            taken = write_later(inlet, bytes, piece);
        } else if (taken < 0) {
            inlet->error = taken;
            settle(inlet);
        }
        if (taken < 0) {
            return taken;
        }
        bytes += taken;
        size -= (size_t)taken;
    }
    return 0;
}

/* Add the bytes that wait: the last of those that were queued. */
void ld_pipes_copy_unwritten(const struct ld_inlet *inlet, struct ld_text *text) {
    const struct ld_pipes_pending *at;
    size_t queued = 0;
    if (!inlet->open) {
        return;
    }
    STAILQ_FOREACH(at, &inlet->pending, link) {
        queued += at->size;
    }
    size_t written = queued - ld_pipes_unwritten(inlet);
    STAILQ_FOREACH(at, &inlet->pending, link) {
        size_t skip = written < at->size ? written : at->size;
        ld_text_add(text, at->bytes + skip, at->size - skip);
        written -= skip;
    }
}

/* Close when everything is written. */
void ld_pipes_finish(struct ld_inlet *inlet) {
    inlet->closing = true;
    if (ld_pipes_unwritten(inlet) == 0) {
        ld_pipes_close_inlet(inlet);
    }
}
