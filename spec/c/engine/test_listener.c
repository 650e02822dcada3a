#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/base.h"
#include "check.h"
#include "engine/listener.h"
#include "posix/fds.h"
#include "support.h"

static const struct ld_listen_options defaults = {.mode = -1};
static struct ld_listeners *set;

static int names_read;

/* Count how often the kernel is asked for a socket's address. */
int getsockname(int fd, struct sockaddr *restrict address, socklen_t *restrict size) {
    names_read++;
    return (int)syscall(SYS_getsockname, fd, address, size);
}

/* The address of a file in the box. */
static const char *address_of(const char *name) {
    static char texts[4][200];
    static unsigned turn;
    char *text = texts[turn++ % 4];
    snprintf(text, sizeof texts[0], "unix:%s", box_path(name));
    return text;
}

/* Ask for an address; NEXT: for the generation that is not the service. */
static int ask(const char *name, bool next) {
    return ld_listeners_ask(set, address_of(name), &defaults, next);
}

/* Whether two descriptors are one socket. */
static bool is_same(int a, int b) {
    struct stat first = {0};
    struct stat second = {0};
    return fstat(a, &first) == 0 && fstat(b, &second) == 0 && first.st_ino == second.st_ino;
}

/* How many sockets there are. */
static size_t count(void) {
    struct ld_listener_facts facts;
    size_t number = 0;
    while (ld_listeners_describe(set, number, &facts)) {
        number++;
    }
    return number;
}

/* Whether the file of an address is there. */
static bool exists(const char *name) {
    return access(box_path(name), F_OK) == 0;
}

static void test_ask(void) {
    set = ld_listeners_new();
    int first = ask("a", false);
    int second = ask("a", false);
    int other = ask("b", false);
    CHECK(first >= 3 && second >= 3 && first != second);
    CHECK(is_same(first, second));
    CHECK(!is_same(first, other));
    CHECK_INT(2, count());
    struct ld_listener_facts facts;
    CHECK(ld_listeners_describe(set, 0, &facts));
    CHECK_STR(address_of("a"), facts.address);
    CHECK(is_same(first, facts.fd) && facts.fd != first && !facts.inherited);
    close(first);
    close(second);
    close(other);
    CHECK(exists("a") && exists("b"));
    ld_listeners_free(set);
    CHECK(!exists("a") && !exists("b"));
}

static void test_refusals(void) {
    set = ld_listeners_new();
    CHECK_INT(-EINVAL, ld_listeners_ask(set, "nonsense", &defaults, false));
    CHECK_INT(-ENOENT, ld_listeners_ask(set, "fd:http", &defaults, false));
    CHECK_INT(-ENOENT, ask("gone/a", false));
    CHECK_INT(0, count());
    ld_listeners_free(set);
}

static void test_reload(void) {
    set = ld_listeners_new();
    int kept = ask("kept", false);
    int old = ask("old", false);
    int same = ask("kept", true);
    int new = ask("new", true);
    CHECK(is_same(kept, same));
    CHECK_INT(3, count());
    ld_listeners_commit(set, false);
    CHECK_INT(2, count());
    CHECK(exists("kept") && exists("new") && !exists("old"));
    ld_listeners_commit(set, false); /* a generation that asks for nothing */
    CHECK_INT(0, count());
    CHECK(!exists("kept") && !exists("new"));
    close(kept);
    close(old);
    close(same);
    close(new);
    ld_listeners_free(set);
}

static void test_held(void) {
    struct ld_listener_facts facts;
    set = ld_listeners_new();
    int kept = ask("kept", false);
    int old = ask("old", false);
    close(ask("kept", true));
    ld_listeners_commit(set, true); /* a generation that has yet to prove itself */
    CHECK_INT(2, count());
    CHECK(ld_listeners_describe(set, 0, &facts) && !facts.held);
    CHECK(ld_listeners_describe(set, 1, &facts) && facts.held);
    ld_listeners_abort(set); /* of one that follows it */
    CHECK(exists("old"));
    int again = ask("old", true);
    CHECK(is_same(old, again));
    ld_listeners_commit(set, false); /* the way back, by code that asks for the held one alone */
    ld_listeners_release(set);
    CHECK(exists("old") && !exists("kept"));
    ld_listeners_commit(set, true);
    CHECK(exists("old"));
    ld_listeners_release(set); /* it has proved itself */
    CHECK_INT(0, count());
    CHECK(!exists("old"));
    close(kept);
    close(old);
    close(again);
    ld_listeners_free(set);
}

static void test_failed_reload(void) {
    set = ld_listeners_new();
    int kept = ask("kept", false);
    int same = ask("kept", true);
    int new = ask("new", true);
    ld_listeners_abort(set);
    CHECK_INT(1, count());
    CHECK(exists("kept") && !exists("new"));
    close(kept);
    close(same);
    close(new);
    ld_listeners_free(set);
}

static void test_queue_lives_on(void) {
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    set = ld_listeners_new();
    close(ask("a", false)); /* its owner has closed it */
    snprintf(address.sun_path, sizeof address.sun_path, "%s", box_path("a"));
    int client = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    CHECK(connect(client, (struct sockaddr *)&address, sizeof address) == 0);
    int fd = ask("a", true);
    ld_listeners_commit(set, false);
    int accepted = accept(fd, NULL, NULL);
    CHECK(accepted >= 0);
    close(accepted);
    close(client);
    close(fd);
    ld_listeners_free(set);
}

static void test_inherited(void) {
    struct ld_address address;
    struct ld_listener_facts facts;
    set = ld_listeners_new();
    REQUIRE(ld_address_parse(address_of("a"), &address));
    int fd = ld_socket_listen(&address, &defaults);
    CHECK_INT(0, ld_listeners_inherit(set, fd, 70, "http", NULL));
    int by_name = ld_listeners_ask(set, "fd:http", &defaults, false);
    int by_address = ask("a", false);
    CHECK(is_same(fd, by_name) && is_same(fd, by_address) && by_name != fd);
    CHECK_INT(1, count());
    CHECK(ld_listeners_describe(set, 0, &facts) && facts.inherited);
    CHECK_STR("fd:http", facts.address);
    ld_listeners_commit(set, false); /* it stays although it was not asked for */
    CHECK_INT(1, count());
    close(by_name);
    close(by_address);
    ld_listeners_free(set);
    CHECK(exists("a")); /* its file is not ours */
}

/* Ask for "fd:NUMBER". */
static int ask_number(int number, bool next) {
    char text[16];
    snprintf(text, sizeof text, "fd:%d", number);
    return ld_listeners_ask(set, text, &defaults, next);
}

static void test_number(void) {
    struct ld_address address;
    struct ld_listener_facts facts;
    set = ld_listeners_new();
    REQUIRE(ld_address_parse(address_of("a"), &address));
    int fd = ld_socket_listen(&address, &defaults);
    int deaf = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    int file = open("/dev/null", O_RDONLY | O_CLOEXEC);
    CHECK(fcntl(fd, F_SETFL, 0) == 0);
    CHECK_INT(-EBADF, ask_number(fd, false)); /* it was opened, not inherited */
    ld_fds_note(LD_FD_INHERITED);
    CHECK_INT(-EOPNOTSUPP, ask_number(deaf, false));
    CHECK_INT(-ENOTSOCK, ask_number(file, false));
    CHECK_INT(-EBADF, ask_number(500, false));
    CHECK_INT(-ENOENT, ld_listeners_ask(set, "fd:3x", &defaults, false));
    CHECK_INT(0, count());
    int first = ask_number(fd, false);
    int second = ask_number(fd, true);
    CHECK(first != fd && second != first && is_same(first, fd) && is_same(second, fd));
    CHECK((fcntl(fd, F_GETFL) & O_NONBLOCK) != 0);
    CHECK(ld_listeners_describe(set, 0, &facts) && facts.inherited && facts.fd != fd);
    CHECK_INT(1, count());
    ld_listeners_commit(set, false);
    CHECK_INT(1, count());
    ld_listeners_commit(set, false); /* a generation that does not ask for it */
    CHECK_INT(0, count());
    int third = ask_number(fd, false); /* but the process still has it */
    CHECK(is_same(third, fd));
    const int all[] = {fd, deaf, file, first, second, third};
    for (size_t i = 0; i < LD_COUNT(all); i++) {
        close(all[i]);
    }
    ld_listeners_free(set);
    CHECK(exists("a"));
}

static void test_number_of_named(void) {
    set = ld_listeners_new();
    struct ld_address one;
    struct ld_address two;
    REQUIRE(ld_address_parse(address_of("a"), &one) && ld_address_parse(address_of("b"), &two));
    int first = ld_socket_listen(&one, &defaults);
    int second = ld_socket_listen(&two, &defaults);
    CHECK_INT(0, ld_listeners_inherit(set, first, 3, "web", NULL));
    CHECK_INT(0, ld_listeners_inherit(set, second, 4, "3", NULL));
    int by_name = ld_listeners_ask(set, "fd:3", &defaults, false); /* a name comes first */
    int by_number = ld_listeners_ask(set, "fd:4", &defaults, false);
    CHECK(is_same(by_name, second) && is_same(by_number, second));
    CHECK_INT(2, count());
    close(by_name);
    close(by_number);
    ld_listeners_free(set);
}

static void test_file_of_another(void) {
    set = ld_listeners_new();
    close(ask("a", false));
    CHECK(unlink(box_path("a")) == 0);
    write_file(box_path("a"), "another process's");
    ld_listeners_free(set);
    CHECK_STR("another process's", read_file(box_path("a")));
}

/* What luv has taken, for the test. */
static bool is_taken(void *arg, int fd) {
    return fd == *(int *)arg;
}

static void test_issued(void) {
    char owner;
    char other;
    set = ld_listeners_new();
    int mine = ask("a", false);
    int taken = ask("a", false);
    int others = ask("a", false);
    int closed = ask("a", false);
    CHECK_INT(0, ld_listeners_issue(set, mine, &owner));
    CHECK_INT(0, ld_listeners_issue(set, taken, &owner));
    CHECK_INT(0, ld_listeners_issue(set, others, &other));
    CHECK_INT(0, ld_listeners_issue(set, closed, &owner));
    CHECK(ld_listeners_owner(set, mine) == &owner && ld_listeners_owner(set, others) == &other);
    CHECK(ld_listeners_owner(set, 1) == NULL);
    REQUIRE(dup2(1, closed) == closed); /* the number is another file's now */
    CHECK(ld_listeners_owner(set, closed) == NULL);
    ld_listeners_close_issued(set, &owner, is_taken, &taken);
    CHECK(dup(mine) < 0 && errno == EBADF);
    CHECK(is_same(taken, others));
    CHECK(is_same(closed, 1));
    close(taken);
    close(closed);
    ld_listeners_close_issued(set, &other, is_taken, &taken);
    CHECK(dup(others) < 0 && errno == EBADF);
    ld_listeners_free(set);
}

static void test_close_one(void) {
    char owner;
    char other;
    set = ld_listeners_new();
    int mine = ask("a", false);
    int others = ask("a", false);
    CHECK_INT(0, ld_listeners_issue(set, mine, &owner));
    CHECK_INT(0, ld_listeners_issue(set, others, &other));
    ld_listeners_close_one(set, mine, &other);
    CHECK(ld_listeners_owner(set, mine) == &owner);
    ld_listeners_close_one(set, mine, &owner);
    CHECK(dup(mine) < 0 && errno == EBADF);
    CHECK_INT(1, (int)ld_listeners_count(set));
    ld_listeners_close_one(set, others, &other);
    CHECK_INT(0, (int)ld_listeners_count(set));
    CHECK(access(box_path("a"), F_OK) < 0);
    ld_listeners_free(set);
}

static void test_many(void) {
    set = ld_listeners_new();
    names_read = 0;
    for (int i = 0; i < 100; i++) {
        char name[16];
        snprintf(name, sizeof name, "many-%d", i % 50); /* the second time they are there */
        int fd = ask(name, false);
        CHECK(fd >= 0);
        close(fd);
    }
    CHECK_INT(50, (int)ld_listeners_count(set));
    CHECK(names_read <= 100);
    ld_listeners_free(set);
}

static const struct check_case cases[] = {
    {"each who asks gets a descriptor of the same socket", test_ask},
    {"what cannot be had", test_refusals},
    {"a reload keeps what is asked for again, and closes the rest", test_reload},
    {"sockets that are held", test_held},
    {"a reload that fails closes what is new", test_failed_reload},
    {"the queue of clients lives on", test_queue_lives_on},
    {"an inherited socket stays for good", test_inherited},
    {"a socket is found by the number that the process was started with", test_number},
    {"a socket that was passed is found by its number, unless that is a name",
     test_number_of_named},
    {"another's file stays", test_file_of_another},
    {"descriptors that were issued are closed, if they are still ours", test_issued},
    {"a socket is closed with the last descriptor that was issued", test_close_one},
    {"many sockets are told apart without a question to the kernel for each pair", test_many},
};

CHECK_MAIN(cases)
