#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "check.h"
#include "engine/shares.h"
#include "support.h"

#define MOST 3

static const struct ld_listen_options defaults = {.backlog = 64, .mode = -1};
static struct ld_shares *set;

/* Ask for a worker; the descriptor is closed here. 0 or a negative errno. */
static int ask(int worker, const char *address) {
    int fd = ld_shares_ask(set, worker, address, &defaults);
    if (fd >= 0) {
        close(fd);
    }
    return fd < 0 ? fd : 0;
}

/* How many sockets there are. */
static size_t count(void) {
    struct ld_share_facts facts;
    size_t number = 0;
    while (ld_shares_describe(set, number, &facts)) {
        number++;
    }
    return number;
}

/* The socket of a worker (0: of all), which has one; -1 if it has none. */
static int socket_of(int worker) {
    struct ld_share_facts facts;
    for (size_t i = 0; ld_shares_describe(set, i, &facts); i++) {
        if (facts.worker == worker) {
            return facts.fd;
        }
    }
    return -1;
}

/* The port of a socket. */
static unsigned port_of(int fd) {
    struct sockaddr_in at = {0};
    socklen_t size = sizeof at;
    return getsockname(fd, (struct sockaddr *)&at, &size) == 0 ? ntohs(at.sin_port) : 0;
}

/* The inode of a socket. */
static ino_t inode_of(int fd) {
    struct stat facts = {0};
    return fstat(fd, &facts) == 0 ? facts.st_ino : 0;
}

/* Connect some clients to a port, and leave again: they stay in the queues. */
static void connect_clients(unsigned port, int clients) {
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    for (int i = 0; i < clients; i++) {
        int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        CHECK(connect(fd, (struct sockaddr *)&at, sizeof at) == 0);
        close(fd);
    }
}

/* Accept all who wait for a worker; how many. */
static int accept_all(int worker) {
    int clients = 0;
    for (int fd; (fd = accept4(socket_of(worker), NULL, NULL, SOCK_CLOEXEC)) >= 0; clients++) {
        close(fd);
    }
    CHECK(errno == EAGAIN);
    return clients;
}

/* Each worker has a socket of its own, all on one port, and it stays until the worker says so. */
static void test_own(void) {
    set = ld_shares_new(MOST);
    CHECK_INT(-EINVAL, ask(1, "nowhere"));
    CHECK_INT(0, ask(1, "127.0.0.1:0"));
    CHECK_INT(0, ask(2, "127.0.0.1:0"));
    CHECK_INT(0, ask(2, "127.0.0.1:0"));
    CHECK_INT(2, count());
    unsigned port = port_of(socket_of(1));
    CHECK(port > 0 && port == port_of(socket_of(2)));
    CHECK(inode_of(socket_of(1)) != inode_of(socket_of(2)));
    char same[32];
    snprintf(same, sizeof same, "127.0.0.1:%u", port);
    CHECK_INT(0, ask(1, same));
    CHECK_INT(2, count());
    ld_shares_drop(set, 1, "127.0.0.1:1");
    CHECK_INT(2, count());
    ld_shares_drop(set, 1, same); /* as it was asked for the second time */
    CHECK_INT(1, count());
    CHECK_INT(-1, socket_of(1));
    ld_shares_drop_all(set, 2);
    CHECK_INT(0, count());
    ld_shares_free(set);
}

/* The socket of a worker that has crashed waits for its next process, with its queue. */
static void test_crash(void) {
    set = ld_shares_new(MOST);
    CHECK_INT(0, ask(1, "127.0.0.1:0"));
    ino_t before = inode_of(socket_of(1));
    connect_clients(port_of(socket_of(1)), 3);
    CHECK_INT(3, ld_shares_waiting(set, 1));
    CHECK_INT(0, ld_shares_waiting(set, 2));
    ld_shares_begin(set, 1);
    ld_shares_begin(set, 1); /* it crashes again before it has asked */
    CHECK_INT(0, ask(1, "127.0.0.1:0"));
    ld_shares_settle(set, 1);
    CHECK(inode_of(socket_of(1)) == before);
    CHECK_INT(3, accept_all(1));
    ld_shares_begin(set, 1);
    ld_shares_settle(set, 1); /* it does not want it any more */
    CHECK_INT(0, count());
    ld_shares_free(set);
}

/* A Unix socket is common, and its file goes with its last user. */
static void test_common(void) {
    char address[200];
    snprintf(address, sizeof address, "unix:%s", box_path("common"));
    set = ld_shares_new(MOST);
    CHECK_INT(0, ask(1, address));
    CHECK_INT(0, ask(3, address));
    CHECK_INT(1, count());
    ld_shares_drop(set, 1, address);
    CHECK(access(box_path("common"), F_OK) == 0 && socket_of(0) >= 0);
    ld_shares_drop_all(set, 3);
    CHECK(access(box_path("common"), F_OK) < 0);
    CHECK_INT(0, ask(2, address));
    ld_shares_free(set);
    CHECK(access(box_path("common"), F_OK) < 0);
}

/* Bind a socket as it is done before the start. */
static int bind_early(void) {
    struct ld_address address;
    struct ld_listen_options options = {.mode = -1, .is_bound_only = true};
    REQUIRE(ld_address_parse("127.0.0.1:0", &address));
    return ld_socket_listen(&address, &options);
}

/* What was bound before is never closed; a worker for which there is none, and none can be made, has that of another. */
static void test_inherited(void) {
    set = ld_shares_new(MOST);
    int bound = bind_early();
    char address[32];
    snprintf(address, sizeof address, "127.0.0.1:%u", port_of(bound));
    CHECK_INT(0, ld_shares_inherit(set, 1, bound, address));
    CHECK_INT(0, ask(1, address));
    CHECK_INT(0, ask(2, address));
    CHECK_INT(1, count());
    ld_shares_drop_all(set, 1);
    connect_clients(port_of(bound), 1); /* it listens for the other worker */
    ld_shares_drop(set, 2, address);
    CHECK_INT(1, count());
    CHECK_INT(0, ask(1, address)); /* and again */
    connect_clients(port_of(bound), 1);
    ld_shares_free(set);
}

/* An address that another process has is not shared with that. */
static void test_taken(void) {
    set = ld_shares_new(MOST);
    struct ld_address address;
    struct ld_listen_options options = {.mode = -1, .reuse_port = true};
    REQUIRE(ld_address_parse("127.0.0.1:0", &address));
    int other = ld_socket_listen(&address, &options);
    char text[32];
    snprintf(text, sizeof text, "127.0.0.1:%u", port_of(other));
    CHECK_INT(-EADDRINUSE, ask(1, text));
    CHECK_INT(0, count());
    close(other);
    ld_shares_free(set);
}

/* New clients go to some alone, also when a socket has moved in the list of the kernel. */
static void test_limit(void) {
    set = ld_shares_new(MOST);
    for (int worker = 1; worker <= MOST; worker++) {
        CHECK_INT(0, ask(worker, "127.0.0.1:0"));
    }
    unsigned port = port_of(socket_of(1));
    ld_shares_limit(set, 1);
    connect_clients(port, 30);
    CHECK_INT(30, accept_all(1));
    ld_shares_limit(set, 0);
    ld_shares_drop_all(set, 1); /* in its place comes the last one */
    ld_shares_limit(set, 2);
    connect_clients(port, 30);
    CHECK_INT(30, accept_all(2));
    CHECK_INT(0, accept_all(3));
    ld_shares_limit(set, 0);
    connect_clients(port, 60);
    int second = accept_all(2);
    int third = accept_all(3);
    CHECK(second + third == 60 && second > 0 && third > 0);
    ld_shares_free(set);
}

/* Another program in this process takes all of it over; what is unsound is refused, and its descriptor closed. */
static void test_restore(void) {
    struct ld_shares *first = ld_shares_new(MOST);
    struct ld_share_facts facts;
    set = first;
    for (int worker = 1; worker <= 2; worker++) {
        CHECK_INT(0, ask(worker, "127.0.0.1:0"));
    }
    set = ld_shares_new(MOST);
    for (size_t i = 0; ld_shares_describe(first, i, &facts); i++) {
        facts.fd = dup(facts.fd);
        CHECK_INT(0, ld_shares_restore(set, &facts));
    }
    CHECK_INT(2, count());
    ino_t own = inode_of(socket_of(2));
    CHECK_INT(0, ask(2, "127.0.0.1:0"));
    CHECK(own != 0 && own == inode_of(socket_of(2)));
    CHECK(ld_shares_describe(first, 0, &facts));
    static const int wrong[] = {-1, MOST + 1};
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        facts.worker = wrong[i];
        facts.fd = dup(0);
        CHECK_INT(-EINVAL, ld_shares_restore(set, &facts));
    }
    facts.fd = -1;
    CHECK_INT(-EINVAL, ld_shares_restore(set, &facts));
    ld_shares_drop_all(set, 1);
    CHECK_INT(1, count());
    ld_shares_free(set);
    ld_shares_free(first);
}

static const struct check_case cases[] = {
    {"each worker has a socket of its own", test_own},
    {"that of a crashed worker waits for the next process", test_crash},
    {"a Unix socket is common", test_common},
    {"what was bound before stays", test_inherited},
    {"an address that is taken is refused", test_taken},
    {"new clients go to some workers alone", test_limit},
    {"another program takes them over", test_restore},
};

CHECK_MAIN(cases)
