#include "engine/mail.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/base.h"
#include "base/log.h"
#include "base/time.h"
#include "engine/mail_state.h"
#include "engine/turn.h"

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
static void drop_first(struct ld_mail_peer *peer) {
    struct ld_letter *letter = STAILQ_FIRST(&peer->letters);
    STAILQ_REMOVE_HEAD(&peer->letters, next);
    peer->bytes -= LD_LETTER_COST(letter->size);
    peer->count--;
    free(letter);
}

/* Close a peer's box. */
static void close_box(struct ld_mail_peer *peer) {
    if (peer->room != NULL) {
        uv_close((uv_handle_t *)peer->room, on_closed);
        close(peer->box);
        peer->room = NULL;
        peer->box = -1;
    }
}

/* Drop all that waits for a peer. */
void ld_mail_peer_empty(struct ld_mail_peer *peer) {
    while (!STAILQ_EMPTY(&peer->letters)) {
        drop_first(peer);
    }
}

/* Note that a worker is gone: what waits for it is dropped. */
static void lose_peer(struct ld_mail_peer *peer) {
    peer->is_gone = true;
    close_box(peer);
    if (peer->count > 0) {
        ld_log(LD_LOG_WARN, "messages: worker %u is gone, %zu for it are dropped", peer->number,
               peer->count);
    }
    ld_mail_peer_empty(peer);
}

/* Send the parts of a message that its box has room for, from *SENT on; 0 when that was all, or a negative errno. */
static int send_parts(const struct ld_mail_peer *peer, const struct ld_mail_packet *whole,
                      uint32_t *sent) {
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
static int send_first(struct ld_mail_peer *peer) {
    const struct ld_mail *mail = peer->mail;
    struct ld_letter *letter = STAILQ_FIRST(&peer->letters);
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
static bool flush(struct ld_mail_peer *peer) {
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
static struct ld_mail_peer *find_by_room(const struct ld_mail *mail, const uv_poll_t *room) {
    struct ld_mail_peer *peer = LIST_FIRST(&mail->peers);
    while (peer != NULL && peer->room != room) {
        peer = LIST_NEXT(peer, link);
    }
    return peer;
}

/* Send what waits for a peer whose box has room again. */
static void on_room(uv_poll_t *room, int status, int events) {
    struct ld_mail_peer *peer = find_by_room(room->data, room);
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
static void await_room(struct ld_mail_peer *peer) {
    if (peer->room != NULL && !uv_is_active((uv_handle_t *)peer->room)) {
        uv_poll_start(peer->room, UV_WRITABLE, on_room);
    }
}

/* Find or make the peer of a number. */
struct ld_mail_peer *ld_mail_get_peer(struct ld_mail *mail, unsigned number) {
    struct ld_mail_peer *peer = LIST_FIRST(&mail->peers);
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

/* Make a letter. */
struct ld_letter *ld_mail_letter_new(bool to_all, uint32_t topic, uint32_t size) {
    struct ld_letter *letter = malloc(sizeof *letter + size);
    if (letter != NULL) {
        *letter = (struct ld_letter){.to_all = to_all, .topic = topic, .size = size};
    }
    return letter;
}

/* Copy the topic and the rest of a message. */
static struct ld_letter *copy(const struct ld_mail_message *message) {
    size_t size = message->topic_size + message->size;
    struct ld_letter *letter =
        ld_mail_letter_new(message->to_all, (uint32_t)message->topic_size, (uint32_t)size);
    if (letter != NULL) {
        memcpy(letter->bytes, message->topic, message->topic_size);
        if (message->size > 0) {
            memcpy(letter->bytes + message->topic_size, message->data, message->size);
        }
    }
    return letter;
}

/* Put a letter at the end of what the worker has sent to itself. */
void ld_mail_own_add(struct ld_mail *mail, struct ld_letter *letter) {
    STAILQ_INSERT_TAIL(&mail->own, letter, next);
    mail->own_bytes += LD_LETTER_COST(letter->size);
    mail->own_count++;
}

/* Put a letter at the end of what waits for a peer. */
void ld_mail_peer_add(struct ld_mail_peer *peer, struct ld_letter *letter) {
    STAILQ_INSERT_TAIL(&peer->letters, letter, next);
    peer->bytes += LD_LETTER_COST(letter->size);
    peer->count++;
}

/* Keep a message of the worker to itself. */
static int send_to_self(struct ld_mail *mail, const struct ld_mail_message *message) {
    if (mail->own_bytes + LD_LETTER_COST(message->topic_size + message->size) > LD_MAIL_QUEUE_MAX) {
        return -EAGAIN;
    }
    struct ld_letter *letter = copy(message);
    if (letter == NULL) {
        return -ENOMEM;
    }
    ld_mail_own_add(mail, letter);
    return 0;
}

/* Send a message to a peer: at once, or when there is room. */
static int send_to_peer(struct ld_mail_peer *peer, const struct ld_mail_message *message) {
    struct ld_letter *letter = copy(message);
    if (letter == NULL) {
        return -ENOMEM;
    }
    bool waits = !STAILQ_EMPTY(&peer->letters);
    ld_mail_peer_add(peer, letter);
    if (!waits && peer->box >= 0 && !flush(peer)) {
        await_room(peer);
    }
    return peer->is_gone ? -ESRCH : 0;
}

/* Note who is there. */
void ld_mail_expect(struct ld_mail *mail, unsigned last) {
    struct ld_mail_peer *peer;
    LIST_FOREACH(peer, &mail->peers, link) {
        peer->is_gone = peer->is_gone && peer->number > last;
    }
}

/* Send a message. */
int ld_mail_send(struct ld_mail *mail, unsigned to, const struct ld_mail_message *message) {
    struct ld_mail_peer *peer = NULL;
    int rc = message->size > LD_MAIL_DATA_MAX ? -EMSGSIZE : 0;
    if (rc == 0 && mail->is_beside && to != mail->self &&
        message->topic_size + message->size > LD_MAIL_PART_MAX) {
        rc = -ESHUTDOWN; /* its parts would meet those of the other process */
    } else if (rc == 0 && to == mail->self && !mail->is_beside) {
        rc = send_to_self(mail, message);
    } else if (rc == 0 && (peer = ld_mail_get_peer(mail, to)) == NULL) {
        rc = -ENOMEM;
    } else if (rc == 0 && peer->is_gone) {
        rc = -ESRCH;
    } else if (rc == 0) {
        bool fits =
            peer->bytes + LD_LETTER_COST(message->topic_size + message->size) <= LD_MAIL_QUEUE_MAX;
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
void ld_mail_partial_drop(struct ld_mail_partial *partial) {
    LIST_REMOVE(partial, link);
    ld_text_fini(&partial->bytes);
    free(partial);
}

/* What has come so far of a message that a packet continues; NULL if that is nothing. */
static struct ld_mail_partial *find_partial(struct ld_mail *mail,
                                            const struct ld_mail_packet *packet) {
    struct ld_mail_partial *partial = LIST_FIRST(&mail->partials);
    while (partial != NULL &&
           (partial->from != packet->from ||
            (packet->from == mail->self && partial->pid != packet->pid))) { /* of another side */
        partial = LIST_NEXT(partial, link);
    }
    bool goes_on = partial != NULL && partial->pid == packet->pid &&
                   partial->total == packet->total && partial->bytes.size == packet->offset;
    if (partial != NULL && !goes_on) { /* its sender has ended, and another one begins */
        mail->counts.lost++;
        ld_mail_partial_drop(partial);
        partial = NULL;
    }
    return partial;
}

/* Begin to collect a message. */
struct ld_mail_partial *ld_mail_partial_new(struct ld_mail *mail, unsigned from, uint32_t pid,
                                            uint32_t total) {
    struct ld_mail_partial *partial = calloc(1, sizeof *partial);
    if (partial != NULL) {
        partial->from = from;
        partial->pid = pid;
        partial->total = total;
        LIST_INSERT_HEAD(&mail->partials, partial, link);
    }
    return partial;
}

/* Add a part to what has come, and pass the message on when it is whole. One whose beginning another
 * process has read, which has died, is lost. */
static void take_part(struct ld_mail *mail, const struct ld_mail_packet *packet) {
    struct ld_mail_partial *partial = find_partial(mail, packet);
    bool is_last = packet->offset + packet->size == packet->total;
    if (partial == NULL && packet->offset == 0) {
        partial = ld_mail_partial_new(mail, packet->from, packet->pid, packet->total);
    }
    if (partial == NULL) {
        mail->counts.lost += is_last;
        return;
    }
    ld_text_add(&partial->bytes, packet->bytes, packet->size);
    if (partial->bytes.failed) {
        ld_mail_partial_drop(
            partial); /* the parts to come find nothing, and the last one counts it */
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

/* Have a peer's box be a descriptor, in the place of the one before. */
int ld_mail_peer_open(struct ld_mail_peer *peer, int fd) {
    int rc;
    uv_poll_t *room = open_poll(peer->mail, fd, &rc);
    if (room == NULL) {
        close(fd);
        return rc;
    }
    close_box(peer);
    peer->is_gone = false;
    peer->room = room;
    peer->box = fd;
    return 0;
}

/* Take the box of a peer in the place of the one that is known. */
static void meet_peer(struct ld_mail *mail, const struct ld_mail_packet *packet) {
    if (packet->from == mail->self) {
        close(packet->fd);
        return;
    }
    struct ld_mail_peer *peer = ld_mail_get_peer(mail, packet->from);
    if (peer == NULL) {
        close(packet->fd);
    }
    int rc = peer != NULL ? ld_mail_peer_open(peer, packet->fd) : -ENOMEM;
    if (rc < 0) {
        ld_log(LD_LOG_ERROR, "messages: the box of worker %u cannot be used: %s", packet->from,
               strerror(-rc));
    } else if (!flush(peer)) {
        await_room(peer);
    }
}

/* Send what waits for all. */
void ld_mail_flush_all(struct ld_mail *mail) {
    struct ld_mail_peer *peer;
    LIST_FOREACH(peer, &mail->peers, link) {
        if (peer->box >= 0 && !flush(peer)) {
            await_room(peer);
        }
    }
}

/* Note that a peer is gone. */
static void part_with(struct ld_mail *mail, unsigned number) {
    struct ld_mail_peer *peer = ld_mail_get_peer(mail, number);
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

/* Receive a packet; 1, -EAGAIN if there is nothing more to be had now, or something else if there never is again. */
static int receive(struct ld_mail *mail, int box) {
    struct ld_mail_packet packet;
    int rc = ld_mail_packet_receive(box, &packet);
    if (rc == 1) {
        take_packet(mail, &packet);
        return 1;
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
        return rc; /* the end, or an error that reading again would not cure, or nothing */
    }
    return 1;
}

/* Stop reading from the box of a process beside this one, which has ended: what it has not sent whole is lost. */
static void close_side(struct ld_mail *mail, struct ld_mail_side *side) {
    struct ld_mail_partial *next;
    LIST_REMOVE(side, link);
    uv_close((uv_handle_t *)side->poll, on_closed);
    close(side->fd);
    free(side);
    for (struct ld_mail_partial *at = LIST_FIRST(&mail->partials);
         at != NULL && LIST_EMPTY(&mail->sides); at = next) {
        next = LIST_NEXT(at, link);
        if (at->from == mail->self) {
            mail->counts.lost++;
            ld_mail_partial_drop(at);
        }
    }
}

/* Read such a box for a moment. */
static void on_side(uv_poll_t *poll, int status, int events) {
    struct ld_mail *mail = poll->data;
    uint64_t until = ld_time_coarse() + LD_TURN_NS;
    struct ld_mail_side *side = LIST_FIRST(&mail->sides);
    (void)events;
    while (side->poll != poll) {
        side = LIST_NEXT(side, link);
    }
    int rc = status < 0 ? status : 1;
    while (!mail->is_held && rc == 1 && ld_time_coarse() < until) {
        rc = receive(mail, side->fd);
    }
    if (rc != 1 && rc != -EAGAIN) {
        close_side(mail, side);
    } else if (mail->is_held) {
        uv_poll_stop(poll);
    }
}

/* Read from one more box. */
int ld_mail_side_open(struct ld_mail *mail, int fd) {
    struct ld_mail_side *side = calloc(1, sizeof *side);
    int rc = -ENOMEM;
    if (side != NULL) {
        side->poll = open_poll(mail, fd, &rc);
    }
    if (rc < 0) {
        close(fd);
        free(side);
        return rc;
    }
    side->fd = fd;
    LIST_INSERT_HEAD(&mail->sides, side, link);
    return mail->is_held ? 0 : uv_poll_start(side->poll, UV_READABLE, on_side);
}

/* Stop reading from all boxes. */
void ld_mail_close_boxes(struct ld_mail *mail) {
    struct ld_mail_side *side, *next;
    close_own_box(mail);
    for (side = LIST_FIRST(&mail->sides); side != NULL; side = next) {
        next = LIST_NEXT(side, link);
        close_side(mail, side);
    }
}

/* Read such boxes, or do not. */
static void hold_sides(const struct ld_mail *mail) {
    const struct ld_mail_side *side;
    LIST_FOREACH(side, &mail->sides, link) {
        bool polls = uv_is_active((const uv_handle_t *)side->poll);
        if (mail->is_held && polls) {
            uv_poll_stop(side->poll);
        } else if (!mail->is_held && !polls) {
            uv_poll_start(side->poll, UV_READABLE, on_side);
        }
    }
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
    int rc = 1;
    while (!mail->is_held && rc == 1 && ld_time_coarse() < until) {
        rc = receive(mail, mail->box_fd);
    }
    if (rc != 1 && rc != -EAGAIN) {
        close_own_box(mail);
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
    hold_sides(mail);
}

/* Pass on what the worker has sent to itself. */
void ld_mail_step(struct ld_mail *mail) {
    uint64_t until = 0;
    struct ld_letter *letter;
    while (!mail->is_held && (letter = STAILQ_FIRST(&mail->own)) != NULL) {
        uint64_t now = ld_time_coarse();
        until = until == 0 ? now + LD_TURN_NS : until;
        if (now > until) {
            break;
        }
        struct ld_mail_message message = split(letter->bytes, letter->size, letter->topic);
        message.from = mail->self;
        STAILQ_REMOVE_HEAD(&mail->own, next);
        mail->own_bytes -= LD_LETTER_COST(letter->size);
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
    const struct ld_mail_peer *peer;
    counts.waiting = mail->own_count;
    LIST_FOREACH(peer, &mail->peers, link) {
        counts.waiting += peer->count;
    }
    return counts;
}

/* Free a peer; how many messages it did not get. */
static size_t free_peer(struct ld_mail_peer *peer) {
    if (peer->box >= 0) {
        flush(peer);
    }
    size_t unsent = peer->count;
    close_box(peer);
    ld_mail_peer_empty(peer);
    LIST_REMOVE(peer, link);
    free(peer);
    return unsent;
}

/* Close an end. */
void ld_mail_close(struct ld_mail *mail, size_t *unsent) {
    struct ld_letter *letter;
    struct ld_mail_peer *next_peer;
    struct ld_mail_partial *next_partial;
    *unsent = 0;
    ld_mail_close_boxes(mail);
    for (struct ld_mail_peer *at = LIST_FIRST(&mail->peers); at != NULL; at = next_peer) {
        next_peer = LIST_NEXT(at, link);
        *unsent += free_peer(at);
    }
    for (struct ld_mail_partial *at = LIST_FIRST(&mail->partials); at != NULL; at = next_partial) {
        next_partial = LIST_NEXT(at, link);
        ld_mail_partial_drop(at);
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
    const struct ld_mail_peer *peer;
    const struct ld_mail_side *side;
    if (mail->box_fd >= 0) {
        dup3(blank, mail->box_fd, O_CLOEXEC);
    }
    LIST_FOREACH(side, &mail->sides, link) {
        dup3(blank, side->fd, O_CLOEXEC);
    }
    LIST_FOREACH(peer, &mail->peers, link) {
        if (peer->box >= 0) {
            dup3(blank, peer->box, O_CLOEXEC);
        }
    }
}
