#include <fcntl.h>
#include <unistd.h>

#include "check.h"
#include "posix/fds.h"

static const char one;
static const char two;

static int open_file(const char *path) {
    return open(path, O_RDONLY | O_CLOEXEC);
}

static void test_given(void) {
    int fd = open_file("/dev/null");
    CHECK(ld_fds_holder(fd) == NULL && ld_fds_holder(-1) == NULL && ld_fds_holder(100000) == NULL);
    ld_fds_give(fd, &one);
    CHECK(ld_fds_holder(fd) == &one);
    ld_fds_give(fd, &two);
    CHECK(ld_fds_holder(fd) == &two);
    ld_fds_forget(fd);
    CHECK(ld_fds_holder(fd) == NULL);
    close(fd);
}

static void test_reused(void) {
    int fd = open_file("/dev/null");
    ld_fds_give(fd, &one);
    close(fd);
    CHECK(ld_fds_holder(fd) == NULL);
    int other = open_file("/dev/zero");
    CHECK_INT(fd, other);
    CHECK(ld_fds_holder(fd) == NULL);
    close(other);
}

static void test_forget_holder(void) {
    int fds[5];
    for (int i = 0; i < 5; i++) {
        fds[i] = open_file("/dev/null");
        ld_fds_give(fds[i], i % 2 == 0 ? &one : &two);
    }
    ld_fds_forget_holder(&one);
    for (int i = 0; i < 5; i++) {
        CHECK(ld_fds_holder(fds[i]) == (i % 2 == 0 ? NULL : &two));
        close(fds[i]);
    }
}

static void test_noted(void) {
    int before = open_file("/dev/null");
    ld_fds_note(LD_FD_INHERITED);
    int after = open_file("/dev/null");
    ld_fds_note(LD_FD_HOST);
    CHECK_INT(LD_FD_INHERITED, ld_fds_owner(before));
    CHECK_INT(LD_FD_HOST, ld_fds_owner(after));
    CHECK_INT(LD_FD_NOBODY, ld_fds_owner(500));
    close(after);
    int other = open_file("/dev/zero");
    CHECK_INT(after, other);
    CHECK_INT(LD_FD_NOBODY, ld_fds_owner(other));
    close(other);
    close(before);
}

static void test_high(void) {
    int low = open_file("/");
    int high = fcntl(low, F_DUPFD_CLOEXEC, 400);
    size_t count = ld_fds_count();
    ld_fds_note(LD_FD_HOST);
    CHECK(high >= 400);
    CHECK_INT(LD_FD_HOST, ld_fds_owner(low));
    CHECK_INT(LD_FD_HOST, ld_fds_owner(high));
    close(high);
    CHECK_INT(count - 1, ld_fds_count());
    close(low);
    CHECK_INT(count - 2, ld_fds_count());
}

static const struct check_case cases[] = {
    {"a number that was given has a holder", test_given},
    {"a number that was reused for another file has none", test_reused},
    {"what a holder was given is forgotten at once", test_forget_holder},
    {"descriptors are noted at two moments", test_noted},
    {"descriptors are noted and counted whatever numbers they have", test_high},
};

CHECK_MAIN(cases)
