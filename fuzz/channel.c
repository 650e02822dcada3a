/* The host's end of the keeper's channel: whatever comes from there, nothing is left open and nothing waits. */
#include "daemon/keeper_channel.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "fuzz.h"
#include "posix/packet.h"

static volatile sig_atomic_t stops;

/* Count how often the host was asked to stop. */
static void on_term(int signo) {
    (void)signo;
    stops++;
}

/* Send a packet: raw bytes, or one of the protocol's own words. Returns whether it asks for a stop. */
static bool send_one(struct fuzz_input *input, int channel) {
    static const char *const words[] = {LD_KEEPER_WORD_OK, LD_KEEPER_WORD_ERROR,
                                        LD_KEEPER_WORD_STOP, LD_KEEPER_WORD_SOCKET,
                                        LD_KEEPER_WORD_READY};
    size_t size;
    uint8_t kind = fuzz_byte(input);
    size_t number = fuzz_byte(input) % 4;
    const char *bytes = fuzz_bytes(input, 255, &size);
    if (kind % 8 >= LD_COUNT(words)) {
        send(channel, bytes, size, MSG_NOSIGNAL | MSG_DONTWAIT);
        return false;
    }
    int fd = kind >= 128 ? open("/dev/null", O_RDONLY | O_CLOEXEC) : -1;
    ld_packet_send(channel, number, words[kind % 8], bytes, size, fd);
    if (fd >= 0) {
        close(fd);
    }
    return kind % 8 == 2;
}

/* Hear what comes until there is nothing more. */
static void hear(struct ld_service *service) {
    for (int i = 0; i < 300; i++) {
        int fd = -1;
        enum ld_keeper_event event = ld_keeper_channel_hear(service, &fd);
        FUZZ_CHECK((event == LD_KEEPER_SOCKET) == (fd >= 0));
        if (fd >= 0) {
            close(fd);
        }
        if (event == LD_KEEPER_GONE) {
            return;
        }
    }
    FUZZ_CHECK(!"the channel has an end");
}

/* Ask for the log among what comes. */
static void ask(struct ld_service *service) {
    int fd = ld_keeper_channel_open_log(service);
    FUZZ_CHECK(fd >= 0 || (fd < 0 && fd >= -4095));
    if (fd >= 0) {
        FUZZ_CHECK(fcntl(fd, F_GETFD) == FD_CLOEXEC);
        close(fd);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct fuzz_input input = {data, size};
    struct ld_service service = {.listener = -1, .channel = -1};
    int ends[2];
    int free_fd = fuzz_free_fd();
    signal(SIGTERM, on_term);
    FUZZ_CHECK(ld_packet_open(ends) == 0);
    service.keeper = ends[0];
    bool asks = fuzz_byte(&input) % 2 != 0;
    while (input.left > 0) {
        send_one(&input, ends[1]);
    }
    shutdown(ends[1], SHUT_WR);
    if (asks) {
        ask(&service);
    }
    hear(&service);
    close(ends[0]);
    close(ends[1]);
    if (service.listener >= 0) {
        close(service.listener);
    }
    FUZZ_CHECK(fuzz_free_fd() == free_fd);
    return 0;
}
