#include "posix/notify.h"

#include <errno.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/time.h"

static int notify_fd = -1;

/* Connect to the manager's socket; "@" means the abstract namespace. */
void ld_notify_open(const char *socket_name) {
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    size_t length = socket_name != NULL ? strlen(socket_name) : 0;
    if (length < 2 || length >= sizeof address.sun_path) {
        return;
    }
    memcpy(address.sun_path, socket_name, length);
    if (address.sun_path[0] == '@') {
        address.sun_path[0] = '\0';
    }
    notify_fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    socklen_t size = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + length);
    if (notify_fd >= 0 && connect(notify_fd, (struct sockaddr *)&address, size) < 0) {
        ld_notify_close();
    }
}

/* Disconnect from the manager. */
void ld_notify_close(void) {
    if (notify_fd >= 0) {
        close(notify_fd);
        notify_fd = -1;
    }
}

/* Send assignments, without waiting for a slow manager. */
void ld_notify_send(const char *format, ...) {
    char text[1024];
    va_list args;
    if (notify_fd < 0) {
        return;
    }
    va_start(args, format);
    int size = vsnprintf(text, sizeof text, format, args);
    va_end(args);
    size_t length = size < (int)sizeof text ? (size_t)size : sizeof text - 1;
    while (send(notify_fd, text, length, MSG_NOSIGNAL | MSG_DONTWAIT) < 0 && errno == EINTR) {
    }
}

/* Report that a reload begins. */
void ld_notify_reloading(void) {
    ld_notify_send("RELOADING=1\nMONOTONIC_USEC=%llu",
                   (unsigned long long)ld_time_monotonic() / 1000);
}
