#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "check.h"
#include "engine/mail.h"
#include "engine/mailboxes.h"
#include "support.h"

#define WORKERS 3

/* A worker, and what has come to it. */
struct worker {
    struct ld_mail *mail;
    int seen;
    size_t last_size;
    unsigned last_from;
    bool last_to_all;
    char last[64]; /* topic and data of the last */
    int next;      /* the number that the next one is expected to have, of a stream of them */
    bool in_order;
    int most; /* that it takes; then it says no */
};

static uv_loop_t loop;
static uv_timer_t alive; /* as a script is: libuv does not turn for what keeps no loop alive */
static struct ld_mailboxes *boxes;
static struct worker workers[WORKERS + 1];

static bool take(void *arg, const struct ld_mail_message *message) {
    struct worker *worker = arg;
    worker->seen++;
    worker->last_size = message->size;
    worker->last_from = message->from;
    worker->last_to_all = message->to_all;
    snprintf(worker->last, sizeof worker->last, "%.*s:%.*s", (int)message->topic_size,
             message->topic, (int)(message->size < 32 ? message->size : 0), message->data);
    if (message->size >= sizeof(int)) {
        int number;
        memcpy(&number, message->data, sizeof number);
        worker->in_order &= number == worker->next;
        worker->next = number + 1;
    }
    return worker->seen < worker->most;
}

/* Begin the process of a worker, as it were. */
static void begin(unsigned number) {
    struct worker *worker = &workers[number];
    *worker = (struct worker){.in_order = true, .most = 1000000};
    worker->mail = ld_mail_new(&loop, number, take, worker);
    REQUIRE(worker->mail != NULL);
    int fd = ld_mailboxes_hand_out(boxes, number);
    REQUIRE(fd >= 0);
    CHECK_INT(0, ld_mail_read_box(worker->mail, dup(fd)));
    ld_mail_hold(worker->mail, false);
}

/* End it; how many messages it had not sent. */
static size_t end(unsigned number) {
    size_t unsent = 0;
    ld_mail_close(workers[number].mail, &unsent);
    workers[number].mail = NULL;
    return unsent;
}

static void do_nothing(uv_timer_t *timer) {
    (void)timer;
}

static void make(unsigned count) {
    warm_up();
    REQUIRE(uv_loop_init(&loop) == 0);
    uv_timer_init(&loop, &alive);
    uv_timer_start(&alive, do_nothing, 3600000, 0);
    boxes = ld_mailboxes_new(&loop);
    REQUIRE(boxes != NULL);
    for (unsigned i = 1; i <= count; i++) {
        begin(i);
    }
}

static void unmake(void) {
    for (unsigned i = 1; i <= WORKERS; i++) {
        if (workers[i].mail != NULL) {
            end(i);
        }
    }
    ld_mailboxes_close(boxes);
    uv_close((uv_handle_t *)&alive, NULL);
    uv_run(&loop, UV_RUN_DEFAULT);
    CHECK_INT(0, uv_loop_close(&loop));
}

static int post(unsigned from, unsigned to, const char *topic, const void *data, size_t size) {
    const struct ld_mail_message message = {
        .topic = topic, .topic_size = strlen(topic), .data = data, .size = size};
    return ld_mail_send(workers[from].mail, to, &message);
}

/* Let the loop turn; whether a worker has seen so many. */
static bool has_seen(void *arg) {
    const int *wanted = arg;
    uv_run(&loop, UV_RUN_NOWAIT);
    for (unsigned i = 1; i <= WORKERS; i++) {
        if (workers[i].mail != NULL) {
            ld_mail_step(workers[i].mail);
        }
    }
    return workers[wanted[0]].seen >= wanted[1];
}

static void await(unsigned number, int count) {
    int wanted[2] = {(int)number, count};
    CHECK(wait_until(has_seen, wanted));
    CHECK_INT(count, workers[number].seen);
}

static void turn(void) {
    for (int i = 0; i < 20; i++) {
        uv_run(&loop, UV_RUN_NOWAIT);
    }
}

static void test_each_to_each(void) {
    make(WORKERS);
    CHECK_INT(0, post(1, 2, "a", "one", 3));
    CHECK_INT(0, post(2, 3, "b", "", 0));
    CHECK_INT(0, post(3, 1, "c", "three", 5));
    CHECK_INT(0, post(1, 1, "self", "me", 2));
    await(1, 2);
    await(2, 1);
    await(3, 1);
    CHECK_STR("a:one", workers[2].last);
    CHECK_INT(1, workers[2].last_from);
    CHECK(!workers[2].last_to_all);
    CHECK_STR("b:", workers[3].last);
    CHECK_INT(2, workers[3].last_from);
    CHECK_INT(2, ld_mail_count(workers[1].mail).sent);
    CHECK_INT(2, ld_mail_count(workers[1].mail).received);
    CHECK_INT(0, ld_mail_count(workers[1].mail).waiting);
    unmake();
}

static void test_large(void) {
    make(2);
    const size_t size = LD_MAIL_DATA_MAX;
    char *bytes = calloc(1, size + 1);
    REQUIRE(bytes != NULL);
    memset(bytes + sizeof(int), 'x', size - sizeof(int));
    CHECK_INT(0, post(1, 2, "large", bytes, size));
    CHECK_INT(0, post(1, 2, "small", "1", 1)); /* comes after it */
    CHECK_INT(-EMSGSIZE, post(1, 2, "large", bytes, size + 1));
    await(2, 2);
    CHECK_STR("small:1", workers[2].last);
    CHECK(workers[2].in_order);
    free(bytes);
    unmake();
}

/* Send until nothing more is taken; how many were. */
static int fill(unsigned from, unsigned to, size_t size) {
    int count = 0;
    char *bytes = calloc(1, size);
    REQUIRE(bytes != NULL);
    int rc = 0;
    while (rc == 0 && count < 10000000) {
        memcpy(bytes, &count, sizeof count);
        rc = post(from, to, "n", bytes, size);
        count += rc == 0;
    }
    CHECK_INT(-EAGAIN, rc);
    free(bytes);
    return count;
}

static void test_slow_reader(void) {
    make(2);
    ld_mail_hold(workers[2].mail, true);
    int count = fill(1, 2, 100000);
    CHECK(count > 150);
    turn();
    CHECK_INT(0, workers[2].seen);
    CHECK_INT(1, ld_mail_count(workers[1].mail).refused);
    CHECK(ld_mail_count(workers[1].mail).waiting > 0);
    ld_mail_hold(workers[2].mail, false);
    await(2, count);
    CHECK(workers[2].in_order);
    CHECK_INT(0, ld_mail_count(workers[1].mail).waiting);
    CHECK_INT(0, post(1, 2, "again", "", 0));
    await(2, count + 1);
    unmake();
}

static void test_taker_says_no(void) {
    make(2);
    workers[2].most = 3;
    for (int i = 0; i < 10; i++) {
        CHECK_INT(0, post(1, 2, "n", &i, sizeof i));
        CHECK_INT(0, post(2, 2, "self", "", 0));
    }
    for (int i = 0; i < 20; i++) {
        int wanted[2] = {2, 1};
        has_seen(wanted);
    }
    CHECK_INT(3, workers[2].seen);
    workers[2].most = 1000000;
    ld_mail_hold(workers[2].mail, false);
    await(2, 20);
    CHECK(workers[2].in_order);
    unmake();
}

static void test_self_is_full(void) {
    make(1);
    int count = fill(1, 1, 100000);
    CHECK(count > 150);
    await(1, count);
    CHECK(workers[1].in_order);
    unmake();
}

static void test_reader_dies(void) {
    make(2);
    ld_mail_hold(workers[2].mail, true);
    for (int i = 0; i < 5; i++) {
        CHECK_INT(0, post(1, 2, "n", &i, sizeof i));
    }
    end(2);
    turn();
    for (int i = 5; i < 10; i++) {
        CHECK_INT(0, post(1, 2, "n", &i, sizeof i)); /* they wait too */
    }
    begin(2);
    await(2, 10);
    CHECK(workers[2].in_order);
    CHECK_INT(0, post(2, 1, "back", "", 0)); /* it was told where that is */
    await(1, 1);
    unmake();
}

static void test_reader_dies_with_full_box(void) {
    make(3);
    ld_mail_hold(workers[2].mail, true);
    int count = fill(1, 2, 30000);
    end(2);
    begin(2); /* there is no room to tell it about the others */
    CHECK_INT(0, post(2, 3, "early", "", 0));
    await(2, count);
    CHECK(workers[2].in_order);
    await(3, 1);
    CHECK_STR("early:", workers[3].last);
    unmake();
}

static void test_sender_dies(void) {
    make(2);
    size_t size = 1000000;
    char *bytes = calloc(1, size);
    REQUIRE(bytes != NULL);
    turn();
    ld_mail_hold(workers[2].mail, true);
    CHECK_INT(0, post(1, 2, "a", bytes, size));
    CHECK_INT(0, post(1, 2, "b", bytes, size));
    CHECK(end(1) > 0); /* with a message half sent */
    begin(1);
    ld_mail_hold(workers[2].mail, false);
    turn();
    int seen = workers[2].seen;
    CHECK(seen < 2);
    CHECK_INT(0, post(1, 2, "c", bytes, size));
    await(2, seen + 1);
    CHECK_INT(1, ld_mail_count(workers[2].mail).lost);
    free(bytes);
    unmake();
}

static void test_reader_dies_between_parts(void) {
    make(2);
    int fd = ld_mailboxes_hand_out(boxes, 2);
    size_t size = 1000000;
    char *bytes = calloc(1, size);
    struct ld_mail_packet packet;
    REQUIRE(bytes != NULL);
    ld_mail_hold(workers[2].mail, true);
    turn();
    CHECK_INT(0, post(1, 2, "half", bytes, size));
    end(2);
    do { /* what had read the first part has died */
        REQUIRE(ld_mail_packet_receive(fd, &packet) == 1);
        if (packet.fd >= 0) {
            close(packet.fd);
        }
    } while (packet.kind != LD_MAIL_PART);
    begin(2);
    CHECK_INT(0, post(1, 2, "whole", "x", 1));
    await(2, 1);
    CHECK_STR("whole:x", workers[2].last);
    CHECK_INT(1, ld_mail_count(workers[2].mail).lost);
    free(bytes);
    unmake();
}

static void test_garbage(void) {
    make(2);
    int fd = ld_mailboxes_hand_out(boxes, 1);
    int other[2];
    struct ld_mail_packet packet = {.kind = LD_MAIL_PEER, .from = 1, .fd = -1};
    turn();
    REQUIRE(ld_mail_packet_open(other) == 0);
    close(other[0]);
    ld_mail_hold(workers[1].mail, true);
    ld_mail_close(workers[1].mail, &(size_t){0});
    workers[1].mail = ld_mail_new(&loop, 1, take, &workers[1]);
    int pair[2];
    REQUIRE(ld_mail_packet_open(pair) == 0);
    CHECK_INT(0, ld_mail_read_box(workers[1].mail, pair[0]));
    CHECK_INT(-EEXIST, ld_mail_read_box(workers[1].mail, dup(fd)));
    ld_mail_hold(workers[1].mail, false);
    CHECK_INT(7, send(pair[1], "garbage", 7, 0));
    packet.fd = other[1];
    CHECK_INT(0, ld_mail_packet_send(pair[1], &packet)); /* its own number: not used */
    packet.from = 9;
    FILE *file = tmpfile();
    REQUIRE(file != NULL);
    packet.fd = fileno(file); /* which cannot be a box */
    CHECK_INT(0, ld_mail_packet_send(pair[1], &packet));
    packet.from = 8;
    packet.fd = other[1]; /* of which no reader is left */
    CHECK_INT(0, ld_mail_packet_send(pair[1], &packet));
    packet = (struct ld_mail_packet){.kind = LD_MAIL_PART,
                                     .from = 5,
                                     .topic = 1,
                                     .total = 2,
                                     .bytes = "ok",
                                     .size = 2,
                                     .fd = -1};
    CHECK_INT(0, ld_mail_packet_send(pair[1], &packet));
    await(1, 1);
    CHECK_STR("o:k", workers[1].last);
    CHECK_INT(1, ld_mail_count(workers[1].mail).lost);
    CHECK_INT(-ESRCH, post(1, 8, "x", "", 0));
    CHECK_INT(-ESRCH, post(1, 8, "x", "", 0));
    close(pair[1]);
    turn();
    CHECK_INT(0, post(1, 9, "x", "", 0)); /* it waits for a box */
    close(other[1]);
    fclose(file);
    unmake();
}

static const struct check_case cases[] = {
    {"each sends to each", test_each_to_each},
    {"a large message, in parts", test_large},
    {"a reader that is slow", test_slow_reader},
    {"a taker that says no", test_taker_says_no},
    {"a worker that sends itself too much", test_self_is_full},
    {"a reader dies", test_reader_dies},
    {"a reader dies with a full box", test_reader_dies_with_full_box},
    {"a sender dies with a message half sent", test_sender_dies},
    {"a reader dies between two parts", test_reader_dies_between_parts},
    {"what is not a message", test_garbage},
};

CHECK_MAIN(cases)
