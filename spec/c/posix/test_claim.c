#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/base.h"
#include "check.h"
#include "posix/claim.h"
#include "support.h"

#define NOBODY 65534

/* Claim a name and give it back; whether that was possible. */
static int try_claim(const char *run_dir, const char *name) {
    int fd = ld_claim_take(run_dir, name);
    if (fd >= 0) {
        close(fd);
    }
    return fd < 0 ? fd : 0;
}

static void test_take(void) {
    char name[65];
    const char *dir = box_path("");
    int fd = ld_claim_take(dir, "x");
    REQUIRE(fd >= 0);
    CHECK_INT(FD_CLOEXEC, fcntl(fd, F_GETFD));
    CHECK_INT(-EWOULDBLOCK, ld_claim_take(dir, "x"));
    CHECK_INT(0, try_claim(dir, "y"));
    CHECK_INT(0, try_claim(dir, "xx"));
    CHECK_INT(0, try_claim(box_path("other"), "x"));
    CHECK_INT(0, try_claim(dir, ""));
    memset(name, 'n', sizeof name - 1);
    name[sizeof name - 1] = '\0';
    int longest = ld_claim_take(dir, name);
    CHECK(longest >= 0);
    CHECK_INT(-EWOULDBLOCK, ld_claim_take(dir, name));
    name[63] = 'm';
    CHECK_INT(0, try_claim(dir, name)); /* nothing of a name is cut */
    close(longest);
    close(fd);
    CHECK_INT(0, try_claim(dir, "x"));
}

static void test_shared_over_fork(void) {
    const char *dir = box_path("");
    int fd = ld_claim_take(dir, "x");
    pid_t pid = fork_sleeper();
    close(fd);
    CHECK_INT(-EWOULDBLOCK, ld_claim_take(dir, "x"));
    end_child(pid);
    CHECK_INT(0, try_claim(dir, "x"));
}

static void test_many_looks(void) {
    const char *dir = box_path("");
    int fd = ld_claim_take(dir, "x");
    for (int i = 0; i < 100; i++) { /* the holder answers nobody */
        CHECK_INT(-EWOULDBLOCK, ld_claim_take(dir, "x"));
    }
    close(fd);
}

static struct sockaddr_un address;
static socklen_t address_size;

/* Sit on a claim of root's, or have one of the same name, as another user. */
static void claim_as_nobody(void) {
    const char *dir = box_path("");
    REQUIRE(setresuid(NOBODY, NOBODY, NOBODY) == 0);
    CHECK_INT(0, try_claim(dir, "x"));
}

static void test_strangers(void) {
    const char *dir = box_path("");
    int ends[2];
    char byte;
    if (geteuid() != 0) {
        check_skip("needs root");
        return;
    }
    int fd = ld_claim_take(dir, "x");
    address_size = sizeof address;
    REQUIRE(getsockname(fd, (struct sockaddr *)&address, &address_size) == 0);
    check_in_child(claim_as_nobody); /* each user has a name of its own */
    close(fd);
    REQUIRE(pipe2(ends, O_CLOEXEC) == 0);
    pid_t pid = fork_bound();
    if (pid == 0) {
        fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
        REQUIRE(setresuid(NOBODY, NOBODY, NOBODY) == 0);
        REQUIRE(bind(fd, (struct sockaddr *)&address, address_size) == 0 && listen(fd, 5) == 0);
        REQUIRE(write(ends[1], "", 1) == 1);
        for (;;) {
            pause();
        }
    }
    close(ends[1]);
    REQUIRE(read(ends[0], &byte, 1) == 1);
    CHECK_INT(-EADDRINUSE, ld_claim_take(dir, "x")); /* means nothing */
    end_child(pid);
    close(ends[0]);
}

static const struct check_case cases[] = {
    {"a claim is of one name in one directory, and one process has it", test_take},
    {"a claim is shared over fork", test_shared_over_fork},
    {"a claim holds however many have looked", test_many_looks},
    {"a claim of another user means nothing", test_strangers},
};

CHECK_MAIN(cases)
