#include "daemon/start_report.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define TEXT_MAX 60000

/* The part of a packet before the text. */
struct head {
    int kind;
    int status;
};

/* Send a report. */
void ld_start_report_send(int channel, enum ld_start_report_kind kind, int status,
                          const char *text) {
    struct head head = {.kind = (int)kind, .status = status};
    size_t size = strlen(text);
    struct iovec parts[2] = {
        {.iov_base = &head, .iov_len = sizeof head},
        {.iov_base = (void *)(size_t)text, .iov_len = size < TEXT_MAX ? size : TEXT_MAX},
    };
    struct msghdr message = {.msg_iov = parts, .msg_iovlen = 2};
    while (channel >= 0 && sendmsg(channel, &message, MSG_NOSIGNAL) < 0 && errno == EINTR) {
    }
}

/* Make the pair. */
int ld_start_report_open(int ends[2]) {
    const int on = 1;
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) < 0) {
        return -errno;
    }
    if (setsockopt(ends[0], SOL_SOCKET, SO_PASSCRED, &on, sizeof on) < 0) {
        int code = errno;
        close(ends[0]);
        close(ends[1]);
        return -code;
    }
    return 0;
}

/* Read who sent a packet, as the kernel says; 0 if it does not. */
static pid_t find_sender(struct msghdr *message) {
    struct ucred sender = {.pid = 0};
    struct cmsghdr *part = CMSG_FIRSTHDR(message);
    if (part != NULL && part->cmsg_level == SOL_SOCKET && part->cmsg_type == SCM_CREDENTIALS &&
        part->cmsg_len >= CMSG_LEN(sizeof sender)) {
        memcpy(&sender, CMSG_DATA(part), sizeof sender);
    }
    return sender.pid;
}

/* Receive one report. */
int ld_start_report_receive(int channel, struct ld_start_report *report) {
    static char body[TEXT_MAX];
    struct head head;
    struct iovec parts[2] = {
        {.iov_base = &head, .iov_len = sizeof head},
        {.iov_base = body, .iov_len = sizeof body},
    };
    union {
        struct cmsghdr head;
        char bytes[CMSG_SPACE(sizeof(struct ucred))];
    } control;
    struct msghdr message = {.msg_iov = parts,
                             .msg_iovlen = 2,
                             .msg_control = control.bytes,
                             .msg_controllen = sizeof control.bytes};
    ssize_t size;
    do { /* ECONNRESET comes once, before the data, if the other end left ours unread */
        size = recvmsg(channel, &message, MSG_CMSG_CLOEXEC);
    } while (size < 0 && (errno == EINTR || errno == ECONNRESET));
    if (size <= 0) {
        return size == 0 ? 0 : -errno;
    }
    if ((size_t)size < sizeof head) {
        return -EPROTO;
    }
    report->kind = (enum ld_start_report_kind)head.kind;
    report->status = head.status;
    report->sender = find_sender(&message);
    ld_text_clear(&report->text);
    ld_text_add(&report->text, body, (size_t)size - sizeof head);
    return 1;
}
