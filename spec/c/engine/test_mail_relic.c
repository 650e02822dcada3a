#include "engine/mail_relic.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "check.h"
#include "support.h"

static char got[4096];
static unsigned got_from;

/* Take a message: its data are added to what has come. */
static bool take(void *arg, const struct ld_mail_message *message) {
    (void)arg;
    strncat(got, message->data, message->size < sizeof got - strlen(got) - 1 ? message->size : 0);
    got_from = message->from;
    return true;
}

/* Know a descriptor by its number. */
static int leave(void *arg, int fd) {
    (void)arg;
    return fd;
}

/* Copy the descriptor of a number. */
static int copy(void *arg, int fd) {
    (void)arg;
    return fcntl(fd, F_DUPFD_CLOEXEC, 3);
}

/* Send a text. */
static int send_text(struct ld_mail *mail, unsigned to, const char *text) {
    const struct ld_mail_message message = {
        .topic = "t", .topic_size = 1, .data = text, .size = strlen(text)};
    return ld_mail_send(mail, to, &message);
}

/* Do nothing. */
static void on_idle(uv_idle_t *idle) {
    (void)idle;
}

/* Let the loop turn, which no handle of an end keeps alive. */
static void turn(uv_loop_t *loop) {
    uv_idle_t idle;
    uv_idle_init(loop, &idle);
    uv_idle_start(&idle, on_idle);
    uv_run(loop, UV_RUN_NOWAIT);
    uv_close((uv_handle_t *)&idle, NULL);
    uv_run(loop, UV_RUN_NOWAIT);
}

/* Close an end. */
static void end(struct ld_mail *mail, uv_loop_t *loop) {
    size_t unsent;
    ld_mail_close(mail, &unsent);
    turn(loop);
}

/* Messages to another worker whose box is not known, to the worker itself, and half of one that comes. */
static void test_round_trip(void) {
    uv_loop_t loop;
    int box[2];
    int side[2];
    struct ld_text bytes = {0};
    REQUIRE(uv_loop_init(&loop) == 0);
    REQUIRE(ld_mail_packet_open(box) == 0 && ld_mail_packet_open(side) == 0);
    struct ld_mail *old = ld_mail_new(&loop, 1, take, NULL);
    CHECK(ld_mail_read_box(old, fcntl(box[0], F_DUPFD_CLOEXEC, 3)) == 0);
    CHECK(ld_mail_relic_hear(old, side[0]) == 0);
    CHECK(send_text(old, 1, "own ") == 0);
    CHECK(send_text(old, 2, "other ") == 0);
    const struct ld_mail_packet half = {.kind = LD_MAIL_PART,
                                        .from = 3,
                                        .pid = 7,
                                        .topic = 1,
                                        .total = 9,
                                        .bytes = "tfirst",
                                        .size = 6,
                                        .fd = -1};
    CHECK(ld_mail_packet_send(box[1], &half) == 0);
    ld_mail_hold(old, false);
    turn(&loop);
    ld_mail_hold(old, true);
    ld_mail_relic_write(old, &bytes, leave, NULL);
    CHECK(!bytes.failed);

    struct ld_mail *new = ld_mail_new(&loop, 1, take, NULL);
    CHECK(ld_mail_relic_read(new, bytes.data, bytes.size, copy, NULL) == 0);
    CHECK(ld_mail_count(new).waiting == 2 && ld_mail_count(new).sent == 2);
    end(old, &loop);
    ld_mail_relic_start(new);
    got[0] = '\0';
    ld_mail_hold(new, false);
    ld_mail_step(new);
    CHECK_STR("own ", got);
    const struct ld_mail_packet rest = {.kind = LD_MAIL_PART,
                                        .from = 3,
                                        .pid = 7,
                                        .topic = 1,
                                        .total = 9,
                                        .offset = 6,
                                        .bytes = "end",
                                        .size = 3,
                                        .fd = -1};
    CHECK(ld_mail_packet_send(box[1], &rest) == 0);
    const struct ld_mail_packet beside = {.kind = LD_MAIL_PART,
                                          .from = 1,
                                          .pid = 8,
                                          .topic = 1,
                                          .total = 7,
                                          .bytes = "t next",
                                          .size = 6,
                                          .fd = -1};
    turn(&loop);
    CHECK_STR("own firstend", got);
    CHECK(got_from == 3);
    CHECK(ld_mail_packet_send(side[1], &beside) == 0);
    close(side[1]); /* the process beside has ended, in the middle of a message */
    uint64_t lost = ld_mail_count(new).lost;
    turn(&loop);
    CHECK(ld_mail_count(new).lost == lost + 1);

    int other[2];
    REQUIRE(ld_mail_packet_open(other) == 0);
    const struct ld_mail_packet peer = {.kind = LD_MAIL_PEER, .from = 2, .fd = other[1]};
    CHECK(ld_mail_packet_send(box[1], &peer) == 0);
    turn(&loop);
    struct ld_mail_packet arrived;
    CHECK(ld_mail_packet_receive(other[0], &arrived) == 1);
    CHECK(arrived.size == 7 && memcmp(arrived.bytes, "tother ", 7) == 0);
    end(new, &loop);
    close(other[0]);
    close(other[1]);
    close(box[0]);
    close(box[1]);
    ld_text_fini(&bytes);
    CHECK(uv_loop_close(&loop) == 0);
}

/* Read TEXT. */
static int read_text(const char *text) {
    uv_loop_t loop;
    REQUIRE(uv_loop_init(&loop) == 0);
    struct ld_mail *mail = ld_mail_new(&loop, 1, take, NULL);
    int rc = ld_mail_relic_read(mail, text, strlen(text), copy, NULL);
    end(mail, &loop);
    uv_loop_close(&loop);
    return rc;
}

static void test_strict(void) {
    static const char *const wrong[] = {
        "",
        "mail",
        "mail -1 0 0 0\n",
        "mail -1 0 0 0 0",
        "mail -1 0 0 0 0 0\n",
        "mail -1 0 0 0 x\n",
        "mail -1 0 0 0 -1\n",
        "mail -1 -1 0 0 0\n",
        "mail -1 0 0 0 0\nletter 0 1 5 0\ntabc",
        "mail -1 0 0 0 0\nletter 2 1 1 0\nt",
        "mail -1 0 0 0 0\nletter 0 0 1 0\nt",
        "mail -1 0 0 0 0\nletter 0 2 1 0\nt",
        "mail -1 0 0 0 0\nletter 0 1 1 2\nt",
        "mail -1 0 0 0 0\nletter 0 1 99999999999 0\nt",
        "mail -1 0 0 0 0\npeer 0 0 -1\n",
        "mail -1 0 0 0 0\npeer 2 2 -1\n",
        "mail -1 0 0 0 0\npeer 2000 0 -1\n",
        "mail -1 0 0 0 0\npartial 2 7 1 2\nab",
        "mail -1 0 0 0 0\npartial 2 -1 9 2\nab",
        "mail -1 0 0 0 0\nnothing\n",
    };
    CHECK(read_text("mail -1 0 0 0 0\nletter 1 1 2 0\ntx") == 0);
    for (size_t i = 0; i < LD_COUNT(wrong); i++) {
        CHECK(read_text(wrong[i]) == -EPROTO);
    }
    CHECK(read_text("mail 99999 0 0 0 0\n") == -EBADF);
    CHECK(read_text("mail -1 0 0 0 0\nside 99999\n") == -EBADF);
}

static const struct check_case cases[] = {
    {"what waits, and half of what has come, goes on in the next end", test_round_trip},
    {"what was not written like this is refused", test_strict},
};

CHECK_MAIN(cases)
