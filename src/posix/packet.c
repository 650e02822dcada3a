#include "posix/packet.h"

#include <errno.h>
#include <linux/sockios.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/base.h"

#define VERSION "lunad/1 "
#define FDS_MAX                                                                                    \
    253 /* that a packet can bring, the most that there can be: all but one are an error, and are closed here */

/* Make the pair. */
int ld_packet_open(int ends[2]) {
    return socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) < 0 ? -errno : 0;
}

/* Put a descriptor into a message. */
static void attach(struct msghdr *message, void *control, size_t size, int fd) {
    message->msg_control = control;
    message->msg_controllen = size;
    struct cmsghdr *part = CMSG_FIRSTHDR(message);
    *part = (struct cmsghdr){
        .cmsg_len = CMSG_LEN(sizeof fd), .cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS};
    memcpy(CMSG_DATA(part), &fd, sizeof fd);
}

/* Send a packet. A packet has five parts: NOLINTNEXTLINE(readability-function-size) */
int ld_packet_send(int channel, unsigned long number, const char *word, const char *text,
                   size_t size, int fd) {
    char head[64];
    union {
        struct cmsghdr head;
        char bytes[CMSG_SPACE(sizeof(int))];
    } control = {.bytes = {0}};
    int length = snprintf(head, sizeof head, VERSION "%lu %s%s", number, word, size > 0 ? " " : "");
    size_t room = LD_PACKET_MAX - sizeof head;
    struct iovec parts[2] = {
        {.iov_base = head, .iov_len = (size_t)length},
        {.iov_base = (void *)(size_t)text, .iov_len = size < room ? size : room},
    };
    struct msghdr message = {.msg_iov = parts, .msg_iovlen = 2};
    ssize_t sent;
    if (fd >= 0) {
        attach(&message, control.bytes, sizeof control.bytes, fd);
    }
    do {
        sent = sendmsg(channel, &message, MSG_NOSIGNAL | MSG_DONTWAIT);
    } while (sent < 0 && errno == EINTR);
    return sent < 0 ? -errno : 0;
}

/* Let no close of a descriptor wait: a socket may have been prepared for that, with SO_LINGER and data that no process reads, to
 * hold this process up. */
static void calm(int fd) {
    static const struct linger none = {0};
    setsockopt(fd, SOL_SOCKET, SO_LINGER, &none, sizeof none);
}

/* Take the descriptors of a message: the only one, or none after closing several. */
static int take_fd(struct msghdr *message, bool *several) {
    int fds[FDS_MAX];
    size_t count = 0;
    for (struct cmsghdr *part = CMSG_FIRSTHDR(message); part != NULL;
         part = CMSG_NXTHDR(message, part)) {
        if (part->cmsg_level == SOL_SOCKET && part->cmsg_type == SCM_RIGHTS) {
            count = (part->cmsg_len - CMSG_LEN(0)) / sizeof(int);
            memcpy(fds, CMSG_DATA(part), count * sizeof(int));
        }
    }
    *several = count > 1;
    for (size_t i = 0; i < count; i++) {
        calm(fds[i]);
        if (*several) {
            close(fds[i]);
        }
    }
    return count == 1 ? fds[0] : -1;
}

/* Parse a number of 1 to 9 digits and the space after it; what follows, or NULL. */
static char *parse_number(char *at, unsigned long *number) {
    size_t digits = strspn(at, "0123456789");
    if (digits == 0 || digits > 9 || at[digits] != ' ') {
        return NULL;
    }
    *number = 0;
    for (size_t i = 0; i < digits; i++) {
        *number = *number * 10 + (unsigned long)(at[i] - '0');
    }
    return at + digits + 1;
}

/* Parse the SIZE bytes at BYTES, which a NUL follows. */
static bool parse(char *bytes, size_t size, struct ld_packet *packet) {
    const size_t version = sizeof VERSION - 1;
    if (size < version || memcmp(bytes, VERSION, version) != 0) {
        return false;
    }
    char *word = parse_number(bytes + version, &packet->number);
    size_t length = word != NULL ? strspn(word, "abcdefghijklmnopqrstuvwxyz-") : 0;
    if (length == 0 || length >= sizeof packet->word) {
        return false;
    }
    char *end = word + length;
    bool has_text = end < bytes + size;
    if (has_text && *end != ' ') {
        return false;
    }
    memcpy(packet->word, word, length);
    packet->word[length] = '\0';
    packet->text = has_text ? end + 1 : "";
    packet->size = has_text ? size - (size_t)(end + 1 - bytes) : 0;
    return true;
}

/* Whether the other end is closed and nothing is left to receive: an empty packet looks the same
 * otherwise. */
static bool has_ended(int channel) {
    struct pollfd poller = {.fd = channel, .events = POLLRDHUP};
    int waiting = 0;
    return poll(&poller, 1, 0) > 0 && (poller.revents & (POLLRDHUP | POLLHUP | POLLERR)) != 0 &&
           (ioctl(channel, SIOCINQ, &waiting) < 0 || waiting == 0);
}

/* Receive a packet. */
int ld_packet_receive(int channel, struct ld_packet *packet) {
    static char bytes[LD_PACKET_MAX + 1];
    union {
        struct cmsghdr head;
        char bytes[CMSG_SPACE(FDS_MAX * sizeof(int))];
    } control;
    struct iovec part = {.iov_base = bytes, .iov_len = LD_PACKET_MAX};
    struct msghdr message = {.msg_iov = &part,
                             .msg_iovlen = 1,
                             .msg_control = control.bytes,
                             .msg_controllen = sizeof control.bytes};
    ssize_t size;
    bool several;
    *packet = (struct ld_packet){.text = "", .fd = -1};
    do { /* a reset comes once, before what the other end sent: it had not read all of ours */
        size = recvmsg(channel, &message, MSG_CMSG_CLOEXEC | MSG_DONTWAIT);
    } while (size < 0 && (errno == EINTR || errno == ECONNRESET));
    if (size < 0) {
        return -errno;
    }
    packet->fd = take_fd(&message, &several);
    bytes[size] = '\0';
    if (size == 0 && packet->fd < 0 && !several && has_ended(channel)) {
        return 0;
    }
    int rc = several || (message.msg_flags & MSG_TRUNC) != 0 || !parse(bytes, (size_t)size, packet)
                 ? -EPROTO
                 : 1;
    if (rc == 1 && (message.msg_flags & MSG_CTRUNC) != 0) {
        rc = -EMFILE;
    }
    if (rc < 0 && packet->fd >= 0) {
        close(packet->fd);
        packet->fd = -1;
    }
    return rc;
}

/* Whether a word is among the packets that wait. */
bool ld_packet_is_queued(int channel, const char *word) {
    const int first = 0;
    const int off = -1;
    char expected[64];
    char bytes[512]; /* a word alone is shorter; a longer packet is looked at in parts */
    int size = snprintf(expected, sizeof expected, VERSION "0 %s", word);
    bool is_found = false;
    ssize_t seen = 0;
    bool moves = setsockopt(channel, SOL_SOCKET, SO_PEEK_OFF, &first, sizeof first) == 0;
    do { /* each look is one packet further */
        seen = recv(channel, bytes, sizeof bytes, MSG_PEEK | MSG_DONTWAIT);
        is_found = seen == size && memcmp(bytes, expected, (size_t)size) == 0;
    } while (moves && seen > 0 && !is_found);
    setsockopt(channel, SOL_SOCKET, SO_PEEK_OFF, &off, sizeof off);
    return is_found;
}
