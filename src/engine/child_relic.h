/* Children that an earlier program in this process has started: an upgrade hands them on. A kept one waits, with
 * its output unread, until a generation that claims it is the service; the others are ended then. Until then
 * nothing has happened to them: the earlier program could still go on. */
#ifndef LD_ENGINE_CHILD_RELIC_H
#define LD_ENGINE_CHILD_RELIC_H

#include "engine/child.h"

#define LD_CHILD_RELIC_DEADLINE_MAX 2 /* the last that a deadline may be for */

struct ld_child_relic {
    const char *name;
    const char *command;
    const char *identity; /* NULL: it is not kept, and what follows FDS does not count */
    pid_t pid;
    uint64_t mark;
    uint64_t started; /* uv_hrtime */
    uint64_t kill_after_ms;
    bool detached;
    int fds[3]; /* our ends of its pipes; -1: none */
    bool to_log[2];
    bool timed_out;
    bool input_ends; /* when all is written */
    int deadline;    /* what happens to it in LEFT_MS; -1: nothing */
    uint64_t left_ms;
    unsigned restarts;
    bool has_last;
    struct ld_exit last;
    enum ld_ready ready;
    int ready_fd;            /* its socket; -1: none */
    long long parts[2];      /* of the line that is being logged */
    struct ld_text lines[2]; /* its rest; the owner's are not among them */
    struct ld_text unwritten;
};

/* Fill RELIC from a child that runs: strings and descriptors are the child's. To be freed. */
void ld_child_relic_take(const struct ld_child *child, struct ld_child_relic *relic);
void ld_child_relic_fini(struct ld_child_relic *relic);

/* Restore a child. The descriptors are taken over, whether this fails or not. OPS are those of who may claim it. 0 or a
 * negative errno. */
int ld_child_relic_restore(struct ld_children *children, const struct ld_child_relic *relic,
                           const struct ld_child_ops *ops);

/* The new generation is the service, and what it has claimed is its own: watch all, and end those that are
 * not kept, or not claimed. */
void ld_child_relic_settle(struct ld_children *children);

/* These are another process's children from now on, which shares the pipes: none is signalled by its number. */
void ld_child_relic_disown(struct ld_children *children);

#endif
