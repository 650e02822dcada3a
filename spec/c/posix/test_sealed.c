#include "posix/sealed.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "check.h"
#include "support.h"

static void test_sealed(void) {
    char bytes[16] = "";
    int fd = ld_sealed_make("test", "hello", 5);
    REQUIRE(fd > 2);
    CHECK(ld_sealed_is_sound(fd, 5));
    CHECK(!ld_sealed_is_sound(fd, 4));
    CHECK_INT(5, read(fd, bytes, sizeof bytes));
    CHECK_STR("hello", bytes);
    CHECK(pwrite(fd, "J", 1, 0) < 0 && errno == EPERM);
    CHECK(ftruncate(fd, 0) < 0 && errno == EPERM);
    CHECK((fcntl(fd, F_GETFD) & FD_CLOEXEC) != 0);
    close(fd);
    fd = ld_sealed_make("test", "", 0);
    CHECK(ld_sealed_is_sound(fd, 0));
    close(fd);
}

static void test_others(void) {
    int ends[2];
    REQUIRE(pipe2(ends, O_CLOEXEC) == 0);
    write_file(box_path("file"), "x");
    int file = open(box_path("file"), O_RDONLY | O_CLOEXEC);
    int half = memfd_create("test", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    int directory = open(box_path(""), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    CHECK_INT(0, fcntl(half, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL));
    const int all[] = {ends[0], ends[1], file, half, directory};
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++) {
        CHECK(all[i] >= 0 && !ld_sealed_is_sound(all[i], 1000));
        close(all[i]);
    }
    CHECK(!ld_sealed_is_sound(-1, 1000));
}

static const struct check_case cases[] = {
    {"what is sealed stays as it was made", test_sealed},
    {"nothing else is sound", test_others},
};

CHECK_MAIN(cases)
