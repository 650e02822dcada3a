#include "engine/workers.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/base.h"
#include "base/time.h"

#define PACKETS_MOST 64 /* of one worker in a turn of the loop */

struct channel {
    uv_poll_t poll;
    struct ld_workers *workers;
    int worker;
    int fd;
    bool is_serving;
    bool is_asked; /* and has not answered */
};

struct ld_workers {
    uv_loop_t *loop;
    const struct ld_workers_ops *ops;
    void *arg;
    int most;
    struct ld_workers_end *ends; /* by worker */
    unsigned long changes;       /* of these */
    struct channel *channels[];  /* by worker; NULL: it has none */
};

/* Make an empty set. */
struct ld_workers *ld_workers_new(uv_loop_t *loop, int most, const struct ld_workers_ops *ops,
                                  void *arg) {
    size_t count = (size_t)most + 1;
    struct ld_workers *workers = calloc(1, sizeof *workers + count * sizeof(void *));
    struct ld_workers_end *ends = calloc(count, sizeof *ends);
    if (workers == NULL || ends == NULL) {
        free(workers);
        free(ends);
        return NULL;
    }
    workers->loop = loop;
    workers->ops = ops;
    workers->arg = arg;
    workers->most = most;
    workers->ends = ends;
    return workers;
}

static void on_readable(uv_poll_t *poll, int status, int events);

/* The channel of a worker, or NULL. */
static struct channel *find(const struct ld_workers *workers, int worker) {
    return worker >= 1 && worker <= workers->most ? workers->channels[worker] : NULL;
}

/* Free a channel that is closed. */
static void on_closed(uv_handle_t *handle) {
    struct channel *channel = LD_CONTAINER_OF((uv_poll_t *)handle, struct channel, poll);
    close(channel->fd);
    free(channel);
}

/* Close the channel of a worker. */
void ld_workers_disconnect(struct ld_workers *workers, int worker) {
    struct channel *channel = find(workers, worker);
    if (channel != NULL) {
        workers->channels[worker] = NULL;
        uv_close((uv_handle_t *)&channel->poll, on_closed);
    }
}

/* Forget a worker. */
void ld_workers_forget(struct ld_workers *workers, int worker) {
    ld_workers_disconnect(workers, worker);
    workers->changes += workers->ends[worker].count > 0;
    workers->ends[worker] = (struct ld_workers_end){0};
    workers->ops->on_forget(workers->arg, worker);
}

/* Note the end of a process. */
void ld_workers_note_end(struct ld_workers *workers, int worker, const char *how, double seconds) {
    struct ld_workers_end *end = &workers->ends[worker];
    workers->changes++;
    end->count++;
    snprintf(end->how, sizeof end->how, "%s", how);
    end->seconds = seconds;
    end->time = (double)ld_time_real() / LD_TIME_SECOND;
}

/* Note what was noted in an earlier program. */
void ld_workers_restore_end(struct ld_workers *workers, int worker,
                            const struct ld_workers_end *end) {
    workers->ends[worker] = *end;
}

/* Find what is noted. */
const struct ld_workers_end *ld_workers_find_end(const struct ld_workers *workers, int worker) {
    return &workers->ends[worker];
}

/* Count the changes. */
unsigned long ld_workers_count_changes(const struct ld_workers *workers) {
    return workers->changes;
}

/* Close all channels. */
void ld_workers_close(struct ld_workers *workers) {
    for (int worker = 1; worker <= workers->most; worker++) {
        ld_workers_disconnect(workers, worker);
    }
    free(workers->ends);
    free(workers);
}

/* Receive what a worker has sent before it ended. */
void ld_workers_drain(struct ld_workers *workers, int worker) {
    struct channel *channel = find(workers, worker);
    if (channel != NULL) {
        on_readable(&channel->poll, 0, UV_READABLE);
    }
}

/* Receive what a worker has sent. The owner may close the channel meanwhile; another one does not come before the
 * worker has ended. */
static void on_readable(uv_poll_t *poll, int status, int events) {
    struct channel *channel = LD_CONTAINER_OF(poll, struct channel, poll);
    struct ld_workers *workers = channel->workers;
    const int worker = channel->worker;
    (void)status;
    (void)events;
    for (int i = 0; i < PACKETS_MOST && find(workers, worker) == channel; i++) {
        struct ld_packet packet;
        int rc = ld_packet_receive(channel->fd, &packet);
        if (rc == 1) {
            workers->ops->on_packet(workers->arg, worker, &packet);
        } else if (rc == 0) {
            ld_workers_disconnect(workers, worker);
            workers->ops->on_gone(workers->arg, worker);
        } else if (rc != -EPROTO) {
            return;
        }
    }
}

/* Take the end of a pair that is ours; 0 or a negative errno, and then it is closed. */
static int take_end(struct ld_workers *workers, int worker, int fd) {
    struct channel *channel = calloc(1, sizeof *channel);
    int rc = channel != NULL ? uv_poll_init(workers->loop, &channel->poll, fd) : -ENOMEM;
    if (rc < 0) {
        free(channel);
        close(fd);
        return rc;
    }
    channel->workers = workers;
    channel->worker = worker;
    channel->fd = fd;
    workers->channels[worker] = channel;
    return 0;
}

/* Take over an end that another program in this process had. */
int ld_workers_adopt(struct ld_workers *workers, int worker, int fd, bool is_serving) {
    if (worker < 1 || worker > workers->most || workers->channels[worker] != NULL) {
        close(fd);
        return -EINVAL;
    }
    int rc = take_end(workers, worker, fd);
    if (rc == 0) {
        workers->channels[worker]->is_serving = is_serving;
    }
    return rc;
}

/* Listen to all. */
void ld_workers_resume(struct ld_workers *workers) {
    for (int worker = 1; worker <= workers->most; worker++) {
        struct channel *channel = workers->channels[worker];
        if (channel != NULL && !uv_is_active((uv_handle_t *)&channel->poll)) {
            uv_poll_start(&channel->poll, UV_READABLE, on_readable);
        }
    }
}

/* The end that is ours. */
int ld_workers_fd(const struct ld_workers *workers, int worker) {
    const struct channel *channel = find(workers, worker);
    return channel != NULL ? channel->fd : -1;
}

/* Make the channel of a worker. */
int ld_workers_connect(struct ld_workers *workers, int worker) {
    int ends[2];
    if (worker < 1 || worker > workers->most || workers->channels[worker] != NULL) {
        return worker < 1 || worker > workers->most ? -EINVAL : -EISCONN;
    }
    int rc = ld_packet_open(ends);
    if (rc < 0) {
        return rc;
    }
    rc = take_end(workers, worker, ends[0]);
    if (rc == 0) {
        rc = uv_poll_start(&workers->channels[worker]->poll, UV_READABLE, on_readable);
    }
    if (rc < 0) {
        ld_workers_disconnect(workers, worker);
        close(ends[1]);
        return rc;
    }
    workers->ops->on_connect(workers->arg, worker);
    return ends[1];
}

/* Check whether a worker has a channel. */
bool ld_workers_is_connected(const struct ld_workers *workers, int worker) {
    return find(workers, worker) != NULL;
}

/* Note that the worker was asked, or has answered. */
void ld_workers_note_asked(struct ld_workers *workers, int worker, bool is_asked) {
    struct channel *channel = find(workers, worker);
    if (channel != NULL) {
        channel->is_asked = is_asked;
    }
}

/* Whether it was asked. */
bool ld_workers_is_asked(const struct ld_workers *workers, int worker) {
    const struct channel *channel = find(workers, worker);
    return channel != NULL && channel->is_asked;
}

/* Note that a worker serves. */
void ld_workers_note_serving(struct ld_workers *workers, int worker) {
    if (find(workers, worker) != NULL) {
        find(workers, worker)->is_serving = true;
    }
}

/* Check whether a worker serves. */
bool ld_workers_is_serving(const struct ld_workers *workers, int worker) {
    const struct channel *channel = find(workers, worker);
    return channel != NULL && channel->is_serving;
}

/* Send a packet with a text. */
int ld_workers_send(struct ld_workers *workers, int worker, unsigned long number, const char *word,
                    const char *text) {
    const struct channel *channel = find(workers, worker);
    return channel != NULL ? ld_packet_send(channel->fd, number, word, text, strlen(text), -1)
                           : -ENOTCONN;
}

/* Send a packet with a descriptor. */
int ld_workers_send_fd(struct ld_workers *workers, int worker, unsigned long number,
                       const char *word, int fd) {
    const struct channel *channel = find(workers, worker);
    return channel != NULL ? ld_packet_send(channel->fd, number, word, "", 0, fd) : -ENOTCONN;
}

/* Send a word to all workers. */
void ld_workers_tell_all(struct ld_workers *workers, const char *word, int except) {
    for (int worker = 1; worker <= workers->most; worker++) {
        if (worker != except) {
            ld_workers_send(workers, worker, 0, word, "");
        }
    }
}

/* How many there can be. */
int ld_workers_most(const struct ld_workers *workers) {
    return workers->most;
}

/* Give all ends up. */
void ld_workers_give_up(struct ld_workers *workers, int blank) {
    for (int worker = 1; worker <= workers->most; worker++) {
        if (workers->channels[worker] != NULL) {
            dup3(blank, workers->channels[worker]->fd, O_CLOEXEC);
        }
    }
}
