/* The inside of the end of a worker for messages, for the files that make it. */
#ifndef LD_ENGINE_MAIL_STATE_H
#define LD_ENGINE_MAIL_STATE_H

#include <sys/queue.h>

#include "base/text.h"
#include "engine/mail.h"

/* A message that waits to be sent. */
struct ld_letter {
    STAILQ_ENTRY(ld_letter) next;
    bool to_all;
    uint32_t topic;
    uint32_t size; /* of the topic and the data */
    uint32_t sent; /* of them */
    char bytes[];
};

/* How much a message that waits counts: small ones need more memory than they have bytes. */
#define LD_LETTER_COST(size) (sizeof(struct ld_letter) + (size))

STAILQ_HEAD(ld_letters, ld_letter);

/* A worker that messages go to. */
struct ld_mail_peer {
    LIST_ENTRY(ld_mail_peer) link;
    struct ld_mail *mail;
    unsigned number;
    bool is_gone;
    uv_poll_t *room;           /* tells when its box has room; NULL: nothing knows of its box yet */
    int box;                   /* -1 likewise */
    struct ld_letters letters; /* what waits */
    size_t bytes;              /* of that */
    size_t count;
};

/* A worker a part of whose message has come. */
struct ld_mail_partial {
    LIST_ENTRY(ld_mail_partial) link;
    unsigned from;
    uint32_t pid;
    uint32_t total;
    struct ld_text bytes;
};

/* A box from which this worker reads as well: what a process beside it, which goes on with clients of the program
 * before (mail_relic.h), sends to it. */
struct ld_mail_side {
    LIST_ENTRY(ld_mail_side) link;
    uv_poll_t *poll;
    int fd;
};

struct ld_mail {
    uv_loop_t *loop;
    unsigned self;
    ld_mail_taker *taker;
    void *arg;
    bool is_held;
    bool is_closed;
    uv_poll_t *box; /* NULL: none */
    int box_fd;
    unsigned open_handles;
    bool is_beside; /* this is such a process: what it sends to itself is for the other one */
    LIST_HEAD(, ld_mail_side) sides;
    LIST_HEAD(, ld_mail_peer) peers;
    LIST_HEAD(, ld_mail_partial) partials;
    struct ld_letters own; /* what the worker has sent to itself */
    size_t own_bytes;
    size_t own_count;
    uint32_t pid;
    struct ld_mail_counts counts;
};

/* Make a letter of TOPIC bytes of a topic and what follows it, SIZE in all, which are not copied yet; NULL when memory
 * ran out. */
struct ld_letter *ld_mail_letter_new(bool to_all, uint32_t topic, uint32_t size);

/* Put a letter at the end of what waits for a peer, or of what the worker has sent to itself. */
void ld_mail_peer_add(struct ld_mail_peer *peer, struct ld_letter *letter);
void ld_mail_own_add(struct ld_mail *mail, struct ld_letter *letter);

/* Find or make the peer of a number; NULL when memory ran out. */
struct ld_mail_peer *ld_mail_get_peer(struct ld_mail *mail, unsigned number);

/* Have a peer's box be FD, which is taken over: 0 or a negative errno. */
int ld_mail_peer_open(struct ld_mail_peer *peer, int fd);

/* Begin to collect a message of TOTAL bytes of process PID of a worker; NULL when memory ran out. */
struct ld_mail_partial *ld_mail_partial_new(struct ld_mail *mail, unsigned from, uint32_t pid,
                                            uint32_t total);

/* Forget it. */
void ld_mail_partial_drop(struct ld_mail_partial *partial);

/* Drop all that waits for a peer, without a word. */
void ld_mail_peer_empty(struct ld_mail_peer *peer);

/* Read from one more box, which is taken over; 0 or a negative errno. */
int ld_mail_side_open(struct ld_mail *mail, int fd);

/* Stop reading from all boxes. */
void ld_mail_close_boxes(struct ld_mail *mail);

/* Send what waits for all peers, or wait until there is room. */
void ld_mail_flush_all(struct ld_mail *mail);

#endif
