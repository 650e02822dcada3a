#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "base.h"
#include "check.h"
#include "socket.h"
#include "support.h"

static const struct ld_listen_options defaults = {.mode = -1};

static void test_addresses(void) {
    struct ld_address address;
    const struct sockaddr_in *v4 = (const struct sockaddr_in *)&address.storage;
    const struct sockaddr_in6 *v6 = (const struct sockaddr_in6 *)&address.storage;
    REQUIRE(ld_address_parse("127.0.0.1:8080", &address));
    CHECK_INT(AF_INET, v4->sin_family);
    CHECK_INT(8080, ntohs(v4->sin_port));
    CHECK_INT(INADDR_LOOPBACK, ntohl(v4->sin_addr.s_addr));
    CHECK_INT(sizeof *v4, address.size);
    CHECK(ld_address_path(&address) == NULL);
    REQUIRE(ld_address_parse("[::1]:80", &address));
    CHECK_INT(AF_INET6, v6->sin6_family);
    CHECK_INT(80, ntohs(v6->sin6_port));
    CHECK(IN6_IS_ADDR_LOOPBACK(&v6->sin6_addr));
    REQUIRE(ld_address_parse("unix:/run/x", &address));
    CHECK_STR("/run/x", ld_address_path(&address));
    REQUIRE(ld_address_parse("LocalHost:8080", &address));
    CHECK(((struct sockaddr_in *)&address.storage)->sin_addr.s_addr == htonl(INADDR_LOOPBACK));
    REQUIRE(ld_address_parse("ip6-localhost:8080", &address));
    CHECK_INT(AF_INET6, address.storage.ss_family);
    CHECK(ld_address_parse("0.0.0.0:0", &address));
    CHECK(ld_address_parse("[::ffff:1.2.3.4]:65535", &address));
}

static void test_wrong_addresses(void) {
    static const char *const wrong[] = {
        "",
        ":",
        "80",
        ":80",
        "127.0.0.1",
        "127.0.0.1:",
        "localhost:",
        "localhost.example:1",
        "[localhost]:80",
        "localhost:http",
        "*:80",
        "127.0.0.1:x",
        "127.0.0.1:1x",
        "1.2.3:80",
        "1.2.3.4.5:80",
        "1.2.3.4:-1",
        "1.2.3.4: 80",
        "1.2.3.4:+80",
        "1.2.3.4:65536",
        "::1:80",
        "[::1]",
        "[::1]80",
        "[::1:80",
        "[]:80",
        "[1.2.3.4]:80",
        "[::1]:80:",
        "[::1%lo]:80",
        "unix:",
        "unix:x",
        "unix:./x",
        "fd:x",
        "[[::1]]:80",
        "1.2.3.4:99999999999",
        "1.2.3.4:-0",
    };
    struct ld_address address;
    char path[120] = "unix:/";
    for (size_t i = 0; i < LD_COUNT(wrong); i++) {
        if (!CHECK(!ld_address_parse(wrong[i], &address))) {
            printf("    \"%s\"\n", wrong[i]);
        }
    }
    memset(path + 6, 'x', 106);
    CHECK(ld_address_parse(path, &address)); /* 107 bytes: as long as it may be */
    path[112] = 'x';
    CHECK(!ld_address_parse(path, &address));
}

/* Listen on an address. */
static int listen_on(const char *text, const struct ld_listen_options *options) {
    struct ld_address address;
    REQUIRE(ld_address_parse(text, &address));
    return ld_socket_listen(&address, options);
}

/* The port of a socket. */
static int port_of(int fd) {
    struct sockaddr_in address = {0};
    socklen_t size = sizeof address;
    CHECK(getsockname(fd, (struct sockaddr *)&address, &size) == 0);
    return ntohs(address.sin_port);
}

/* Whether somebody listens at an address. */
static bool can_connect(const char *text) {
    struct ld_address address;
    REQUIRE(ld_address_parse(text, &address));
    int fd = socket(address.storage.ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    bool ok = connect(fd, (struct sockaddr *)&address.storage, address.size) == 0;
    close(fd);
    return ok;
}

static void test_listen(void) {
    char text[40];
    int on = 0;
    socklen_t size = sizeof on;
    struct ld_address address;
    int fd = listen_on("127.0.0.1:0", &defaults);
    REQUIRE(fd >= 0);
    snprintf(text, sizeof text, "127.0.0.1:%d", port_of(fd));
    CHECK(can_connect(text));
    CHECK_INT(FD_CLOEXEC, fcntl(fd, F_GETFD));
    CHECK((fcntl(fd, F_GETFL) & O_NONBLOCK) != 0);
    CHECK(getsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, &size) == 0 && on == 1);
    CHECK(getsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &on, &size) == 0 && on == 0);
    CHECK_INT(-EADDRINUSE, listen_on(text, &defaults));
    CHECK(ld_address_parse(text, &address) && ld_address_is_of(&address, fd));
    CHECK(ld_address_parse("127.0.0.1:0", &address) && !ld_address_is_of(&address, fd));
    snprintf(text, sizeof text, "127.0.0.2:%d", port_of(fd));
    CHECK(ld_address_parse(text, &address) && !ld_address_is_of(&address, fd));
    CHECK(!ld_address_is_of(&address, 0));
    close(fd);
}

static void test_reuse_port(void) {
    static const struct ld_listen_options shared = {.mode = -1, .reuse_port = true};
    char text[40];
    int first = listen_on("127.0.0.1:0", &shared);
    REQUIRE(first >= 0);
    snprintf(text, sizeof text, "127.0.0.1:%d", port_of(first));
    int second = listen_on(text, &shared);
    CHECK(second >= 0);
    CHECK_INT(-EADDRINUSE, listen_on(text, &defaults));
    close(first);
    close(second);
}

static void test_ipv6_alone(void) {
    char text[40];
    int fd = listen_on("[::]:0", &defaults);
    if (fd == -EAFNOSUPPORT || fd == -EADDRNOTAVAIL) {
        check_skip("there is no IPv6 here");
        return;
    }
    snprintf(text, sizeof text, "127.0.0.1:%d",
             port_of(fd)); /* the port stands at the same place */
    CHECK(!can_connect(text));
    close(fd);
}

/* The address of a file in the box. */
static const char *unix_address(const char *name) {
    static char text[200];
    snprintf(text, sizeof text, "unix:%s", box_path(name));
    return text;
}

static void test_unix(void) {
    struct stat facts = {0};
    mode_t mask = umask(022);
    int fd = listen_on(unix_address("a"), &defaults);
    REQUIRE(fd >= 0);
    CHECK(stat(box_path("a"), &facts) == 0 && (facts.st_mode & 07777) == 0755);
    CHECK_INT(022, umask(022)); /* as it was */
    CHECK(can_connect(unix_address("a")));
    CHECK_INT(-EADDRINUSE, listen_on(unix_address("a"), &defaults));
    CHECK(can_connect(unix_address("a"))); /* it is still there */
    struct ld_listen_options options = {.mode = 0660};
    int other = listen_on(unix_address("b"), &options);
    CHECK(stat(box_path("b"), &facts) == 0 && (facts.st_mode & 07777) == 0660);
    CHECK_INT(022, umask(mask));
    close(other);
    close(fd);
}

static void test_stale(void) {
    close(listen_on(unix_address("a"), &defaults));
    CHECK(!can_connect(unix_address("a")));
    int fd = listen_on(unix_address("a"), &defaults); /* nobody listens any more */
    CHECK(fd >= 0);
    CHECK(can_connect(unix_address("a")));
    close(fd);
    write_file(box_path("file"), "keep");
    CHECK_INT(-EADDRINUSE, listen_on(unix_address("file"), &defaults));
    CHECK_STR("keep", read_file(box_path("file")));
    REQUIRE(symlink(box_path("a"), box_path("link")) == 0);
    CHECK_INT(-EADDRINUSE, listen_on(unix_address("link"), &defaults));
    CHECK_INT(-ENOENT, listen_on(unix_address("gone/a"), &defaults));
}

static void test_backlog(void) {
    struct ld_listen_options options = {.mode = -1, .backlog = 1};
    struct ld_address address;
    int fd = listen_on(unix_address("a"), &options);
    int clients[8];
    int connected = 0;
    REQUIRE(ld_address_parse(unix_address("a"), &address));
    for (size_t i = 0; i < LD_COUNT(clients); i++) {
        clients[i] = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
        connected += connect(clients[i], (struct sockaddr *)&address.storage, address.size) == 0;
    }
    CHECK_INT(2, connected); /* Linux: one more than asked for */
    for (size_t i = 0; i < LD_COUNT(clients); i++) {
        close(clients[i]);
    }
    close(fd);
}

static const struct check_case cases[] = {
    {"addresses", test_addresses},
    {"what is no address", test_wrong_addresses},
    {"a listening socket", test_listen},
    {"a port that is shared", test_reuse_port},
    {"an IPv6 socket takes no IPv4 client", test_ipv6_alone},
    {"a Unix socket and its mode", test_unix},
    {"a file is replaced only if nobody listens there", test_stale},
    {"the backlog", test_backlog},
};

CHECK_MAIN(cases)
