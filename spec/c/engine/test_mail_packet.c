#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "check.h"
#include "engine/mail_packet.h"
#include "support.h"

#define FDS_MAX 6

/* The head of a packet, as it is sent. */
struct head {
    char version[4];
    uint32_t kind;
    uint32_t from;
    uint32_t pid;
    uint32_t to_all;
    uint32_t topic;
    uint32_t total;
    uint32_t offset;
};

static int ends[2];

static void make(void) {
    REQUIRE(ld_mail_packet_open(ends) == 0);
    CHECK_INT(FD_CLOEXEC, fcntl(ends[0], F_GETFD));
    CHECK_INT(FD_CLOEXEC, fcntl(ends[1], F_GETFD));
}

static void unmake(void) {
    close(ends[0]);
    close(ends[1]);
}

/* A part of a message of 10 bytes, with a topic of 3. */
static struct ld_mail_packet a_part(void) {
    return (struct ld_mail_packet){.kind = LD_MAIL_PART,
                                   .from = 7,
                                   .pid = 4711,
                                   .to_all = true,
                                   .topic = 3,
                                   .total = 10,
                                   .bytes = "abcdefghij",
                                   .size = 10,
                                   .fd = -1};
}

static void test_part(void) {
    make();
    struct ld_mail_packet packet = a_part();
    CHECK_INT(-EAGAIN, ld_mail_packet_receive(ends[0], &packet));
    packet = a_part();
    CHECK_INT(0, ld_mail_packet_send(ends[1], &packet));
    memset(&packet, 0, sizeof packet);
    REQUIRE(ld_mail_packet_receive(ends[0], &packet) == 1);
    CHECK_INT(LD_MAIL_PART, packet.kind);
    CHECK_INT(7, packet.from);
    CHECK_INT(4711, packet.pid);
    CHECK(packet.to_all);
    CHECK_INT(3, packet.topic);
    CHECK_INT(10, packet.total);
    CHECK_INT(0, packet.offset);
    CHECK_INT(10, packet.size);
    CHECK(memcmp(packet.bytes, "abcdefghij", 10) == 0);
    CHECK_INT(-1, packet.fd);
    unmake();
}

static void test_descriptor(void) {
    make();
    struct ld_mail_packet packet = {.kind = LD_MAIL_PEER, .from = 2, .fd = ends[1]};
    CHECK_INT(0, ld_mail_packet_send(ends[1], &packet));
    REQUIRE(ld_mail_packet_receive(ends[0], &packet) == 1);
    CHECK_INT(LD_MAIL_PEER, packet.kind);
    REQUIRE(packet.fd >= 0);
    CHECK_INT(FD_CLOEXEC, fcntl(packet.fd, F_GETFD));
    close(packet.fd);
    packet = (struct ld_mail_packet){.kind = LD_MAIL_GONE, .from = 2, .fd = -1};
    CHECK_INT(0, ld_mail_packet_send(ends[1], &packet));
    CHECK_INT(1, ld_mail_packet_receive(ends[0], &packet));
    CHECK_INT(LD_MAIL_GONE, packet.kind);
    close(ends[1]);
    CHECK_INT(0, ld_mail_packet_receive(ends[0], &packet));
    close(ends[0]);
}

/* Send any bytes, with COUNT descriptors. */
static void send_raw(const void *bytes, size_t size, size_t count) {
    union {
        struct cmsghdr head;
        char bytes[CMSG_SPACE(FDS_MAX * sizeof(int))];
    } control = {.bytes = {0}};
    int fds[FDS_MAX] = {ends[0], ends[0], ends[0], ends[0], ends[0], ends[0]};
    struct iovec part = {.iov_base = (void *)(uintptr_t)bytes, .iov_len = size};
    struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1};
    if (count > 0) {
        message.msg_control = control.bytes;
        message.msg_controllen = CMSG_SPACE(count * sizeof(int));
        control.head = (struct cmsghdr){.cmsg_len = CMSG_LEN(count * sizeof(int)),
                                        .cmsg_level = SOL_SOCKET,
                                        .cmsg_type = SCM_RIGHTS};
        memcpy(CMSG_DATA(&control.head), fds, count * sizeof(int));
    }
    REQUIRE(sendmsg(ends[1], &message, MSG_NOSIGNAL | MSG_DONTWAIT) == (ssize_t)size);
}

/* Check that a packet with this head and SIZE bytes after it is refused, and none of its COUNT
 * descriptors kept. */
static void refuse(const char *what, const struct head *head, size_t size, size_t count) {
    static char bytes[sizeof *head + LD_MAIL_PART_MAX + 1];
    struct ld_mail_packet packet;
    int before = check_descriptors();
    memcpy(bytes, head, sizeof *head);
    send_raw(bytes, sizeof *head + size, count);
    int rc = ld_mail_packet_receive(ends[0], &packet);
    CHECK_STR(what, rc == -EPROTO ? what : "accepted");
    CHECK_INT(-1, packet.fd);
    CHECK_INT(before, check_descriptors());
}

static void test_refused(void) {
    static const struct head good = {
        .version = "lm1", .kind = LD_MAIL_PART, .from = 1, .topic = 3, .total = 10};
    struct head head = good;
    make();
    send_raw("lm1", 3, 0);
    struct ld_mail_packet packet;
    CHECK_INT(-EPROTO, ld_mail_packet_receive(ends[0], &packet));
#define REFUSE(member, value, size, count)                                                         \
    head = good;                                                                                   \
    head.member = (value);                                                                         \
    refuse(#member " " #value " " #size " " #count, &head, size, count)
    REFUSE(version[2], '2', 10, 0);
    REFUSE(version[3], ' ', 10, 0);
    REFUSE(kind, 0, 10, 0);
    REFUSE(kind, 4, 10, 0);
    REFUSE(kind, UINT32_MAX, 10, 0);
    REFUSE(from, 0, 10, 0);
    REFUSE(from, LD_MAIL_WORKERS_MAX + 1, 10, 0);
    REFUSE(to_all, 2, 10, 0);
    REFUSE(topic, 0, 10, 0);
    REFUSE(topic, 11, 10, 0);
    REFUSE(topic, LD_MAIL_TOPIC_MAX + 1, 10, 0);
    REFUSE(total, 2, 2, 0);
    REFUSE(total, 9, 10, 0);
    REFUSE(total, 3 + LD_MAIL_DATA_MAX + 1, 10, 0);
    REFUSE(total, UINT32_MAX, 10, 0);
    REFUSE(offset, 1, 10, 0);
    REFUSE(offset, 10, 1, 0);
    REFUSE(offset, UINT32_MAX, 10, 0);
    REFUSE(total, 40000, 0, 0);
    REFUSE(total, 40000, LD_MAIL_PART_MAX + 1, 0);
    REFUSE(kind, LD_MAIL_PART, 10, 1);
    REFUSE(kind, LD_MAIL_GONE, 0, 1);
    REFUSE(kind, LD_MAIL_GONE, 1, 0);
    REFUSE(kind, LD_MAIL_PEER, 0, 0);
    REFUSE(kind, LD_MAIL_PEER, 0, 2);
    REFUSE(kind, LD_MAIL_PEER, 0, 6);
    REFUSE(kind, LD_MAIL_PEER, 1, 1);
    for (size_t count = 0; count < 3; count++) { /* an empty one, which is not the end */
        int before = check_descriptors();
        send_raw("", 0, count);
        CHECK_INT(-EPROTO, ld_mail_packet_receive(ends[0], &packet));
        CHECK_INT(before, check_descriptors());
    }
    head = good;
    send_raw(&head, sizeof head, 0); /* without a byte of the message */
    CHECK_INT(-EPROTO, ld_mail_packet_receive(ends[0], &packet));
    packet = a_part();
    CHECK_INT(0, ld_mail_packet_send(ends[1], &packet)); /* the box goes on */
    CHECK_INT(1, ld_mail_packet_receive(ends[0], &packet));
    unmake();
}

static void test_full(void) {
    make();
    struct ld_mail_packet packet = a_part();
    int rc = 0;
    size_t count = 0;
    for (; rc == 0 && count < 100000; count++) {
        rc = ld_mail_packet_send(ends[1], &packet);
    }
    CHECK_INT(-EAGAIN, rc);
    CHECK_INT(1, ld_mail_packet_receive(ends[0], &packet));
    close(ends[0]);
    packet = a_part();
    CHECK(ld_mail_packet_send(ends[1], &packet) < 0);
    CHECK(ld_mail_packet_send(ends[1], &packet) != -EAGAIN);
    close(ends[1]);
}

static void lose_descriptor(void) {
    make();
    struct ld_mail_packet packet = {.kind = LD_MAIL_PEER, .from = 3, .fd = ends[1]};
    REQUIRE(ld_mail_packet_send(ends[1], &packet) == 0);
    if (!deny_descriptors()) {
        return;
    }
    CHECK_INT(-EMFILE, ld_mail_packet_receive(ends[0], &packet));
    CHECK_INT(3, packet.from);
}

static void test_no_descriptors(void) {
    check_in_child(lose_descriptor);
}

static const struct check_case cases[] = {
    {"a part of a message", test_part},
    {"a descriptor, and the end", test_descriptor},
    {"what is not a packet", test_refused},
    {"a full box, and one without a reader", test_full},
    {"no descriptor is free", test_no_descriptors},
};

CHECK_MAIN(cases)
