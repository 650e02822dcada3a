/* Packets between host and keeper: what was sent is received, anything else is refused, and no descriptor is
 * left. */
#include "posix/packet.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "fuzz.h"

#define FDS_MAX 12

/* Send bytes with COUNT descriptors. */
static void send_bytes(int channel, const char *bytes, size_t size, size_t count) {
    int null = open("/dev/null", O_RDONLY | O_CLOEXEC);
    union {
        struct cmsghdr head;
        char bytes[CMSG_SPACE(FDS_MAX * sizeof(int))];
    } control = {.bytes = {0}};
    struct iovec part = {.iov_base = (void *)(size_t)bytes, .iov_len = size};
    struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1};
    if (count > 0) {
        message.msg_control = control.bytes;
        message.msg_controllen = CMSG_SPACE(count * sizeof(int));
        struct cmsghdr *head = CMSG_FIRSTHDR(&message);
        *head = (struct cmsghdr){.cmsg_len = CMSG_LEN(count * sizeof(int)),
                                 .cmsg_level = SOL_SOCKET,
                                 .cmsg_type = SCM_RIGHTS};
        for (size_t i = 0; i < count; i++) {
            memcpy(CMSG_DATA(head) + i * sizeof null, &null, sizeof null);
        }
    }
    FUZZ_CHECK(sendmsg(channel, &message, MSG_NOSIGNAL) == (ssize_t)size);
    close(null);
}

/* Send a received packet again, and check that it arrives as it was. */
static void check_again(const int ends[2], const struct ld_packet *packet) {
    struct ld_packet again;
    char word[sizeof packet->word];
    unsigned long number = packet->number;
    size_t size = packet->size;
    char *text = malloc(size + 1);
    FUZZ_CHECK(text != NULL);
    memcpy(text, packet->text, size);
    memcpy(word, packet->word, sizeof word);
    FUZZ_CHECK(word[0] != '\0' && strspn(word, "abcdefghijklmnopqrstuvwxyz-") == strlen(word));
    FUZZ_CHECK(number <= 999999999 && packet->text[size] == '\0');
    FUZZ_CHECK(ld_packet_send(ends[1], number, word, text, size, -1) == 0);
    FUZZ_CHECK(ld_packet_receive(ends[0], &again) == 1);
    FUZZ_CHECK(again.number == number && strcmp(again.word, word) == 0 && again.fd == -1);
    FUZZ_CHECK(again.size == size && memcmp(again.text, text, size) == 0);
    free(text);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    int ends[2];
    struct ld_packet packet;
    struct fuzz_input input = {data, size};
    int free_fd = fuzz_free_fd();
    FUZZ_CHECK(ld_packet_open(ends) == 0);
    FUZZ_CHECK(ld_packet_receive(ends[0], &packet) == -EAGAIN);
    size_t fds = fuzz_byte(&input) % (FDS_MAX + 1);
    send_bytes(ends[1], (const char *)input.at, input.left, fds);
    int rc = ld_packet_receive(ends[0], &packet);
    FUZZ_CHECK(rc == 1 || rc == -EPROTO || rc == -EMFILE);
    FUZZ_CHECK(rc == 1 ? (packet.fd >= 0) == (fds == 1) : packet.fd == -1);
    if (packet.fd >= 0) {
        close(packet.fd);
    }
    if (rc == 1) {
        check_again(ends, &packet);
    }
    close(ends[1]);
    FUZZ_CHECK(ld_packet_receive(ends[0], &packet) == 0);
    close(ends[0]);
    FUZZ_CHECK(fuzz_free_fd() == free_fd);
    return 0;
}
