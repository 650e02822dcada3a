#include "engine/libc.h"

#include <dlfcn.h>
#include <errno.h>
#include <stdbool.h>
#include <string.h>
#include <time.h>

#include "base/log.h"

#define TRIES   100
#define WAIT_MS 2 /* between them; the first comes at once */

/* Call the C library's sigaction. */
int ld_libc_sigaction(int signo, const struct sigaction *action, struct sigaction *before) {
    static int (*real)(int, const struct sigaction *, struct sigaction *);
    if (real == NULL) {
        *(void **)&real = dlsym(RTLD_NEXT, "sigaction");
    }
    return real(signo, action, before);
}

/* Call the C library's accept4. */
int ld_libc_accept4(int fd, struct sockaddr *address, socklen_t *size, int flags) {
    static int (*real)(int, struct sockaddr *, socklen_t *, int);
    if (real == NULL) {
        *(void **)&real = dlsym(RTLD_NEXT, "accept4");
    }
    return real(fd, address, size, flags);
}

/* Call the C library's epoll_pwait. */
int ld_libc_epoll_pwait(int set, struct epoll_event *events, int most, int timeout_ms,
                        const sigset_t *mask) {
    static int (*real)(int, struct epoll_event *, int, int, const sigset_t *);
    if (real == NULL) {
        *(void **)&real = dlsym(RTLD_NEXT, "epoll_pwait");
    }
    return real(set, events, most, timeout_ms, mask);
}

/* Call the C library's epoll_ctl once. */
static int call_epoll_ctl(int set, int operation, int fd, struct epoll_event *event) {
    static int (*real)(int, int, int, struct epoll_event *);
    if (real == NULL) {
        *(void **)&real = dlsym(RTLD_NEXT, "epoll_ctl");
    }
    return real(set, operation, fd, event);
}

/* Whether the kernel may accept a moment later what it has refused. */
static bool is_passing(int error) {
    return error == ENOMEM || error == ENOSPC;
}

/* Call the C library's epoll_ctl until there is memory. */
int ld_libc_epoll_ctl(int set, int operation, int fd, struct epoll_event *event) {
    int rc = call_epoll_ctl(set, operation, fd, event);
    if (rc == 0 || !is_passing(errno)) {
        return rc;
    }
    for (int try = 0; try < TRIES && rc < 0 && is_passing(errno); try++) {
        const struct timespec wait = {.tv_nsec = try > 0 ? WAIT_MS * 1000000L : 0};
        nanosleep(&wait, NULL);
        rc = call_epoll_ctl(set, operation, fd, event);
    }
    if (rc < 0 && is_passing(errno)) {
        ld_log(LD_LOG_ERROR, "descriptor %d cannot be waited for: %s", fd, strerror(errno));
    }
    return rc;
}
