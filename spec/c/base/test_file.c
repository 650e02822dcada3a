#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/file.h"
#include "check.h"
#include "support.h"

/* The mode of a file, or -1. */
static int mode_of(const char *path) {
    struct stat facts;
    return stat(path, &facts) == 0 ? (int)(facts.st_mode & 07777) : -1;
}

static void test_parents(void) {
    umask(022);
    CHECK_INT(0, ld_file_make_parents(box_path("a/b/c/file"), 0755));
    CHECK_INT(0755, mode_of(box_path("a/b/c")));
    CHECK_INT(-1, mode_of(box_path("a/b/c/file")));
    CHECK_INT(0, ld_file_make_parents(box_path("a/b/c/file"), 0700));
    CHECK_INT(0755, mode_of(box_path("a/b/c"))); /* what was there stays as it was */
    CHECK_INT(0, ld_file_make_parents(box_path("x//y//file"), 0700));
    CHECK_INT(0700, mode_of(box_path("x/y")));
    CHECK_INT(0, ld_file_make_parents("file", 0700));
    CHECK_INT(0, ld_file_make_parents("/file", 0700));
}

static void test_parents_that_cannot_be(void) {
    write_file(box_path("file"), "");
    CHECK_INT(-ENOTDIR, ld_file_make_parents(box_path("file/x/y"), 0755));
    CHECK_INT(-ENOENT, ld_file_make_parents("/proc/none/x/y", 0755));
}

static void test_read(void) {
    struct ld_text text = {0};
    static char big[100001];
    for (size_t i = 0; i < sizeof big - 1; i++) {
        big[i] = (char)('a' + i % 26);
    }
    write_file(box_path("big"), big);
    int fd = open(box_path("big"), O_RDONLY | O_CLOEXEC);
    ld_text_puts(&text, "<");
    CHECK_INT(0, ld_file_read(fd, &text));
    CHECK_INT(100001, text.size);
    CHECK_STR(big, text.data + 1);
    close(fd);
    CHECK_INT(-EBADF, ld_file_read(fd, &text));
    fd = open(box_path(""), O_RDONLY | O_CLOEXEC);
    CHECK_INT(-EISDIR, ld_file_read(fd, &text));
    close(fd);
    ld_text_fini(&text);
}

static void on_alarm(int signo) {
    (void)signo;
}

static void write_under_signals(void) {
    static char bytes[300000];
    struct sigaction action = {.sa_handler = on_alarm}; /* no SA_RESTART */
    struct itimerval timer = {.it_interval = {.tv_usec = 200}, .it_value = {.tv_usec = 200}};
    int ends[2];
    memset(bytes, 'z', sizeof bytes);
    REQUIRE(pipe2(ends, O_CLOEXEC) == 0);
    pid_t writer = fork_bound();
    if (writer == 0) {
        close(ends[0]);
        sigaction(SIGALRM, &action, NULL);
        setitimer(ITIMER_REAL, &timer, NULL);
        _exit(ld_file_write(ends[1], bytes, sizeof bytes) != 0);
    }
    close(ends[1]);
    struct ld_text text = {0};
    CHECK_INT(0, ld_file_read(ends[0], &text));
    CHECK_INT(sizeof bytes, text.size);
    CHECK_INT(0, wait_child(writer));
    ld_text_fini(&text);
    close(ends[0]);
}

static void test_write(void) {
    int fd = open(box_path("out"), O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    CHECK_INT(0, ld_file_write(fd, "one\n", 4));
    CHECK_INT(0, ld_file_write(fd, "", 0));
    CHECK_INT(0, ld_file_write(fd, "two\n", 4));
    close(fd);
    CHECK_STR("one\ntwo\n", read_file(box_path("out")));
    CHECK_INT(-EBADF, ld_file_write(fd, "x", 1));
    fd = open("/dev/full", O_WRONLY | O_CLOEXEC);
    CHECK_INT(-ENOSPC, ld_file_write(fd, "x", 1));
    close(fd);
    check_in_child(write_under_signals);
}

static void test_log_mode(void) {
    static const mode_t masks[] = {0, 022, 027, 077, 0777};
    for (size_t i = 0; i < LD_COUNT(masks); i++) {
        char name[16];
        snprintf(name, sizeof name, "log%zu", i);
        umask(masks[i]);
        int fd = ld_file_open_log(AT_FDCWD, box_path(name), -1);
        umask(022);
        CHECK(fd >= 0);
        CHECK_INT(0640, mode_of(box_path(name)));
        CHECK_INT(O_APPEND | O_WRONLY, fcntl(fd, F_GETFL) & (O_APPEND | O_ACCMODE | O_NONBLOCK));
        CHECK_INT(FD_CLOEXEC, fcntl(fd, F_GETFD));
        close(fd);
    }
}

static void test_log_existing(void) {
    write_file(box_path("log"), "old\n");
    chmod(box_path("log"), 0604);
    int fd = ld_file_open_log(AT_FDCWD, box_path("log"), -1);
    CHECK_INT(0, ld_file_write(fd, "new\n", 4));
    close(fd);
    CHECK_INT(0604, mode_of(box_path("log")));
    CHECK_STR("old\nnew\n", read_file(box_path("log")));
}

static void test_log_directory_is_made(void) {
    int fd = ld_file_open_log(AT_FDCWD, box_path("not/yet/there/log"), -1);
    CHECK(fd >= 0);
    close(fd);
    CHECK_INT(0640, mode_of(box_path("not/yet/there/log")));
}

static void test_log_group(void) {
    struct stat facts;
    if (geteuid() != 0) {
        check_skip("needs root");
        return;
    }
    int fd = ld_file_open_log(AT_FDCWD, box_path("log"), 12345);
    REQUIRE(fd >= 0 && fstat(fd, &facts) == 0);
    CHECK_INT(12345, facts.st_gid);
    CHECK_INT(0, facts.st_uid);
    close(fd);
    fd = ld_file_open_log(AT_FDCWD, box_path("log"), 54321);
    REQUIRE(fd >= 0 && fstat(fd, &facts) == 0);
    CHECK_INT(12345, facts.st_gid); /* that of an old file is its owner's business */
    close(fd);
}

static void test_log_refused(void) {
    write_file(box_path("target"), "");
    REQUIRE(symlink(box_path("target"), box_path("link")) == 0);
    REQUIRE(symlink(box_path("nowhere"), box_path("dangling")) == 0);
    REQUIRE(mkfifo(box_path("fifo"), 0600) == 0);
    CHECK_INT(-ELOOP, ld_file_open_log(AT_FDCWD, box_path("link"), -1));
    CHECK_INT(-ELOOP, ld_file_open_log(AT_FDCWD, box_path("dangling"), -1));
    CHECK_INT(-1, mode_of(box_path("nowhere")));
    CHECK_INT(-EISDIR, ld_file_open_log(AT_FDCWD, box_path(""), -1));
    CHECK_INT(-ENXIO, ld_file_open_log(AT_FDCWD, box_path("fifo"), -1)); /* and it does not wait */
    CHECK_INT(-ENOTDIR, ld_file_open_log(AT_FDCWD, box_path("target/log"), -1));
}

static void test_log_race(void) {
    enum { OPENERS = 16 };
    pid_t pids[OPENERS];
    for (int i = 0; i < OPENERS; i++) {
        pids[i] = fork_bound();
        if (pids[i] == 0) {
            int fd = ld_file_open_log(AT_FDCWD, box_path("race/log"), -1);
            _exit(fd < 0 || ld_file_write(fd, "line\n", 5) < 0);
        }
    }
    for (int i = 0; i < OPENERS; i++) {
        CHECK_INT(0, wait_child(pids[i]));
    }
    CHECK_INT(OPENERS * 5, strlen(read_file(box_path("race/log"))));
}

static void test_log_race_boxed(void) {
    box_path(""); /* made here, so that all of them share it */
    test_log_race();
}

static void open_nothing(void) {
    CHECK_INT(-ENOENT, ld_file_open_log(AT_FDCWD, "", -1));
}

static void test_log_without_path(void) {
    check_in_child(open_nothing);
}

static void test_find_and_remove(void) {
    struct stat facts;
    write_file(box_path("file"), "four");
    REQUIRE(symlink("file", box_path("link")) == 0);
    int dir = open(box_path(""), O_PATH | O_DIRECTORY | O_CLOEXEC);
    CHECK_INT(0, ld_file_find(dir, "file", &facts));
    CHECK_INT(4, facts.st_size);
    CHECK_INT(0, ld_file_find(dir, "link", &facts));
    CHECK(S_ISLNK(facts.st_mode));
    ld_file_remove(dir, "link");
    CHECK_INT(-ENOENT, ld_file_find(dir, "link", &facts));
    CHECK_INT(0, ld_file_find(dir, "file", &facts));
    ld_file_remove(dir, "file");
    ld_file_remove(dir, "file");
    CHECK_INT(-ENOENT, ld_file_find(dir, "file", &facts));
    CHECK_INT(-ENOTDIR, ld_file_find(AT_FDCWD, "/proc/version/x", &facts));
    close(dir);
}

static const struct check_case cases[] = {
    {"the directories of a path are made", test_parents},
    {"directories that cannot be made are refused", test_parents_that_cannot_be},
    {"a file is read to its end", test_read},
    {"all is written, whatever interrupts", test_write},
    {"a file is found and removed, a link itself", test_find_and_remove},
    {"a log is made with mode 0640 whatever the umask", test_log_mode},
    {"an existing log keeps its mode and is appended to", test_log_existing},
    {"the directory of a log is made", test_log_directory_is_made},
    {"a log that is made gets the group", test_log_group},
    {"a log is never opened through a link, and opening never waits", test_log_refused},
    {"an empty path is not a log", test_log_without_path},
    {"a log that several make at once is one file", test_log_race_boxed},
};

CHECK_MAIN(cases)
