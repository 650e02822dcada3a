#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <regex.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "check.h"
#include "posix/packet.h"
#include "support.h"

#define FDS_MAX 12 /* that a test sends at once */

/* Make the pair. */
static void open_pair(int ends[2]) {
    REQUIRE(ld_packet_open(ends) == 0);
    CHECK_INT(FD_CLOEXEC, fcntl(ends[0], F_GETFD));
    CHECK_INT(FD_CLOEXEC, fcntl(ends[1], F_GETFD));
}

/* Close both ends. */
static void close_pair(const int ends[2]) {
    close(ends[0]);
    close(ends[1]);
}

/* Send any bytes, with a descriptor COUNT times. */
static void send_raw(int channel, const char *bytes, size_t size, int fd, size_t count) {
    union {
        struct cmsghdr head;
        char bytes[CMSG_SPACE(FDS_MAX * sizeof(int))];
    } control = {.bytes = {0}};
    int fds[FDS_MAX];
    struct iovec part = {.iov_base = (void *)(size_t)bytes, .iov_len = size};
    struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1};
    if (count > 0) {
        for (size_t i = 0; i < count; i++) {
            fds[i] = fd;
        }
        message.msg_control = control.bytes;
        message.msg_controllen = CMSG_SPACE(count * sizeof(int));
        control.head = (struct cmsghdr){.cmsg_len = CMSG_LEN(count * sizeof(int)),
                                        .cmsg_level = SOL_SOCKET,
                                        .cmsg_type = SCM_RIGHTS};
        memcpy(CMSG_DATA(&control.head), fds, count * sizeof(int));
    }
    REQUIRE(sendmsg(channel, &message, MSG_NOSIGNAL | MSG_DONTWAIT) == (ssize_t)size);
}

static void test_queued(void) {
    int ends[2];
    struct ld_packet packet;
    REQUIRE(ld_packet_open(ends) == 0);
    CHECK(!ld_packet_is_queued(ends[1], "stop"));
    REQUIRE(ld_packet_send(ends[0], 0, "told", "", 0, -1) == 0);
    CHECK(!ld_packet_is_queued(ends[1], "stop"));
    REQUIRE(ld_packet_send(ends[0], 0, "stop", "", 0, -1) == 0);
    CHECK(ld_packet_is_queued(ends[1], "stop")); /* behind the other one */
    CHECK(ld_packet_is_queued(ends[1], "told"));
    CHECK_INT(1, ld_packet_receive(ends[1], &packet));
    CHECK_STR("told", packet.word);
    CHECK_INT(1, ld_packet_receive(ends[1], &packet));
    CHECK_STR("stop", packet.word);
    CHECK(!ld_packet_is_queued(ends[1], "stop"));
    close(ends[0]);
    CHECK(!ld_packet_is_queued(ends[1], "stop"));
    close(ends[1]);
}

static void test_round_trip(void) {
    static const struct {
        unsigned long number;
        const char *word;
        const char *text;
        size_t size;
    } rows[] = {
        {0, "ready", "", 0},           {1, "ok", "12", 2}, {999999999, "open-log", "a b\nc", 5},
        {7, "abcdefghijklmno", "", 0}, {8, "-", " ", 1},   {9, "x", "a\0b\0", 4},
        {10, "x", "\xff\x80", 2},
    };
    int ends[2];
    struct ld_packet packet;
    open_pair(ends);
    for (size_t i = 0; i < LD_COUNT(rows); i++) {
        CHECK_INT(0, ld_packet_send(ends[0], rows[i].number, rows[i].word, rows[i].text,
                                    rows[i].size, -1));
    }
    for (size_t i = 0; i < LD_COUNT(rows); i++) {
        CHECK_INT(1, ld_packet_receive(ends[1], &packet));
        CHECK_INT((long long)rows[i].number, (long long)packet.number);
        CHECK_STR(rows[i].word, packet.word);
        CHECK_INT((long long)rows[i].size, (long long)packet.size);
        CHECK(memcmp(rows[i].text, packet.text, rows[i].size) == 0);
        CHECK_INT('\0', packet.text[packet.size]);
        CHECK_INT(-1, packet.fd);
    }
    CHECK_INT(-EAGAIN, ld_packet_receive(ends[1], &packet));
    CHECK_INT(0, ld_packet_send(ends[1], 3, "ok", "", 0, -1)); /* and the other way */
    CHECK_INT(1, ld_packet_receive(ends[0], &packet));
    close_pair(ends);
}

static void test_long_text(void) {
    static char text[200000];
    static const size_t sizes[] = {1, 60000, 64936, 64937, 65000, sizeof text};
    int ends[2];
    struct ld_packet packet;
    open_pair(ends);
    memset(text, 'x', sizeof text);
    for (size_t i = 0; i < LD_COUNT(sizes); i++) {
        size_t expected = sizes[i] < 64936 ? sizes[i] : 64936;
        CHECK_INT(0, ld_packet_send(ends[0], 999999999, "abcdefghijklmno", text, sizes[i], -1));
        CHECK_INT(1, ld_packet_receive(ends[1], &packet));
        CHECK_INT((long long)expected, (long long)packet.size);
    }
    close_pair(ends);
}

static void test_descriptor(void) {
    int ends[2];
    int pipe_ends[2];
    char byte = 0;
    struct ld_packet packet;
    open_pair(ends);
    REQUIRE(pipe2(pipe_ends, O_CLOEXEC) == 0);
    CHECK_INT(0, ld_packet_send(ends[0], 1, "ok", "", 0, pipe_ends[1]));
    CHECK_INT(0, ld_packet_send(ends[0], 2, "ok", "text", 4, pipe_ends[1]));
    for (int i = 0; i < 2; i++) {
        CHECK_INT(1, ld_packet_receive(ends[1], &packet));
        REQUIRE(packet.fd > 2);
        CHECK_INT(FD_CLOEXEC, fcntl(packet.fd, F_GETFD));
        CHECK(write(packet.fd, "y", 1) == 1 && read(pipe_ends[0], &byte, 1) == 1 && byte == 'y');
        close(packet.fd);
    }
    CHECK_INT(0, ld_packet_send(ends[0], 3, "ok", "", 0, 0)); /* 0 is a descriptor too */
    CHECK_INT(1, ld_packet_receive(ends[1], &packet));
    CHECK(packet.fd > 2);
    close(packet.fd);
    CHECK_INT(-EBADF, ld_packet_send(ends[0], 4, "ok", "", 0, 9999));
    close_pair(pipe_ends);
    close_pair(ends);
}

static void test_never_waits(void) {
    int ends[2];
    int sent = 0;
    struct ld_packet packet;
    open_pair(ends);
    CHECK_INT(-EAGAIN, ld_packet_receive(ends[1], &packet));
    int rc;
    while ((rc = ld_packet_send(ends[0], 1, "x", "", 0, -1)) == 0 && sent < 1000000) {
        sent++;
    }
    CHECK_INT(-EAGAIN, rc);
    CHECK(sent > 0);
    close(ends[1]);
    CHECK_INT(-ECONNRESET, ld_packet_send(ends[0], 1, "x", "", 0, -1)); /* not all was read */
    CHECK_INT(-EPIPE, ld_packet_send(ends[0], 1, "x", "", 0, -1));      /* no SIGPIPE either */
    CHECK_INT(0, ld_packet_receive(ends[0], &packet));
    close(ends[0]);
    CHECK_INT(-EBADF, ld_packet_receive(ends[0], &packet));
    CHECK_INT(-EBADF, ld_packet_send(ends[0], 1, "x", "", 0, -1));
    CHECK_INT(-EBADF, ld_packet_send(-1, 1, "x", "", 0, -1));
}

static void test_last_words(void) {
    int ends[2];
    struct ld_packet packet;
    open_pair(ends);
    CHECK_INT(
        0, ld_packet_send(ends[0], 0, "stop", "", 0, -1)); /* is never read: the end is a reset */
    CHECK_INT(0, ld_packet_send(ends[1], 0, "failed", "the reason", 10, -1));
    CHECK_INT(0, ld_packet_send(ends[1], 0, "finished", "", 0, -1));
    close(ends[1]);
    CHECK_INT(1, ld_packet_receive(ends[0], &packet));
    CHECK_STR("failed", packet.word);
    CHECK_STR("the reason", packet.text);
    CHECK_INT(1, ld_packet_receive(ends[0], &packet));
    CHECK_STR("finished", packet.word);
    CHECK_INT(0, ld_packet_receive(ends[0], &packet));
    CHECK_INT(0, ld_packet_receive(ends[0], &packet)); /* and stays so */
    close(ends[0]);
}

static void test_empty(void) {
    int ends[2];
    struct ld_packet packet;
    open_pair(ends);
    send_raw(ends[0], "", 0, -1, 0);
    CHECK_INT(-EPROTO, ld_packet_receive(ends[1], &packet));
    CHECK_INT(-EAGAIN, ld_packet_receive(ends[1], &packet));
    send_raw(ends[0], "", 0, 0, 1);
    CHECK_INT(-EPROTO, ld_packet_receive(ends[1], &packet));
    CHECK_INT(-1, packet.fd);
    send_raw(ends[0], "", 0, -1, 0);
    CHECK_INT(0, ld_packet_send(ends[0], 1, "ok", "", 0, -1));
    close(ends[0]);
    CHECK_INT(-EPROTO, ld_packet_receive(ends[1], &packet)); /* one more is before the end */
    CHECK_INT(1, ld_packet_receive(ends[1], &packet));
    CHECK_STR("ok", packet.word);
    CHECK_INT(0, ld_packet_receive(ends[1], &packet));
    close(ends[1]);
}

static void test_malformed(void) {
#define ROW(text)                                                                                  \
    { text, sizeof(text) - 1 }
    static const struct {
        const char *text;
        size_t size;
    } rows[] = {
        ROW("x"),
        ROW("lunad"),
        ROW("lunad/1"),
        ROW("lunad/1 "),
        ROW("lunad/1 1"),
        ROW("lunad/1 1 "),
        ROW("lunad/1  1 ok"),
        ROW("lunad/1 1  ok"),
        ROW("lunad/2 1 ok"),
        ROW("lunad/11 ok"),
        ROW("Lunad/1 1 ok"),
        ROW(" lunad/1 1 ok"),
        ROW("lunad/1 -1 ok"),
        ROW("lunad/1 +1 ok"),
        ROW("lunad/1 0x1 ok"),
        ROW("lunad/1 1.0 ok"),
        ROW("lunad/1 1\tok"),
        ROW("lunad/1 1234567890 ok"),
        ROW("lunad/1 18446744073709551617 ok"),
        ROW("lunad/1 1 Ok"),
        ROW("lunad/1 1 ok1"),
        ROW("lunad/1 1 o_k"),
        ROW("lunad/1 1 ok\n"),
        ROW("lunad/1 1 ok\ttext"),
        ROW("lunad/1 1 ok\0"),
        ROW("lunad/1 1 ok\0 text"),
        ROW("lunad/1 1 abcdefghijklmnop"),
        ROW("lunad/1 1\0ok"),
        ROW("lunad/1\0 1 ok"),
        ROW("lunad/1 1 \0"),
        ROW("\0lunad/1 1 ok"),
        ROW("lunad/1 1 \xc3\xa4"),
    };
#undef ROW
    int ends[2];
    struct ld_packet packet;
    open_pair(ends);
    int before = check_descriptors();
    for (size_t i = 0; i < LD_COUNT(rows); i++) {
        for (size_t count = 0; count < 3; count++) {
            send_raw(ends[0], rows[i].text, rows[i].size, 0, count);
            if (!CHECK(ld_packet_receive(ends[1], &packet) == -EPROTO)) {
                printf("    \"%s\"\n", rows[i].text);
            }
            CHECK_INT(-1, packet.fd);
        }
    }
    CHECK_INT(before, check_descriptors());
    CHECK_INT(0, ld_packet_send(ends[0], 1, "ok", "", 0, -1)); /* the channel still works */
    CHECK_INT(1, ld_packet_receive(ends[1], &packet));
    close_pair(ends);
}

static void test_too_much(void) {
    static char bytes[LD_PACKET_MAX + 1] = "lunad/1 1 ok ";
    const char *good = "lunad/1 1 ok";
    int ends[2];
    struct ld_packet packet;
    open_pair(ends);
    int before = check_descriptors();
    memset(bytes + 13, 'x', sizeof bytes - 13);
    send_raw(ends[0], bytes, LD_PACKET_MAX, -1, 0);
    CHECK_INT(1, ld_packet_receive(ends[1], &packet));
    CHECK_INT(LD_PACKET_MAX - 13, packet.size);
    send_raw(ends[0], bytes, LD_PACKET_MAX + 1, 0, 1);
    CHECK_INT(-EPROTO, ld_packet_receive(ends[1], &packet));
    for (size_t count = 2; count <= FDS_MAX; count++) {
        send_raw(ends[0], good, strlen(good), 0, count);
        CHECK_INT(-EPROTO, ld_packet_receive(ends[1], &packet));
        CHECK_INT(-1, packet.fd);
    }
    CHECK_INT(before, check_descriptors());
    close_pair(ends);
}

/* A socket whose close waits for long, as nobody reads what was written to it: its ends and its listener, to be closed. */
static void make_lingering(int ends[3]) {
    static const struct linger slow = {.l_onoff = 1, .l_linger = 3600};
    static char bytes[65536];
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof address;
    ends[2] = socket(AF_INET, SOCK_STREAM, 0);
    REQUIRE(bind(ends[2], (struct sockaddr *)&address, size) == 0 && listen(ends[2], 1) == 0);
    REQUIRE(getsockname(ends[2], (struct sockaddr *)&address, &size) == 0);
    ends[0] = socket(AF_INET, SOCK_STREAM, 0);
    REQUIRE(connect(ends[0], (struct sockaddr *)&address, size) == 0);
    ends[1] = accept(ends[2], NULL, NULL);
    REQUIRE(ends[1] >= 0);
    while (send(ends[0], bytes, sizeof bytes, MSG_DONTWAIT) > 0) {
    }
    REQUIRE(setsockopt(ends[0], SOL_SOCKET, SO_LINGER, &slow, sizeof slow) == 0);
}

/* Receive such a socket, alone or COUNT times, as the last one that has it. */
static void receive_lingering(const char *bytes, size_t count) {
    int ends[2];
    int slow[3];
    struct ld_packet packet;
    open_pair(ends);
    make_lingering(slow);
    send_raw(ends[0], bytes, strlen(bytes), slow[0], count);
    close(slow[0]);
    alarm(WAIT_SECONDS);
    CHECK_INT(count == 1 && bytes[0] == 'l' ? 1 : -EPROTO, ld_packet_receive(ends[1], &packet));
    if (packet.fd >= 0) {
        close(packet.fd);
    }
    alarm(0);
    close(slow[1]);
    close(slow[2]);
    close_pair(ends);
}

static void test_lingering(void) {
    int before = check_descriptors();
    receive_lingering("lunad/1 1 ok", 1);
    receive_lingering("lunad/1 1 ok", 2);
    receive_lingering("lunad/1 1 ok", FDS_MAX);
    receive_lingering("junk", 1);
    CHECK_INT(before, check_descriptors());
}

/* Receive descriptors when there can be no more. */
static void receive_at_limit(void) {
    int ends[2];
    struct ld_packet packet;
    open_pair(ends);
    const char *good = "lunad/1 5 ok";
    send_raw(ends[0], good, strlen(good), 0, 1);
    send_raw(ends[0], good, strlen(good), 0, 2);
    send_raw(ends[0], "junk", 4, 0, 1);
    send_raw(ends[0], good, strlen(good), -1, 0);
    if (!deny_descriptors()) {
        check_skip("the number of descriptors cannot be limited here");
        return;
    }
    CHECK_INT(-EMFILE, ld_packet_receive(ends[1], &packet));
    CHECK_INT(-1, packet.fd);
    CHECK(ld_packet_receive(ends[1], &packet) < 0);
    CHECK_INT(-1, packet.fd);
    CHECK_INT(-EPROTO, ld_packet_receive(ends[1], &packet));
    CHECK_INT(1, ld_packet_receive(ends[1], &packet));
    CHECK_INT(5, packet.number);
    CHECK(fcntl(0, F_GETFD) >= 0);
    CHECK_INT(-1, dup(0)); /* still at the limit: nothing was closed that was ours */
}

static void test_lost_descriptor(void) {
    check_in_child(receive_at_limit);
}

/* Make a packet that is good, or nearly. */
static size_t make_packet(char *bytes, size_t room) {
    static const char alphabet[] = "lunad/1 0129abz-okerror \n\0\xff~";
    static const char *const good[] = {"lunad/1 1 ok", "lunad/1 999999999 abcdefghijklmno text",
                                       "lunad/1 0 stop", "lunad/1 12 error 13",
                                       "lunad/1 0 failed a\nb"};
    const char *base = good[random_below(LD_COUNT(good))];
    size_t size = random_below(8) == 0 ? random_below(room) : strlen(base);
    for (size_t i = 0; i < size; i++) {
        bytes[i] = i < strlen(base) ? base[i] : (char)next_random();
    }
    for (uint64_t edits = random_below(4); edits > 0 && size > 0; edits--) {
        char byte = alphabet[random_below(sizeof alphabet)];
        size_t at = random_below(size);
        switch (random_below(3)) {
        case 0:
            bytes[at] = byte;
            break;
        case 1:
            memmove(bytes + at, bytes + at + 1, --size - at);
            break;
        default:
            if (size < room) {
                memmove(bytes + at + 1, bytes + at, size++ - at);
                bytes[at] = byte;
            }
            break;
        }
    }
    return size;
}

/* Whether bytes are a packet, as a pattern sees it. */
static bool is_packet(const regex_t *form, const char *bytes, size_t size) {
    char text[512];
    for (size_t i = 0; i < size; i++) {
        text[i] = bytes[i] == '\0' || (bytes[i] & 0x80) != 0 ? '\1' : bytes[i];
    }
    text[size] = '\0';
    return regexec(form, text, 0, NULL, 0) == 0;
}

/* Check what was received of a packet that is good. */
static void check_received(const struct ld_packet *packet, const char *bytes, size_t size) {
    CHECK(strlen(packet->word) > 0 && strlen(packet->word) < sizeof packet->word);
    CHECK(packet->number <= 999999999);
    CHECK(packet->size < size && packet->text[packet->size] == '\0');
    CHECK(memcmp(packet->text, bytes + size - packet->size, packet->size) == 0);
}

static void test_fuzz(void) {
    int ends[2];
    regex_t form;
    struct ld_packet packet;
    REQUIRE(regcomp(&form, "^lunad/1 [0-9]{1,9} [a-z-]{1,15}( .*)?$", REG_EXTENDED | REG_NOSUB) ==
            0);
    open_pair(ends);
    int before = check_descriptors();
    int good = 0;
    for (int i = 0; i < 20000; i++) {
        char bytes[400];
        size_t size = make_packet(bytes, sizeof bytes);
        size_t count = random_below(3) == 0 ? random_below(FDS_MAX + 1) : 0;
        bool expected = is_packet(&form, bytes, size) && count < 2;
        send_raw(ends[0], bytes, size, 0, count);
        int rc = ld_packet_receive(ends[1], &packet);
        if (!CHECK(rc == (expected ? 1 : -EPROTO))) {
            printf("    %d for \"%.*s\" with %zu descriptors\n", rc, (int)size, bytes, count);
        }
        if (rc == 1) {
            good++;
            check_received(&packet, bytes, size);
        }
        CHECK_INT(rc == 1 && count == 1, packet.fd >= 0);
        if (packet.fd >= 0) {
            CHECK(packet.fd > 2);
            close(packet.fd);
        }
    }
    CHECK(good > 1000);
    CHECK_INT(before, check_descriptors());
    CHECK_INT(-EAGAIN, ld_packet_receive(ends[1], &packet));
    regfree(&form);
    close_pair(ends);
}

static const struct check_case cases[] = {
    {"packets arrive as they were sent", test_round_trip},
    {"a text is cut to what a packet can have", test_long_text},
    {"a descriptor comes with a packet", test_descriptor},
    {"nothing waits, and an end that is gone causes no signal", test_never_waits},
    {"what was sent before the end arrives, though not all was read there", test_last_words},
    {"an empty packet is not the end", test_empty},
    {"a word is found behind others, and stays where it is", test_queued},
    {"what is malformed is refused, and its descriptors are closed", test_malformed},
    {"too many bytes or descriptors are refused", test_too_much},
    {"a socket that closes slowly holds nobody up", test_lingering},
    {"a descriptor that is lost is an error", test_lost_descriptor},
    {"random packets are received as a pattern sees them, and leak nothing", test_fuzz},
};

CHECK_MAIN(cases)
