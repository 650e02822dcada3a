#include "engine/mail_packet.h"

#include <errno.h>
#include <linux/sockios.h>
#include <poll.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/base.h"

#define VERSION   "lm1"
#define QUEUE_MAX (1 << 20) /* bytes in the kernel that are asked for; it may give less */
#define FDS_MAX   4         /* that a packet can bring; all but one are an error, and are closed */

/* What a packet begins with. Both ends are on one machine: the order of the bytes is its own. */
struct head {
    char version[4];
    uint32_t kind;
    uint32_t from;
    uint32_t pid;
    uint32_t to_all;
    uint32_t topic;
    uint32_t total;
    uint32_t offset;
};

/* Room for the descriptors of a packet. */
union control {
    struct cmsghdr head;
    char bytes[CMSG_SPACE(FDS_MAX * sizeof(int))];
};

/* Make a box. */
int ld_mail_packet_open(int ends[2]) {
    const int size = QUEUE_MAX;
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, ends) < 0) {
        return -errno;
    }
    setsockopt(ends[1], SOL_SOCKET, SO_SNDBUF, &size, sizeof size);
    return 0;
}

/* Put a descriptor into a message. */
static void attach(struct msghdr *message, union control *control, int fd) {
    message->msg_control = control->bytes;
    message->msg_controllen = CMSG_SPACE(sizeof fd);
    control->head = (struct cmsghdr){
        .cmsg_len = CMSG_LEN(sizeof fd), .cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS};
    memcpy(CMSG_DATA(&control->head), &fd, sizeof fd);
}

/* Send a packet. */
int ld_mail_packet_send(int box, const struct ld_mail_packet *packet) {
    struct head head = {.version = VERSION,
                        .kind = packet->kind,
                        .from = packet->from,
                        .pid = packet->pid,
                        .to_all = packet->to_all,
                        .topic = packet->topic,
                        .total = packet->total,
                        .offset = packet->offset};
    union control control = {.bytes = {0}};
    struct iovec parts[2] = {
        {.iov_base = &head, .iov_len = sizeof head},
        {.iov_base = (void *)(uintptr_t)packet->bytes, .iov_len = packet->size},
    };
    struct msghdr message = {.msg_iov = parts, .msg_iovlen = packet->size > 0 ? 2 : 1};
    ssize_t sent;
    if (packet->fd >= 0) {
        attach(&message, &control, packet->fd);
    }
    do {
        sent = sendmsg(box, &message, MSG_NOSIGNAL | MSG_DONTWAIT);
    } while (sent < 0 && errno == EINTR);
    return sent < 0 ? -errno : 0;
}

/* Take the descriptors of a message: the only one, or -1 after closing several. */
static int take_fd(struct msghdr *message, bool *several) {
    int fds[FDS_MAX];
    size_t count = 0;
    const struct cmsghdr *part = CMSG_FIRSTHDR(message);
    if (part != NULL && part->cmsg_level == SOL_SOCKET && part->cmsg_type == SCM_RIGHTS) {
        count = (part->cmsg_len - CMSG_LEN(0)) / sizeof(int);
        memcpy(fds, CMSG_DATA(part), count * sizeof(int));
    }
    *several = count > 1;
    for (size_t i = 0; *several && i < count; i++) {
        close(fds[i]);
    }
    return count == 1 ? fds[0] : -1;
}

/* Whether the other end is closed and nothing is left to receive: an empty packet looks the same
 * otherwise. */
static bool has_ended(int box) {
    struct pollfd poller = {.fd = box, .events = POLLRDHUP};
    int waiting = 0;
    return poll(&poller, 1, 0) > 0 && (poller.revents & (POLLRDHUP | POLLHUP | POLLERR)) != 0 &&
           (ioctl(box, SIOCINQ, &waiting) < 0 || waiting == 0);
}

/* Whether a part is one of a message that may be. */
static bool is_part(const struct ld_mail_packet *packet) {
    return packet->topic >= 1 && packet->topic <= LD_MAIL_TOPIC_MAX &&
           packet->total >= packet->topic && packet->total <= packet->topic + LD_MAIL_DATA_MAX &&
           packet->size > 0 && packet->offset < packet->total &&
           packet->size <= packet->total - packet->offset;
}

/* Parse the head of a packet, with SIZE bytes after it. */
static bool parse(const struct head *head, size_t size, struct ld_mail_packet *packet) {
    if (memcmp(head->version, VERSION, sizeof head->version) != 0 || head->to_all > 1 ||
        head->from < 1 || head->from > LD_MAIL_WORKERS_MAX || head->kind < LD_MAIL_PART ||
        head->kind > LD_MAIL_GONE) {
        return false;
    }
    packet->kind = (enum ld_mail_kind)head->kind;
    packet->from = head->from;
    packet->pid = head->pid;
    packet->to_all = head->to_all;
    packet->topic = head->topic;
    packet->total = head->total;
    packet->offset = head->offset;
    packet->size = size;
    return packet->kind == LD_MAIL_PART ? is_part(packet) : size == 0;
}

/* Receive a packet. */
int ld_mail_packet_receive(int box, struct ld_mail_packet *packet) {
    static char bytes[LD_MAIL_PART_MAX];
    struct head head;
    union control control;
    struct iovec parts[2] = {
        {.iov_base = &head, .iov_len = sizeof head},
        {.iov_base = bytes, .iov_len = sizeof bytes},
    };
    struct msghdr message = {.msg_iov = parts,
                             .msg_iovlen = 2,
                             .msg_control = control.bytes,
                             .msg_controllen = sizeof control.bytes};
    ssize_t size;
    bool several;
    *packet = (struct ld_mail_packet){.bytes = bytes, .fd = -1};
    do {
        size = recvmsg(box, &message, MSG_CMSG_CLOEXEC | MSG_DONTWAIT);
    } while (size < 0 && errno == EINTR);
    if (size < 0) {
        return -errno;
    }
    packet->fd = take_fd(&message, &several);
    if (size == 0 && packet->fd < 0 && !several && has_ended(box)) {
        return 0;
    }
    bool is_whole = size >= (ssize_t)sizeof head && (message.msg_flags & MSG_TRUNC) == 0 &&
                    !several && parse(&head, (size_t)size - sizeof head, packet);
    bool has_lost = (message.msg_flags & MSG_CTRUNC) != 0;
    bool wants_fd = is_whole && packet->kind == LD_MAIL_PEER;
    int rc = !is_whole ? -EPROTO : has_lost ? -EMFILE : wants_fd != (packet->fd >= 0) ? -EPROTO : 1;
    if (rc < 0 && packet->fd >= 0) {
        close(packet->fd);
        packet->fd = -1;
    }
    return rc;
}
