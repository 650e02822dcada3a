/* The functions of the C library that the binary redefines. A definition in the program comes
 * before one in a shared library, so every call in the process comes here, those of libuv and
 * luv too:
 *
 *     sigaction   When a script has libuv catch a signal or start a process, libuv would replace
 *                 our handler, and later restore the default. See ld_signals_sigaction, and
 *                 ld_crash_sigaction for the signals of a crash.
 *     accept4     libuv accepts clients as soon as a socket listens. Those of a generation that
 *                 is not the service must leave clients in the queue. See mute.h, and one_client.h.
 *     epoll_ctl   libuv aborts when it cannot watch a descriptor: because the kernel is short of
 *                 memory (see libc.h), or because a script has closed the descriptor, or opened a
 *                 file as a stream. For the latter two the handle gets no events instead.
 *     epoll_wait, epoll_pwait
 *                 Between two calls of them for the host's loop that is in callbacks. See pulse.h.
 *
 * The files below this one call libc.h where they mean the C library's own. */
#include <errno.h>
#include <signal.h>
#include <stdbool.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#include "base/log.h"
#include "engine/crash.h"
#include "engine/guest.h"
#include "engine/libc.h"
#include "engine/mute.h"
#include "engine/one_client.h"
#include "engine/pulse.h"
#include "engine/signals.h"

/* Leave the handlers of signals that we catch in place. */
int sigaction(int signo, const struct sigaction *action, struct sigaction *before) {
    int rc;
    return ld_crash_sigaction(signo, action, before, &rc)
               ? rc
               : ld_signals_sigaction(signo, action, before);
}

/* Accept no client from a muted socket, and one at a time from a common one. */
int accept4(int fd, struct sockaddr *restrict address, socklen_t *restrict size, int flags) {
    if (ld_mute_refuse(fd) || ld_one_client_refuse(fd)) {
        errno = EAGAIN;
        return -1;
    }
    int client = ld_libc_accept4(fd, address, size, flags);
    ld_one_client_accepted(fd, client >= 0);
    return client;
}

/* Hide from a running guest that a descriptor cannot be watched. If its number is another file's by
 * now, watch that one. */
int epoll_ctl(int set, int operation, int fd, struct epoll_event *event) {
    int rc = ld_libc_epoll_ctl(set, operation, fd, event);
    bool is_watching = operation == EPOLL_CTL_ADD || operation == EPOLL_CTL_MOD;
    if (rc == 0 || errno == EEXIST || !is_watching || !ld_guest_is_running(set)) {
        return rc;
    }
    if (errno == ENOENT && ld_libc_epoll_ctl(set, EPOLL_CTL_ADD, fd, event) == 0) {
        return 0;
    }
    ld_log(LD_LOG_WARN, "luv: descriptor %d cannot be watched: %s", fd, strerror(errno));
    return 0;
}

/* Note when the loop waits. */
int epoll_wait(int set, struct epoll_event *events, int most, int timeout_ms) {
    return ld_pulse_wait(set, events, most, timeout_ms, NULL);
}

/* The same: later versions of libuv call this one. */
int epoll_pwait(int set, struct epoll_event *events, int most, int timeout_ms,
                const sigset_t *mask) {
    return ld_pulse_wait(set, events, most, timeout_ms, mask);
}
