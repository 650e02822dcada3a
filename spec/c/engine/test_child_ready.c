#include <errno.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "check.h"
#include "engine/child_ready.h"
#include "support.h"

#define LONGEST 65536

static uv_loop_t loop;
static struct ld_child_ready ready;
static struct ld_text heard; /* lines, each with its end */
static const char *stop_at;  /* the line at which the child is ready, or NULL */
static int told;             /* how often it was said to be ready */
static int closed;

static void on_line(void *owner, const char *bytes, size_t size) {
    CHECK(owner == &ready);
    ld_text_add(&heard, bytes, size);
    ld_text_putc(&heard, '\n');
    if (stop_at != NULL && size == strlen(stop_at) && memcmp(bytes, stop_at, size) == 0) {
        ld_child_ready_note(&ready, true);
    }
}

static void on_ready(void *owner) {
    CHECK(owner == &ready);
    told++;
}

static void on_closed(void *owner) {
    CHECK(owner == &ready);
    closed++;
}

/* Begin with a child that is not ready. */
static void begin(enum ld_ready_kind kind) {
    ready = (struct ld_child_ready){.kind = kind,
                                    .owner = &ready,
                                    .on_line = on_line,
                                    .on_ready = on_ready,
                                    .on_closed = on_closed};
    stop_at = NULL;
    told = 0;
    closed = 0;
    ld_child_ready_note(&ready, false);
}

/* End, and check what was heard. */
static void end(const char *expected) {
    ld_child_ready_close(&ready);
    CHECK_STR(expected, ld_text_string(&heard));
    ld_text_fini(&heard);
}

static void hear(int stream, const char *text) {
    ld_child_ready_hear(&ready, stream, text, strlen(text));
}

static void test_lines(void) {
    begin(LD_READY_BY_LINE);
    hear(1, "one\n\nth");
    hear(2, "other ");
    hear(1, "ree\nfo");
    hear(2, "stream\n");
    hear(1, "ur");
    ld_child_ready_hear(&ready, 1, NULL, 0);
    ld_child_ready_hear(&ready, 2, NULL, 0);
    end("one\n\nthree\nother stream\nfour\n");
}

static void test_ready(void) {
    begin(LD_READY_BY_LINE);
    stop_at = "two";
    hear(2, "half of");
    hear(1, "one\ntwo\nthree\nfo");
    hear(1, "ur\n");
    hear(2, " a line\n");
    ld_child_ready_hear(&ready, 1, NULL, 0);
    CHECK_INT(LD_READY_NOW, ready.state);
    CHECK_INT(0, told);
    end("one\ntwo\n");
}

static void test_not_asked(void) {
    begin(LD_READY_UNTOLD);
    hear(1, "one\n");
    end("");
}

static void test_long_line(void) {
    char *line = malloc(2 * LONGEST + 2);
    memset(line, 'x', 2 * LONGEST + 1);
    line[2 * LONGEST + 1] = '\0';
    begin(LD_READY_BY_LINE);
    hear(1, "a");
    hear(1, line); /* 1 + 2 * LONGEST + 1 bytes: two pieces and the rest */
    CHECK(ready.lines[0].size <= LONGEST);
    hear(1, "\n");
    CHECK_INT(2 * LONGEST + 2 + 3, (long long)heard.size);
    CHECK(heard.data[LONGEST] == '\n' && heard.data[2 * LONGEST + 1] == '\n');
    ld_text_fini(&heard);
    end("");
    free(line);
}

/* Connect to the socket. */
static int connect_to(const char *address) {
    struct sockaddr_un name = {.sun_family = AF_UNIX};
    size_t length = strlen(address);
    memcpy(name.sun_path + 1, address + 1, length - 1);
    int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    socklen_t size = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + length);
    if (connect(fd, (struct sockaddr *)&name, size) < 0) {
        int rc = -errno;
        close(fd);
        return rc;
    }
    return fd;
}

/* Let the loop turn until the messages are read, or have waited for a moment. */
static void turn(void) {
    for (int i = 0; i < 20; i++) {
        uv_run(&loop, UV_RUN_NOWAIT);
        usleep(500);
    }
}

/* Let this process send a message to the socket, as the child or not; whether that makes it ready. */
static bool is_ready_by(const char *text, size_t size, bool as_child) {
    char address[LD_READY_ADDRESS_SIZE];
    begin(LD_READY_BY_NOTIFY);
    CHECK_INT(0, ld_child_ready_make_address(address));
    CHECK_INT(0, ld_child_ready_open(&ready, &loop, address));
    ready.pid = as_child ? getpid() : getpid() + 1;
    int fd = connect_to(address);
    CHECK(fd >= 0);
    CHECK_INT((long long)size, send(fd, text, size, 0));
    turn();
    CHECK(recv(ready.fd, address, 1, MSG_DONTWAIT) < 0 && errno == EAGAIN); /* it was taken */
    bool is_ready = ready.state == LD_READY_NOW;
    CHECK_INT(is_ready, told);
    close(fd);
    end("");
    turn();
    CHECK_INT(2, closed);
    return is_ready;
}

static void test_messages(void) {
    static char large[5000];
    REQUIRE(uv_loop_init(&loop) == 0);
    memset(large, 'x', sizeof large);
    for (size_t i = 0; i < 8; i++) {
        large[i] = "READY=1\n"[i];
    }
    CHECK(is_ready_by("READY=1", 7, true));
    CHECK(is_ready_by("READY=1\n", 8, true));
    CHECK(is_ready_by("STATUS=\nREADY=1\nMAINPID=1", 25, true));
    CHECK(!is_ready_by("READY=1", 7, false));
    CHECK(!is_ready_by("READY=1", 8, true)); /* with a zero byte */
    CHECK(!is_ready_by("READY=", 6, true));
    CHECK(!is_ready_by("READY=1 ", 8, true));
    CHECK(!is_ready_by("", 0, true));
    CHECK(!is_ready_by("\n\n", 2, true));
    CHECK(!is_ready_by(large, sizeof large, true));
    CHECK_INT(0, uv_loop_close(&loop));
}

static void test_flood(void) {
    char address[LD_READY_ADDRESS_SIZE];
    REQUIRE(uv_loop_init(&loop) == 0);
    begin(LD_READY_BY_NOTIFY);
    CHECK_INT(0, ld_child_ready_make_address(address));
    CHECK_INT(0, ld_child_ready_open(&ready, &loop, address));
    ready.pid = getpid();
    int fd = connect_to(address);
    uint64_t start = now_ns();
    int sent = 0;
    while (now_ns() - start < 250 * 1000000ULL) { /* two pauses fit in */
        sent += send(fd, "x", 1, MSG_DONTWAIT) == 1;
        uv_run(&loop, UV_RUN_NOWAIT);
    }
    CHECK(sent < 1000);
    while (told == 0 && now_ns() - start < WAIT_SECONDS * 1000000000ULL) {
        send(fd, "READY=1", 7, MSG_DONTWAIT);
        uv_run(&loop, UV_RUN_NOWAIT);
        usleep(500);
    }
    turn();
    CHECK_INT(1, told);
    close(fd);
    end("");
    turn();
    CHECK_INT(2, closed);
    CHECK_INT(0, uv_loop_close(&loop));
}

static void test_in_use(void) {
    char address[LD_READY_ADDRESS_SIZE];
    struct ld_child_ready other = {.owner = &ready, .on_closed = on_closed};
    REQUIRE(uv_loop_init(&loop) == 0);
    begin(LD_READY_BY_NOTIFY);
    CHECK_INT(0, ld_child_ready_make_address(address));
    CHECK_INT(0, ld_child_ready_open(&ready, &loop, address));
    CHECK_INT(-EADDRINUSE, ld_child_ready_open(&other, &loop, address));
    ld_child_ready_close(&other);
    end("");
    turn();
    CHECK_INT(2, closed);
    CHECK_INT(-ECONNREFUSED, connect_to(address));
    CHECK_INT(0, uv_loop_close(&loop));
}

static const struct check_case cases[] = {
    {"whole lines of both streams are told, and the last without its end", test_lines},
    {"nothing is told of a child that is ready", test_ready},
    {"nothing is told unless it is asked for", test_not_asked},
    {"a long line is told in pieces", test_long_line},
    {"a message counts if a line of it is READY=1 and the child has sent it", test_messages},
    {"a flood of messages is read slowly", test_flood},
    {"an address that is in use is refused", test_in_use},
};

CHECK_MAIN(cases)
