#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/base.h"
#include "check.h"
#include "engine/listener.h"
#include "support.h"

static const struct ld_listen_options defaults = {.mode = -1};
static struct ld_listeners *set;

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
    ld_listeners_commit(set);
    CHECK_INT(2, count());
    CHECK(exists("kept") && exists("new") && !exists("old"));
    ld_listeners_commit(set); /* a generation that asks for nothing */
    CHECK_INT(0, count());
    CHECK(!exists("kept") && !exists("new"));
    close(kept);
    close(old);
    close(same);
    close(new);
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
    ld_listeners_commit(set);
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
    CHECK_INT(0, ld_listeners_inherit(set, fd, "http", NULL));
    int by_name = ld_listeners_ask(set, "fd:http", &defaults, false);
    int by_address = ask("a", false);
    CHECK(is_same(fd, by_name) && is_same(fd, by_address) && by_name != fd);
    CHECK_INT(1, count());
    CHECK(ld_listeners_describe(set, 0, &facts) && facts.inherited);
    CHECK_STR("fd:http", facts.address);
    ld_listeners_commit(set); /* it stays although it was not asked for */
    CHECK_INT(1, count());
    close(by_name);
    close(by_address);
    ld_listeners_free(set);
    CHECK(exists("a")); /* its file is not ours */
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
    REQUIRE(dup2(1, closed) == closed); /* the number is another file's now */
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

static const struct check_case cases[] = {
    {"each who asks gets a descriptor of the same socket", test_ask},
    {"what cannot be had", test_refusals},
    {"a reload keeps what is asked for again, and closes the rest", test_reload},
    {"a reload that fails closes what is new", test_failed_reload},
    {"the queue of clients lives on", test_queue_lives_on},
    {"an inherited socket stays for good", test_inherited},
    {"another's file stays", test_file_of_another},
    {"descriptors that were issued are closed, if they are still ours", test_issued},
};

CHECK_MAIN(cases)
