/* The C library's own functions whose names interpose.c takes. Arguments, result and errno are
 * theirs. */
#ifndef LD_ENGINE_LIBC_H
#define LD_ENGINE_LIBC_H

#include <signal.h>
#include <sys/epoll.h>
#include <sys/socket.h>

int ld_libc_sigaction(int signo, const struct sigaction *action, struct sigaction *before);

int ld_libc_accept4(int fd, struct sockaddr *address, socklen_t *size, int flags);

int ld_libc_epoll_pwait(int set, struct epoll_event *events, int most, int timeout_ms,
                        const sigset_t *mask);

/* Tries again for 0.2 s while the kernel has no memory for it, because libuv aborts on a
 * failure. */
int ld_libc_epoll_ctl(int set, int operation, int fd, struct epoll_event *event);

#endif
