/* The client that code runs for, such as that of an eval: what its code prints goes there. Code that holds the
 * loop is interrupted when that client has gone, or its time is over; code that is suspended is left alone.
 *
 * The loop notes callers; the thread that watches the loop looks which of them are over. What that thread
 * reads is under a mutex that neither holds while it waits. */
#ifndef LD_SCRIPT_CALLER_H
#define LD_SCRIPT_CALLER_H

#include <poll.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/queue.h>

#define LD_CALLERS_MAX 64 /* of those that wait */

struct ld_caller {
    /* Take what print was given, without the newline; false if no client waits for it. Called inside of Lua
     * code, and must not raise. */
    bool (*print)(struct ld_caller *caller, const char *text, size_t size);

    /* The rest is set here, but heeds_end. */
    int fd;            /* of the client, which stays its owner's; -1: no client waits */
    bool heeds_end;    /* a client that says it will send nothing more wants its code interrupted */
    uint64_t deadline; /* ld_time_monotonic */
    uint64_t over_at;  /* when the client was found gone, or its time over; 0: it was not */
    const char *reason; /* of an interruption; static */
    atomic_bool is_due; /* its code is to be interrupted */
    bool
        was_interrupted; /* inside of a task that its code has begun: its code may have ended well */
    LIST_ENTRY(ld_caller) link;
};

/* In the loop: code runs for the client on FD until DEADLINE; at most LD_CALLERS_MAX clients wait. */
void ld_caller_enter(struct ld_caller *caller, int fd, uint64_t deadline);

/* In the loop: the client does not wait any longer, so its descriptor may be closed. Its code goes on, and is
 * interrupted only when it holds the loop for long. */
void ld_caller_let_go(struct ld_caller *caller);

/* In the loop: nothing runs for it any longer. */
void ld_caller_leave(struct ld_caller *caller);

/* Whether the client on FD has closed its connection; one that only sends nothing more has not. */
bool ld_caller_is_gone(int fd);

/* In the thread: fill in the descriptors of the clients that wait, and return how many these are; *UNTIL
 * becomes the next of their deadlines, if that is earlier. */
size_t ld_caller_poll(struct pollfd polls[LD_CALLERS_MAX], uint64_t *until);

/* In the thread: note which of them are over NOW. */
void ld_caller_notice(uint64_t now);

/* In the thread: when the call that began after SINCE is to be interrupted if it is for one that is over: at
 * once if that happened during the call, or else after PATIENCE. UINT64_MAX: not; NOW or before: those are
 * due. */
uint64_t ld_caller_judge(uint64_t since, uint64_t patience, uint64_t now);

#endif
