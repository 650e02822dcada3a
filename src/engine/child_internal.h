/* A child's inside, for child.c (its life) and child_start.c (its birth). */
#ifndef LD_ENGINE_CHILD_INTERNAL_H
#define LD_ENGINE_CHILD_INTERNAL_H

#include "engine/child.h"
#include "engine/log_lines.h"
#include "engine/pipes.h"

enum ld_life { LD_LIFE_RUNNING, LD_LIFE_LINGERING, LD_LIFE_FINISHED };

/* What the timer is for. */
enum ld_deadline { LD_TO_TERM, LD_TO_KILL, LD_TO_GIVE_UP };

struct ld_child {
    struct ld_children *children;
    struct ld_child *next;
    struct ld_child *previous;
    struct ld_watch watch;
    uv_timer_t timer;
    struct ld_inlet input;
    struct ld_outlet outputs[2];  /* stdout, stderr */
    struct ld_log_lines lines[2]; /* what of them goes to the log */
    bool to_log[2];
    unsigned open_handles;
    enum ld_life life;
    enum ld_deadline deadline;
    uint64_t kill_after_ms;
    uint64_t mark;
    uint64_t started;
    uint64_t ended;
    struct ld_exit exit;
    bool timed_out;
    bool detached;
    const struct ld_child_ops *ops; /* NULL: released */
    void *owner;
    void *claimant; /* or NULL */
    char *name;
    char *command;
    char *identity; /* or NULL */
    unsigned restarts;
    bool has_last;
    struct ld_exit last;
};

struct ld_children {
    uv_loop_t *loop;
    struct ld_reaper *reaper;
    struct ld_child *first;
    struct ld_child *last;
    int null_fd;
    char *name;
};

/* Set what happens to the child in MS milliseconds. */
void ld_child_set_deadline(struct ld_child *child, enum ld_deadline deadline, uint64_t ms);

/* Close everything that is still open. The child is freed when that is done, if it has finished and
 * is released. */
void ld_child_close_all(struct ld_child *child);

/* What the child's watch, pipes and handles call. */
void ld_child_on_exit(struct ld_watch *watch, const struct ld_exit *exit);
void ld_child_on_output(struct ld_outlet *output, const char *bytes, size_t size);
void ld_child_on_drained(struct ld_inlet *input);
void ld_child_on_handle_closed(void *owner);

#endif
