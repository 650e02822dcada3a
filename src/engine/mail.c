#include "engine/mail.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>
#include <unistd.h>

#include "base/base.h"
#include "base/log.h"
#include "base/text.h"
#include "base/time.h"
#include "engine/turn.h"

/* A message that waits to be sent. */
struct letter {
    STAILQ_ENTRY(letter) next;
    bool to_all;
    uint32_t topic;
    uint32_t size; /* of the topic and the data */
    uint32_t sent; /* of them */
    char bytes[];
};

/* How much a message that waits counts: small ones need more memory than they have bytes. */
#define COST(size) (sizeof(struct letter) + (size))

STAILQ_HEAD(letters, letter);

/* A worker that messages go to. */
struct peer {
    LIST_ENTRY(peer) link;
    struct ld_mail *mail;
    unsigned number;
    bool is_gone;
    uv_poll_t *room;        /* tells when its box has room; NULL: nothing knows of its box yet */
    int box;                /* -1 likewise */
    struct letters letters; /* what waits */
    size_t bytes;           /* of that */
    size_t count;
};

/* A worker a part of whose message has come. */
struct partial {
    LIST_ENTRY(partial) link;
    unsigned from;
    uint32_t pid;
    uint32_t total;
    struct ld_text bytes;
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
    LIST_HEAD(, peer) peers;
    LIST_HEAD(, partial) partials;
    struct letters own; /* what the worker has sent to itself */
    size_t own_bytes;
    size_t own_count;
    uint32_t pid;
    struct ld_mail_counts counts;
};

/* Make an end. */
struct ld_mail *ld_mail_new(uv_loop_t *loop, unsigned self, ld_mail_taker *taker, void *arg) {
    struct ld_mail *mail = calloc(1, sizeof *mail);
    if (mail != NULL) {
        mail->loop = loop;
        mail->self = self;
        mail->taker = taker;
        mail->arg = arg;
        mail->is_held = true;
        mail->box_fd = -1;
        mail->pid = (uint32_t)getpid();
        STAILQ_INIT(&mail->own);
    }
    return mail;
}

/* Free the end after its last handle is closed. */
static void release(struct ld_mail *mail) {
    if (mail->is_closed && mail->open_handles == 0) {
        free(mail);
    }
}

/* Free a handle that is closed. */
static void on_closed(uv_handle_t *handle) {
    struct ld_mail *mail = handle->data;
    free(handle);
    mail->open_handles--;
    release(mail);
}

/* Poll a descriptor; NULL with a negative errno in *RC. */
static uv_poll_t *open_poll(struct ld_mail *mail, int fd, int *rc) {
    uv_poll_t *poll = calloc(1, sizeof *poll);
    *rc = poll == NULL ? -ENOMEM : uv_poll_init(mail->loop, poll, fd);
    if (*rc < 0) {
        free(poll);
        return NULL;
    }
    mail->open_handles++;
    poll->data = mail;
    uv_unref((uv_handle_t *)poll);
    return poll;
}

/* Drop the message that a peer's letters begin with. */
static void drop_first(struct peer *peer) {
    struct letter *letter = STAILQ_FIRST(&peer->letters);
    STAILQ_REMOVE_HEAD(&peer->letters, next);
    peer->bytes -= COST(letter->size);
    peer->count--;
    free(letter);
}

/* Close a peer's box. */
static void close_box(struct peer *peer) {
    if (peer->room != NULL) {
        uv_close((uv_handle_t *)peer->room, on_closed);
        close(peer->box);
        peer->room = NULL;
        peer->box = -1;
    }
}

/* Note that a worker is gone: what waits for it is dropped. */
static void lose_peer(struct peer *peer) {
    peer->is_gone = true;
    close_box(peer);
    if (peer->count > 0) {
        ld_log(LD_LOG_WARN, "messages: worker %u is gone, %zu for it are dropped", peer->number,
               peer->count);
    }
    while (!STAILQ_EMPTY(&peer->letters)) {
        drop_first(peer);
    }
}

/* Send the parts of a message that its box has room for, from *SENT on; 0 when that was all, or a negative errno. */
static int send_parts(const struct peer *peer, const struct ld_mail_packet *whole, uint32_t *sent) {
    struct ld_mail_packet part = *whole;
    int rc = 0;
    while (rc == 0 && *sent < whole->total) {
        uint32_t left = whole->total - *sent;
        part.offset = *sent;
        part.bytes = whole->bytes + *sent;
        part.size = left < LD_MAIL_PART_MAX ? left : LD_MAIL_PART_MAX;
        rc = ld_mail_packet_send(peer->box, &part);
        *sent += rc == 0 ? (uint32_t)part.size : 0;
    }
    return rc;
}

/* Whether an error of a box means that it has no room at present. */
static bool is_full(int rc) {
    return rc == -EAGAIN || rc == -ENOBUFS || rc == -ENOMEM;
}

/* Send the message that a peer's letters begin with, or the rest of it; 0 or a negative errno. */
static int send_first(struct peer *peer) {
    const struct ld_mail *mail = peer->mail;
    struct letter *letter = STAILQ_FIRST(&peer->letters);
    const struct ld_mail_packet whole = {.kind = LD_MAIL_PART,
                                         .from = mail->self,
                                         .pid = mail->pid,
                                         .to_all = letter->to_all,
                                         .topic = letter->topic,
                                         .total = letter->size,
                                         .bytes = letter->bytes,
                                         .fd = -1};
    return send_parts(peer, &whole, &letter->sent);
}

/* Send what waits for a peer, as far as its box has room and for a moment; false if some is left. */
static bool flush(struct peer *peer) {
    uint64_t until = ld_time_coarse() + LD_TURN_NS;
    int rc = 0;
    while (rc == 0 && !STAILQ_EMPTY(&peer->letters)) {
        rc = send_first(peer);
        if (rc == 0) {
            drop_first(peer);
            rc = ld_time_coarse() < until ? 0 : -EAGAIN;
        }
    }
    if (rc < 0 && !is_full(rc)) {
        lose_peer(peer);
    }
    return STAILQ_EMPTY(&peer->letters);
}

/* The peer of a handle. */
static struct peer *find_by_room(const struct ld_mail *mail, const uv_poll_t *room) {
    struct peer *peer = LIST_FIRST(&mail->peers);
    while (peer != NULL && peer->room != room) {
        peer = LIST_NEXT(peer, link);
    }
    return peer;
}

/* Send what waits for a peer whose box has room again. */
static void on_room(uv_poll_t *room, int status, int events) {
    struct peer *peer = find_by_room(room->data, room);
    (void)events;
    if (peer == NULL) {
        return;
    }
    if (status < 0) {
        lose_peer(peer);
    } else if (flush(peer) && peer->room != NULL) {
        uv_poll_stop(room);
    }
}

/* Wait until a peer's box has room. */
static void await_room(struct peer *peer) {
    if (peer->room != NULL && !uv_is_active((uv_handle_t *)peer->room)) {
        uv_poll_start(peer->room, UV_WRITABLE, on_room);
    }
}

/* Find or make the peer of a number; NULL when memory ran out. */
static struct peer *get_peer(struct ld_mail *mail, unsigned number) {
    struct peer *peer = LIST_FIRST(&mail->peers);
    while (peer != NULL && peer->number != number) {
        peer = LIST_NEXT(peer, link);
    }
    if (peer == NULL && (peer = calloc(1, sizeof *peer)) != NULL) {
        peer->mail = mail;
        peer->number = number;
        peer->box = -1;
        STAILQ_INIT(&peer->letters);
        LIST_INSERT_HEAD(&mail->peers, peer, link);
    }
    return peer;
}

/* Copy the topic and the rest of a message. */
static struct letter *copy(const struct ld_mail_message *message) {
    size_t size = message->topic_size + message->size;
    struct letter *letter = malloc(sizeof *letter + size);
    if (letter != NULL) {
        *letter = (struct letter){.to_all = message->to_all,
                                  .topic = (uint32_t)message->topic_size,
                                  .size = (uint32_t)size};
        memcpy(letter->bytes, message->topic, message->topic_size);
        if (message->size > 0) {
            memcpy(letter->bytes + message->topic_size, message->data, message->size);
        }
    }
    return letter;
}

/* Keep a message of the worker to itself. */
static int send_to_self(struct ld_mail *mail, const struct ld_mail_message *message) {
    if (mail->own_bytes + COST(message->topic_size + message->size) > LD_MAIL_QUEUE_MAX) {
        return -EAGAIN;
    }
    struct letter *letter = copy(message);
    if (letter == NULL) {
        return -ENOMEM;
    }
    STAILQ_INSERT_TAIL(&mail->own, letter, next);
    mail->own_bytes += COST(letter->size);
    mail->own_count++;
    return 0;
}

/* Send a message to a peer: at once, or when there is room. */
static int send_to_peer(struct peer *peer, const struct ld_mail_message *message) {
    struct letter *letter = copy(message);
    if (letter == NULL) {
        return -ENOMEM;
    }
    bool waits = !STAILQ_EMPTY(&peer->letters);
    STAILQ_INSERT_TAIL(&peer->letters, letter, next);
    peer->bytes += COST(letter->size);
    peer->count++;
    if (!waits && peer->box >= 0 && !flush(peer)) {
        await_room(peer);
    }
    return peer->is_gone ? -ESRCH : 0;
}

/* Note who is there. */
void ld_mail_expect(struct ld_mail *mail, unsigned last) {
    struct peer *peer;
    LIST_FOREACH(peer, &mail->peers, link) {
        peer->is_gone = peer->is_gone && peer->number > last;
    }
}

/* Send a message. */
int ld_mail_send(struct ld_mail *mail, unsigned to, const struct ld_mail_message *message) {
    struct peer *peer = NULL;
    int rc = message->size > LD_MAIL_DATA_MAX ? -EMSGSIZE : 0;
    if (rc == 0 && to == mail->self) {
        rc = send_to_self(mail, message);
    } else if (rc == 0 && (peer = get_peer(mail, to)) == NULL) {
        rc = -ENOMEM;
    } else if (rc == 0 && peer->is_gone) {
        rc = -ESRCH;
    } else if (rc == 0) {
        bool fits = peer->bytes + COST(message->topic_size + message->size) <= LD_MAIL_QUEUE_MAX;
        rc = fits ? send_to_peer(peer, message) : -EAGAIN;
    }
    mail->counts.sent += rc == 0;
    mail->counts.refused += rc == -EAGAIN;
    return rc;
}

/* Pass a message on; whether another may follow. */
static bool pass(struct ld_mail *mail, const struct ld_mail_message *message) {
    mail->counts.received++;
    mail->is_held = !mail->taker(mail->arg, message) || mail->is_held;
    return !mail->is_held;
}

/* Split the bytes of a message. */
static struct ld_mail_message split(const char *bytes, size_t size, uint32_t topic) {
    return (struct ld_mail_message){
        .topic = bytes, .topic_size = topic, .data = bytes + topic, .size = size - topic};
}

/* Forget a message of which only a part has come. */
static void drop_partial(struct partial *partial) {
    LIST_REMOVE(partial, link);
    ld_text_fini(&partial->bytes);
    free(partial);
}

/* What has come so far of a message that a packet continues; NULL if that is nothing. */
static struct partial *find_partial(struct ld_mail *mail, const struct ld_mail_packet *packet) {
    struct partial *partial = LIST_FIRST(&mail->partials);
    while (partial != NULL && partial->from != packet->from) {
        partial = LIST_NEXT(partial, link);
    }
    bool goes_on = partial != NULL && partial->pid == packet->pid &&
                   partial->total == packet->total && partial->bytes.size == packet->offset;
    if (partial != NULL && !goes_on) { /* its sender has ended, and another one begins */
        mail->counts.lost++;
        drop_partial(partial);
        partial = NULL;
    }
    return partial;
}

/* Begin to collect a message; NULL when memory ran out. */
static struct partial *begin_partial(struct ld_mail *mail, const struct ld_mail_packet *packet) {
    struct partial *partial = calloc(1, sizeof *partial);
    if (partial != NULL) {
        partial->from = packet->from;
        partial->pid = packet->pid;
        partial->total = packet->total;
        LIST_INSERT_HEAD(&mail->partials, partial, link);
    }
    return partial;
}

/* Add a part to what has come, and pass the message on when it is whole. One whose beginning another
 * process has read, which has died, is lost. */
static void take_part(struct ld_mail *mail, const struct ld_mail_packet *packet) {
    struct partial *partial = find_partial(mail, packet);
    bool is_last = packet->offset + packet->size == packet->total;
    if (partial == NULL && packet->offset == 0) {
        partial = begin_partial(mail, packet);
    }
    if (partial == NULL) {
        mail->counts.lost += is_last;
        return;
    }
    ld_text_add(&partial->bytes, packet->bytes, packet->size);
    if (partial->bytes.failed) {
        drop_partial(partial); /* the parts to come find nothing, and the last one counts it */
    } else if (is_last) {
        struct ld_mail_message message =
            split(partial->bytes.data, partial->bytes.size, packet->topic);
        message.from = packet->from;
        message.to_all = packet->to_all;
        LIST_REMOVE(partial, link);
        pass(mail, &message);
        ld_text_fini(&partial->bytes);
        free(partial);
    }
}

/* Take the box of a peer in the place of the one that is known. */
static void meet_peer(struct ld_mail *mail, const struct ld_mail_packet *packet) {
    struct peer *peer = packet->from != mail->self ? get_peer(mail, packet->from) : NULL;
    int rc = 0;
    uv_poll_t *room = peer != NULL ? open_poll(mail, packet->fd, &rc) : NULL;
    if (room == NULL) {
        close(packet->fd);
        if (packet->from != mail->self) {
            ld_log(LD_LOG_ERROR, "messages: the box of worker %u cannot be used: %s", packet->from,
                   strerror(rc < 0 ? -rc : ENOMEM));
        }
        return;
    }
    close_box(peer);
    peer->is_gone = false;
    peer->room = room;
    peer->box = packet->fd;
    if (!flush(peer)) {
        await_room(peer);
    }
}

/* Note that a peer is gone. */
static void part_with(struct ld_mail *mail, unsigned number) {
    struct peer *peer = get_peer(mail, number);
    if (peer != NULL) {
        lose_peer(peer);
    }
}

/* Act on a packet. */
static void take_packet(struct ld_mail *mail, const struct ld_mail_packet *packet) {
    bool is_whole = packet->offset == 0 && packet->size == packet->total;
    switch (packet->kind) {
    case LD_MAIL_PEER:
        meet_peer(mail, packet);
        break;
    case LD_MAIL_GONE:
        part_with(mail, packet->from);
        break;
    case LD_MAIL_PART:
        if (is_whole && find_partial(mail, packet) == NULL) {
            struct ld_mail_message message = split(packet->bytes, packet->size, packet->topic);
            message.from = packet->from;
            message.to_all = packet->to_all;
            pass(mail, &message);
        } else {
            take_part(mail, packet);
        }
        break;
    }
}

/* Stop reading a box whose other end is closed. */
static void close_own_box(struct ld_mail *mail) {
    if (mail->box != NULL) {
        uv_close((uv_handle_t *)mail->box, on_closed);
        close(mail->box_fd);
        mail->box = NULL;
        mail->box_fd = -1;
    }
}

/* Receive a packet; false if there is nothing more to be had now. */
static bool receive(struct ld_mail *mail) {
    struct ld_mail_packet packet;
    int rc = ld_mail_packet_receive(mail->box_fd, &packet);
    if (rc == 1) {
        take_packet(mail, &packet);
        return true;
    }
    if (rc == -EMFILE) {
        ld_log(
            LD_LOG_ERROR,
            "messages: no descriptor was free for the box of worker %u: what is sent to it waits "
            "until this worker starts again",
            packet.from);
    } else if (rc == -EPROTO) {
        mail->counts.lost++;
    } else {
        if (rc != -EAGAIN) { /* the end, or an error that reading again would not cure */
            close_own_box(mail);
        }
        return false;
    }
    return true;
}

/* Read the box for a moment. */
static void on_box(uv_poll_t *box, int status, int events) {
    struct ld_mail *mail = box->data;
    uint64_t until = ld_time_coarse() + LD_TURN_NS;
    (void)events;
    if (status < 0) {
        close_own_box(mail);
        return;
    }
    while (!mail->is_held && mail->box == box && receive(mail) && ld_time_coarse() < until) {
    }
    if (mail->is_held && mail->box != NULL) {
        uv_poll_stop(box);
    }
}

/* Read a box. */
int ld_mail_read_box(struct ld_mail *mail, int fd) {
    int rc = -EEXIST;
    if (mail->box == NULL) {
        mail->box = open_poll(mail, fd, &rc);
    }
    if (rc < 0) {
        close(fd);
        return rc;
    }
    mail->box_fd = fd;
    return mail->is_held ? 0 : uv_poll_start(mail->box, UV_READABLE, on_box);
}

/* Hold messages back, or do not. */
void ld_mail_hold(struct ld_mail *mail, bool is_held) {
    bool polls = mail->box != NULL && uv_is_active((const uv_handle_t *)mail->box);
    mail->is_held = is_held;
    if (mail->box != NULL && !is_held && !polls) {
        uv_poll_start(mail->box, UV_READABLE, on_box);
    } else if (is_held && polls) {
        uv_poll_stop(mail->box);
    }
}

/* Pass on what the worker has sent to itself. */
void ld_mail_step(struct ld_mail *mail) {
    uint64_t until = 0;
    struct letter *letter;
    while (!mail->is_held && (letter = STAILQ_FIRST(&mail->own)) != NULL) {
        uint64_t now = ld_time_coarse();
        until = until == 0 ? now + LD_TURN_NS : until;
        if (now > until) {
            break;
        }
        struct ld_mail_message message = split(letter->bytes, letter->size, letter->topic);
        message.from = mail->self;
        STAILQ_REMOVE_HEAD(&mail->own, next);
        mail->own_bytes -= COST(letter->size);
        mail->own_count--;
        pass(mail, &message);
        free(letter);
    }
}

/* Whether some of that is left. */
bool ld_mail_has_own(const struct ld_mail *mail) {
    return !STAILQ_EMPTY(&mail->own);
}

/* What has happened. */
struct ld_mail_counts ld_mail_count(const struct ld_mail *mail) {
    struct ld_mail_counts counts = mail->counts;
    const struct peer *peer;
    counts.waiting = mail->own_count;
    LIST_FOREACH(peer, &mail->peers, link) {
        counts.waiting += peer->count;
    }
    return counts;
}

/* Free a peer; how many messages it did not get. */
static size_t free_peer(struct peer *peer) {
    if (peer->box >= 0) {
        flush(peer);
    }
    size_t unsent = peer->count;
    close_box(peer);
    while (!STAILQ_EMPTY(&peer->letters)) {
        drop_first(peer);
    }
    LIST_REMOVE(peer, link);
    free(peer);
    return unsent;
}

/* Close an end. */
void ld_mail_close(struct ld_mail *mail, size_t *unsent) {
    struct letter *letter;
    struct peer *next_peer;
    struct partial *next_partial;
    *unsent = 0;
    close_own_box(mail);
    for (struct peer *at = LIST_FIRST(&mail->peers); at != NULL; at = next_peer) {
        next_peer = LIST_NEXT(at, link);
        *unsent += free_peer(at);
    }
    for (struct partial *at = LIST_FIRST(&mail->partials); at != NULL; at = next_partial) {
        next_partial = LIST_NEXT(at, link);
        drop_partial(at);
    }
    while ((letter = STAILQ_FIRST(&mail->own)) != NULL) {
        STAILQ_REMOVE_HEAD(&mail->own, next);
        free(letter);
    }
    mail->is_closed = true;
    release(mail);
}

/* Give everything up. */
void ld_mail_give_up(const struct ld_mail *mail, int blank) {
    const struct peer *peer;
    if (mail->box_fd >= 0) {
        dup3(blank, mail->box_fd, O_CLOEXEC);
    }
    LIST_FOREACH(peer, &mail->peers, link) {
        if (peer->box >= 0) {
            dup3(blank, peer->box, O_CLOEXEC);
        }
    }
}
