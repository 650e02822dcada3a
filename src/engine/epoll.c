#include "engine/epoll.h"

#include <dlfcn.h>
#include <errno.h>
#include <stdbool.h>
#include <string.h>
#include <time.h>

#include "base/log.h"

#define TRIES   100
#define WAIT_MS 2 /* between them; the first comes at once */

/* The C library's epoll_ctl. */
static int real_epoll_ctl(int epoll, int operation, int fd, struct epoll_event *event) {
    static int (*real)(int, int, int, struct epoll_event *);
    if (real == NULL) {
        *(void **)&real = dlsym(RTLD_NEXT, "epoll_ctl");
    }
    return real(epoll, operation, fd, event);
}

/* Whether the kernel may do what it has refused a moment later. */
static bool is_passing(int error) {
    return error == ENOMEM || error == ENOSPC;
}

/* Add, and try again. */
int ld_epoll_ctl(int epoll, int operation, int fd, struct epoll_event *event) {
    int rc = real_epoll_ctl(epoll, operation, fd, event);
    if (rc == 0 || !is_passing(errno)) {
        return rc;
    }
    for (int try = 0; try < TRIES && rc < 0 && is_passing(errno); try++) {
        const struct timespec wait = {.tv_nsec = try > 0 ? WAIT_MS * 1000000L : 0};
        nanosleep(&wait, NULL);
        rc = real_epoll_ctl(epoll, operation, fd, event);
    }
    if (rc < 0 && is_passing(errno)) {
        ld_log(LD_LOG_ERROR, "descriptor %d cannot be waited for: %s", fd, strerror(errno));
    }
    return rc;
}
