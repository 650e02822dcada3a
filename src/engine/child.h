/* Child processes: their streams, their deadlines and their end. */
#ifndef LD_ENGINE_CHILD_H
#define LD_ENGINE_CHILD_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/queue.h>
#include <uv.h>

#include "engine/child_ready.h"
#include "engine/reaper.h"
#include "engine/spawn.h"

#define LD_KILL_AFTER_MS 5000 /* between SIGTERM and SIGKILL, unless the config says otherwise */

struct ld_child;
struct ld_children;
struct ld_text;

/* What a standard stream of a child is connected to. */
enum ld_stream_kind {
    LD_STREAM_NULL,    /* /dev/null */
    LD_STREAM_INHERIT, /* our own */
    LD_STREAM_FD,      /* the descriptor in the config */
    LD_STREAM_PIPE,    /* a pipe to the owner */
    LD_STREAM_LOG,     /* a pipe whose lines go to the log */
    LD_STREAM_JOIN,    /* of stderr: where stdout goes */
};

/* What the owner is told, from the loop. Any of them may start, kill or release any child. */
struct ld_child_ops {
    /* Bytes of stream 1 or 2; NULL at its end. */
    void (*on_output)(void *owner, int stream, const char *bytes, size_t size);
    /* All that was written has gone to the child, or never will. */
    void (*on_drained)(void *owner);
    /* Reaped, and its streams have ended (or a second has passed since). The last call. */
    void (*on_finished)(void *owner);
    /* A line of the output of a child that is LD_READY_BY_LINE and not ready yet, wherever the output
     * goes. */
    void (*on_line)(void *owner, const char *bytes, size_t size);
    /* A child that is LD_READY_BY_NOTIFY has become ready. */
    void (*on_ready)(void *owner);
};

/* How a child is started, beside what ld_spawn_start needs (its fds but those above 2 are
 * ignored). */
struct ld_child_config {
    struct ld_spawn spawn;
    struct {
        enum ld_stream_kind kind;
        int fd;
    } streams[3];
    const char *name;       /* copied */
    uint64_t mark;          /* given back in its facts */
    const char *identity;   /* not NULL: it can be handed to another owner who wants the same;
                               copied */
    uint64_t timeout_ms;    /* 0: none */
    uint64_t kill_after_ms; /* between SIGTERM and SIGKILL */
    enum ld_ready_kind ready_kind;
    char ready_address[LD_READY_ADDRESS_SIZE]; /* LD_READY_BY_NOTIFY: in its environment */
    const struct ld_child_ops *ops;
    void *owner;
};

/* Information about a child. */
struct ld_child_facts {
    const char *name;
    const char *command; /* its words, for people */
    pid_t pid;
    uint64_t mark;
    uint64_t start; /* uv_hrtime */
    bool running;   /* not reaped yet */
    bool detached;
    bool keep; /* it has an identity */
    bool parked;
    bool timed_out;
    unsigned restarts; /* as noted by the owner */
    enum ld_ready ready;
    bool is_relic; /* an earlier program in this process has started it, and no script owns it */
    bool has_ready_socket; /* it was started with LD_READY_BY_NOTIFY */
    bool has_last;         /* it ran before, and ended like this: */
    struct ld_exit last;
    double seconds;      /* since the start, or that it ran */
    struct ld_exit exit; /* once it does not run */
};

/* Make the set of the children of this process; NAME is the daemon's, for the log. NULL when
 * memory ran out. */
struct ld_children *ld_children_new(uv_loop_t *loop, struct ld_reaper *reaper, const char *name);

/* Free the set; every child in it must have been released. */
void ld_children_close(struct ld_children *children);

/* The child after PREVIOUS (NULL: the first); NULL at the end. */
struct ld_child *ld_children_next(struct ld_children *children, struct ld_child *previous);

/* A walk over all children of a set, between whose steps they may come and go: one that is there all the time is met
 * once. */
struct ld_child_cursor {
    struct ld_child *next;
    LIST_ENTRY(ld_child_cursor) link;
};

/* Begin; the next child, NULL at the end; and end, which must come before the set is closed. */
void ld_child_cursor_begin(struct ld_child_cursor *cursor, struct ld_children *children);
struct ld_child *ld_child_cursor_next(struct ld_child_cursor *cursor);
void ld_child_cursor_end(struct ld_child_cursor *cursor);

/* The running child with an identity under NAME that was started before PREVIOUS (NULL: the last); NULL if
 * there is none. */
struct ld_child *ld_children_next_kept(struct ld_children *children, const char *name,
                                       struct ld_child *previous);

/* How many there are. */
size_t ld_children_count(const struct ld_children *children);

/* Whether one that is not detached has not ended, or its owner has not been told of the end. */
bool ld_children_are_awaited(struct ld_children *children);

/* Whether one has ended whose output is still read. */
bool ld_children_are_lingering(const struct ld_children *children);

/* The running child PID, which leads a group of its own; NULL if it is not in the set. */
struct ld_child *ld_children_find(struct ld_children *children, pid_t pid);

/* Start a child. 0, or a negative errno with the step that failed in *STEP. */
int ld_child_start(struct ld_children *children, const struct ld_child_config *config,
                   struct ld_child **out, const char **step);

/* Release the child: its owner is not called again, and its output goes to the log. It is freed
 * when it has finished. */
void ld_child_release(struct ld_child *child);

/* Release the child, but keep it as it is for another owner: what it says to its owner is not read until one has
 * claimed it; PARTIALS are unfinished lines that its owner has read of streams 1 and 2 (moved). */
void ld_child_park(struct ld_child *child, struct ld_text partials[2]);

/* No child is parked any longer: release those that none claims, and with ENDS, end them. */
void ld_children_release_parked(struct ld_children *children, bool ends);

/* Owners, for handing a child over. A claimant is told only of the end. */
void *ld_child_owner(const struct ld_child *child);
void *ld_child_claimant(const struct ld_child *child);
const char *ld_child_identity(const struct ld_child *child);
void ld_child_claim(struct ld_child *child, void *claimant);

/* Make the claimant the owner; TO_LOG says whose lines of streams 1 and 2 are logged from now on, READY_KIND
 * what of its readiness the owner is told. No reason to hold its output is left. */
void ld_child_hand_over(struct ld_child *child, const bool to_log[2],
                        enum ld_ready_kind ready_kind);

/* Move the beginning of an unfinished line of STREAM, kept for the log or with a parked child, to TEXT. */
void ld_child_take_line(struct ld_child *child, int stream, struct ld_text *text);

/* Hand BYTES to the owner, or the log, as if the child had said them now. */
void ld_child_put_output(struct ld_child *child, int stream, const char *bytes, size_t size);

/* Continue after a hand-over: finish what ended during it. */
void ld_child_settle(struct ld_child *child);

/* Forget a child that has not finished and outlives this process. */
void ld_child_abandon(struct ld_child *child);

/* Whether a stop has to wait for the child: its process exists, or it ended less than a second
 * ago and output may still be handed on. What its owner holds back because it wants nothing is
 * not waited for. */
bool ld_child_is_awaited(const struct ld_child *child);

void ld_child_describe(const struct ld_child *child, struct ld_child_facts *facts);

/* Note how often the owner has restarted it, and how it ended last time (NULL: never). */
void ld_child_note(struct ld_child *child, unsigned restarts, const struct ld_exit *last);

/* Note whether it is ready. One that has been ready stays it. */
void ld_child_note_ready(struct ld_child *child, bool is_ready);

/* Signal the child's process group; 0, or -ESRCH if it has ended. */
int ld_child_kill(struct ld_child *child, int signo);

/* End the child: SIGTERM now, SIGKILL when its kill_after_ms have passed. */
void ld_child_end(struct ld_child *child);

/* Ask the child to end: SIGTERM alone. */
void ld_child_terminate(struct ld_child *child);

/* Write to a child whose stdin is a pipe; what it does not take at once is copied. 0 or a negative
 * errno: -EPIPE when it has ended, -EBADF when there is no pipe (or it was closed). */
int ld_child_write(struct ld_child *child, const char *bytes, size_t size);

/* Bytes that wait to be written; and the errno that ended the writing, or 0. */
size_t ld_child_unwritten(const struct ld_child *child);
int ld_child_write_error(const struct ld_child *child);

/* Close the pipe to stdin when everything is written. */
void ld_child_close_stdin(struct ld_child *child);

/* Why an output stream is not read: its owner is still busy with what it got (the child does not
 * finish before that), or has paused it, or there is none yet. */
enum { LD_HOLD_BUSY = 1, LD_HOLD_PAUSE = 2, LD_HOLD_PARKED = 4 };

/* Stop reading stream 1 or 2 until no reason to hold it is left. */
void ld_child_hold(struct ld_child *child, int stream, unsigned reason);
void ld_child_unhold(struct ld_child *child, int stream, unsigned reason);

#endif
