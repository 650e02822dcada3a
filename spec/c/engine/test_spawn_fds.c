#include "engine/spawn_fds.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "check.h"
#include "engine/spawn.h"
#include "posix/reserve.h"
#include "support.h"

#define WORDS(...) ((char *const[]){__VA_ARGS__, NULL})
#define CROWD      600 /* descriptors that are open */

static char bytes[65536];
static const struct ld_spawn_stack stack = {bytes, sizeof bytes};

/* Whether two descriptors are one file. */
static bool are_same(int left, int right) {
    struct stat a;
    struct stat b;
    return fstat(left, &a) == 0 && fstat(right, &b) == 0 && a.st_ino == b.st_ino &&
           a.st_dev == b.st_dev;
}

/* Open many. */
static void open_crowd(void) {
    int opened = 0;
    while (opened < CROWD && fcntl(0, F_DUPFD_CLOEXEC, 3) >= 0) {
        opened++;
    }
    REQUIRE(opened == CROWD);
}

/* Have a descriptor as a high one instead. */
static int lift(int fd) {
    int high = fcntl(fd, F_DUPFD_CLOEXEC, CROWD);
    close(fd);
    return high;
}

/* A file whose descriptor is high. */
static int open_high(const char *name) {
    write_file(box_path(name), name);
    return lift(open(box_path(name), O_RDWR | O_CLOEXEC));
}

/* A pipe that has a text in it, whose descriptor is high. */
static int open_high_pipe(const char *text) {
    int ends[2];
    REQUIRE(pipe2(ends, O_CLOEXEC) == 0);
    REQUIRE(write(ends[1], text, strlen(text)) == (ssize_t)strlen(text));
    close(ends[1]);
    return lift(ends[0]);
}

/* What is low stays, what is high gets a stand-in for as long as that is needed. */
static void lower(void) {
    ld_reserve_open();
    int low = fcntl(0, F_DUPFD_CLOEXEC, 3);
    int high[4] = {open_high_pipe("a"), open_high_pipe("b"), open_high_pipe("c"),
                   open_high_pipe("d")};
    int sources[4] = {low, high[0], high[1], 1};
    CHECK_INT(-1, ld_spawn_fds_take(sources, 4, 2, &stack)); /* there are few */
    ld_spawn_fds_note(200);
    CHECK_INT(-1, ld_spawn_fds_take(sources, 4, 2, &stack));
    CHECK_INT(high[0], sources[1]);
    ld_spawn_fds_note(CROWD);
    int last = ld_spawn_fds_take(sources, 4, 2, &stack);
    CHECK(last >= low && last < 100);
    CHECK_INT(low, sources[0]);
    CHECK_INT(1, sources[3]);
    CHECK(sources[1] <= last && are_same(high[0], sources[1]));
    CHECK(sources[2] <= last && are_same(high[1], sources[2]));
    CHECK(fcntl(sources[1], F_GETFD) == FD_CLOEXEC);
    ld_spawn_fds_give_back();
    CHECK(!are_same(high[0], sources[1]) && !are_same(high[1], sources[2]));
    memcpy(sources, high, sizeof high); /* more than there are stand-ins */
    CHECK_INT(-1, ld_spawn_fds_take(sources, 4, 2, &stack));
    for (int i = 0; i < 4; i++) {
        CHECK(are_same(high[i], sources[i])); /* of use all the same */
    }
    ld_spawn_fds_give_back();
    ld_reserve_lend();
    memcpy(sources, high, sizeof high);
    CHECK_INT(-1, ld_spawn_fds_take(sources, 4, 2, &stack)); /* there are none */
    CHECK_INT(high[0], sources[0]);
    ld_spawn_fds_give_back();
    ld_reserve_take_back();
    sources[0] = 1;
    CHECK_INT(-1, ld_spawn_fds_take(sources, 1, CROWD - 1, &stack)); /* a high one for the child */
}

static void test_lower(void) {
    box_path("");
    check_in_child(lower);
}

/* A process keeps the locks of a file that a child gets. */
static void keep_lock(void) {
    ld_reserve_open();
    int high = open_high("locked");
    int source = high;
    int status;
    struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
    REQUIRE(fcntl(high, F_SETLK, &lock) == 0);
    ld_spawn_fds_note(CROWD);
    CHECK_INT(-1, ld_spawn_fds_take(&source, 1, 2, &stack));
    CHECK_INT(high, source);
    ld_spawn_fds_give_back();
    pid_t pid = fork();
    if (pid == 0) {
        _exit(fcntl(high, F_GETLK, &lock) == 0 && lock.l_type == F_WRLCK ? 0 : 1);
    }
    REQUIRE(waitpid(pid, &status, 0) == pid);
    CHECK_INT(0, status);
}

static void test_lock(void) {
    box_path("");
    check_in_child(keep_lock);
}

/* A kernel that cannot cut. */
static void fail_to_cut(void) {
    int source = 1;
    deny_syscall(SYS_close_range, EINVAL);
    ld_spawn_fds_note(CROWD);
    CHECK_INT(-1, ld_spawn_fds_take(&source, 1, 2, &stack));
    CHECK_INT(1, source);
}

/* A limit that leaves no room for the trial. */
static void fail_to_try(void) {
    int source = 1;
    const struct rlimit limit = {100, 100};
    REQUIRE(setrlimit(RLIMIT_NOFILE, &limit) == 0);
    ld_spawn_fds_note(CROWD);
    CHECK_INT(-1, ld_spawn_fds_take(&source, 1, 2, &stack));
}

static void test_failures(void) {
    check_in_child(fail_to_cut);
    check_in_child(fail_to_try);
}

/* A child that is started beside many descriptors gets what it is given, and can open as many as others. */
static void start_beside_many(void) {
    int ends[2];
    int pidfd;
    pid_t pid;
    const char *step;
    struct ld_spawn_fd fds[6] = {{0, 0}, {1, 1}, {2, 2}};
    struct ld_spawn spec = {.argv = WORDS("true"),
                            .envp = WORDS("PATH=/usr/bin:/bin"),
                            .fds = fds,
                            .fd_count = 3,
                            .mask = -1,
                            .identity = {(uid_t)-1, (gid_t)-1, NULL, -1}};
    ld_reserve_open();
    open_crowd();
    REQUIRE(ld_spawn_start(&spec, &pid, &pidfd, &step) == 0); /* tells that there are many */
    wait_child(pid);
    CHECK(pidfd >= CROWD);
    REQUIRE(pipe2(ends, O_CLOEXEC) == 0);
    fds[0].parent = open_high_pipe("in");
    fds[1].parent = ends[1];
    fds[3] = (struct ld_spawn_fd){9, open_high_pipe("nine")};
    spec.fd_count = 4;
    spec.argv =
        WORDS("sh", "-c", "cat; cat <&9; echo; ls -C /proc/self/fd; exec 9<&-; exec cat nowhere");
    fds[2].parent = ends[1];
    REQUIRE(ld_spawn_start(&spec, &pid, &pidfd, &step) == 0);
    close(ends[1]);
    CHECK_STR("innine\n0  1  2  3  9\ncat: nowhere: No such file or directory\n", read_fd(ends[0]));
    CHECK(wait_child(pid) != 0);
    spec.argv = WORDS("nowhere");
    CHECK_INT(-ENOENT, ld_spawn_start(&spec, &pid, &pidfd, &step));
    CHECK_STR("exec", step);
    CHECK(fcntl(CROWD / 2, F_GETFD) == FD_CLOEXEC); /* ours are as they were */
}

static void test_beside_many(void) {
    box_path("");
    check_in_child(start_beside_many);
}

static const struct check_case cases[] = {
    {"high descriptors get low stand-ins", test_lower},
    {"a locked file does not", test_lock},
    {"where it cannot be done, nothing is", test_failures},
    {"a child beside many descriptors", test_beside_many},
};

CHECK_MAIN(cases)
