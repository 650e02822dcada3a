/* The keeper's end of its channel: a host with fewer rights sends anything, and gets the log at most. */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "daemon/keeper_channel.h"
#include "daemon/keeper_host.h"
#include "fuzz.h"
#include "posix/packet.h"

/* Send one packet: raw bytes, or a word that the protocol has. */
static void send_one(struct fuzz_input *input, int channel) {
    static const char *const words[] = {LD_KEEPER_WORD_LOG,    LD_KEEPER_WORD_READY,
                                        LD_KEEPER_WORD_FAILED, LD_KEEPER_WORD_FINISHED,
                                        LD_KEEPER_WORD_STOP,   LD_KEEPER_WORD_SOCKET};
    size_t size;
    uint8_t kind = fuzz_byte(input);
    size_t number = fuzz_byte(input) % 4;
    const char *bytes = fuzz_bytes(input, 255, &size);
    if (kind % 8 >= LD_COUNT(words)) {
        send(channel, bytes, size, MSG_NOSIGNAL | MSG_DONTWAIT);
        return;
    }
    int fd = kind >= 128 ? open("/dev/null", O_RDONLY | O_CLOEXEC) : -1;
    ld_packet_send(channel, number, words[kind % 8], bytes, size, fd);
    if (fd >= 0) {
        close(fd);
    }
}

/* Check the answers: each has the number of a request, and a descriptor or an errno. */
static void check_answers(int channel) {
    struct ld_packet packet;
    while (ld_packet_receive(channel, &packet) == 1) {
        if (strcmp(packet.word, LD_KEEPER_WORD_TOLD) == 0) {
            FUZZ_CHECK(packet.number == 0 && packet.fd < 0);
            continue;
        }
        bool is_ok = strcmp(packet.word, LD_KEEPER_WORD_OK) == 0;
        FUZZ_CHECK(is_ok || strcmp(packet.word, LD_KEEPER_WORD_ERROR) == 0);
        FUZZ_CHECK(is_ok == (packet.fd >= 0));
        FUZZ_CHECK(!is_ok ||
                   (fcntl(packet.fd, F_GETFL) & (O_ACCMODE | O_APPEND)) == (O_WRONLY | O_APPEND));
        FUZZ_CHECK(is_ok || (packet.size > 0 && atoi(packet.text) > 0));
        if (packet.fd >= 0) {
            close(packet.fd);
        }
    }
}

/* Check what was reported to the process that a person started: at most one thing. */
static void check_report(int channel, bool reported) {
    struct ld_start_report report = {0};
    int rc = ld_start_report_receive(channel, &report);
    FUZZ_CHECK(rc == (reported ? 1 : 0));
    if (rc == 1) {
        FUZZ_CHECK(report.sender == getpid());
        FUZZ_CHECK(ld_start_report_receive(channel, &report) == 0);
    }
    ld_text_fini(&report.text);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct fuzz_input input = {data, size};
    const struct ld_options options = {.stop_timeout = 10};
    struct ld_service service = {.notify_fd = -1,
                                 .options = &options,
                                 .listener = -1,
                                 .channel = -1,
                                 .keeper = -1,
                                 .log_fd = -1};
    struct ld_keeper keeper = {.service = &service, .host = 0x3fffffff};
    static const char *directory;
    static int dir = -1;
    char log[128];
    int ends[2];
    int reports[2];
    dir = dir < 0 ? fuzz_directory(&directory) : dir;
    snprintf(log, sizeof log, "%s/log", directory);
    service.log_path = log;
    service.log_place.dir = -1;
    int free_fd = fuzz_free_fd();
    FUZZ_CHECK(ld_packet_open(ends) == 0 && ld_start_report_open(reports) == 0);
    service.name = (char[]){"x"};
    service.channel = reports[1];
    service.run_fd = -1;
    keeper.channel = ends[0];
    while (input.left > 0) {
        send_one(&input, ends[1]);
    }
    shutdown(ends[1], SHUT_WR);
    ld_keeper_host_take_leave(&keeper);
    FUZZ_CHECK(keeper.channel == -1);
    check_answers(ends[1]);
    fuzz_check_line(ld_text_string(&keeper.failure), keeper.failure.size);
    if (service.channel >= 0) {
        close(service.channel);
    }
    check_report(reports[0], keeper.reported);
    close(ends[1]);
    close(reports[0]);
    ld_text_fini(&keeper.failure);
    FUZZ_CHECK(fuzz_free_fd() == free_fd);
    return 0;
}
