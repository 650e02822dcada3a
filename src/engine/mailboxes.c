#include "engine/mailboxes.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/base.h"
#include "engine/mail_packet.h"

/* What a worker is to be told about another one. */
enum news { NEWS_NONE, NEWS_PEER, NEWS_GONE };

/* The box of a worker. */
struct box {
    uv_poll_t room; /* tells when news can be put into it */
    struct ld_mailboxes *boxes;
    int ends[2];                                 /* to read and to write */
    unsigned char news[LD_MAIL_WORKERS_MAX + 1]; /* of enum news, about each worker */
};

struct ld_mailboxes {
    uv_loop_t *loop;
    struct box *box[LD_MAIL_WORKERS_MAX + 1]; /* by the number of the worker; NULL: it has none */
    unsigned open_handles;
    bool is_closed;
};

/* Make a set. */
struct ld_mailboxes *ld_mailboxes_new(uv_loop_t *loop) {
    struct ld_mailboxes *boxes = calloc(1, sizeof *boxes);
    if (boxes != NULL) {
        boxes->loop = loop;
    }
    return boxes;
}

/* Free the set after its last handle is closed. */
static void release(struct ld_mailboxes *boxes) {
    if (boxes->is_closed && boxes->open_handles == 0) {
        free(boxes);
    }
}

/* Free a box that is closed. */
static void on_closed(uv_handle_t *handle) {
    struct box *box = LD_CONTAINER_OF((uv_poll_t *)handle, struct box, room);
    struct ld_mailboxes *boxes = box->boxes;
    free(box);
    boxes->open_handles--;
    release(boxes);
}

/* Close a box. */
static void close_box(struct box *box) {
    uv_close((uv_handle_t *)&box->room, on_closed);
    close(box->ends[0]);
    close(box->ends[1]);
}

/* Close the ends that there are. */
static void close_ends(const int ends[2]) {
    for (int i = 0; i < 2; i++) {
        if (ends[i] >= 0) {
            close(ends[i]);
        }
    }
}

/* Make the box of a worker of its two ends, which are closed if that fails; NULL with a negative errno in *RC. */
static struct box *make_box(struct ld_mailboxes *boxes, const int ends[2], int *rc) {
    struct box *box = calloc(1, sizeof *box);
    *rc = box == NULL ? -ENOMEM : uv_poll_init(boxes->loop, &box->room, ends[1]);
    if (*rc < 0) {
        close_ends(ends);
        free(box);
        return NULL;
    }
    box->boxes = boxes;
    box->ends[0] = ends[0];
    box->ends[1] = ends[1];
    uv_unref((uv_handle_t *)&box->room);
    boxes->open_handles++;
    return box;
}

/* Make a box; likewise. */
static struct box *open_box(struct ld_mailboxes *boxes, int *rc) {
    int ends[2];
    *rc = ld_mail_packet_open(ends);
    return *rc < 0 ? NULL : make_box(boxes, ends, rc);
}

/* Put the news about worker ABOUT into a box; false if there is no room. What the box cannot take for
 * another reason than that is dropped. */
static bool tell_one(struct box *box, unsigned about) {
    const struct box *other = box->boxes->box[about];
    bool is_there = box->news[about] == NEWS_PEER && other != NULL;
    const struct ld_mail_packet packet = {.kind = is_there ? LD_MAIL_PEER : LD_MAIL_GONE,
                                          .from = about,
                                          .fd = is_there ? other->ends[1] : -1};
    int rc = ld_mail_packet_send(box->ends[1], &packet);
    bool is_full = rc == -EAGAIN || rc == -ENOBUFS || rc == -ENOMEM || rc == -ETOOMANYREFS;
    if (!is_full) {
        box->news[about] = NEWS_NONE;
    }
    return !is_full;
}

static void on_room(uv_poll_t *room, int status, int events);

/* Put all news into a box, or wait until it has room. */
static void tell(struct box *box) {
    bool has_room = true;
    for (unsigned about = 1; about <= LD_MAIL_WORKERS_MAX && has_room; about++) {
        has_room = box->news[about] == NEWS_NONE || tell_one(box, about);
    }
    if (!has_room) {
        uv_poll_start(&box->room, UV_WRITABLE, on_room);
    } else {
        uv_poll_stop(&box->room);
    }
}

/* Go on when there is room. */
static void on_room(uv_poll_t *room, int status, int events) {
    (void)events;
    if (status < 0) {
        uv_poll_stop(room);
    } else {
        tell(LD_CONTAINER_OF(room, struct box, room));
    }
}

/* Tell all workers but one NEWS about that one. */
static void tell_others(struct ld_mailboxes *boxes, unsigned about, enum news news) {
    for (unsigned number = 1; number <= LD_MAIL_WORKERS_MAX; number++) {
        struct box *box = boxes->box[number];
        if (box != NULL && number != about) {
            box->news[about] = news;
            tell(box);
        }
    }
}

/* Tell a new process of a worker about the others. */
int ld_mailboxes_hand_out(struct ld_mailboxes *boxes, unsigned number) {
    int rc = 0;
    if (number < 1 || number > LD_MAIL_WORKERS_MAX) {
        return -EINVAL;
    }
    if (boxes->box[number] == NULL) {
        boxes->box[number] = open_box(boxes, &rc);
        if (rc < 0) {
            return rc;
        }
        tell_others(boxes, number, NEWS_PEER);
    }
    struct box *box = boxes->box[number];
    for (unsigned about = 1; about <= LD_MAIL_WORKERS_MAX; about++) {
        bool is_other = about != number && boxes->box[about] != NULL;
        box->news[about] = is_other ? NEWS_PEER : NEWS_NONE;
    }
    tell(box);
    return box->ends[0];
}

/* Describe a box. */
bool ld_mailboxes_describe(const struct ld_mailboxes *boxes, unsigned number, int ends[2]) {
    const struct box *box = number <= LD_MAIL_WORKERS_MAX ? boxes->box[number] : NULL;
    for (int i = 0; box != NULL && i < 2; i++) {
        ends[i] = box->ends[i];
    }
    return box != NULL;
}

/* What is to be told about a worker. */
unsigned ld_mailboxes_news(const struct ld_mailboxes *boxes, unsigned number, unsigned about) {
    return boxes->box[number]->news[about];
}

/* Take a box over. */
int ld_mailboxes_restore(struct ld_mailboxes *boxes, unsigned number, const int ends[2]) {
    int rc = -EINVAL;
    if (number < 1 || number > LD_MAIL_WORKERS_MAX || boxes->box[number] != NULL || ends[0] < 0 ||
        ends[1] < 0) {
        close_ends(ends);
        return rc;
    }
    boxes->box[number] = make_box(boxes, ends, &rc);
    return rc;
}

/* Note what is to be told. */
void ld_mailboxes_owe(struct ld_mailboxes *boxes, unsigned number, unsigned about, unsigned news) {
    if (about >= 1 && about <= LD_MAIL_WORKERS_MAX && news <= NEWS_GONE) {
        boxes->box[number]->news[about] = (unsigned char)news;
    }
}

/* Tell it. */
void ld_mailboxes_resume(struct ld_mailboxes *boxes) {
    for (unsigned number = 1; number <= LD_MAIL_WORKERS_MAX; number++) {
        if (boxes->box[number] != NULL) {
            tell(boxes->box[number]);
        }
    }
}

/* Close the box of a worker. */
void ld_mailboxes_drop(struct ld_mailboxes *boxes, unsigned number) {
    struct box *box = number <= LD_MAIL_WORKERS_MAX ? boxes->box[number] : NULL;
    if (box != NULL) {
        boxes->box[number] = NULL;
        close_box(box);
        tell_others(boxes, number, NEWS_GONE);
    }
}

/* Close all boxes. */
void ld_mailboxes_close(struct ld_mailboxes *boxes) {
    if (boxes == NULL) {
        return;
    }
    for (unsigned number = 1; number <= LD_MAIL_WORKERS_MAX; number++) {
        if (boxes->box[number] != NULL) {
            close_box(boxes->box[number]);
            boxes->box[number] = NULL;
        }
    }
    boxes->is_closed = true;
    release(boxes);
}

/* Give everything up. */
void ld_mailboxes_give_up(const struct ld_mailboxes *boxes, int blank) {
    for (unsigned number = 1; number <= LD_MAIL_WORKERS_MAX; number++) {
        const struct box *box = boxes->box[number];
        if (box != NULL) {
            dup3(blank, box->ends[0], O_CLOEXEC);
            dup3(blank, box->ends[1], O_CLOEXEC);
        }
    }
}
