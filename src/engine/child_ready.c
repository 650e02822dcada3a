#include "engine/child_ready.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/base.h"
#include "posix/process.h"

#define LONGEST_LINE  65536
#define MESSAGE_MOST  4096 /* bytes; a longer message is ignored */
#define MESSAGES_MOST 16   /* messages that are read in PAUSE_MS; then the socket waits so long */
#define PAUSE_MS      100
#define DEPTH_MOST    64 /* generations of processes between the child and a sender */

/* Write an address. */
int ld_child_ready_make_address(char address[LD_READY_ADDRESS_SIZE]) {
    uint64_t random;
    if (getrandom(&random, sizeof random, GRND_NONBLOCK) < 0) { /* so few bytes come whole */
        return -errno;
    }
    snprintf(address, LD_READY_ADDRESS_SIZE, "@lunad-%d-%016" PRIx64, (int)getpid(), random);
    return 0;
}

/* Make the socket; it or a negative errno. */
static int make_socket(const char *address) {
    const int on = 1;
    struct sockaddr_un name = {.sun_family = AF_UNIX};
    size_t length = strlen(address);
    memcpy(name.sun_path + 1, address + 1, length - 1); /* a zero byte in the place of the @ */
    int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0) {
        return -errno;
    }
    socklen_t size = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + length);
    if (setsockopt(fd, SOL_SOCKET, SO_PASSCRED, &on, sizeof on) < 0 ||
        bind(fd, (struct sockaddr *)&name, size) < 0) {
        int rc = -errno;
        close(fd);
        return rc;
    }
    return fd;
}

/* The pid of the process that sent a message; 0 if the kernel does not say. */
static pid_t sender_of(struct msghdr *message) {
    struct ucred sender = {.pid = 0};
    const struct cmsghdr *part = CMSG_FIRSTHDR(message);
    if (part != NULL && part->cmsg_level == SOL_SOCKET && part->cmsg_type == SCM_CREDENTIALS &&
        part->cmsg_len == CMSG_LEN(sizeof sender)) {
        memcpy(&sender, CMSG_DATA(part), sizeof sender);
    }
    return sender.pid;
}

/* Whether a process is the child or descends from it. One that has ended since it sent cannot be asked for
 * its parent, and does not count. */
static bool is_of_child(const struct ld_child_ready *ready, pid_t pid) {
    for (int depth = 0; pid > 1 && depth < DEPTH_MOST; depth++) {
        if (pid == ready->pid) {
            return true;
        }
        pid = ld_process_parent(pid);
    }
    return false;
}

/* Whether a line of the message is READY=1. */
static bool says_ready(const char *text, size_t size) {
    static const char word[] = "READY=1";
    const size_t length = sizeof word - 1;
    const char *end = text + size;
    while (text < end) {
        const char *newline = memchr(text, '\n', (size_t)(end - text));
        const char *stop = newline != NULL ? newline : end;
        if ((size_t)(stop - text) == length && memcmp(text, word, length) == 0) {
            return true;
        }
        text = stop + 1;
    }
    return false;
}

/* Look at the next message: 1 if it says that the child is ready, 0 if it does not, or a negative errno. */
static int look(const struct ld_child_ready *ready) {
    char text[MESSAGE_MOST];
    union {
        struct cmsghdr head;
        char bytes[CMSG_SPACE(sizeof(struct ucred))];
    } control;
    struct iovec part = {.iov_base = text, .iov_len = sizeof text};
    struct msghdr message = {.msg_iov = &part,
                             .msg_iovlen = 1,
                             .msg_control = control.bytes,
                             .msg_controllen = sizeof control.bytes};
    ssize_t size = recvmsg(ready->fd, &message, MSG_PEEK | MSG_DONTWAIT);
    if (size < 0) {
        return -errno;
    }
    return (message.msg_flags & MSG_TRUNC) == 0 && says_ready(text, (size_t)size) &&
           is_of_child(ready, sender_of(&message));
}

/* Take the next message, as `look`. A sender may wait until the descriptor that it passed is closed, and end
 * then: so it is looked for before the message is taken. There is no room for descriptors, so the kernel
 * closes those that came with it. */
static int receive(const struct ld_child_ready *ready) {
    char byte;
    bool matters = ready->kind == LD_READY_BY_NOTIFY && ready->state != LD_READY_NOW;
    int rc = matters ? look(ready) : 0;
    if (rc >= 0 && recv(ready->fd, &byte, sizeof byte, MSG_DONTWAIT) < 0) {
        rc = -errno;
    }
    return rc;
}

static void on_pause_end(uv_timer_t *timer);

/* Count a message; whether there were too many within a short time. */
static bool is_flooded(struct ld_child_ready *ready) {
    uint64_t now = uv_now(ready->poll.loop);
    if (now - ready->counted_since >= PAUSE_MS) {
        ready->counted_since = now;
        ready->count = 0;
    }
    return ++ready->count >= MESSAGES_MOST;
}

/* Read what was sent. What comes when the child is ready is read too, so that it never waits for us. */
static void on_poll(uv_poll_t *poll, int status, int events) {
    struct ld_child_ready *ready = poll->data;
    (void)status;
    (void)events;
    bool is_ready = false;
    bool is_too_much = false;
    int rc = 0;
    while (rc >= 0 && !is_too_much) {
        rc = receive(ready);
        is_ready |= rc > 0;
        is_too_much = rc != -EAGAIN && is_flooded(ready); /* also by an error that comes again */
    }
    if (is_too_much) {
        uv_poll_stop(&ready->poll);
        uv_timer_start(&ready->pause, on_pause_end, PAUSE_MS, 0);
    }
    if (is_ready && ready->state != LD_READY_NOW) {
        ld_child_ready_note(ready, true);
        ready->on_ready(ready->owner);
    }
}

/* Read again. */
static void on_pause_end(uv_timer_t *timer) {
    struct ld_child_ready *ready = timer->data;
    uv_poll_start(&ready->poll, UV_READABLE, on_poll);
}

/* Handle that a handle is closed. */
static void on_handle_closed(uv_handle_t *handle) {
    const struct ld_child_ready *ready = handle->data;
    ready->on_closed(ready->owner);
}

/* Open the socket. */
int ld_child_ready_open(struct ld_child_ready *ready, uv_loop_t *loop, const char *address) {
    int fd = make_socket(address);
    int rc = fd >= 0 ? ld_child_ready_adopt(ready, loop, fd) : fd;
    if (rc < 0 && fd >= 0 && ready->fd != fd) {
        close(fd);
    }
    return rc;
}

/* Adopt a socket. */
int ld_child_ready_adopt(struct ld_child_ready *ready, uv_loop_t *loop, int fd) {
    int rc = uv_poll_init(loop, &ready->poll, fd);
    if (rc < 0) {
        return rc;
    }
    ready->fd = fd;
    ready->poll.data = ready;
    uv_timer_init(loop, &ready->pause);
    ready->pause.data = ready;
    return uv_poll_start(&ready->poll, UV_READABLE, on_poll);
}

/* Close the socket and forget the lines. */
void ld_child_ready_close(struct ld_child_ready *ready) {
    ld_text_fini(&ready->lines[0]);
    ld_text_fini(&ready->lines[1]);
    if (ready->fd > 0) {
        uv_close((uv_handle_t *)&ready->poll, on_handle_closed);
        uv_close((uv_handle_t *)&ready->pause, on_handle_closed);
        close(ready->fd);
        ready->fd = -1;
    }
}

/* Whether the owner looks for a line. */
static bool is_listening(const struct ld_child_ready *ready) {
    return ready->kind == LD_READY_BY_LINE && ready->state == LD_READY_NOT_YET;
}

/* Tell the owner of a line that is kept, and forget it first: the owner may end everything. */
static void tell_kept(struct ld_child_ready *ready, struct ld_text *line) {
    struct ld_text kept = *line;
    *line = (struct ld_text){0};
    ready->on_line(ready->owner, ld_text_string(&kept), kept.size);
    ld_text_fini(&kept);
}

/* Keep what is not a whole line yet. */
static void keep(struct ld_child_ready *ready, struct ld_text *line, const char *bytes,
                 size_t size) {
    while (is_listening(ready) && line->size + size > LONGEST_LINE) {
        size_t piece = LONGEST_LINE - line->size;
        ld_text_add(line, bytes, piece);
        tell_kept(ready, line);
        bytes += piece;
        size -= piece;
    }
    if (is_listening(ready)) {
        ld_text_add(line, bytes, size);
    }
}

/* Take output. */
void ld_child_ready_hear(struct ld_child_ready *ready, int stream, const char *bytes, size_t size) {
    struct ld_text *line = &ready->lines[stream - 1];
    const char *newline;
    if (bytes == NULL) {
        if (is_listening(ready) && line->size > 0) {
            tell_kept(ready, line);
        }
        return;
    }
    while (is_listening(ready) && (newline = memchr(bytes, '\n', size)) != NULL) {
        size_t length = (size_t)(newline - bytes);
        keep(ready, line, bytes, length);
        if (is_listening(ready)) {
            tell_kept(ready, line);
        }
        bytes += length + 1;
        size -= length + 1;
    }
    keep(ready, line, bytes, size);
}

/* Note whether the child is ready. */
void ld_child_ready_note(struct ld_child_ready *ready, bool is_ready) {
    ready->state = is_ready ? LD_READY_NOW : LD_READY_NOT_YET;
    if (is_ready) {
        ld_text_fini(&ready->lines[0]);
        ld_text_fini(&ready->lines[1]);
    }
}
