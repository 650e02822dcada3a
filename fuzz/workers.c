/* The master's end of a worker's channel: a worker sends anything, and gets the log, its own files and sockets at most. */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "daemon/hold_worker.h"
#include "daemon/keeper_channel.h"
#include "engine/listener.h"
#include "engine/workers.h"
#include "fuzz.h"
#include "host/workers.h"
#include "posix/sealed.h"

static const char *directory;
static int dir = -1;

/* What a request for a socket can say: nothing that touches a file beside those of the fuzzer. */
static void make_listen(struct fuzz_input *input, struct ld_text *text) {
    static const char *const addresses[] = {
        "127.0.0.1:0", "[::1]:0", "fd:0", "fd:7",   "fd:x",           "fd:99999999999", "",
        " ",           "x:y:80",  "@",    "unix:x", "127.0.0.1:99999"};
    static const char *const numbers[] = {"-1", "0", "5", "2147483648", "-2", "x", "", "511"};
    uint8_t which = fuzz_byte(input);
    ld_text_format(text, "%s %s ", numbers[which % 8], numbers[which / 8 % 8]);
    which = fuzz_byte(input);
    if (which % 16 < LD_COUNT(addresses)) {
        ld_text_puts(text, addresses[which % 16]);
    } else {
        ld_text_format(text, "unix:%s/s%d", directory, which % 3);
    }
}

/* Make what a packet brings, as its kind says: nothing, an image, or something else. */
static int make_fd(uint8_t kind) {
    return kind < 64    ? -1
           : kind < 128 ? ld_sealed_make("lunad-fuzz", "lunad", 5)
           : kind < 192 ? open("/dev/null", O_RDONLY | O_CLOEXEC)
                        : socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
}

/* Send one packet: raw bytes, or a word that the protocol has. */
static void send_one(struct fuzz_input *input, int channel) {
    static const char *const words[] = {
        LD_KEEPER_WORD_LOG,          LD_KEEPER_WORD_ROTATE,
        LD_KEEPER_WORD_LOCK,         LD_KEEPER_WORD_CONTROL,
        LD_KEEPER_WORD_READY,        LD_KEEPER_WORD_FINISHED,
        LD_KEEPER_WORD_FAILED,       LD_KEEPER_WORD_STOPPING,
        LD_WORKERS_WORD_MEMORY,      LD_WORKERS_WORD_PREPARED,
        LD_WORKERS_WORD_REFUSED,     LD_WORKERS_WORD_COMMITTED,
        LD_WORKERS_WORD_FAILED,      LD_WORKERS_WORD_UNLISTEN,
        LD_WORKERS_WORD_UNPROVED,    LD_WORKERS_WORD_PROVED,
        LD_WORKERS_WORD_RELOAD,      LD_WORKERS_WORD_CHANGED,
        LD_WORKERS_WORD_UPGRADE_CAN, LD_WORKERS_WORD_UPGRADE_REFUSED,
        LD_WORKERS_WORD_UPGRADED,    LD_WORKERS_WORD_LISTEN};
    struct ld_text text = {0};
    size_t word = fuzz_byte(input) % (LD_COUNT(words) + 2);
    size_t number = fuzz_byte(input) % 4;
    int fd = make_fd(fuzz_byte(input));
    size_t size;
    if (word < LD_COUNT(words) && strcmp(words[word], LD_WORKERS_WORD_LISTEN) == 0) {
        make_listen(input, &text);
    } else {
        const char *bytes = fuzz_bytes(input, 255, &size);
        ld_text_add(&text, bytes, size);
    }
    if (word < LD_COUNT(words)) {
        ld_packet_send(channel, number, words[word], ld_text_string(&text), text.size, fd);
    } else if (memmem(ld_text_string(&text), text.size, "listen", 6) == NULL) {
        send(channel, ld_text_string(&text), text.size, MSG_NOSIGNAL | MSG_DONTWAIT);
    }
    if (fd >= 0) {
        close(fd);
    }
    ld_text_fini(&text);
}

/* Check the answers: each has the number of a request, and a descriptor or an errno. */
static void check_answers(int channel) {
    struct ld_packet packet;
    while (ld_packet_receive(channel, &packet) == 1) {
        bool is_ok = strcmp(packet.word, LD_KEEPER_WORD_OK) == 0;
        bool is_error = strcmp(packet.word, LD_KEEPER_WORD_ERROR) == 0;
        FUZZ_CHECK(!is_ok || packet.fd >= 0);
        FUZZ_CHECK(!is_error || (packet.fd < 0 && packet.size > 0 && atoi(packet.text) > 0));
        if (packet.fd >= 0) {
            close(packet.fd);
        }
    }
}

/* Make a master without a chunk. */
static void open_master(struct ld_host *host, struct ld_service *service) {
    FUZZ_CHECK(uv_loop_init(&host->loop) == 0);
    uv_timer_init(&host->loop, &host->alarm);
    host->service = service;
    host->master.inherited = host->master.crew.program = host->upgrade.program = -1;
    host->listeners = ld_listeners_new();
    FUZZ_CHECK(host->listeners != NULL && ld_master_open(host) == 0);
}

/* Close it. */
static void close_master(struct ld_host *host) {
    ld_master_close(host);
    ld_hold_worker_release(host->service);
    uv_close((uv_handle_t *)&host->alarm, NULL);
    uv_run(&host->loop, UV_RUN_DEFAULT);
    FUZZ_CHECK(uv_loop_close(&host->loop) == 0);
    ld_listeners_free(host->listeners);
}

/* Make the directory, and let libuv open what it opens once in a process. */
static void warm_up(void) {
    uv_loop_t loop;
    dir = fuzz_directory(&directory);
    FUZZ_CHECK(uv_loop_init(&loop) == 0);
    uv_run(&loop, UV_RUN_NOWAIT);
    FUZZ_CHECK(uv_loop_close(&loop) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static struct ld_host host;
    struct fuzz_input input = {data, size};
    const struct ld_options options = {.stop_timeout = 10};
    char log[128];
    if (dir < 0) {
        warm_up();
    }
    snprintf(log, sizeof log, "%s/log", directory);
    struct ld_service service = {.notify_fd = -1,
                                 .options = &options,
                                 .listener = -1,
                                 .channel = -1,
                                 .keeper = -1,
                                 .log_fd = -1,
                                 .log_path = log,
                                 .log_place.dir = -1,
                                 .name = (char[]){"x"},
                                 .run_fd = dir,
                                 .run_dir = (char *)(size_t)directory,
                                 .is_master = true,
                                 .worker_words = (char *[]){NULL},
                                 .words = (char *[]){NULL},
                                 .environment = (char *[]){NULL},
                                 .workers = 2};
    int free_fd = fuzz_free_fd();
    memset(&host, 0, sizeof host);
    open_master(&host, &service);
    int channel = ld_workers_connect(host.master.channels, 1);
    FUZZ_CHECK(channel >= 0);
    while (input.left > 0) {
        send_one(&input, channel);
        uv_run(&host.loop, UV_RUN_NOWAIT);
        check_answers(channel);
    }
    FUZZ_CHECK(ld_workers_is_connected(host.master.channels, 1));
    FUZZ_CHECK(host.master.unproved_count == 0);
    close(channel);
    uv_run(&host.loop, UV_RUN_NOWAIT);
    FUZZ_CHECK(!ld_workers_is_connected(host.master.channels, 1));
    close_master(&host);
    FUZZ_CHECK(fuzz_free_fd() == free_fd);
    return 0;
}
