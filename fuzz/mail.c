/* The box of a worker: whatever comes into it, messages that are passed on are within their bounds, and nothing is
 * left open. */
#include "engine/mail.h"

#include <fcntl.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "fuzz.h"

#define PACKETS_MOST 64

static uv_loop_t loop;
static uv_timer_t alive;
static size_t taken;

/* Check a message, and refuse more now and then. */
static bool take(void *arg, const struct ld_mail_message *message) {
    (void)arg;
    FUZZ_CHECK(message->from >= 1 && message->from <= LD_MAIL_WORKERS_MAX);
    FUZZ_CHECK(message->topic_size >= 1 && message->topic_size <= LD_MAIL_TOPIC_MAX);
    FUZZ_CHECK(message->size <= LD_MAIL_DATA_MAX);
    volatile unsigned char sum = 0;
    for (size_t i = 0; i < message->topic_size; i++) {
        sum = (unsigned char)(sum + (unsigned char)message->topic[i]);
    }
    for (size_t i = 0; i < message->size; i++) {
        sum = (unsigned char)(sum + (unsigned char)message->data[i]);
    }
    return ++taken % 7 != 0;
}

/* Put a packet into the box: raw bytes, or one that is nearly right. */
static void put(struct fuzz_input *input, int box, int other) {
    size_t size;
    uint8_t kind = fuzz_byte(input);
    uint8_t flags = fuzz_byte(input);
    uint32_t offset = fuzz_byte(input);
    uint32_t total = fuzz_byte(input);
    const char *bytes = fuzz_bytes(input, 255, &size);
    if (kind >= 200) {
        send(box, bytes, size, MSG_NOSIGNAL | MSG_DONTWAIT);
        return;
    }
    const struct ld_mail_packet packet = {.kind = (enum ld_mail_kind)(1 + kind % 3),
                                          .from = flags % 5,
                                          .pid = flags / 128,
                                          .to_all = (flags & 8) != 0,
                                          .topic = 1 + flags % 3,
                                          .total = total,
                                          .offset = offset,
                                          .bytes = bytes,
                                          .size = size,
                                          .fd = kind % 3 == 1 ? other : -1};
    ld_mail_packet_send(box, &packet);
}

static void on_timer(uv_timer_t *timer) {
    (void)timer;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct fuzz_input input = {data, size};
    const struct ld_mail_message message = {
        .topic = "topic", .topic_size = 5, .data = "data", .size = 4};
    int ends[2];
    int other[2];
    size_t unsent;
    int free_fd = fuzz_free_fd();
    taken = 0;
    uv_loop_init(&loop);
    uv_timer_init(&loop, &alive);
    uv_timer_start(&alive, on_timer, 3600000, 0);
    struct ld_mail *mail = ld_mail_new(&loop, 1, take, NULL);
    if (mail == NULL || ld_mail_packet_open(ends) < 0 || ld_mail_packet_open(other) < 0) {
        return 0;
    }
    FUZZ_CHECK(ld_mail_read_box(mail, ends[0]) == 0);
    ld_mail_hold(mail, false);
    for (int i = 0; input.left > 0 && i < PACKETS_MOST; i++) {
        put(&input, ends[1], other[1]);
        ld_mail_send(mail, 1 + (unsigned)(i % 5), &message);
        uv_run(&loop, UV_RUN_NOWAIT);
        ld_mail_hold(mail, false);
        ld_mail_step(mail);
    }
    close(ends[1]);
    uv_run(&loop, UV_RUN_NOWAIT);
    ld_mail_close(mail, &unsent);
    close(other[0]);
    close(other[1]);
    uv_close((uv_handle_t *)&alive, NULL);
    uv_run(&loop, UV_RUN_DEFAULT);
    FUZZ_CHECK(uv_loop_close(&loop) == 0);
    FUZZ_CHECK(fuzz_free_fd() == free_fd);
    return 0;
}
