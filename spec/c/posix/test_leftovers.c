#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "check.h"
#include "posix/leftovers.h"
#include "support.h"

#define NOBODY 65534

/* Bind a Unix socket in the box, and listen on it if asked to. */
static int bind_at(const char *name, bool listens) {
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    snprintf(address.sun_path, sizeof address.sun_path, "%s", box_path(name));
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    REQUIRE(bind(fd, (struct sockaddr *)&address, sizeof address) == 0);
    REQUIRE(!listens || listen(fd, 5) == 0);
    return fd;
}

/* Start a process that runs BEGIN and then does nothing until it is killed. */
static pid_t start(void (*begin)(void)) {
    int ends[2];
    char byte;
    REQUIRE(pipe2(ends, O_CLOEXEC) == 0);
    box_path(""); /* the box is ours, not the child's */
    pid_t pid = fork_bound();
    if (pid == 0) {
        begin();
        REQUIRE(write(ends[1], "", 1) == 1);
        for (;;) {
            pause();
        }
    }
    close(ends[1]);
    REQUIRE(read(ends[0], &byte, 1) == 1);
    close(ends[0]);
    return pid;
}

/* Whether a name is there in the box. */
static bool is_there(const char *name) {
    struct stat facts;
    return lstat(box_path(name), &facts) == 0;
}

/* Find what a process listens on, end it, and remove what it left. */
static void end_and_remove(pid_t pid) {
    struct ld_leftovers leftovers = {0};
    ld_leftovers_find(&leftovers, pid);
    end_child(pid);
    ld_leftovers_remove(&leftovers);
    CHECK(leftovers.list == NULL && leftovers.count == 0);
    ld_leftovers_remove(&leftovers); /* twice does nothing */
}

/* Listen here and there. */
static void listen_plainly(void) {
    bind_at("a", true);
    bind_at("with space", true);
    bind_at("bound", false);
    write_file(box_path("file"), "keep");
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    snprintf(address.sun_path + 1, sizeof address.sun_path - 1, "lunad-check-%d", (int)getpid());
    REQUIRE(bind(fd, (struct sockaddr *)&address, sizeof address) == 0 && listen(fd, 5) == 0);
}

static void test_remove(void) {
    pid_t pid = start(listen_plainly);
    CHECK(is_there("a") && is_there("with space"));
    end_and_remove(pid);
    CHECK(!is_there("a") && !is_there("with space"));
    CHECK(!is_there("bound")); /* the process was about to listen there */
    CHECK_STR("keep", read_file(box_path("file")));
}

/* Have a child that listens. */
static void listen_in_child(void) {
    int ends[2];
    char byte;
    REQUIRE(pipe2(ends, O_CLOEXEC) == 0);
    if (fork_bound() == 0) {
        bind_at("deep", true);
        REQUIRE(write(ends[1], "", 1) == 1);
        for (;;) {
            pause();
        }
    }
    REQUIRE(read(ends[0], &byte, 1) == 1);
}

/* Whether no process listens at a name of the box. */
static bool is_stale(void *name) {
    char text[200];
    struct ld_address address;
    snprintf(text, sizeof text, "unix:%s", box_path(name));
    return ld_address_parse(text, &address) && ld_address_is_stale(&address);
}

static void test_family(void) {
    struct ld_leftovers leftovers = {0};
    char name[] = "deep";
    pid_t pid = start(listen_in_child);
    ld_leftovers_find(&leftovers, pid);
    CHECK_INT(1, leftovers.count);
    end_child(pid); /* and its child with it */
    CHECK(wait_until(is_stale, name));
    ld_leftovers_remove(&leftovers);
    CHECK(!is_there("deep"));
}

/* Listen at one name. */
static void listen_at_a(void) {
    bind_at("a", true);
}

static void test_still_in_use(void) {
    struct ld_leftovers leftovers = {0};
    pid_t pid = start(listen_at_a);
    ld_leftovers_find(&leftovers, pid);
    CHECK_INT(1, leftovers.count);
    ld_leftovers_remove(&leftovers); /* it lives */
    CHECK(is_there("a"));
    ld_leftovers_find(&leftovers, pid);
    end_child(pid);
    REQUIRE(rename(box_path("a"), box_path("old")) == 0);
    int fd = bind_at("a", true); /* the name is another one's by now */
    close(bind_at("b", true));
    ld_leftovers_remove(&leftovers);
    CHECK(is_there("a") && is_there("old"));
    close(fd);
    ld_leftovers_find(&leftovers, 1 << 30); /* who is not there */
    CHECK_INT(0, leftovers.count);
    ld_leftovers_remove(&leftovers);
    CHECK(is_there("b"));
}

static void test_replaced_by_stale(void) {
    struct ld_leftovers leftovers = {0};
    pid_t pid = start(listen_at_a);
    ld_leftovers_find(&leftovers, pid);
    end_child(pid);
    REQUIRE(rename(box_path("a"), box_path("old")) == 0);
    close(bind_at("a", true)); /* stale too, but not the one that was found */
    ld_leftovers_remove(&leftovers);
    CHECK(is_there("a") && is_there("old"));
}

/* Listen as another user: in its own directory, and on sockets that root made. */
static void listen_as_nobody(void) {
    bind_at("roots/by-root", true);
    REQUIRE(setgroups(0, NULL) == 0 && setresgid(NOBODY, NOBODY, NOBODY) == 0);
    REQUIRE(setresuid(NOBODY, NOBODY, NOBODY) == 0);
    bind_at("own/a", true);
    bind_at("world/a", true);
    bind_at("sticky/a", true);
}

static void test_other_user(void) {
    struct stat facts = {0};
    gid_t groups[] = {60007};
    gid_t got[4];
    if (geteuid() != 0) {
        check_skip("needs root");
        return;
    }
    REQUIRE(chmod(box_path(""), 0755) == 0);
    REQUIRE(mkdir(box_path("roots"), 0755) == 0 && mkdir(box_path("own"), 0755) == 0);
    REQUIRE(mkdir(box_path("world"), 0755) == 0 && chmod(box_path("world"), 0777) == 0);
    REQUIRE(mkdir(box_path("sticky"), 0755) == 0 && chmod(box_path("sticky"), 01777) == 0);
    REQUIRE(chown(box_path("own"), NOBODY, NOBODY) == 0);
    REQUIRE(setgroups(1, groups) == 0);
    end_and_remove(start(listen_as_nobody));
    CHECK(!is_there("own/a") && !is_there("world/a") && !is_there("sticky/a"));
    CHECK(is_there("roots/by-root")); /* that is for whoever made it */
    CHECK(getgroups(4, got) == 1 && got[0] == 60007);
    CHECK(setgroups(0, NULL) == 0);
    write_file(box_path("roots/new"), "");
    CHECK(stat(box_path("roots/new"), &facts) == 0 && facts.st_uid == 0);
}

/* The user's way is bent after it was found. */
static void test_bent_way(void) {
    struct ld_leftovers leftovers = {0};
    if (geteuid() != 0) {
        check_skip("needs root");
        return;
    }
    REQUIRE(chmod(box_path(""), 0755) == 0);
    REQUIRE(mkdir(box_path("roots"), 0755) == 0 && mkdir(box_path("own"), 0755) == 0);
    REQUIRE(mkdir(box_path("world"), 0755) == 0 && chmod(box_path("world"), 0777) == 0);
    REQUIRE(mkdir(box_path("sticky"), 0755) == 0 && chmod(box_path("sticky"), 01777) == 0);
    REQUIRE(chown(box_path("own"), NOBODY, NOBODY) == 0);
    pid_t pid = start(listen_as_nobody);
    ld_leftovers_find(&leftovers, pid);
    end_child(pid);
    close(bind_at("roots/a", true));
    REQUIRE(rename(box_path("own"), box_path("moved")) == 0);
    REQUIRE(symlink("roots", box_path("own")) == 0);
    ld_leftovers_remove(&leftovers);
    CHECK(is_there("roots/a") && is_there("roots/by-root"));
}

static const struct check_case cases[] = {
    {"files of sockets that a killed process listened on are removed", test_remove},
    {"those of its children are, too", test_family},
    {"what is in use is left", test_still_in_use},
    {"what has come in its place is left", test_replaced_by_stale},
    {"files are removed with the rights of who listened", test_other_user},
    {"a way that was bent meanwhile leads nowhere", test_bent_way},
};

CHECK_MAIN(cases)
