#include "engine/mail_relic.h"

#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "engine/mail_state.h"

/* Write letters. */
static void write_letters(const struct ld_letters *letters, struct ld_text *out) {
    const struct ld_letter *letter;
    STAILQ_FOREACH(letter, letters, next) {
        ld_text_format(out, "letter %d %" PRIu32 " %" PRIu32 " %" PRIu32 "\n", letter->to_all,
                       letter->topic, letter->size, letter->sent);
        ld_text_add(out, letter->bytes, letter->size);
    }
}

/* Write all. */
void ld_mail_relic_write(const struct ld_mail *mail, struct ld_text *out, ld_mail_relic_fd *leave,
                         void *arg) {
    const struct ld_mail_peer *peer;
    const struct ld_mail_partial *partial;
    const struct ld_mail_side *side;
    const struct ld_mail_counts *counts = &mail->counts;
    ld_text_format(out, "mail %d %" PRIu64 " %" PRIu64 " %" PRIu64 " %" PRIu64 "\n",
                   mail->box_fd >= 0 ? leave(arg, mail->box_fd) : -1, counts->sent,
                   counts->received, counts->refused, counts->lost);
    write_letters(&mail->own, out);
    LIST_FOREACH(side, &mail->sides, link) {
        ld_text_format(out, "side %d\n", leave(arg, side->fd));
    }
    LIST_FOREACH(peer, &mail->peers, link) {
        ld_text_format(out, "peer %u %d %d\n", peer->number, peer->is_gone,
                       peer->box >= 0 ? leave(arg, peer->box) : -1);
        write_letters(&peer->letters, out);
    }
    LIST_FOREACH(partial, &mail->partials, link) {
        ld_text_format(out, "partial %u %" PRIu32 " %" PRIu32 " %zu\n", partial->from, partial->pid,
                       partial->total, partial->bytes.size);
        ld_text_append(out, &partial->bytes);
    }
}

/* What is being read. */
struct reader {
    struct ld_mail *mail;
    const char *at;
    const char *end;
    ld_mail_relic_fd *take;
    void *arg;
    struct ld_mail_peer *peer; /* whose letters follow; NULL: the worker's own */
};

/* Read a line "WORD NUMBER...", with COUNT numbers from -1 on; false, and nothing is read, for anything else. */
static bool read_line(struct reader *reader, const char *word, long long *numbers, size_t count) {
    size_t length = strlen(word);
    size_t left = (size_t)(reader->end - reader->at);
    const char *newline = memchr(reader->at, '\n', left);
    if (newline == NULL || left < length || memcmp(reader->at, word, length) != 0) {
        return false;
    }
    const char *at = reader->at + length;
    for (size_t i = 0; i < count; i++) {
        char *end;
        errno = 0;
        bool is_number = *at == ' ' && (isdigit((unsigned char)at[1]) || at[1] == '-');
        numbers[i] = is_number ? strtoll(at + 1, &end, 10) : -2;
        if (numbers[i] < -1 || errno != 0 || end == at + 1 || end > newline) {
            return false;
        }
        at = end;
    }
    if (at != newline) {
        return false;
    }
    reader->at = newline + 1;
    return true;
}

/* Whether a number is that of a worker. */
static bool is_worker(long long number) {
    return number >= 1 && number <= LD_MAIL_WORKERS_MAX;
}

/* Whether so many bytes follow. */
static bool follow(const struct reader *reader, long long size) {
    return size >= 0 && size <= reader->end - reader->at &&
           (size_t)size <= LD_MAIL_DATA_MAX + LD_MAIL_TOPIC_MAX;
}

/* Read a letter, whose line has NUMBERS. */
static int read_letter(struct reader *reader, const long long *numbers) {
    long long size = numbers[2];
    bool is_sound = numbers[0] >= 0 && numbers[0] <= 1 && numbers[1] >= 1 &&
                    numbers[1] <= LD_MAIL_TOPIC_MAX && numbers[1] <= size && numbers[3] >= 0 &&
                    numbers[3] <= size && follow(reader, size);
    struct ld_letter *letter =
        is_sound ? ld_mail_letter_new(numbers[0] == 1, (uint32_t)numbers[1], (uint32_t)size) : NULL;
    if (letter == NULL) {
        return is_sound ? -ENOMEM : -EPROTO;
    }
    letter->sent = (uint32_t)numbers[3];
    memcpy(letter->bytes, reader->at, (size_t)size);
    reader->at += size;
    if (reader->peer != NULL) {
        ld_mail_peer_add(reader->peer, letter);
    } else {
        ld_mail_own_add(reader->mail, letter);
    }
    return 0;
}

/* Read a peer. */
static int read_peer(struct reader *reader, const long long *numbers) {
    if (!is_worker(numbers[0]) || numbers[1] < 0 || numbers[1] > 1) {
        return -EPROTO;
    }
    struct ld_mail_peer *peer = ld_mail_get_peer(reader->mail, (unsigned)numbers[0]);
    if (peer == NULL) {
        return -ENOMEM;
    }
    reader->peer = peer;
    int fd = numbers[2] >= 0 ? reader->take(reader->arg, (int)numbers[2]) : -1;
    int rc = fd >= 0 ? ld_mail_peer_open(peer, fd) : numbers[2] >= 0 ? -EBADF : 0;
    peer->is_gone = numbers[1] == 1;
    return rc;
}

/* Read a message of which a part has come. */
static int read_partial(struct reader *reader, const long long *numbers) {
    if (!is_worker(numbers[0]) || numbers[1] < 0 || numbers[1] > UINT32_MAX ||
        numbers[2] < numbers[3] || numbers[2] > UINT32_MAX || !follow(reader, numbers[3])) {
        return -EPROTO;
    }
    struct ld_mail_partial *partial = ld_mail_partial_new(
        reader->mail, (unsigned)numbers[0], (uint32_t)numbers[1], (uint32_t)numbers[2]);
    if (partial == NULL) {
        return -ENOMEM;
    }
    ld_text_add(&partial->bytes, reader->at, (size_t)numbers[3]);
    reader->at += numbers[3];
    return partial->bytes.failed ? -ENOMEM : 0;
}

/* Read from a box that a process beside this one sends to. */
static int read_side(const struct reader *reader, const long long *numbers) {
    int fd = numbers[0] >= 0 ? reader->take(reader->arg, (int)numbers[0]) : -1;
    return fd >= 0 ? ld_mail_side_open(reader->mail, fd) : -EBADF;
}

/* Read what comes next. */
static int read_next(struct reader *reader) {
    long long numbers[4];
    return read_line(reader, "letter", numbers, 4)    ? read_letter(reader, numbers)
           : read_line(reader, "peer", numbers, 3)    ? read_peer(reader, numbers)
           : read_line(reader, "side", numbers, 1)    ? read_side(reader, numbers)
           : read_line(reader, "partial", numbers, 4) ? read_partial(reader, numbers)
                                                      : -EPROTO;
}

/* Read all. */
int ld_mail_relic_read(struct ld_mail *mail, const char *bytes, size_t size, ld_mail_relic_fd *take,
                       void *arg) {
    struct reader reader = {
        .mail = mail, .at = bytes, .end = bytes + size, .take = take, .arg = arg};
    long long numbers[5];
    if (!read_line(&reader, "mail", numbers, 5) || numbers[1] < 0 || numbers[2] < 0 ||
        numbers[3] < 0 || numbers[4] < 0) {
        return -EPROTO;
    }
    int fd = numbers[0] >= 0 ? take(arg, (int)numbers[0]) : -1;
    int rc = fd >= 0 ? ld_mail_read_box(mail, fd) : numbers[0] >= 0 ? -EBADF : 0;
    mail->counts.sent = (uint64_t)numbers[1];
    mail->counts.received = (uint64_t)numbers[2];
    mail->counts.refused = (uint64_t)numbers[3];
    mail->counts.lost = (uint64_t)numbers[4];
    while (rc == 0 && reader.at < reader.end) {
        rc = read_next(&reader);
    }
    return rc;
}

/* Send what waits. */
void ld_mail_relic_start(struct ld_mail *mail) {
    ld_mail_flush_all(mail);
}

/* Read what a process beside this one sends. */
int ld_mail_relic_hear(struct ld_mail *mail, int fd) {
    return ld_mail_side_open(mail, fd);
}

/* Be the process beside. */
void ld_mail_relic_disown(struct ld_mail *mail, int fd) {
    struct ld_mail_peer *peer;
    struct ld_mail_partial *partial;
    struct ld_letter *letter;
    ld_mail_close_boxes(mail);
    LIST_FOREACH(peer, &mail->peers, link) {
        ld_mail_peer_empty(peer);
    }
    while ((partial = LIST_FIRST(&mail->partials)) != NULL) {
        ld_mail_partial_drop(partial);
    }
    while ((letter = STAILQ_FIRST(&mail->own)) != NULL) {
        STAILQ_REMOVE_HEAD(&mail->own, next);
        free(letter);
    }
    mail->own_bytes = mail->own_count = 0;
    mail->pid = (uint32_t)getpid();
    mail->is_beside = true;
    peer = ld_mail_get_peer(mail, mail->self);
    if (peer == NULL) {
        close(fd);
    } else {
        ld_mail_peer_open(peer, fd);
    }
}
