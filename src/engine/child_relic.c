#include "engine/child_relic.h"

#include <errno.h>
#include <stdint.h>
#include <unistd.h>

#include "engine/child_state.h"

/* The descriptor of a pipe, or -1. */
static int fd_of(const uv_pipe_t *pipe, bool is_open) {
    int fd;
    return is_open && uv_fileno((const uv_handle_t *)pipe, &fd) == 0 ? fd : -1;
}

/* Fill in what is needed to go on with a child that is kept. */
static void take_kept(const struct ld_child *child, struct ld_child_relic *relic) {
    relic->fds[0] = fd_of(&child->input.pipe, child->input.open);
    relic->input_ends = child->is_relic ? child->held_end : child->input.closing;
    relic->ready = child->ready.state;
    relic->ready_fd = child->ready.fd > 0 ? child->ready.fd : -1;
    relic->timed_out = child->timed_out;
    relic->restarts = child->restarts;
    relic->has_last = child->has_last;
    relic->last = child->last;
    if (uv_is_active((const uv_handle_t *)&child->timer)) {
        relic->deadline = (int)child->deadline;
        relic->left_ms = uv_timer_get_due_in(&child->timer);
    }
    for (int i = 0; i < 2; i++) {
        relic->fds[i + 1] = fd_of(&child->outputs[i].pipe, child->outputs[i].open);
        relic->to_log[i] = child->to_log[i];
        relic->parts[i] = child->lines[i].parts;
        ld_text_append(&relic->lines[i], &child->lines[i].rest);
    }
    ld_pipes_copy_unwritten(&child->input, &relic->unwritten);
    ld_text_append(&relic->unwritten, &child->held_input);
}

/* Fill in a relic. */
void ld_child_relic_take(const struct ld_child *child, struct ld_child_relic *relic) {
    *relic = (struct ld_child_relic){.name = child->name,
                                     .command = child->command,
                                     .identity = child->identity,
                                     .pid = child->watch.pid,
                                     .mark = child->mark,
                                     .started = child->started,
                                     .kill_after_ms = child->kill_after_ms,
                                     .detached = child->detached,
                                     .fds = {-1, -1, -1},
                                     .deadline = -1,
                                     .ready_fd = -1};
    if (child->identity != NULL) {
        take_kept(child, relic);
    }
}

/* Free its texts. */
void ld_child_relic_fini(struct ld_child_relic *relic) {
    ld_text_fini(&relic->lines[0]);
    ld_text_fini(&relic->lines[1]);
    ld_text_fini(&relic->unwritten);
}

/* Give the pipes of a relic to libuv, unread for now. */
static int adopt_pipes(struct ld_child *child, struct ld_child_relic *relic) {
    uv_loop_t *loop = child->children->loop;
    int rc = 0;
    for (int i = 0; i < 3 && rc == 0; i++) {
        if (relic->fds[i] < 0) {
            continue;
        }
        if (i > 0) {
            child->outputs[i - 1].holds = LD_HOLD_PAUSE;
        }
        rc = i == 0 ? ld_pipes_adopt_inlet(&child->input, loop, relic->fds[i])
                    : ld_pipes_adopt_outlet(&child->outputs[i - 1], loop, relic->fds[i]);
        child->open_handles++;
        relic->fds[i] = rc == 0 ? -1 : relic->fds[i];
    }
    if (rc == 0 && relic->ready_fd >= 0) {
        rc = ld_child_ready_adopt(&child->ready, loop, relic->ready_fd);
        child->open_handles += rc == 0 ? 2 : 0;
        relic->ready_fd = rc == 0 ? -1 : relic->ready_fd;
    }
    return rc;
}

/* Restore what was said of a child. */
static void restore_facts(struct ld_child *child, const struct ld_child_relic *relic) {
    child->watch.pid = relic->pid;
    child->watch.pidfd = -1;
    child->watch.on_exit = ld_child_state_on_reaped;
    child->started = relic->started;
    child->timed_out = relic->timed_out;
    child->restarts = relic->restarts;
    child->has_last = relic->has_last;
    child->last = relic->last;
    child->ready.state = relic->ready;
    child->ready.pid = relic->pid;
    child->is_unwatched = true;
    child->is_relic = relic->identity != NULL;
    child->is_doomed = relic->identity == NULL;
    child->held_end = relic->input_ends;
    ld_text_append(&child->held_input, &relic->unwritten);
    for (int i = 0; i < 2; i++) {
        child->to_log[i] = relic->to_log[i];
        ld_log_lines_init(&child->lines[i], child->children->name, child->name, relic->pid, i == 1);
        child->lines[i].parts = relic->parts[i];
        ld_text_append(&child->lines[i].rest, &relic->lines[i]);
    }
}

/* Close what was not taken over. */
static void close_rest(const struct ld_child_relic *relic) {
    for (int i = 0; i < 3; i++) {
        if (relic->fds[i] >= 0) {
            close(relic->fds[i]);
        }
    }
    if (relic->ready_fd >= 0) {
        close(relic->ready_fd);
    }
}

/* Restore a child. */
int ld_child_relic_restore(struct ld_children *children, const struct ld_child_relic *relic,
                           const struct ld_child_ops *ops) {
    struct ld_child_relic left = *relic;
    char *argv[] = {(char *)(uintptr_t)relic->command, NULL};
    const struct ld_child_config config = {.name = relic->name,
                                           .identity = relic->identity,
                                           .mark = relic->mark,
                                           .kill_after_ms = relic->kill_after_ms,
                                           .spawn = {.argv = argv, .session = relic->detached}};
    struct ld_child *child = ld_child_state_make(children, &config);
    if (child == NULL) {
        close_rest(&left);
        return -ENOMEM;
    }
    restore_facts(child, relic);
    int rc = adopt_pipes(child, &left);
    close_rest(&left);
    if (rc < 0) {
        child->life = LD_CHILD_FINISHED;
        ld_child_state_close(child);
        return rc;
    }
    child->claim_ops = ops;
    ld_child_state_enter(child);
    if (relic->deadline >= 0) {
        ld_child_state_set_deadline(child, (enum ld_child_deadline)relic->deadline, relic->left_ms);
    }
    return 0;
}

/* Watch a child. One that cannot be watched has ended, without a status that could be learnt. */
static void watch(struct ld_child *child) {
    static const struct ld_exit unknown = {.status = -1};
    child->is_unwatched = false;
    if (ld_reaper_watch(child->children->reaper, &child->watch, child->watch.pid, -1) < 0) {
        child->watch.pidfd = -1;
        ld_child_state_on_reaped(&child->watch, &unknown);
    }
}

/* Watch all, and end what no script wants. */
void ld_child_relic_settle(struct ld_children *children) {
    struct ld_child *next;
    for (struct ld_child *child = TAILQ_FIRST(&children->list); child != NULL; child = next) {
        bool is_unclaimed = child->is_relic || child->is_doomed;
        next = TAILQ_NEXT(child, link);
        if (child->is_unwatched && is_unclaimed) {
            child->is_doomed = false;
            ld_child_state_end_relic(child);
        }
        if (child->is_unwatched) {
            watch(child);
        }
    }
}

/* Disown all. */
void ld_child_relic_disown(struct ld_children *children) {
    struct ld_child *child;
    TAILQ_FOREACH(child, &children->list, link) {
        child->is_foreign = true;
    }
}
