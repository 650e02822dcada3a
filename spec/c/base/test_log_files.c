/* The files of a log that is rotated. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/log_files.h"
#include "check.h"

static int dir;

/* Write a file that has TEXT. */
static void write_file(const char *name, const char *text) {
    int fd = openat(dir, name, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    CHECK(fd >= 0 && write(fd, text, strlen(text)) == (ssize_t)strlen(text));
    close(fd);
}

/* Check that a file has TEXT, or is missing for NULL. */
static void check_file(const char *name, const char *text) {
    char found[64] = "";
    int fd = openat(dir, name, O_RDONLY);
    CHECK_INT(text != NULL, fd >= 0);
    if (fd >= 0) {
        CHECK(read(fd, found, sizeof found - 1) >= 0);
        CHECK_STR(text, found);
        close(fd);
    }
}

/* Nothing happens to a missing or small file, and to a link. */
static void test_small(void) {
    CHECK_INT(0, ld_log_files_rotate(dir, "x", 1, 3));
    write_file("x", "12345");
    CHECK_INT(0, ld_log_files_rotate(dir, "x", 6, 3));
    check_file("x", "12345");
    CHECK_INT(0, symlinkat("x", dir, "link"));
    CHECK_INT(0, ld_log_files_rotate(dir, "link", 1, 3));
    check_file("link", "12345");
    check_file("x.1", NULL);
    check_file("link.1", NULL);
}

/* Files move up to the first free number, and the oldest is removed if there is none. */
static void test_chain(void) {
    CHECK_INT(0, ld_log_files_rotate(dir, "x", 5, 3));
    check_file("x", NULL);
    check_file("x.1", "12345");
    write_file("x.3", "oldest");
    write_file("x", "second");
    CHECK_INT(0, ld_log_files_rotate(dir, "x", 1, 3));
    check_file("x.1", "second");
    check_file("x.2", "12345");
    check_file("x.3", "oldest");
    write_file("x", "third");
    CHECK_INT(0, ld_log_files_rotate(dir, "x", 1, 3));
    check_file("x.1", "third");
    check_file("x.2", "second");
    check_file("x.3", "12345");
    check_file("x.4", NULL);
}

/* A file that can still be written to is kept. */
static void test_held(void) {
    int fd = openat(dir, "x.3", O_WRONLY | O_APPEND);
    write_file("x", "fourth");
    CHECK_INT(0, ld_log_files_rotate(dir, "x", 1, 3));
    check_file("x.1", "fourth");
    check_file("x.3", "second");
    check_file("x.4", "12345");
    CHECK_INT(1, (int)write(fd, "6", 1));
    write_file("x", "fifth");
    CHECK_INT(0, ld_log_files_rotate(dir, "x", 1, 3));
    check_file("x.3", "third");
    check_file("x.4", "123456");
    check_file("x.5", NULL);
    close(fd);
    write_file("x", "sixth");
    CHECK_INT(0, ld_log_files_rotate(dir, "x", 1, 3));
    check_file("x.3", "fourth");
    check_file("x.4", NULL);
}

/* What is not a regular file is in the way, and nothing has moved. */
static void test_other(void) {
    CHECK_INT(0, unlinkat(dir, "x.2", 0));
    CHECK_INT(0, mkdirat(dir, "x.2", 0700));
    write_file("x", "seventh");
    CHECK_INT(-EEXIST, ld_log_files_rotate(dir, "x", 1, 3));
    check_file("x", "seventh");
    check_file("x.1", "sixth");
    CHECK_INT(0, unlinkat(dir, "x.2", AT_REMOVEDIR));
    CHECK_INT(0, symlinkat("x.1", dir, "x.2"));
    CHECK_INT(-EEXIST, ld_log_files_rotate(dir, "x", 1, 3));
    CHECK_INT(0, unlinkat(dir, "x.2", 0));
}

/* All of that in a directory of its own, one after the other. */
static void test_all(void) {
    char path[] = "/tmp/lunad-test-XXXXXX";
    static const char *const left[] = {"x", "x.1", "x.3", "link"};
    CHECK(mkdtemp(path) != NULL);
    dir = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);
    test_small();
    test_chain();
    test_held();
    test_other();
    for (size_t i = 0; i < sizeof left / sizeof *left; i++) {
        CHECK_INT(0, unlinkat(dir, left[i], 0));
    }
    CHECK_INT(0, rmdir(path));
    close(dir);
}

static const struct check_case cases[] = {
    {"numbers move up, nothing is lost, no link is followed", test_all},
};

CHECK_MAIN(cases)
