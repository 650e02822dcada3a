#include "base/syslogger.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <syslog.h>
#include <time.h>
#include <unistd.h>

#include "base/text.h"
#include "base/time.h"
#include "base/writer.h"

#define LAST_SIZE 4096 /* of a message from a signal handler */

/* Close the connection. */
void ld_syslogger_close(struct ld_syslogger *syslogger) {
    if (syslogger->fd >= 0) {
        close(syslogger->fd);
        syslogger->fd = -1;
    }
}

/* Connect by a socket of one type; 0 or a negative errno. */
static int connect_by(struct ld_syslogger *syslogger, int type) {
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    const char *path = syslogger->path != NULL ? syslogger->path : _PATH_LOG;
    if (strlen(path) >= sizeof address.sun_path) {
        return -ENAMETOOLONG;
    }
    memcpy(address.sun_path, path, strlen(path));
    int fd = socket(AF_UNIX, type | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0) {
        return -errno;
    }
    if (connect(fd, (struct sockaddr *)&address, sizeof address) < 0) {
        int rc = -errno;
        close(fd);
        return rc;
    }
    syslogger->fd = fd;
    syslogger->stream = type == SOCK_STREAM;
    return 0;
}

/* Connect by what the other side takes. */
int ld_syslogger_connect(struct ld_syslogger *syslogger) {
    int rc = connect_by(syslogger, SOCK_DGRAM);
    return rc == -EPROTOTYPE ? connect_by(syslogger, SOCK_STREAM) : rc;
}

/* Wait until the socket takes bytes; false when the time is up. A signal does not end it. */
static bool wait_for_room(const struct ld_syslogger *syslogger, int wait_ms) {
    struct pollfd poller = {.fd = syslogger->fd, .events = POLLOUT};
    struct timespec wait = {.tv_sec = wait_ms / 1000, .tv_nsec = wait_ms % 1000 * 1000000L};
    sigset_t all;
    sigfillset(&all);
    return ppoll(&poller, 1, &wait, &all) > 0;
}

/* Send a message, in a stream with the zero byte that ends it; 0 or a negative errno. A stream that
 * took a part is closed, so that the rest cannot be taken for another message. */
static int send_bytes(struct ld_syslogger *syslogger, const struct ld_text *bytes, int wait_ms) {
    size_t size = bytes->size + (syslogger->stream ? 1 : 0);
    size_t sent = 0;
    bool waited = false;
    int rc = 0;
    while (rc == 0 && sent < size) {
        ssize_t taken = send(syslogger->fd, bytes->data + sent, size - sent, MSG_NOSIGNAL);
        rc = taken < 0 && errno != EINTR ? -errno : 0;
        if (rc == -EAGAIN && !waited && wait_for_room(syslogger, wait_ms)) {
            waited = true;
            rc = 0;
        }
        sent += taken > 0 ? (size_t)taken : 0;
    }
    if (rc < 0 && sent > 0) {
        ld_syslogger_close(syslogger);
    }
    return rc;
}

/* Add a message in the form of RFC 3164, whatever locale is set. */
static void format_message(struct ld_text *bytes, const struct ld_syslogger_message *message) {
    static const char months[12][4] = {"Jan", "Feb", "Mar", "Apr", "May", "Jun",
                                       "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"};
    time_t now = (time_t)(ld_time_real() / LD_TIME_SECOND);
    struct tm local = {0};
    localtime_r(&now, &local);
    ld_text_format(bytes, "<%d>%s %2d %02d:%02d:%02d %s[%d]: ", LOG_DAEMON | message->priority,
                   months[local.tm_mon], local.tm_mday, local.tm_hour, local.tm_min, local.tm_sec,
                   message->ident, (int)getpid());
    ld_text_add(bytes, message->text, message->size);
}

/* Whether a failure means that the connection is broken. */
static bool is_broken(int rc) {
    return rc < 0 && rc != -EAGAIN && rc != -EMSGSIZE && rc != -ENOBUFS && rc != -ENOMEM;
}

/* Send one message, connecting first if necessary; 0 or a negative errno. */
static int send_once(struct ld_syslogger *syslogger, const struct ld_text *bytes, int wait_ms) {
    int rc = syslogger->fd < 0 ? ld_syslogger_connect(syslogger) : 0;
    rc = rc == 0 ? send_bytes(syslogger, bytes, wait_ms) : rc;
    if (is_broken(rc)) {
        ld_syslogger_close(syslogger);
    }
    return rc;
}

/* Send one message. */
int ld_syslogger_send(struct ld_syslogger *syslogger, const struct ld_syslogger_message *message) {
    struct ld_text bytes = {0};
    bool was_open = syslogger->fd >= 0;
    format_message(&bytes, message);
    int rc = bytes.failed ? -ENOMEM : send_once(syslogger, &bytes, message->wait_ms);
    if (is_broken(rc) && was_open) { /* the listener has ended; try to reach another one */
        rc = send_once(syslogger, &bytes, message->wait_ms);
    }
    ld_text_fini(&bytes);
    return rc;
}

/* Send a message from a signal handler. */
void ld_syslogger_send_from_handler(struct ld_syslogger *syslogger,
                                    const struct ld_syslogger_message *message) {
    char bytes[LAST_SIZE + 1]; /* the last one ends a message in a stream */
    struct ld_writer writer = {.buffer = bytes, .capacity = LAST_SIZE};
    if (syslogger->fd < 0 && ld_syslogger_connect(syslogger) < 0) {
        return; /* nobody would read it */
    }
    ld_writer_puts(&writer, "<");
    ld_writer_decimal(&writer, LOG_DAEMON | message->priority, 1);
    ld_writer_puts(&writer, ">");
    ld_writer_puts(&writer, message->ident);
    ld_writer_puts(&writer, "[");
    ld_writer_decimal(&writer, getpid(), 1);
    ld_writer_puts(&writer, "]: ");
    ld_writer_add(&writer, message->text, message->size);
    bytes[writer.size] = '\0';
    size_t size = writer.size + (syslogger->stream ? 1 : 0);
    if (send(syslogger->fd, bytes, size, MSG_NOSIGNAL | MSG_DONTWAIT) < 0) {
        /* It is full or gone, and this process ends. */
    }
}
