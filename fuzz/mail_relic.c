/* The messages that wait during an upgrade: what is read is written again as it was read, and what is nothing of the kind is
 * refused; nothing is left open. */
#include "engine/mail_relic.h"

#include <fcntl.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "fuzz.h"

static int box;

/* Take a message. */
static bool take(void *arg, const struct ld_mail_message *message) {
    (void)arg;
    FUZZ_CHECK(message->topic_size >= 1 && message->topic_size <= LD_MAIL_TOPIC_MAX);
    FUZZ_CHECK(message->size <= LD_MAIL_DATA_MAX);
    return true;
}

/* Every number of a descriptor stands for one box. */
static int leave(void *arg, int fd) {
    (void)arg;
    (void)fd;
    return 7;
}

static int copy(void *arg, int fd) {
    (void)arg;
    (void)fd;
    return fcntl(box, F_DUPFD_CLOEXEC, 3);
}

/* Read; NULL if it is refused. */
static struct ld_mail *read_relic(uv_loop_t *loop, const char *bytes, size_t size) {
    struct ld_mail *mail = ld_mail_new(loop, 1, take, NULL);
    size_t unsent;
    FUZZ_CHECK(mail != NULL);
    if (ld_mail_relic_read(mail, bytes, size, copy, NULL) < 0) {
        ld_mail_close(mail, &unsent);
        uv_run(loop, UV_RUN_NOWAIT);
        return NULL;
    }
    return mail;
}

/* Write what was read, and end it. */
static void write_relic(uv_loop_t *loop, struct ld_mail *mail, struct ld_text *out) {
    size_t unsent;
    ld_mail_relic_write(mail, out, leave, NULL);
    ld_mail_close(mail, &unsent);
    uv_run(loop, UV_RUN_NOWAIT);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    uv_loop_t loop;
    int ends[2];
    int free_fd = fuzz_free_fd();
    struct ld_text bytes = {0};
    ld_text_add(&bytes, (const char *)data, size);
    FUZZ_CHECK(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) == 0);
    box = ends[0];
    uv_loop_init(&loop);
    struct ld_mail *mail = read_relic(&loop, ld_text_string(&bytes), size);
    if (mail != NULL) {
        struct ld_text first = {0};
        struct ld_text second = {0};
        write_relic(&loop, mail, &first);
        mail = read_relic(&loop, ld_text_string(&first), first.size);
        FUZZ_CHECK(mail != NULL); /* else neither the new program nor the old one could go on */
        write_relic(&loop, mail, &second);
        FUZZ_CHECK(first.size == second.size);
        ld_text_fini(&first);
        ld_text_fini(&second);
    }
    uv_run(&loop, UV_RUN_DEFAULT);
    FUZZ_CHECK(uv_loop_close(&loop) == 0);
    close(ends[0]);
    close(ends[1]);
    ld_text_fini(&bytes);
    FUZZ_CHECK(fuzz_free_fd() == free_fd);
    return 0;
}
