/* Messages between the workers of a service, and from a worker to itself: the end of one worker. Each
 * worker has a box, a socket from which it alone reads; the master of the workers keeps both ends of
 * all boxes, so that what is in the box of a worker that has died waits for the next one, and it tells
 * each worker through that worker's box where the others' are. It reads no message itself.
 *
 * What a box has no room for waits in the sender, up to a limit. Nothing here waits. */
#ifndef LD_ENGINE_MAIL_H
#define LD_ENGINE_MAIL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <uv.h>

#include "engine/mail_packet.h"

struct ld_mail;

/* What waits in the sender for one worker at most, in bytes of memory: what is more is refused. */
#define LD_MAIL_QUEUE_MAX ((size_t)16 << 20)

/* A message. Its bytes belong to the caller of what it is passed to. */
struct ld_mail_message {
    unsigned from;
    bool to_all; /* a broadcast */
    const char *topic;
    size_t topic_size; /* 1 to LD_MAIL_TOPIC_MAX */
    const char *data;
    size_t size;
};

/* Takes a message that has come; false if it can take no other now, and has to be asked again by
 * ld_mail_hold. */
typedef bool ld_mail_taker(void *arg, const struct ld_mail_message *message);

/* Counts since the process began, and of now. */
struct ld_mail_counts {
    uint64_t sent;
    uint64_t received;
    uint64_t refused; /* because too much waited already */
    uint64_t lost;    /* of which only a part came: a process ended between */
    size_t waiting;   /* in this process, not in a box yet */
};

/* Make the end of worker SELF on LOOP, which passes messages to TAKER with ARG; it holds them back until
 * ld_mail_hold says otherwise. NULL when memory ran out. */
struct ld_mail *ld_mail_new(uv_loop_t *loop, unsigned self, ld_mail_taker *taker, void *arg);

/* Read the box at descriptor FD, which it owns from now on; 0 or a negative errno. */
int ld_mail_read_box(struct ld_mail *mail, int fd);

/* Close all, and free it when the loop has closed its handles. What waits is sent if that is possible at
 * once; *UNSENT becomes how many messages it was not. */
void ld_mail_close(struct ld_mail *mail, size_t *unsent);

/* Hold messages back, or do not. */
void ld_mail_hold(struct ld_mail *mail, bool is_held);

/* Pass on what the worker has sent to itself, for a moment at most, unless that is held back. */
void ld_mail_step(struct ld_mail *mail);

/* Whether there is any of that. */
bool ld_mail_has_own(const struct ld_mail *mail);

/* Note that there are workers up to LAST. Those that were gone may be there again, though what the box says of it has not been
 * read; until then messages for them wait. */
void ld_mail_expect(struct ld_mail *mail, unsigned last);

/* Send a message to worker TO, which may be the sender itself, without waiting: what there is no room for waits here. The bytes are copied.
 * 0 or a negative errno: -EAGAIN when too much waits, -EMSGSIZE, -ESRCH when the master has said that this worker is gone, -ENOMEM. */
int ld_mail_send(struct ld_mail *mail, unsigned to, const struct ld_mail_message *message);

/* What has happened so far. */
struct ld_mail_counts ld_mail_count(const struct ld_mail *mail);

/* In a copy of the process: replace the descriptors by copies of BLANK. Async-signal-safe. */
void ld_mail_give_up(const struct ld_mail *mail, int blank);

#endif
