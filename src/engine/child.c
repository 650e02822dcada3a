/* A child's life:
 *
 *     event \ state   RUNNING                  LINGERING (reaped, streams open)   FINISHED
 *     reaped          linger or finish         –                                  –
 *     stream ended    wait for the reaping     finish after the last one          –
 *     timer           SIGTERM, then SIGKILL    give up the streams, finish        –
 *     released        output to the log        output to the log                  freed
 *
 * A stream may outlive the child, because grandchildren inherit it: so we never wait for
 * its end alone. A stream that we are not reading at the moment is never given up. */
#include "engine/child_state.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/base.h"
#include "posix/process.h"

#define LINGER_MS 1000

/* Make the set of children. */
struct ld_children *ld_children_new(uv_loop_t *loop, struct ld_reaper *reaper, const char *name) {
    struct ld_children *children = calloc(1, sizeof *children);
    if (children == NULL) {
        return NULL;
    }
    TAILQ_INIT(&children->list);
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

/* Free a child when nothing refers to it. */
static void free_if_done(struct ld_child *child) {
    if (child->life != LD_CHILD_FINISHED || child->open_handles > 0 || child->ops != NULL) {
        return;
    }
    ld_log_lines_fini(&child->lines[0]);
    ld_log_lines_fini(&child->lines[1]);
    ld_text_fini(&child->partials[0]);
    ld_text_fini(&child->partials[1]);
    ld_text_fini(&child->held_input);
    free(child->name);
    free(child->command);
    free(child->identity);
    free(child);
}

/* Free a child after its last handle is closed. */
static void on_handle_closed(void *owner) {
    struct ld_child *child = owner;
    child->open_handles--;
    free_if_done(child);
}

/* Handle the closing of the timer. */
static void on_timer_closed(uv_handle_t *handle) {
    on_handle_closed(handle->data);
}

/* Close everything that is still open. */
void ld_child_state_close(struct ld_child *child) {
    ld_pipes_close_inlet(&child->input);
    ld_pipes_close_outlet(&child->outputs[0]);
    ld_pipes_close_outlet(&child->outputs[1]);
    ld_child_ready_close(&child->ready);
    uv_close((uv_handle_t *)&child->timer, on_timer_closed);
}

/* Whether the child has an owner to be told. */
static bool has_owner(const struct ld_child *child) {
    return child->ops != NULL && !child->parked;
}

/* Hand on what a stream (1 or 2) brought; NULL at its end. */
static void deliver(struct ld_child *child, int stream, const char *bytes, size_t size) {
    if (child->to_log[stream - 1] || !has_owner(child)) {
        ld_log_lines_add(&child->lines[stream - 1], bytes, size);
    } else {
        child->ops->on_output(child->owner, stream, bytes, size);
    }
}

/* The list of kept children under NAME, and under other names. */
static size_t kept_list(const char *name) {
    return ld_text_hash(name, strlen(name)) % LD_CHILD_KEPT_LISTS;
}

/* Add a child to its set. */
void ld_child_state_enter(struct ld_child *child) {
    struct ld_children *children = child->children;
    TAILQ_INSERT_TAIL(&children->list, child, link);
    if (child->identity != NULL) {
        LIST_INSERT_HEAD(&children->kept[kept_list(child->name)], child, kept_link);
    }
    children->count++;
}

/* Begin a walk. */
void ld_child_cursor_begin(struct ld_child_cursor *cursor, struct ld_children *children) {
    cursor->next = TAILQ_FIRST(&children->list);
    LIST_INSERT_HEAD(&children->cursors, cursor, link);
}

/* The next child of a walk. */
struct ld_child *ld_child_cursor_next(struct ld_child_cursor *cursor) {
    struct ld_child *child = cursor->next;
    cursor->next = child != NULL ? TAILQ_NEXT(child, link) : NULL;
    return child;
}

/* End a walk. */
void ld_child_cursor_end(struct ld_child_cursor *cursor) {
    LIST_REMOVE(cursor, link);
}

/* Take a child out of its set. */
static void leave_set(struct ld_child *child) {
    struct ld_child_cursor *cursor;
    LIST_FOREACH(cursor, &child->children->cursors, link) {
        cursor->next = cursor->next == child ? TAILQ_NEXT(child, link) : cursor->next;
    }
    TAILQ_REMOVE(&child->children->list, child, link);
    if (child->identity != NULL) {
        LIST_REMOVE(child, kept_link);
    }
    child->children->count--;
}

/* Finish a child that is reaped and whose output is all handed on. */
static void finish(struct ld_child *child) {
    child->life = LD_CHILD_FINISHED;
    leave_set(child);
    ld_child_state_close(child);
    const struct ld_child_ops *ops = child->ops;
    void *claimant = child->claimant;
    if (child->parked) {
        child->parked = false;
        child->ops = NULL;
    } else if (ops != NULL) {
        ops->on_finished(child->owner);
    }
    if (ops == NULL && claimant != NULL) { /* of an earlier program: no other script is told */
        ops = child->claim_ops;
    }
    if (claimant != NULL && ops != NULL) {
        ops->on_finished(claimant);
    }
}

/* Whether an output has ended and its owner is done with what it brought. */
static bool is_over(const struct ld_outlet *output) {
    return !output->open && (output->holds & LD_HOLD_BUSY) == 0;
}

/* Whether an output may still bring something that is handed on. */
static bool is_flowing(const struct ld_outlet *output) {
    return !is_over(output) && (output->holds & (LD_HOLD_PAUSE | LD_HOLD_PARKED)) == 0;
}

/* Whether a stop has to wait for the child. */
bool ld_child_is_awaited(const struct ld_child *child) {
    if (child->life == LD_CHILD_LINGERING) {
        bool flows = is_flowing(&child->outputs[0]) || is_flowing(&child->outputs[1]);
        return flows && uv_hrtime() - child->ended < LINGER_MS * UINT64_C(1000000);
    }
    return child->life == LD_CHILD_RUNNING;
}

/* Whether one of them must be waited for. */
bool ld_children_are_awaited(struct ld_children *children) {
    struct ld_child *child;
    TAILQ_FOREACH(child, &children->list, link) {
        if (!child->detached && ld_child_is_awaited(child)) {
            return true;
        }
    }
    return false;
}

/* Whether one lingers. */
bool ld_children_are_lingering(const struct ld_children *children) {
    const struct ld_child *child;
    TAILQ_FOREACH(child, &children->list, link) {
        if (child->life == LD_CHILD_LINGERING) {
            return true;
        }
    }
    return false;
}

/* Finish the child if it is reaped and no output is to come. */
static void finish_if_over(struct ld_child *child) {
    if (child->life == LD_CHILD_LINGERING && is_over(&child->outputs[0]) &&
        is_over(&child->outputs[1])) {
        finish(child);
    }
}

static void on_timer(uv_timer_t *timer);

/* Set what happens to the child in MS milliseconds. */
void ld_child_state_set_deadline(struct ld_child *child, enum ld_child_deadline deadline,
                                 uint64_t ms) {
    child->deadline = deadline;
    uv_update_time(child->timer.loop);
    uv_timer_start(&child->timer, on_timer, ms + 1, 0); /* whole milliseconds: never early */
}

/* End the outputs that another process keeps open. What the owner holds back must not be lost, nor what
 * has been written and could not be read yet because others took the time of the loop. */
static void give_up_outputs(struct ld_child *child) {
    bool is_held = false;
    for (int stream = 1; stream <= 2; stream++) {
        struct ld_outlet *output = &child->outputs[stream - 1];
        bool was_held = output->holds != 0;
        if (output->open && !was_held) {
            ld_pipes_drain(output);
        }
        if (output->open && output->holds == 0) {
            ld_pipes_close_outlet(output);
            deliver(child, stream, NULL, 0);
        }
        is_held |= output->open && !was_held;
    }
    if (is_held) {
        ld_child_state_set_deadline(child, LD_CHILD_TO_GIVE_UP, LINGER_MS);
    }
    finish_if_over(child);
}

/* Do what the child's timer is for. */
static void on_timer(uv_timer_t *timer) {
    struct ld_child *child = timer->data;
    switch (child->deadline) {
    case LD_CHILD_TO_TERM:
        child->timed_out = true;
        ld_child_end(child);
        break;
    case LD_CHILD_TO_KILL:
        ld_child_kill(child, SIGKILL);
        break;
    case LD_CHILD_TO_GIVE_UP:
        give_up_outputs(child);
        break;
    }
}

/* Handle the reaping. */
void ld_child_state_on_reaped(struct ld_watch *watch, const struct ld_exit *exit) {
    struct ld_child *child = LD_CONTAINER_OF(watch, struct ld_child, watch);
    child->exit = *exit;
    child->ended = uv_hrtime();
    child->life = LD_CHILD_LINGERING;
    uv_timer_stop(&child->timer);
    ld_child_state_set_deadline(child, LD_CHILD_TO_GIVE_UP, LINGER_MS);
    finish_if_over(child);
}

/* Handle output of a child, or its end. */
static void on_output(struct ld_outlet *output, const char *bytes, size_t size) {
    struct ld_child *child = output->owner;
    int stream = output == &child->outputs[0] ? 1 : 2;
    deliver(child, stream, bytes, size);
    ld_child_ready_hear(&child->ready, stream, bytes, size);
    if (bytes == NULL) {
        finish_if_over(child);
    }
}

/* Handle that nothing waits to be written. */
static void on_drained(struct ld_inlet *input) {
    struct ld_child *child = input->owner;
    if (has_owner(child)) {
        child->ops->on_drained(child->owner);
    }
}

/* Hand on a line that may say that the child is ready. */
static void on_line(void *owner, const char *bytes, size_t size) {
    struct ld_child *child = owner;
    if (has_owner(child)) {
        child->ops->on_line(child->owner, bytes, size);
    }
}

/* Hand on that the child is ready. */
static void on_ready(void *owner) {
    struct ld_child *child = owner;
    if (has_owner(child)) {
        child->ops->on_ready(child->owner);
    }
}

/* Open a pipe for a standard stream; the child's end in *THEIRS. */
static int open_stream(struct ld_child *child, int index, int *theirs) {
    uv_loop_t *loop = child->children->loop;
    int rc = index == 0 ? ld_pipes_open_inlet(&child->input, loop, theirs)
                        : ld_pipes_open_outlet(&child->outputs[index - 1], loop, theirs);
    child->open_handles += *theirs >= 0;
    return rc;
}

/* Find or make the child's end of a standard stream. */
static int connect_stream(struct ld_child *child, const struct ld_child_config *config, int index,
                          struct ld_spawn_fd *fd) {
    fd->child = index;
    switch (config->streams[index].kind) {
    case LD_STREAM_NULL:
    case LD_STREAM_JOIN:
        fd->parent = child->children->null_fd;
        return 0;
    case LD_STREAM_INHERIT:
        fd->parent = index;
        return 0;
    case LD_STREAM_FD:
        fd->parent = config->streams[index].fd;
        return 0;
    case LD_STREAM_LOG:
        child->to_log[index - 1] = true;
        return open_stream(child, index, &fd->parent);
    case LD_STREAM_PIPE:
        return open_stream(child, index, &fd->parent);
    }
    return -EINVAL;
}

/* Spawn a child and watch it. */
static int spawn_and_watch(struct ld_child *child, const struct ld_spawn *spawn,
                           const char **step) {
    pid_t pid = 0;
    int pidfd;
    child->started = uv_hrtime();
    int rc = ld_spawn_start(spawn, &pid, &pidfd, step);
    if (rc == 0) {
        child->watch.on_exit = ld_child_state_on_reaped;
        child->ready.pid = pid;
        rc = ld_reaper_watch(child->children->reaper, &child->watch, pid, pidfd);
        if (rc < 0) { /* its end would go unnoticed: kill it */
            *step = "pidfd_open";
            ld_process_kill_group(pid, SIGKILL);
        }
    }
    return rc;
}

/* Spawn with all descriptors in FDS; the standard streams come first. */
static int spawn_with(struct ld_child *child, const struct ld_child_config *config,
                      struct ld_spawn_fd *fds, const char **step) {
    struct ld_spawn spawn = config->spawn;
    int rc = 0;
    *step = "pipe";
    for (int index = 0; index < 3 && rc == 0; index++) {
        rc = connect_stream(child, config, index, &fds[index]);
    }
    if (config->streams[2].kind == LD_STREAM_JOIN) {
        fds[2].parent = fds[1].parent;
    }
    if (rc == 0 && config->ready_kind == LD_READY_BY_NOTIFY) {
        *step = "the socket for READY=1";
        rc = ld_child_ready_open(&child->ready, child->children->loop, config->ready_address);
        child->open_handles += child->ready.fd > 0 ? 2 : 0;
    }
    if (rc == 0) {
        for (size_t i = 0; i < config->spawn.fd_count; i++) {
            fds[3 + i] = config->spawn.fds[i];
        }
        spawn.fds = fds;
        spawn.fd_count = config->spawn.fd_count + 3;
        rc = spawn_and_watch(child, &spawn, step);
    }
    return rc;
}

/* Close the child's ends of the pipes that were made. */
static void close_their_ends(const struct ld_child *child, const struct ld_spawn_fd *fds) {
    const bool made[3] = {child->input.open, child->outputs[0].open, child->outputs[1].open};
    for (int index = 0; index < 3; index++) {
        if (made[index]) {
            close(fds[index].parent);
        }
    }
}

/* Join the words of a command with spaces. */
static char *join_words(char *const *argv) {
    struct ld_text words = {0};
    for (size_t i = 0; argv[i] != NULL; i++) {
        if (i > 0) {
            ld_text_putc(&words, ' ');
        }
        ld_text_puts(&words, argv[i]);
    }
    return words.data;
}

/* Make a child that does not run yet; NULL when memory ran out. */
struct ld_child *ld_child_state_make(struct ld_children *children,
                                     const struct ld_child_config *config) {
    struct ld_child *child = calloc(1, sizeof *child);
    if (child == NULL) {
        return NULL;
    }
    child->name = strdup(config->name);
    child->command = join_words(config->spawn.argv);
    child->identity = config->identity != NULL ? strdup(config->identity) : NULL;
    bool has_identity = config->identity == NULL || child->identity != NULL;
    if (child->name == NULL || child->command == NULL || !has_identity) {
        free(child->name);
        free(child->command);
        free(child->identity);
        free(child);
        return NULL;
    }
    child->children = children;
    child->input.owner = child;
    child->input.on_drained = on_drained;
    child->input.on_closed = on_handle_closed;
    for (int i = 0; i < 2; i++) {
        child->outputs[i].owner = child;
        child->outputs[i].on_bytes = on_output;
        child->outputs[i].on_closed = on_handle_closed;
    }
    child->ready.kind = config->ready_kind;
    child->ready.owner = child;
    child->ready.on_line = on_line;
    child->ready.on_ready = on_ready;
    child->ready.on_closed = on_handle_closed;
    child->mark = config->mark;
    child->kill_after_ms = config->kill_after_ms;
    child->detached = config->spawn.session;
    uv_timer_init(children->loop, &child->timer);
    child->timer.data = child;
    child->open_handles = 1;
    return child;
}

/* Add a running child to the set, and start to read its output. */
static void enter_set(struct ld_child *child, const struct ld_child_config *config) {
    struct ld_children *children = child->children;
    child->ops = config->ops;
    child->owner = config->owner;
    ld_child_state_enter(child);
    for (int i = 0; i < 2; i++) {
        if (child->outputs[i].open) {
            ld_log_lines_init(&child->lines[i], children->name, child->name, child->watch.pid,
                              i == 1);
        }
        ld_pipes_read(&child->outputs[i]);
    }
    if (config->timeout_ms > 0) {
        ld_child_state_set_deadline(child, LD_CHILD_TO_TERM, config->timeout_ms);
    }
}

/* Start a child. */
int ld_child_start(struct ld_children *children, const struct ld_child_config *config,
                   struct ld_child **out, const char **step) {
    *step = "malloc";
    struct ld_child *child = ld_child_state_make(children, config);
    struct ld_spawn_fd *fds = calloc(config->spawn.fd_count + 3, sizeof *fds);
    if (child == NULL || fds == NULL) {
        free(fds);
        if (child != NULL) {
            child->life = LD_CHILD_FINISHED;
            ld_child_state_close(child);
        }
        return -ENOMEM;
    }
    for (int index = 0; index < 3; index++) {
        fds[index].parent = -1;
    }
    int rc = spawn_with(child, config, fds, step);
    close_their_ends(child, fds);
    free(fds);
    if (rc < 0) {
        child->life = LD_CHILD_FINISHED;
        ld_child_state_close(child);
        return rc;
    }
    enter_set(child, config);
    *out = child;
    return 0;
}

/* Release a child. */
void ld_child_release(struct ld_child *child) {
    child->ops = NULL;
    child->owner = NULL;
    child->parked = false;
    if (child->life == LD_CHILD_FINISHED) {
        free_if_done(child);
        return;
    }
    ld_pipes_finish(&child->input);
    ld_child_unhold(child, 1, ~0U);
    ld_child_unhold(child, 2, ~0U);
}

/* Park a child. The lines that go to the log still do. */
void ld_child_park(struct ld_child *child, struct ld_text partials[2]) {
    child->owner = NULL;
    child->parked = true;
    for (int i = 0; i < 2; i++) {
        child->partials[i] = partials[i];
        partials[i] = (struct ld_text){0};
        if (!child->to_log[i]) {
            ld_pipes_hold(&child->outputs[i], LD_HOLD_PARKED);
        }
        ld_pipes_unhold(&child->outputs[i], ~(unsigned)LD_HOLD_PARKED);
    }
}

/* Put what a parked child has said before the output that follows, to the log. */
static void log_partials(struct ld_child *child) {
    for (int i = 0; i < 2; i++) {
        if (child->partials[i].size > 0) {
            ld_log_lines_add(&child->lines[i], child->partials[i].data, child->partials[i].size);
            ld_text_fini(&child->partials[i]);
        }
    }
}

/* Release a parked child. That may finish it. */
static void release_parked(struct ld_child *child, bool ends) {
    log_partials(child);
    if (ends) {
        ld_child_end(child);
    }
    ld_child_release(child);
}

/* Release the parked children. */
void ld_children_release_parked(struct ld_children *children, bool ends) {
    struct ld_child *next;
    for (struct ld_child *child = TAILQ_FIRST(&children->list); child != NULL; child = next) {
        next = TAILQ_NEXT(child, link);
        if (child->parked && child->claimant == NULL) {
            release_parked(child, ends);
        }
    }
}

/* Forget a child that outlives this process. */
void ld_child_abandon(struct ld_child *child) {
    child->ops = NULL;
    child->parked = false;
    ld_reaper_unwatch(child->children->reaper, &child->watch);
    finish(child);
}

/* Fill in the facts of a child. */
void ld_child_describe(const struct ld_child *child, struct ld_child_facts *facts) {
    uint64_t until = child->life == LD_CHILD_RUNNING ? uv_hrtime() : child->ended;
    *facts = (struct ld_child_facts){.name = child->name,
                                     .command = child->command,
                                     .pid = child->watch.pid,
                                     .mark = child->mark,
                                     .start = child->started,
                                     .running = child->life == LD_CHILD_RUNNING,
                                     .detached = child->detached,
                                     .keep = child->identity != NULL,
                                     .parked = child->parked,
                                     .restarts = child->restarts,
                                     .ready = child->ready.state,
                                     .is_relic = child->is_relic,
                                     .has_ready_socket = child->ready.fd > 0,
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

/* Note whether the child is ready. */
void ld_child_note_ready(struct ld_child *child, bool is_ready) {
    if (child->ready.state != LD_READY_NOW) {
        ld_child_ready_note(&child->ready, is_ready);
    }
}

/* Return the owner. */
void *ld_child_owner(const struct ld_child *child) {
    return child->owner;
}

/* Return the claimant. */
void *ld_child_claimant(const struct ld_child *child) {
    return child->claimant;
}

/* Return the identity. */
const char *ld_child_identity(const struct ld_child *child) {
    return child->identity;
}

/* Set or (with NULL) take back a claim. */
void ld_child_claim(struct ld_child *child, void *claimant) {
    child->claimant = claimant;
}

/* Write what could not be written to a child of an earlier program before its new owner was known. */
static void write_held(struct ld_child *child) {
    struct ld_text held = child->held_input;
    child->held_input = (struct ld_text){0};
    child->is_relic = false;
    if (held.size > 0) {
        ld_child_write(child, held.data, held.size);
    }
    if (child->held_end) {
        ld_pipes_finish(&child->input);
    }
    if (held.size > 0 && ld_child_unwritten(child) == 0) {
        on_drained(&child->input);
    }
    ld_text_fini(&held);
}

/* Make the claimant the owner. */
void ld_child_hand_over(struct ld_child *child, const bool to_log[2],
                        enum ld_ready_kind ready_kind) {
    child->ready.kind = ready_kind;
    child->ops = child->ops != NULL ? child->ops : child->claim_ops;
    child->owner = child->claimant;
    child->claimant = NULL;
    child->parked = false;
    for (int i = 0; i < 2; i++) {
        child->to_log[i] = to_log[i];
        ld_pipes_unhold(&child->outputs[i], ~0U);
    }
    if (child->is_relic) {
        write_held(child);
    }
}

/* Give up a relic: end it, and log its output. */
void ld_child_state_end_relic(struct ld_child *child) {
    write_held(child);
    if (!child->detached) {
        ld_child_end(child);
    }
    ld_child_release(child);
}

/* Continue after a hand-over. */
void ld_child_settle(struct ld_child *child) {
    if (child->life == LD_CHILD_LINGERING) {
        ld_child_state_set_deadline(child, LD_CHILD_TO_GIVE_UP, LINGER_MS);
    }
    finish_if_over(child);
}

/* Move an unfinished line. */
void ld_child_take_line(struct ld_child *child, int stream, struct ld_text *text) {
    bool is_parked = child->parked && !child->to_log[stream - 1];
    struct ld_text *rest =
        is_parked ? &child->partials[stream - 1] : &child->lines[stream - 1].rest;
    ld_text_add(text, ld_text_string(rest), rest->size);
    ld_text_clear(rest);
}

/* Hand bytes to the owner or the log. */
void ld_child_put_output(struct ld_child *child, int stream, const char *bytes, size_t size) {
    deliver(child, stream, bytes, size);
}

/* Signal the child's group. Once the child is reaped, its pid may belong to another process. */
int ld_child_kill(struct ld_child *child, int signo) {
    if (child->is_foreign) {
        return child->watch.pidfd >= 0 ? ld_process_signal(child->watch.pidfd, signo) : -ESRCH;
    }
    return child->life == LD_CHILD_RUNNING ? ld_process_kill_group(child->watch.pid, signo)
                                           : -ESRCH;
}

/* Ask the child to end. A stopped one must be continued to see the signal. */
void ld_child_terminate(struct ld_child *child) {
    ld_child_kill(child, SIGTERM);
    ld_child_kill(child, SIGCONT);
}

/* End the child. */
void ld_child_end(struct ld_child *child) {
    bool is_ending =
        uv_is_active((uv_handle_t *)&child->timer) && child->deadline == LD_CHILD_TO_KILL;
    if (child->life == LD_CHILD_RUNNING && !is_ending) {
        ld_child_terminate(child);
        ld_child_state_set_deadline(child, LD_CHILD_TO_KILL, child->kill_after_ms);
    }
}

/* Write to the child. */
int ld_child_write(struct ld_child *child, const char *bytes, size_t size) {
    if (child->is_relic && child->input.open) {
        ld_text_add(&child->held_input, bytes, size);
        return child->held_input.failed ? -ENOMEM : 0;
    }
    return child->life == LD_CHILD_RUNNING ? ld_pipes_write(&child->input, bytes, size) : -EPIPE;
}

/* Return the size of what is not written yet. */
size_t ld_child_unwritten(const struct ld_child *child) {
    return child->held_input.size + ld_pipes_unwritten(&child->input);
}

/* Return the error that ended the writing. */
int ld_child_write_error(const struct ld_child *child) {
    return child->input.error;
}

/* Close stdin when everything is written. */
void ld_child_close_stdin(struct ld_child *child) {
    if (child->is_relic) {
        child->held_end = true;
    } else {
        ld_pipes_finish(&child->input);
    }
}

/* Hold an output back. */
void ld_child_hold(struct ld_child *child, int stream, unsigned reason) {
    ld_pipes_hold(&child->outputs[stream - 1], reason);
}

/* Read an output again, after the child's end for a limited time. */
void ld_child_unhold(struct ld_child *child, int stream, unsigned reason) {
    struct ld_outlet *output = &child->outputs[stream - 1];
    ld_pipes_unhold(output, reason);
    ld_child_settle(child);
}

/* Return the next child. */
struct ld_child *ld_children_next(struct ld_children *children, struct ld_child *previous) {
    return previous == NULL ? TAILQ_FIRST(&children->list) : TAILQ_NEXT(previous, link);
}

/* Return the next running child that is kept under a name. */
struct ld_child *ld_children_next_kept(struct ld_children *children, const char *name,
                                       struct ld_child *previous) {
    struct ld_child *child = previous == NULL ? LIST_FIRST(&children->kept[kept_list(name)])
                                              : LIST_NEXT(previous, kept_link);
    while (child != NULL && (child->life != LD_CHILD_RUNNING || strcmp(child->name, name) != 0)) {
        child = LIST_NEXT(child, kept_link);
    }
    return child;
}

/* How many there are. */
size_t ld_children_count(const struct ld_children *children) {
    return children->count;
}

/* Find a running child by its pid. */
struct ld_child *ld_children_find(struct ld_children *children, pid_t pid) {
    struct ld_watch *watch = ld_reaper_find(children->reaper, pid);
    bool is_ours = watch != NULL && watch->on_exit == ld_child_state_on_reaped;
    return is_ours ? LD_CONTAINER_OF(watch, struct ld_child, watch) : NULL;
}

/* Free the set. */
void ld_children_close(struct ld_children *children) {
    LD_ASSERT(TAILQ_EMPTY(&children->list));
    if (children->null_fd >= 0) {
        close(children->null_fd);
    }
    free(children->name);
    free(children);
}
