#include "posix/reserve.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "base/base.h"

#define CHECK_MAX   64
#define DESCRIPTORS 16 /* that the loop and a script need, and a few in reserve */
#define SIZE                                                                                       \
    6 /* a new generation with luv opens five at once, and a client of the socket has one */
#define SMALL     2 /* of this many where the limit is low */
#define LOW_LIMIT 64

static int reserve[SIZE];
static size_t held;
static size_t size;   /* how many there should be */
static unsigned lent; /* how many borrow it at the moment */

/* Check that COUNT more descriptors can be opened. */
int ld_reserve_check(size_t count) {
    int fds[CHECK_MAX];
    size_t opened = 0;
    int rc = 0;
    LD_ASSERT(count <= CHECK_MAX);
    while (opened < count && rc == 0) {
        fds[opened] = open("/dev/null", O_RDONLY | O_CLOEXEC);
        rc = fds[opened] < 0 ? -errno : 0;
        opened += rc == 0;
    }
    while (opened > 0) {
        close(fds[--opened]);
    }
    return rc;
}

/* Fill the reserve. */
void ld_reserve_fill(void) {
    while (held < size && lent == 0) {
        int fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
        if (fd < 0) {
            return;
        }
        reserve[held++] = fd;
    }
}

/* Close what is in the reserve. */
static void empty(void) {
    while (held > 0) {
        close(reserve[--held]);
    }
}

/* Begin to keep descriptors back. */
void ld_reserve_open(void) {
    struct rlimit limit = {.rlim_cur = LOW_LIMIT};
    getrlimit(RLIMIT_NOFILE, &limit);
    size = limit.rlim_cur < LOW_LIMIT ? SMALL : SIZE;
    ld_reserve_fill();
}

/* Stop keeping descriptors back. */
void ld_reserve_close(void) {
    size = 0;
    empty();
}

/* Lend the reserve. */
size_t ld_reserve_lend(void) {
    size_t count = lent++ == 0 ? held : 0;
    if (count > 0) {
        empty();
    }
    return count;
}

/* Take the reserve back. */
void ld_reserve_take_back(void) {
    lent--;
    ld_reserve_fill();
}

/* Check that there are descriptors enough: libuv aborts in the middle of its work otherwise. */
int ld_reserve_check_start(struct ld_text *why) {
    struct rlimit limit = {0};
    int rc = ld_reserve_check(DESCRIPTORS);
    if (rc == -EMFILE) {
        getrlimit(RLIMIT_NOFILE, &limit);
        ld_text_format(
            why,
            "too few file descriptors: the limit of open files (ulimit -n, --rlimit nofile) "
            "is %llu, and fewer than %d of these are free",
            (unsigned long long)limit.rlim_cur, DESCRIPTORS);
    } else if (rc < 0) {
        ld_text_format(why, "file descriptors: %s", strerror(-rc));
    }
    return rc;
}
