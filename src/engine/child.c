/* A child's life:
 *
 *     event \ state   RUNNING                  LINGERING (reaped, streams open)   FINISHED
 *     reaped          linger or finish         –                                  –
 *     stream ended    wait for the reaping     finish after the last one          –
 *     timer           SIGTERM, then SIGKILL    give up the streams, finish        –
 *     released        output to the log        output to the log                  freed
 *
 * A stream may outlive the child, because grandchildren inherit it: so its end alone is never
 * waited for. A stream that we do not read ourselves at the moment is never given up. */
#include "engine/child.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/base.h"
#include "engine/child_internal.h"
#include "posix/process.h"

#define LINGER_MS 1000

/* Make the set of children. */
struct ld_children *ld_children_new(uv_loop_t *loop, struct ld_reaper *reaper, const char *name) {
    struct ld_children *children = calloc(1, sizeof *children);
    if (children == NULL) {
        return NULL;
    }
    children->loop = loop;
    children->reaper = reaper;
    children->name = strdup(name);
    children->null_fd = open("/dev/null", O_RDWR | O_CLOEXEC);
    if (children->name == NULL || children->null_fd < 0) {
        ld_children_close(children);
        return NULL;
    }
    return children;
}

/* Free a child when nothing refers to it any more. */
static void free_if_done(struct ld_child *child) {
    if (child->life != LD_LIFE_FINISHED || child->open_handles > 0 || child->ops != NULL) {
        return;
    }
    ld_log_lines_fini(&child->lines[0]);
    ld_log_lines_fini(&child->lines[1]);
    free(child->name);
    free(child->command);
    free(child->identity);
    free(child);
}

/* Free a child after its last handle is closed. */
void ld_child_on_handle_closed(void *owner) {
    struct ld_child *child = owner;
    child->open_handles--;
    free_if_done(child);
}

/* Handle the closing of the timer. */
static void on_timer_closed(uv_handle_t *handle) {
    ld_child_on_handle_closed(handle->data);
}

/* Close everything that is still open. */
void ld_child_close_all(struct ld_child *child) {
    ld_pipes_close_inlet(&child->input);
    ld_pipes_close_outlet(&child->outputs[0]);
    ld_pipes_close_outlet(&child->outputs[1]);
    uv_close((uv_handle_t *)&child->timer, on_timer_closed);
}

/* Hand on what a stream (1 or 2) brought; NULL at its end. */
static void deliver(struct ld_child *child, int stream, const char *bytes, size_t size) {
    if (child->to_log[stream - 1] || child->ops == NULL) {
        ld_log_lines_add(&child->lines[stream - 1], bytes, size);
    } else {
        child->ops->on_output(child->owner, stream, bytes, size);
    }
}

/* Take a child out of the set. */
static void leave_set(struct ld_child *child) {
    if (child->previous != NULL) {
        child->previous->next = child->next;
    } else {
        child->children->first = child->next;
    }
    if (child->next != NULL) {
        child->next->previous = child->previous;
    } else {
        child->children->last = child->previous;
    }
}

/* Finish a child that is reaped and whose output is all handed on. */
static void finish(struct ld_child *child) {
    child->life = LD_LIFE_FINISHED;
    leave_set(child);
    ld_child_close_all(child);
    const struct ld_child_ops *ops = child->ops;
    void *claimant = child->claimant;
    if (ops != NULL) {
        ops->on_finished(child->owner);
    }
    if (ops != NULL && claimant != NULL) {
        ops->on_finished(claimant);
    }
}

/* Whether an output has ended and its owner is done with what it brought. */
static bool is_over(const struct ld_outlet *output) {
    return !output->open && (output->holds & LD_HOLD_BUSY) == 0;
}

/* Whether an output may still bring something that is handed on. */
static bool is_flowing(const struct ld_outlet *output) {
    return !is_over(output) && (output->holds & LD_HOLD_PAUSE) == 0;
}

/* Whether a stop has to wait for the child. */
bool ld_child_is_awaited(const struct ld_child *child) {
    if (child->life == LD_LIFE_LINGERING) {
        bool flows = is_flowing(&child->outputs[0]) || is_flowing(&child->outputs[1]);
        return flows && uv_hrtime() - child->ended < LINGER_MS * UINT64_C(1000000);
    }
    return child->life == LD_LIFE_RUNNING;
}

/* Finish the child if it is reaped and no output is to come. */
static void finish_if_over(struct ld_child *child) {
    if (child->life == LD_LIFE_LINGERING && is_over(&child->outputs[0]) &&
        is_over(&child->outputs[1])) {
        finish(child);
    }
}

/* End the outputs that somebody else keeps open. What one of us holds back must not be lost. */
static void give_up_outputs(struct ld_child *child) {
    for (int stream = 1; stream <= 2; stream++) {
        struct ld_outlet *output = &child->outputs[stream - 1];
        if (output->open && output->holds == 0) {
            ld_pipes_close_outlet(output);
            deliver(child, stream, NULL, 0);
        }
    }
    finish_if_over(child);
}

/* Do what the child's timer is for. */
static void on_timer(uv_timer_t *timer) {
    struct ld_child *child = timer->data;
    switch (child->deadline) {
    case LD_TO_TERM:
        child->timed_out = true;
        ld_child_end(child);
        break;
    case LD_TO_KILL:
        ld_child_kill(child, SIGKILL);
        break;
    case LD_TO_GIVE_UP:
        give_up_outputs(child);
        break;
    }
}

/* Set what happens to the child in MS milliseconds. */
void ld_child_set_deadline(struct ld_child *child, enum ld_deadline deadline, uint64_t ms) {
    child->deadline = deadline;
    uv_update_time(child->timer.loop);
    uv_timer_start(&child->timer, on_timer, ms + 1, 0); /* of whole milliseconds: never early */
}

/* Handle the reaping. */
void ld_child_on_exit(struct ld_watch *watch, const struct ld_exit *exit) {
    struct ld_child *child = LD_CONTAINER_OF(watch, struct ld_child, watch);
    child->exit = *exit;
    child->ended = uv_hrtime();
    child->life = LD_LIFE_LINGERING;
    uv_timer_stop(&child->timer);
    ld_child_set_deadline(child, LD_TO_GIVE_UP, LINGER_MS);
    finish_if_over(child);
}

/* Handle output of a child, or its end. */
void ld_child_on_output(struct ld_outlet *output, const char *bytes, size_t size) {
    struct ld_child *child = output->owner;
    deliver(child, output == &child->outputs[0] ? 1 : 2, bytes, size);
    if (bytes == NULL) {
        finish_if_over(child);
    }
}

/* Handle that nothing waits to be written. */
void ld_child_on_drained(struct ld_inlet *input) {
    struct ld_child *child = input->owner;
    if (child->ops != NULL) {
        child->ops->on_drained(child->owner);
    }
}

/* Give a child up. */
void ld_child_release(struct ld_child *child) {
    child->ops = NULL;
    child->owner = NULL;
    if (child->life == LD_LIFE_FINISHED) {
        free_if_done(child);
        return;
    }
    ld_pipes_finish(&child->input);
    ld_child_unhold(child, 1, ~0U);
    ld_child_unhold(child, 2, ~0U);
}

/* Forget a child that is to outlive us. */
void ld_child_abandon(struct ld_child *child) {
    child->ops = NULL;
    ld_reaper_unwatch(child->children->reaper, &child->watch);
    finish(child);
}

/* The facts of a child. */
void ld_child_describe(const struct ld_child *child, struct ld_child_facts *facts) {
    uint64_t until = child->life == LD_LIFE_RUNNING ? uv_hrtime() : child->ended;
    *facts = (struct ld_child_facts){.name = child->name,
                                     .command = child->command,
                                     .pid = child->watch.pid,
                                     .mark = child->mark,
                                     .start = child->started,
                                     .running = child->life == LD_LIFE_RUNNING,
                                     .detached = child->detached,
                                     .keep = child->identity != NULL,
                                     .restarts = child->restarts,
                                     .has_last = child->has_last,
                                     .last = child->last,
                                     .timed_out = child->timed_out,
                                     .seconds = (double)(until - child->started) / 1e9,
                                     .exit = child->exit};
}

/* Note the history of a child. */
void ld_child_note(struct ld_child *child, unsigned restarts, const struct ld_exit *last) {
    child->restarts = restarts;
    child->has_last = last != NULL;
    if (last != NULL) {
        child->last = *last;
    }
}

/* The owner. */
void *ld_child_owner(const struct ld_child *child) {
    return child->owner;
}

/* The claimant. */
void *ld_child_claimant(const struct ld_child *child) {
    return child->claimant;
}

/* The identity. */
const char *ld_child_identity(const struct ld_child *child) {
    return child->identity;
}

/* Set or (with NULL) take back a claim. */
void ld_child_claim(struct ld_child *child, void *claimant) {
    child->claimant = claimant;
}

/* Make the claimant the owner. */
void ld_child_hand_over(struct ld_child *child, const bool to_log[2]) {
    child->owner = child->claimant;
    child->claimant = NULL;
    for (int i = 0; i < 2; i++) {
        child->to_log[i] = to_log[i];
        ld_pipes_unhold(&child->outputs[i], ~0U);
    }
}

/* Go on after a hand-over. */
void ld_child_settle(struct ld_child *child) {
    if (child->life == LD_LIFE_LINGERING) {
        ld_child_set_deadline(child, LD_TO_GIVE_UP, LINGER_MS);
    }
    finish_if_over(child);
}

/* Move an unfinished line. */
void ld_child_take_line(struct ld_child *child, int stream, struct ld_text *text) {
    struct ld_text *rest = &child->lines[stream - 1].rest;
    ld_text_add(text, ld_text_string(rest), rest->size);
    ld_text_clear(rest);
}

/* Hand bytes to whom the output goes. */
void ld_child_put_output(struct ld_child *child, int stream, const char *bytes, size_t size) {
    deliver(child, stream, bytes, size);
}

/* Signal the child's group. Once the child is reaped its number may belong to others. */
int ld_child_kill(struct ld_child *child, int signo) {
    return child->life == LD_LIFE_RUNNING ? ld_process_kill_group(child->watch.pid, signo) : -ESRCH;
}

/* Ask the child to end. One that was stopped must go on to see the signal. */
void ld_child_terminate(struct ld_child *child) {
    ld_child_kill(child, SIGTERM);
    ld_child_kill(child, SIGCONT);
}

/* End the child. */
void ld_child_end(struct ld_child *child) {
    bool is_ending = uv_is_active((uv_handle_t *)&child->timer) && child->deadline == LD_TO_KILL;
    if (child->life == LD_LIFE_RUNNING && !is_ending) {
        ld_child_terminate(child);
        ld_child_set_deadline(child, LD_TO_KILL, child->kill_after_ms);
    }
}

/* Write to the child. */
int ld_child_write(struct ld_child *child, const char *bytes, size_t size) {
    return child->life == LD_LIFE_RUNNING ? ld_pipes_write(&child->input, bytes, size) : -EPIPE;
}

/* How much waits to be written. */
size_t ld_child_unwritten(const struct ld_child *child) {
    return ld_pipes_unwritten(&child->input);
}

/* What ended the writing. */
int ld_child_write_error(const struct ld_child *child) {
    return child->input.error;
}

/* Close stdin when everything is written. */
void ld_child_close_stdin(struct ld_child *child) {
    ld_pipes_finish(&child->input);
}

/* Hold an output back. */
void ld_child_hold(struct ld_child *child, int stream, unsigned reason) {
    ld_pipes_hold(&child->outputs[stream - 1], reason);
}

/* Read an output again; after the child's end, not for ever. */
void ld_child_unhold(struct ld_child *child, int stream, unsigned reason) {
    struct ld_outlet *output = &child->outputs[stream - 1];
    ld_pipes_unhold(output, reason);
    ld_child_settle(child);
}

/* The child after another. */
struct ld_child *ld_children_next(struct ld_children *children, struct ld_child *previous) {
    return previous == NULL ? children->first : previous->next;
}

/* The running child PID. */
struct ld_child *ld_children_find(struct ld_children *children, pid_t pid) {
    struct ld_watch *watch = ld_reaper_find(children->reaper, pid);
    bool is_ours = watch != NULL && watch->on_exit == ld_child_on_exit;
    return is_ours ? LD_CONTAINER_OF(watch, struct ld_child, watch) : NULL;
}

/* Free the set. */
void ld_children_close(struct ld_children *children) {
    LD_ASSERT(children->first == NULL);
    if (children->null_fd >= 0) {
        close(children->null_fd);
    }
    free(children->name);
    free(children);
}
