#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/text.h"
#include "engine/child_internal.h"
#include "posix/process.h"

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
        child->watch.on_exit = ld_child_on_exit;
        rc = ld_reaper_watch(child->children->reaper, &child->watch, pid, pidfd);
        if (rc < 0) { /* nobody would learn of its end: take it back */
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

/* The words of a command with spaces between. */
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
static struct ld_child *make_child(struct ld_children *children,
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
    child->input.on_drained = ld_child_on_drained;
    child->input.on_closed = ld_child_on_handle_closed;
    for (int i = 0; i < 2; i++) {
        child->outputs[i].owner = child;
        child->outputs[i].on_bytes = ld_child_on_output;
        child->outputs[i].on_closed = ld_child_on_handle_closed;
    }
    child->mark = config->mark;
    child->kill_after_ms = config->kill_after_ms;
    child->detached = config->spawn.session;
    uv_timer_init(children->loop, &child->timer);
    child->timer.data = child;
    child->open_handles = 1;
    return child;
}

/* Put a child that runs into the set, and begin to read. */
static void enter_set(struct ld_child *child, const struct ld_child_config *config) {
    struct ld_children *children = child->children;
    child->ops = config->ops;
    child->owner = config->owner;
    child->previous = children->last;
    if (child->previous != NULL) {
        child->previous->next = child;
    } else {
        children->first = child;
    }
    children->last = child;
    for (int i = 0; i < 2; i++) {
        if (child->outputs[i].open) {
            ld_log_lines_init(&child->lines[i], children->name, child->name, child->watch.pid,
                              i == 1);
        }
        ld_pipes_read(&child->outputs[i]);
    }
    if (config->timeout_ms > 0) {
        ld_child_set_deadline(child, LD_TO_TERM, config->timeout_ms);
    }
}

/* Start a child. */
int ld_child_start(struct ld_children *children, const struct ld_child_config *config,
                   struct ld_child **out, const char **step) {
    *step = "malloc";
    struct ld_child *child = make_child(children, config);
    struct ld_spawn_fd *fds = calloc(config->spawn.fd_count + 3, sizeof *fds);
    if (child == NULL || fds == NULL) {
        free(fds);
        if (child != NULL) {
            child->life = LD_LIFE_FINISHED;
            ld_child_close_all(child);
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
        child->life = LD_LIFE_FINISHED;
        ld_child_close_all(child);
        return rc;
    }
    enter_set(child, config);
    *out = child;
    return 0;
}
