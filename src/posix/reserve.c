#include "posix/reserve.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "base/base.h"

#define DESCRIPTORS 16 /* that the loop and a script need, and a few in reserve */
#define SIZE        7 /* luv of a new generation opens five at once, its listener one, a client one */
#define SMALL       2 /* of this many where the limit is low */
#define LOW_LIMIT   64

static int reserve[SIZE];
static size_t held;
static size_t size;   /* how many there should be */
static unsigned lent; /* how many borrow it at the moment */
static int last = -1; /* one more */
static bool is_last_lent;

/* Open one more: one like another, which takes no look at the file system, if there is another. */
static int open_one(int another) {
    return another >= 0 ? fcntl(another, F_DUPFD_CLOEXEC, 0)
                        : open("/dev/null", O_RDONLY | O_CLOEXEC);
}

/* Check that COUNT more descriptors can be opened. */
int ld_reserve_check(size_t count) {
    int *fds = calloc(count + 1, sizeof *fds);
    size_t opened = 0;
    int rc = fds != NULL ? 0 : -ENOMEM;
    while (opened < count && rc == 0) {
        fds[opened] = open_one(opened > 0 ? fds[0] : -1);
        rc = fds[opened] < 0 ? -errno : 0;
        opened += rc == 0;
    }
    while (opened > 0) {
        close(fds[--opened]);
    }
    free(fds);
    return rc;
}

/* Fill the reserve. */
void ld_reserve_fill(void) {
    if (last < 0 && size > 0 && !is_last_lent) {
        last = open_one(-1);
    }
    while (held < size && lent == 0) {
        int fd = open_one(last);
        if (fd < 0) {
            return;
        }
        reserve[held++] = fd;
    }
}

/* One of them. */
int ld_reserve_at(size_t index) {
    return index < held ? reserve[index] : -1;
}

/* Whether a descriptor is kept back. */
bool ld_reserve_has(int fd) {
    bool found = fd >= 0 && fd == last;
    for (size_t i = 0; i < held; i++) {
        found |= reserve[i] == fd;
    }
    return found;
}

/* Close what is in the reserve. */
static void empty(void) {
    while (held > 0) {
        close(reserve[--held]);
    }
}

/* Close the last one. */
static void close_last(void) {
    if (last >= 0) {
        close(last);
        last = -1;
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
    close_last();
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

/* Lend the last one. */
void ld_reserve_lend_last(void) {
    is_last_lent = true;
    close_last();
}

/* Take it back. */
void ld_reserve_take_back_last(void) {
    is_last_lent = false;
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
