#include "daemon/crash_file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/log.h"
#include "check.h"
#include "support.h"

static struct ld_service service;
static char path[512];

/* Make a service whose reports are in the box. */
static void make(void) {
    snprintf(path, sizeof path, "%s", box_path("x.crash"));
    service = (struct ld_service){.name = (char *)(size_t) "x", .crash_path = path};
    ld_crash_file_share(&service);
    REQUIRE(service.crash_page != NULL);
}

/* Unmap what was shared. */
static void done(void) {
    munmap(service.crash_page, sizeof(size_t) + LD_CRASH_FILE_MAX);
    close(service.crash_fd);
}

static void test_take(void) {
    make();
    CHECK(ld_crash_file_take(&service, "killed by SIGSEGV") == NULL); /* nothing was left */
    CHECK_INT(-1, access(path, F_OK));
    ld_crash_file_leave(&service, "one\n\x1b[31m", 9);
    ld_crash_file_leave(&service, "two\xff", 4);
    CHECK_STR(path, ld_crash_file_take(&service, "killed by SIGSEGV"));
    CHECK_STR("one\n\\x1B[31mtwo\\xFF\n\nThe keeper saw it killed by SIGSEGV.\n", read_file(path));
    ld_crash_file_share(&service); /* for the next host */
    CHECK(ld_crash_file_take(&service, "killed by SIGSEGV") == NULL);
    done();
}

static void test_size(void) {
    static char much[3 * LD_CRASH_FILE_MAX];
    struct stat facts;
    make();
    memset(much, '\x1b', sizeof much);
    ld_crash_file_leave(&service, much, LD_CRASH_FILE_MAX - 1);
    ld_crash_file_leave(&service, much, sizeof much);
    CHECK_STR(path, ld_crash_file_take(&service, "killed by SIGBUS"));
    CHECK(stat(path, &facts) == 0 && facts.st_size < 4 * LD_CRASH_FILE_MAX + 100);
    atomic_store((atomic_size_t *)service.crash_page, SIZE_MAX); /* as a hostile host might */
    ld_crash_file_leave(&service, much, sizeof much);
    CHECK_STR(path, ld_crash_file_take(&service, "killed by SIGBUS"));
    CHECK(stat(path, &facts) == 0 && facts.st_size < 4 * LD_CRASH_FILE_MAX + 100);
    done();
}

/* Make a report with TEXT at PATH. */
static void put(const char *name, const char *text) {
    int fd = ld_crash_file_make(AT_FDCWD, name);
    REQUIRE(fd >= 0);
    CHECK_INT((long long)strlen(text), write(fd, text, strlen(text)));
    close(fd);
}

static void test_older(void) {
    char name[600];
    char text[2] = "1";
    make();
    for (; text[0] <= '7'; text[0]++) {
        put(path, text);
    }
    CHECK_STR("7", read_file(path));
    for (int i = 1; i <= 5; i++) {
        char expected[2] = {(char)('7' - i), '\0'};
        snprintf(name, sizeof name, "%s.%d", path, i);
        if (i <= 4) {
            CHECK_STR(expected, read_file(name));
        } else {
            CHECK_INT(-1, access(name, F_OK));
        }
    }
    done();
}

/* Put a directory, with a file in it so that it cannot be replaced, where report NUMBER goes. */
static void obstruct(int number) {
    char name[600];
    snprintf(name, sizeof name, number > 0 ? "%s.%d" : "%s", path, number);
    unlink(name);
    REQUIRE(mkdir(name, 0700) == 0);
    snprintf(name + strlen(name), sizeof name - strlen(name), "/full");
    write_file(name, "");
}

static void test_in_the_way(void) {
    char name[600];
    make();
    write_file(box_path("precious"), "keep");
    REQUIRE(symlink(box_path("precious"), path) == 0);
    put(path, "new");
    CHECK_STR("keep", read_file(box_path("precious")));
    CHECK_STR("new", read_file(path));
    unlink(path);
    for (int i = 0; i <= 4; i++) {
        obstruct(i);
    }
    CHECK_INT(-EEXIST, ld_crash_file_make(AT_FDCWD, path));
    CHECK_INT(-ENOENT, ld_crash_file_make(AT_FDCWD, box_path("no/x.crash")));
    memset(name, 'x', sizeof name - 1);
    name[sizeof name - 1] = '\0';
    CHECK_INT(-ENAMETOOLONG, ld_crash_file_make(AT_FDCWD, name));
    done();
}

static const struct check_case cases[] = {
    {"the keeper writes what the host left, escaped", test_take},
    {"the size of a report is limited, whatever the host says", test_size},
    {"four older reports are kept", test_older},
    {"links are not followed, and what cannot be moved is left", test_in_the_way},
};

CHECK_MAIN(cases)
