#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#include "check.h"
#include "engine/mail_packet.h"
#include "engine/mailboxes.h"
#include "support.h"

static uv_loop_t loop;
static uv_timer_t alive; /* as a script is: libuv does not turn for what keeps no loop alive */
static struct ld_mailboxes *boxes;

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
    for (unsigned number = 1; number <= count; number++) {
        CHECK(ld_mailboxes_hand_out(boxes, number) >= 0);
    }
}

static void unmake(void) {
    ld_mailboxes_close(boxes);
    uv_close((uv_handle_t *)&alive, NULL);
    uv_run(&loop, UV_RUN_DEFAULT);
    CHECK_INT(0, uv_loop_close(&loop));
}

/* Receive the news in a box: 1 if its next packet is of KIND about worker ABOUT. */
static int hears(int box, enum ld_mail_kind kind, unsigned about) {
    struct ld_mail_packet packet;
    int rc = ld_mail_packet_receive(box, &packet);
    if (packet.fd >= 0) {
        close(packet.fd);
    }
    return rc == 1 ? packet.kind == kind && packet.from == about : rc;
}

static void test_news(void) {
    make(2);
    int one = ld_mailboxes_hand_out(boxes, 1);
    REQUIRE(one >= 0);
    CHECK_INT(1, hears(one, LD_MAIL_PEER, 2)); /* when its box was made */
    CHECK_INT(1, hears(one, LD_MAIL_PEER, 2)); /* and for its process */
    CHECK_INT(-EAGAIN, hears(one, LD_MAIL_PEER, 2));
    int four = ld_mailboxes_hand_out(boxes, 4);
    CHECK_INT(1, hears(one, LD_MAIL_PEER, 4));
    CHECK_INT(1, hears(four, LD_MAIL_PEER, 1));
    CHECK_INT(1, hears(four, LD_MAIL_PEER, 2));
    CHECK_INT(-EAGAIN, hears(four, LD_MAIL_PEER, 3));
    ld_mailboxes_drop(boxes, 2);
    ld_mailboxes_drop(boxes, 2);
    ld_mailboxes_drop(boxes, 3);
    CHECK_INT(1, hears(one, LD_MAIL_GONE, 2));
    CHECK_INT(-EAGAIN, hears(one, LD_MAIL_GONE, 3));
    CHECK(ld_mailboxes_hand_out(boxes, 2) >= 0);
    CHECK_INT(1, hears(one, LD_MAIL_PEER, 2));
    CHECK_INT(-EINVAL, ld_mailboxes_hand_out(boxes, 0));
    CHECK_INT(-EINVAL, ld_mailboxes_hand_out(boxes, LD_MAIL_WORKERS_MAX + 1));
    unmake();
}

static void test_full_box(void) {
    make(2);
    int one = ld_mailboxes_hand_out(boxes, 1);
    int two = ld_mailboxes_hand_out(boxes, 2);
    struct ld_mail_packet packet;
    REQUIRE(ld_mail_packet_receive(two, &packet) == 1); /* the end of box 1 */
    int end = packet.fd;
    REQUIRE(end >= 0);
    packet = (struct ld_mail_packet){
        .kind = LD_MAIL_PART, .from = 2, .topic = 1, .total = 1, .bytes = "x", .size = 1, .fd = -1};
    while (ld_mail_packet_send(end, &packet) == 0) {
    }
    CHECK(ld_mailboxes_hand_out(boxes, 3) >= 0);
    uv_run(&loop, UV_RUN_NOWAIT);
    int peers = 0;
    int rc = 1;
    for (int turns = 0; turns < 100 && peers < 3; turns++) {
        while ((rc = ld_mail_packet_receive(one, &packet)) == 1) {
            peers += packet.kind == LD_MAIL_PEER;
            if (packet.fd >= 0) {
                close(packet.fd);
            }
        }
        CHECK_INT(-EAGAIN, rc);
        uv_run(&loop, UV_RUN_NOWAIT);
    }
    CHECK_INT(3, peers); /* of 2 twice, and the new one */
    close(end);
    unmake();
}

static void grow_without_descriptors(void) {
    make(1);
    if (!deny_descriptors()) {
        return;
    }
    CHECK_INT(-EMFILE, ld_mailboxes_hand_out(boxes, 2));
    CHECK(ld_mailboxes_hand_out(boxes, 1) >= 0);
}

static void test_no_descriptors(void) {
    check_in_child(grow_without_descriptors);
}

static void test_give_up(void) {
    make(2);
    int box = ld_mailboxes_hand_out(boxes, 1);
    int blank = open("/dev/null", O_RDWR | O_CLOEXEC);
    ld_mailboxes_give_up(boxes, blank);
    struct ld_mail_packet packet;
    CHECK_INT(-ENOTSOCK, ld_mail_packet_receive(box, &packet));
    close(blank);
    unmake();
}

static const struct check_case cases[] = {
    {"news of workers", test_news},
    {"news for a full box", test_full_box},
    {"no descriptor is free", test_no_descriptors},
    {"given up in a copy", test_give_up},
};

CHECK_MAIN(cases)
