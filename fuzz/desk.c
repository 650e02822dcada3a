/* The keeper at the control socket: each line is answered once, as the host would, and nobody waits. */
#include "daemon/keeper_desk.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "fuzz.h"

static int listener = -1;
static struct sockaddr_un address = {.sun_family = AF_UNIX};
static socklen_t address_size;

/* Answer a request. */
static json_t *answer(void *arg, const char *verb) {
    (void)arg;
    return json_pack("{s:b, s:s}", "ok", 1, "verb", verb);
}

/* Listen, once. */
static void open_listener(void) {
    listener = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    int size = snprintf(address.sun_path + 1, sizeof address.sun_path - 1, "lunad-fuzz-desk-%d",
                        (int)getpid());
    address_size = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 + (size_t)size);
    FUZZ_CHECK(bind(listener, (struct sockaddr *)&address, address_size) == 0);
    FUZZ_CHECK(listen(listener, 8) == 0);
}

/* Serve what there is. */
static void serve(struct ld_keeper_desk *desk) {
    struct pollfd polls[LD_KEEPER_DESK_POLLS];
    ld_keeper_desk_poll(desk, polls);
    if (poll(polls, LD_KEEPER_DESK_POLLS, 0) > 0) {
        ld_keeper_desk_serve(desk, polls);
    }
}

/* Check the answers: JSON lines, each of which says whether it is ok; how many there are. */
static size_t check_answers(const struct ld_text *answers) {
    size_t count = 0;
    const char *line = ld_text_string(answers);
    for (const char *end; (end = strchr(line, '\n')) != NULL; line = end + 1) {
        json_t *reply = json_loadb(line, (size_t)(end - line), JSON_REJECT_DUPLICATES, NULL);
        FUZZ_CHECK(json_is_boolean(json_object_get(reply, "ok")));
        json_decref(reply);
        count++;
    }
    FUZZ_CHECK(*line == '\0');
    return count;
}

/* Receive what has been answered. */
static void receive(int fd, struct ld_text *answers) {
    char bytes[16384];
    ssize_t size;
    while ((size = recv(fd, bytes, sizeof bytes, MSG_DONTWAIT)) > 0) {
        ld_text_add(answers, bytes, (size_t)size);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct fuzz_input input = {data, size};
    struct ld_keeper_desk desk;
    struct ld_text answers = {0};
    if (listener < 0) {
        open_listener();
    }
    int free_fd = fuzz_free_fd();
    ld_keeper_desk_open(&desk, listener, getuid(), answer, NULL);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    FUZZ_CHECK(connect(fd, (struct sockaddr *)&address, address_size) == 0);
    size_t lines = 0;
    while (input.left > 0) {
        size_t piece;
        const char *bytes = fuzz_bytes(&input, 255, &piece);
        lines += piece > 0 && memchr(bytes, '\n', piece) != NULL;
        send(fd, bytes, piece, MSG_NOSIGNAL | MSG_DONTWAIT);
        serve(&desk);
        serve(&desk);
        receive(fd, &answers);
    }
    size_t count = check_answers(&answers);
    FUZZ_CHECK(count <= size && (count > 0 || lines == 0 || size > 4096));
    close(fd);
    serve(&desk);
    ld_keeper_desk_close(&desk);
    ld_text_fini(&answers);
    FUZZ_CHECK(fuzz_free_fd() == free_fd);
    return 0;
}
