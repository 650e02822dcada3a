#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/base.h"
#include "base/time.h"
#include "check.h"
#include "daemon/keeper_desk.h"
#include "support.h"

#define NOBODY 65534

static struct ld_keeper_desk desk;
static int asked;

/* Answer with the verb. */
static json_t *answer(void *arg, const char *verb) {
    asked++;
    CHECK(arg == &asked);
    return json_pack("{s:b, s:s}", "ok", 1, "verb", verb);
}

/* Open a desk with a socket of its own, for OWNER. */
static void open_desk(uid_t owner) {
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    snprintf(address.sun_path, sizeof address.sun_path, "%s", box_path("s"));
    unlink(address.sun_path);
    REQUIRE(bind(fd, (struct sockaddr *)&address, sizeof address) == 0 && listen(fd, 200) == 0);
    asked = 0;
    ld_keeper_desk_open(&desk, fd, owner, answer, &asked);
}

/* Close it. */
static void close_desk(void) {
    ld_keeper_desk_close(&desk);
    close(desk.listener);
}

/* Connect a client. */
static int connect_client(void) {
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    snprintf(address.sun_path, sizeof address.sun_path, "%s", box_path("s"));
    REQUIRE(connect(fd, (struct sockaddr *)&address, sizeof address) == 0);
    return fd;
}

/* Serve until nothing is left to do. */
static void serve(void) {
    struct pollfd polls[LD_KEEPER_DESK_POLLS];
    for (int round = 0; round < 1000; round++) {
        ld_keeper_desk_poll(&desk, polls);
        if (poll(polls, LD_KEEPER_DESK_POLLS, 0) <= 0) {
            return;
        }
        ld_keeper_desk_serve(&desk, polls);
    }
    CHECK(false); /* it goes round in circles */
}

/* Send a text, serve, and check what comes back: NULL for the end of the connection. */
static void check_talk(int fd, const char *request, const char *expected) {
    char bytes[4096] = "";
    CHECK_INT((long long)strlen(request), send(fd, request, strlen(request), MSG_NOSIGNAL));
    serve();
    ssize_t size = recv(fd, bytes, sizeof bytes - 1, 0);
    if (expected == NULL) {
        CHECK(size == 0 || errno == ECONNRESET);
    } else {
        CHECK_STR(expected, size >= 0 ? bytes : strerror(errno));
    }
}

static void test_answers(void) {
    open_desk(getuid());
    int fd = connect_client();
    check_talk(fd, "{\"verb\": \"status\"}\n", "{\"ok\":true,\"verb\":\"status\"}\n");
    check_talk(fd, "{\"verb\": \"a\"}\n{\"verb\": \"b\"}\n",
               "{\"ok\":true,\"verb\":\"a\"}\n{\"ok\":true,\"verb\":\"b\"}\n");
    check_talk(fd, "{\"verb\":", "Resource temporarily unavailable");
    check_talk(fd, " \"c\"}\n{", "{\"ok\":true,\"verb\":\"c\"}\n");
    close(fd);
    serve();
    close_desk();
    CHECK_INT(4, asked);
}

static void test_nonsense(void) {
    static const char *const lines[] = {
        "", "x", "[", "{\"verb\": \"a\"", "\"verb\"", "\xFF", "{\"verb\":\"a\",\"verb\":\"b\"}"};
    char many[5001];
    open_desk(getuid());
    int fd = connect_client();
    for (size_t i = 0; i < LD_COUNT(lines); i++) {
        char line[64];
        snprintf(line, sizeof line, "%s\n", lines[i]);
        check_talk(fd, line, "{\"ok\":false,\"error\":\"this line is not a JSON object\"}\n");
    }
    check_talk(fd, "{\"verb\": 5}\n",
               "{\"ok\":false,\"error\":\"a request is an object with a \\\"verb\\\"\"}\n");
    memset(many, ' ', 5000);
    many[5000] = '\0';
    check_talk(fd, many, NULL); /* a line without an end */
    close(fd);
    close_desk();
    CHECK_INT(0, asked);
}

static void test_silent_clients(void) {
    int fds[100];
    open_desk(getuid());
    for (size_t i = 0; i < LD_COUNT(fds); i++) {
        fds[i] = connect_client();
        serve();
    }
    CHECK(ld_keeper_desk_is_busy(&desk, ld_time_seconds() - 60));
    CHECK(!ld_keeper_desk_is_busy(&desk, ld_time_seconds() + 1)); /* not for ever */
    check_talk(fds[99], "{\"verb\": \"a\"}\n", "{\"ok\":true,\"verb\":\"a\"}\n");
    int last = connect_client();
    check_talk(last, "{\"verb\": \"b\"}\n", "{\"ok\":true,\"verb\":\"b\"}\n");
    for (size_t i = 0; i < LD_COUNT(fds); i++) {
        close(fds[i]);
    }
    close(last);
    close_desk();
}

static void test_served_is_not_busy(void) {
    open_desk(getuid());
    CHECK(!ld_keeper_desk_is_busy(&desk, 0));
    int fd = connect_client();
    serve();
    CHECK(ld_keeper_desk_is_busy(&desk, 0));
    check_talk(fd, "{\"verb\": \"a\"}\n", "{\"ok\":true,\"verb\":\"a\"}\n");
    CHECK(!ld_keeper_desk_is_busy(&desk, 0));
    close(fd);
    close_desk();
}

static void test_unread_answers(void) {
    char requests[4096];
    open_desk(getuid());
    int fd = connect_client();
    size_t size = 0;
    while (size + 16 < sizeof requests) {
        size += (size_t)snprintf(requests + size, sizeof requests - size, "{\"verb\":\"a\"}\n");
    }
    for (int i = 0; i < 1000; i++) { /* the desk drops a client that does not read */
        if (send(fd, requests, size, MSG_NOSIGNAL | MSG_DONTWAIT) < 0) {
            break;
        }
        serve();
    }
    CHECK_INT(-1, desk.clients[0].fd);
    close(fd);
    close_desk();
}

/* Ask as another user. */
static void ask_as_nobody(void) {
    open_desk(0);
    REQUIRE(chmod(box_path("s"), 0777) == 0 && chmod(box_path(""), 0777) == 0);
    REQUIRE(seteuid(NOBODY) == 0);
    int fd = connect_client();
    REQUIRE(seteuid(0) == 0);
    serve();
    char bytes[200] = "";
    CHECK(recv(fd, bytes, sizeof bytes - 1, 0) > 0);
    CHECK_STR(
        "{\"ok\":false,\"error\":\"permission denied: this daemon belongs to another user\"}\n",
        bytes);
    CHECK_INT(0, recv(fd, bytes, sizeof bytes - 1, 0));
    close(fd);
    close_desk();
    CHECK_INT(0, asked);
}

static void test_others(void) {
    box_path("");
    if (geteuid() != 0) {
        check_skip("needs root");
    } else {
        check_in_child(ask_as_nobody);
    }
}

/* Connect a client that finds no descriptor. */
static void come_at_limit(void) {
    open_desk(getuid());
    int first = connect_client();
    serve();
    int second = connect_client();
    int copy = first;
    for (int i = 0; i < LD_KEEPER_DESK_POLLS && copy >= 0; i++) { /* or poll would fail */
        copy = fcntl(first, F_DUPFD_CLOEXEC, 3);
    }
    CHECK(copy >= 0);
    if (!deny_descriptors()) {
        check_skip("the number of descriptors cannot be limited here");
        return;
    }
    serve(); /* the first one makes room */
    check_talk(second, "{\"verb\": \"a\"}\n", "{\"ok\":true,\"verb\":\"a\"}\n");
    close(first);
    close(second);
    close_desk();
}

static void test_limit(void) {
    box_path("");
    check_in_child(come_at_limit);
}

static const struct check_case cases[] = {
    {"a request is answered, in one piece or several", test_answers},
    {"nonsense is refused, and a line without an end closes the connection", test_nonsense},
    {"clients that say nothing keep no other client out", test_silent_clients},
    {"a client is waited for only until it has its answer", test_served_is_not_busy},
    {"a client that does not read is dropped", test_unread_answers},
    {"other users are refused", test_others},
    {"a client gets the descriptor of another one if none is left", test_limit},
};

CHECK_MAIN(cases)
