/* How a child says that it is ready: in a line of its output, or by sd_notify(3) to a socket of its own.
 *
 * Any process of the machine can send to an abstract socket, so a message counts only if the kernel says
 * that its sender is the child or descends from it, and a flood of messages is read slowly. */
#ifndef LD_ENGINE_CHILD_READY_H
#define LD_ENGINE_CHILD_READY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include <uv.h>

#include "base/text.h"

/* What the owner is told of. */
enum ld_ready_kind {
    LD_READY_UNTOLD,    /* nothing */
    LD_READY_BY_LINE,   /* the lines of the output, until it has found the one that it looks for */
    LD_READY_BY_NOTIFY, /* READY=1 at the socket */
};

/* Whether a child is ready. */
enum ld_ready { LD_READY_UNKNOWN, LD_READY_NOT_YET, LD_READY_NOW };

#define LD_READY_ADDRESS_SIZE 48
#define LD_READY_VARIABLE     "NOTIFY_SOCKET"

/* Zeroed: the child says nothing. */
struct ld_child_ready {
    enum ld_ready_kind kind;
    enum ld_ready state;
    struct ld_text lines[2]; /* the unfinished lines of stdout and stderr */
    int fd;                  /* of the socket; -1 or 0: none */
    pid_t pid;               /* of the child */
    uv_poll_t poll;
    uv_timer_t pause; /* while it runs the socket is not read */
    unsigned count;   /* of messages since: */
    uint64_t counted_since;
    void *owner;
    void (*on_line)(void *owner, const char *bytes, size_t size);
    void (*on_ready)(void *owner);  /* once */
    void (*on_closed)(void *owner); /* for each of the two handles of an open socket */
};

/* Write an address that nothing else uses, in the form of the variable; 0 or a negative errno. */
int ld_child_ready_make_address(char address[LD_READY_ADDRESS_SIZE]);

/* Open the socket at ADDRESS, before the child is started; its pid is to be set when that is known. 0 or a
 * negative errno; it is to be closed in either case. */
int ld_child_ready_open(struct ld_child_ready *ready, uv_loop_t *loop, const char *address);

/* Use a socket that an earlier program in this process has opened; FD is taken over unless this fails. */
int ld_child_ready_adopt(struct ld_child_ready *ready, uv_loop_t *loop, int fd);

/* Close it, and forget the lines. */
void ld_child_ready_close(struct ld_child_ready *ready);

/* Take output of stream 1 or 2 (NULL at its end) and tell the owner of each line, unless the child is ready.
 * A line over 64 KiB is told in pieces. */
void ld_child_ready_hear(struct ld_child_ready *ready, int stream, const char *bytes, size_t size);

/* Note whether the child is ready. */
void ld_child_ready_note(struct ld_child_ready *ready, bool is_ready);

#endif
