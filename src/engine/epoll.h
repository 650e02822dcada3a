/* Adding to an epoll set where memory may be short. */
#ifndef LD_ENGINE_EPOLL_H
#define LD_ENGINE_EPOLL_H

#include <sys/epoll.h>

/* Do what epoll_ctl of the C library does, and try again for a moment when the kernel has no memory for
 * it: libuv aborts when it is refused. */
int ld_epoll_ctl(int epoll, int operation, int fd, struct epoll_event *event);

#endif
