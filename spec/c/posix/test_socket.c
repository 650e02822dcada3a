#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/base.h"
#include "check.h"
#include "posix/socket.h"
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

/* Whether a process listens at an address. */
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
    snprintf(text, sizeof text, "127.0.0.1:%d", port_of(fd)); /* the port is at the same place */
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
    int fd = listen_on(unix_address("a"), &defaults); /* no process listens now */
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

/* Note the file at a name of the box. */
static bool note(struct ld_socket_file *file, const char *name) {
    struct ld_address address;
    REQUIRE(ld_address_parse(unix_address(name), &address));
    return ld_socket_file_note(file, &address, NULL);
}

/* Whether a name is there in the box. */
static bool is_there(const char *name) {
    struct stat facts;
    return lstat(box_path(name), &facts) == 0;
}

static void test_file(void) {
    struct ld_socket_file file;
    struct ld_address address;
    int fd = listen_on(unix_address("a"), &defaults);
    CHECK(note(&file, "a") && ld_socket_file_is_current(&file));
    ld_socket_file_forget(&file);
    CHECK(!ld_socket_file_is_current(&file));
    ld_socket_file_remove(&file); /* forgotten: nothing */
    CHECK(is_there("a"));
    CHECK(note(&file, "a"));
    ld_socket_file_remove(&file);
    CHECK(!is_there("a") && !file.noted);
    ld_socket_file_remove(&file);
    CHECK(!note(&file, "a") && !ld_socket_file_is_current(&file));
    CHECK(!note(&file, "none/a"));
    write_file(box_path("file"), "keep");
    CHECK(!note(&file, "file"));
    REQUIRE(symlink("a", box_path("link")) == 0);
    close(fd);
    fd = listen_on(unix_address("a"), &defaults);
    CHECK(!note(&file, "link")); /* a link is not the socket */
    CHECK(ld_address_parse("127.0.0.1:1", &address) && !ld_socket_file_note(&file, &address, NULL));
    ld_socket_file_remove(&file);
    CHECK(is_there("a") && is_there("link") && is_there("file"));
    close(fd);
}

static void test_file_replaced(void) {
    struct ld_socket_file file;
    REQUIRE(mkdir(box_path("dir"), 0700) == 0);
    int fd = listen_on(unix_address("dir/a"), &defaults);
    CHECK(note(&file, "dir/a"));
    REQUIRE(rename(box_path("dir/a"), box_path("dir/old")) == 0);
    CHECK(!ld_socket_file_is_current(&file));
    int other = listen_on(unix_address("dir/a"), &defaults);
    CHECK(!ld_socket_file_is_current(&file));
    ld_socket_file_remove(&file);
    CHECK(is_there("dir/a") && is_there("dir/old"));
    close(fd);
    CHECK(note(&file, "dir/a"));
    REQUIRE(rename(box_path("dir"), box_path("moved")) == 0); /* the directory that was noted */
    CHECK(ld_socket_file_is_current(&file));
    ld_socket_file_remove(&file);
    CHECK(!is_there("moved/a") && is_there("moved/old"));
    close(other);
}

/* Listen at an address for a user. */
static int listen_for(const struct ld_user *user, const char *text, struct ld_socket_file *file) {
    struct ld_address address;
    REQUIRE(ld_address_parse(text, &address));
    return ld_socket_listen_for(user, &address, &defaults, file);
}

static void test_listen_for(void) {
    struct ld_socket_file file;
    struct ld_socket_file none;
    int fd = listen_for(NULL, "127.0.0.1:0", &file);
    CHECK(fd >= 0 && !file.noted);
    close(fd);
    fd = listen_for(NULL, unix_address("a"), &file);
    CHECK(fd >= 0 && ld_socket_file_is_current(&file) && can_connect(unix_address("a")));
    CHECK_INT(-EADDRINUSE, listen_for(NULL, unix_address("a"), &none));
    CHECK(!none.noted && ld_socket_file_is_current(&file));
    CHECK_INT(-ENOENT, listen_for(NULL, unix_address("none/a"), &none));
    CHECK(!none.noted);
    write_file(box_path("file"), "");
    CHECK_INT(-ENOTDIR, listen_for(NULL, unix_address("file/a"), &none));
    CHECK_INT(-EADDRINUSE, listen_for(NULL, unix_address("file"), &none));
    close(fd);
    ld_socket_file_remove(&file);
    CHECK(!is_there("a"));
}

/* Whose a file of the box is; -1 if it is not there. */
static int owner_of(const char *name) {
    struct stat facts;
    return lstat(box_path(name), &facts) == 0 ? (int)facts.st_uid : -1;
}

static void test_listen_for_user(void) {
    const struct ld_user nobody = {.uid = 65534, .gid = 65534};
    struct ld_socket_file own;
    struct ld_socket_file roots;
    struct ld_socket_file none;
    if (geteuid() != 0) {
        check_skip("needs root");
        return;
    }
    REQUIRE(chmod(box_path(""), 0755) == 0 && mkdir(box_path("own"), 0755) == 0);
    REQUIRE(chown(box_path("own"), 65534, 65534) == 0);
    REQUIRE(mkdir(box_path("roots"), 0755) == 0);
    REQUIRE(symlink("../roots", box_path("own/link")) == 0);
    int fd = listen_for(&nobody, unix_address("own/a"), &own);
    int other = listen_for(&nobody, unix_address("roots/a"), &roots);
    CHECK(fd >= 0 && other >= 0 && own.place.is_users && !roots.place.is_users);
    CHECK_INT(65534, owner_of("own/a"));
    CHECK_INT(0, owner_of("roots/a"));
    CHECK_INT(-EACCES, listen_for(&nobody, unix_address("own/link/b"), &none));
    CHECK(!none.noted && !is_there("roots/b"));
    write_file(box_path("roots/later"), "");
    CHECK_INT(0, owner_of("roots/later")); /* we have our own rights again */
    ld_socket_file_forget(&own);
    close(fd);
    fd = listen_for(&nobody, unix_address("own/a"), &own); /* its stale file is replaced */
    CHECK(fd >= 0 && ld_socket_file_is_current(&own));
    ld_socket_file_remove(&own);
    CHECK(!is_there("own/a"));
    ld_socket_file_remove(&roots);
    CHECK(!is_there("roots/a"));
    close(fd);
    close(other);
}

/* A socket of root's in a directory that the user can write is removed with the user's rights. */
static void test_remove_as_user(void) {
    const struct ld_user nobody = {.uid = 65534, .gid = 65534};
    struct ld_socket_file file;
    struct ld_address address;
    if (geteuid() != 0) {
        check_skip("needs root");
        return;
    }
    REQUIRE(chmod(box_path(""), 0755) == 0 && mkdir(box_path("own"), 0755) == 0);
    REQUIRE(chown(box_path("own"), 65534, 65534) == 0);
    int fd = listen_on(unix_address("own/a"), &defaults);
    REQUIRE(ld_address_parse(unix_address("own/a"), &address));
    CHECK(ld_socket_file_note(&file, &address, &nobody) && file.place.is_users);
    REQUIRE(chown(box_path("own"), 0, 0) == 0); /* which the user may not write by now */
    ld_socket_file_remove(&file);
    CHECK(is_there("own/a") && !file.noted);
    close(fd);
}

/* Fail to listen. */
static void listen_in_vain(void) {
    struct ld_socket_file file;
    deny_syscall(SYS_listen, EADDRINUSE);
    CHECK_INT(-EADDRINUSE, listen_on(unix_address("a"), &defaults));
    CHECK(!is_there("a"));
    CHECK_INT(-EADDRINUSE, listen_for(NULL, unix_address("a"), &file));
    CHECK(!is_there("a") && !file.noted);
    CHECK_INT(-EADDRINUSE, listen_on("127.0.0.1:0", &defaults));
}

static void test_no_listen(void) {
    write_file(box_path("file"), "");
    check_in_child(listen_in_vain);
    CHECK(is_there("file"));
}

static const struct check_case cases[] = {
    {"text that is an address", test_addresses},
    {"text that is not an address", test_wrong_addresses},
    {"a listening socket", test_listen},
    {"a port that is shared", test_reuse_port},
    {"an IPv6 socket takes no IPv4 client", test_ipv6_alone},
    {"a Unix socket and its mode", test_unix},
    {"a file is replaced only if no process listens there", test_stale},
    {"a file is not left when listen fails", test_no_listen},
    {"a backlog limits the clients that wait", test_backlog},
    {"the file of a socket is noted, removed or forgotten", test_file},
    {"a file that is not the one that was noted stays", test_file_replaced},
    {"a socket is made with its file noted, or not at all", test_listen_for},
    {"for a user it is made with the rights of the way", test_listen_for_user},
    {"it is removed with these, too", test_remove_as_user},
};

CHECK_MAIN(cases)
