#include "report.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>

#define TEXT_MAX 60000

/* What stands before the text in a packet. */
struct head {
    int kind;
    int status;
};

/* Send a report. */
void ld_report_send(int channel, enum ld_report_kind kind, int status, const char *text) {
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

/* Receive one report. */
int ld_report_receive(int channel, enum ld_report_kind *kind, int *status, struct ld_text *text) {
    static char body[TEXT_MAX];
    struct head head;
    struct iovec parts[2] = {
        {.iov_base = &head, .iov_len = sizeof head},
        {.iov_base = body, .iov_len = sizeof body},
    };
    struct msghdr message = {.msg_iov = parts, .msg_iovlen = 2};
    ssize_t size;
    do {
        size = recvmsg(channel, &message, 0);
    } while (size < 0 && errno == EINTR);
    if (size <= 0) {
        return size == 0 || errno == ECONNRESET ? 0 : -errno;
    }
    if ((size_t)size < sizeof head) {
        return -EPROTO;
    }
    *kind = (enum ld_report_kind)head.kind;
    *status = head.status;
    ld_text_clear(text);
    ld_text_add(text, body, (size_t)size - sizeof head);
    return 1;
}
