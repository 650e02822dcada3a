#include "posix/notify.h"

#include <errno.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/text.h"
#include "base/time.h"

#define BACKLOG_MAX 8192 /* bytes of messages that are kept for a slow manager */

/* The socket of the manager. */
static struct {
    struct sockaddr_un address;
    socklen_t size; /* of the address; 0: there is no manager */
    int fd;
    struct ld_text backlog; /* messages that could not be sent yet; each ends with a zero byte */
} manager = {.fd = -1};

/* Connect to the socket; 0 or a negative errno. */
static int connect_to_manager(void) {
    return connect(manager.fd, (struct sockaddr *)&manager.address, manager.size) < 0 ? -errno : 0;
}

/* Remember the address of the manager's socket; "@" means the abstract namespace. Its size; 0: it is none. */
static socklen_t note_address(const char *socket_name) {
    size_t length = socket_name != NULL ? strlen(socket_name) : 0;
    if (length < 2 || length >= sizeof manager.address.sun_path) {
        return 0;
    }
    manager.address = (struct sockaddr_un){.sun_family = AF_UNIX};
    memcpy(manager.address.sun_path, socket_name, length);
    if (manager.address.sun_path[0] == '@') {
        manager.address.sun_path[0] = '\0';
    }
    return (socklen_t)(offsetof(struct sockaddr_un, sun_path) + length);
}

/* Remember the manager's socket. */
void ld_notify_open(const char *socket_name) {
    ld_notify_close();
    socklen_t size = note_address(socket_name);
    if (size == 0) {
        return;
    }
    manager.fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (manager.fd >= 0) {
        manager.size = size;
        connect_to_manager(); /* if that fails, sending tries again */
    }
}

/* The connection. */
int ld_notify_fd(void) {
    return manager.size > 0 ? manager.fd : -1;
}

/* Use a connection that exists. */
void ld_notify_adopt(const char *socket_name, int fd) {
    ld_notify_close();
    manager.fd = fd;
    manager.size = fd >= 0 ? note_address(socket_name) : 0;
}

/* Forget the manager. */
void ld_notify_close(void) {
    if (manager.fd >= 0) {
        close(manager.fd);
        manager.fd = -1;
    }
    manager.size = 0;
    ld_text_fini(&manager.backlog);
}

/* Send one message. A manager that was started again listens on another socket at the same address, so
 * connect once more. 0 or a negative errno. */
static int send_now(const char *text, size_t size) {
    for (int tries = 0;; tries++) {
        ssize_t sent = send(manager.fd, text, size, MSG_NOSIGNAL | MSG_DONTWAIT);
        int rc = sent < 0 ? -errno : 0;
        if (rc == -EINTR) {
            continue;
        }
        if (tries > 0 || (rc != -ECONNREFUSED && rc != -ENOTCONN && rc != -ECONNRESET) ||
            connect_to_manager() < 0) {
            return rc;
        }
    }
}

/* Send what was kept; whether something is left. */
bool ld_notify_is_behind(void) {
    struct ld_text *backlog = &manager.backlog;
    while (backlog->size > 0) {
        size_t size = strlen(backlog->data) + 1;
        if (send_now(backlog->data, size - 1) == -EAGAIN) {
            return true;
        }
        backlog->size -= size;
        memmove(backlog->data, backlog->data + size, backlog->size);
    }
    return false;
}

/* Send a message, or keep it. */
static void send_or_keep(const char *text, size_t size) {
    bool behind = ld_notify_is_behind();
    if (!behind && send_now(text, size) != -EAGAIN) {
        return;
    }
    if (manager.backlog.size + size < BACKLOG_MAX) {
        ld_text_add(&manager.backlog, text, size);
        ld_text_putc(&manager.backlog, '\0');
        if (manager.backlog.failed) { /* half a message means something else */
            ld_text_fini(&manager.backlog);
        }
    }
}

/* Send assignments. */
void ld_notify_send(const char *format, ...) {
    char text[1024];
    va_list args;
    if (manager.size == 0) {
        return;
    }
    va_start(args, format);
    int size = vsnprintf(text, sizeof text, format, args);
    va_end(args);
    send_or_keep(text, size < (int)sizeof text ? (size_t)size : sizeof text - 1);
}

/* Report that the loop turns. */
void ld_notify_watchdog(void) {
    if (manager.size != 0 && !ld_notify_is_behind()) {
        send_now("WATCHDOG=1", strlen("WATCHDOG=1"));
    }
}

/* Report that a reload begins. */
void ld_notify_reloading(void) {
    ld_notify_send("RELOADING=1\nMONOTONIC_USEC=%llu",
                   (unsigned long long)ld_time_monotonic() / 1000);
}
