/* The inside of children, for the files that make them. */
#ifndef LD_ENGINE_CHILD_STATE_H
#define LD_ENGINE_CHILD_STATE_H

#include <sys/queue.h>

#include "base/text.h"
#include "engine/child.h"
#include "engine/log_lines.h"
#include "engine/pipes.h"

enum ld_child_life { LD_CHILD_RUNNING, LD_CHILD_LINGERING, LD_CHILD_FINISHED };

/* What the timer is for. */
enum ld_child_deadline { LD_CHILD_TO_TERM, LD_CHILD_TO_KILL, LD_CHILD_TO_GIVE_UP };

struct ld_child {
    struct ld_children *children;
    TAILQ_ENTRY(ld_child) link;
    LIST_ENTRY(ld_child) kept_link; /* of one with an identity */
    struct ld_watch watch;
    uv_timer_t timer;
    struct ld_inlet input;
    struct ld_outlet outputs[2];  /* stdout, stderr */
    struct ld_log_lines lines[2]; /* what of them goes to the log */
    struct ld_child_ready ready;
    bool to_log[2];
    unsigned open_handles;
    enum ld_child_life life;
    enum ld_child_deadline deadline;
    uint64_t kill_after_ms;
    uint64_t mark;
    uint64_t started;
    uint64_t ended;
    struct ld_exit exit;
    bool timed_out;
    bool detached;
    const struct ld_child_ops *ops; /* NULL: released */
    void *owner;
    void *claimant;             /* or NULL */
    bool parked;                /* it has no owner, and may get one; the ops are the claimant's */
    struct ld_text partials[2]; /* while it is parked */
    const struct ld_child_ops *claim_ops; /* of who may claim a relic */
    char *name;
    char *command;
    char *identity; /* or NULL */
    unsigned restarts;
    bool has_last;
    struct ld_exit last;
    bool is_relic;             /* of an earlier program in this process; see child_relic.h */
    bool is_foreign;           /* the child of another process: its number says nothing */
    struct ld_text held_input; /* of a relic: what is to be written when it is none any more */
    bool held_end;             /* and then the end */
    bool is_unwatched;         /* its end would not be noticed yet */
    bool is_doomed;            /* it was not kept: it is ended when the new generation serves */
};

#define LD_CHILD_KEPT_LISTS 1024

struct ld_children {
    uv_loop_t *loop;
    struct ld_reaper *reaper;
    TAILQ_HEAD(, ld_child) list;
    LIST_HEAD(, ld_child)
    kept[LD_CHILD_KEPT_LISTS]; /* those with an identity, by a hash of the name */
    LIST_HEAD(, ld_child_cursor) cursors;
    size_t count;
    int null_fd;
    char *name;
};

/* Make a child that does not run yet; NULL when memory ran out. */
struct ld_child *ld_child_state_make(struct ld_children *children,
                                     const struct ld_child_config *config);

/* Add it to its set. */
void ld_child_state_enter(struct ld_child *child);

/* Close all of its handles. */
void ld_child_state_close(struct ld_child *child);

/* Set what happens to it in MS milliseconds. */
void ld_child_state_set_deadline(struct ld_child *child, enum ld_child_deadline deadline,
                                 uint64_t ms);

/* Give up a relic that no script has claimed: end it unless it is detached, and log its output. */
void ld_child_state_end_relic(struct ld_child *child);

/* Handle that it was reaped. */
void ld_child_state_on_reaped(struct ld_watch *watch, const struct ld_exit *exit);

#endif
