/* The channels between a master and its workers: a pair of sockets each (posix/packet.h), of which the worker is
 * started with one end. Workers are numbered from 1 on. */
#ifndef LD_ENGINE_WORKERS_H
#define LD_ENGINE_WORKERS_H

#include <stdbool.h>
#include <uv.h>

#include "posix/packet.h"

struct ld_workers;

/* What the owner is told, from the loop. */
struct ld_workers_ops {
    /* A channel was made: what is sent now is the first that the worker receives. */
    void (*on_connect)(void *arg, int worker);
    /* A packet; its descriptor belongs to the owner. */
    void (*on_packet)(void *arg, int worker, const struct ld_packet *packet);
    /* The worker has closed its end, most likely by its own; its channel is gone. */
    void (*on_gone)(void *arg, int worker);
    /* No process follows that of this worker, which has no channel. */
    void (*on_forget)(void *arg, int worker);
};

/* Make an empty set for workers up to MOST; NULL if memory ran out. */
struct ld_workers *ld_workers_new(uv_loop_t *loop, int most, const struct ld_workers_ops *ops,
                                  void *arg);

/* Close all channels, and free the set in a turn of the loop. */
void ld_workers_close(struct ld_workers *workers);

/* Make the channel of a worker: the end that it is started with, which the caller owns, or a negative errno:
 * -EISCONN if it has one. */
int ld_workers_connect(struct ld_workers *workers, int worker);

/* For a program that goes on in this process: the end of a channel that is ours, or -1. And the other way round: take
 * such an end over, FD in any case; it is not listened to before ld_workers_resume. 0 or a negative errno. */
int ld_workers_fd(const struct ld_workers *workers, int worker);
int ld_workers_adopt(struct ld_workers *workers, int worker, int fd, bool is_serving);
void ld_workers_resume(struct ld_workers *workers);

/* Whether a worker has a channel. */
bool ld_workers_is_connected(const struct ld_workers *workers, int worker);

/* Note that the worker serves; whether it does. */
void ld_workers_note_serving(struct ld_workers *workers, int worker);
bool ld_workers_is_serving(const struct ld_workers *workers, int worker);

/* Note whether the worker was asked to prepare a reload, and has not answered; whether it was. */
void ld_workers_note_asked(struct ld_workers *workers, int worker, bool is_asked);
bool ld_workers_is_asked(const struct ld_workers *workers, int worker);

/* Receive what a worker that has ended had sent; the owner is told. */
void ld_workers_drain(struct ld_workers *workers, int worker);

/* Close the channel of a worker, if there is one. The owner is not told. */
void ld_workers_disconnect(struct ld_workers *workers, int worker);

/* The same, and no process is to follow the one of this worker. */
void ld_workers_forget(struct ld_workers *workers, int worker);

/* Send a packet; 0 or a negative errno: -ENOTCONN without a channel. See ld_packet_send. */
int ld_workers_send(struct ld_workers *workers, int worker, unsigned long number, const char *word,
                    const char *text);
int ld_workers_send_fd(struct ld_workers *workers, int worker, unsigned long number,
                       const char *word, int fd);

/* Send a word alone to all workers that have a channel, but to EXCEPT (0: to all). */
void ld_workers_tell_all(struct ld_workers *workers, const char *word, int except);

/* How processes of a worker have ended that were followed by another one. */
struct ld_workers_end {
    unsigned count;
    char how[256];  /* the last one, cut if it is longer */
    double seconds; /* how long that had lived */
    double time;    /* when it ended; Unix time */
};

/* Note such an end; what is noted of a worker: valid until its next end, and nothing once it is forgotten. */
void ld_workers_note_end(struct ld_workers *workers, int worker, const char *how, double seconds);
void ld_workers_restore_end(struct ld_workers *workers, int worker,
                            const struct ld_workers_end *end);
const struct ld_workers_end *ld_workers_find_end(const struct ld_workers *workers, int worker);

/* A number that is another one after each change of what is noted. */
unsigned long ld_workers_count_changes(const struct ld_workers *workers);

/* How many workers there can be. */
int ld_workers_most(const struct ld_workers *workers);

/* In a copy of the process made by fork: replace the ends that are open by BLANK. */
void ld_workers_give_up(struct ld_workers *workers, int blank);

#endif
