/* The control socket, by a client that sends anything: each line is answered once, in order. */
#include "host/control.h"

#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/text.h"
#include "fuzz.h"
#include "host/lobby.h"

#define TURNS_MAX 100000
#define TOO_MUCH  ((1 << 20) + 4096) /* bytes without a newline */

static uv_loop_t loop;
static struct ld_control *control;
static struct sockaddr_un address = {.sun_family = AF_UNIX};
static socklen_t address_size;
static struct ld_waiter *waiters; /* for a reload or an eval */

/* Make the answer to a verb. */
static json_t *answer(const char *verb) {
    return json_pack("{s:b, s:s}", "ok", 1, "verb", verb);
}

static json_t *on_stop(void *host) {
    (void)host;
    return answer("stop");
}

static json_t *on_reopen(void *host) {
    (void)host;
    return answer("reopen");
}

/* Note who waits. */
static void note(struct ld_waiter *waiter) {
    waiter->next = waiters;
    waiters = waiter;
}

/* Answer at once, or, for all, later. */
static bool on_status(void *host, struct ld_waiter *waiter, const json_t *request,
                      struct ld_text *line) {
    (void)host;
    if (json_is_true(json_object_get(request, "full"))) {
        note(waiter);
        return false;
    }
    ld_text_puts(line, "{\"ok\":true,\"verb\":\"status\"}\n");
    return true;
}

/* Note who waits for a reload, or refuse. One that is to be held is, until the client commits it or the next turn. */
static json_t *on_reload(void *host, struct ld_waiter *waiter, const json_t *request, int fd) {
    const json_t *check = json_object_get(request, "check");
    (void)host;
    FUZZ_CHECK(fd >= 0);
    if (check != NULL && !json_is_boolean(check)) {
        return json_pack("{s:b, s:s}", "ok", 0, "error", "\"check\" must be true or false");
    }
    note(waiter);
    if (json_is_true(json_object_get(request, "hold"))) {
        waiter->tell(waiter, json_pack("{s:b, s:b}", "ok", 1, "held", 1));
    }
    return NULL;
}

/* Take the word of a client. */
static bool on_commit(void *host, const struct ld_waiter *waiter) {
    const struct ld_waiter *at = waiters;
    (void)host;
    while (at != NULL && at != waiter) {
        at = at->next;
    }
    FUZZ_CHECK(at == waiter);
    return true;
}

/* Note who waits, or refuse. */
static json_t *on_eval(void *host, struct ld_waiter *waiter, const json_t *request, int fd) {
    FUZZ_CHECK(fd >= 0);
    if (!json_is_string(json_object_get(request, "chunk"))) {
        return json_pack("{s:b, s:s}", "ok", 0, "error", "no chunk");
    }
    (void)host;
    note(waiter);
    return NULL;
}

/* Note who waits. */
static json_t *on_later(void *host, struct ld_waiter *waiter, const json_t *request, int fd) {
    (void)host;
    (void)request;
    FUZZ_CHECK(fd >= 0);
    note(waiter);
    return NULL;
}

/* Forget who waits. */
static void on_forget(void *host, struct ld_waiter *waiter) {
    (void)host;
    struct ld_waiter **at = &waiters;
    while (*at != NULL && *at != waiter) {
        at = &(*at)->next;
    }
    FUZZ_CHECK(*at == waiter);
    *at = waiter->next;
}

static const struct ld_control_ops ops = {.status = on_status,
                                          .stop = on_stop,
                                          .reopen = on_reopen,
                                          .reload = on_reload,
                                          .commit = on_commit,
                                          .eval = on_eval,
                                          .profile = on_later,
                                          .heap = on_later,
                                          .forget = on_forget};

/* Open the socket, once. */
static void open_control(void) {
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    int size =
        snprintf(address.sun_path + 1, sizeof address.sun_path - 1, "lunad-fuzz-%d", (int)getpid());
    address_size = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 + (size_t)size);
    signal(SIGPIPE, SIG_IGN);
    FUZZ_CHECK(bind(fd, (struct sockaddr *)&address, address_size) == 0 && listen(fd, 8) == 0);
    FUZZ_CHECK(uv_loop_init(&loop) == 0);
    FUZZ_CHECK(ld_control_open(&control, &loop, fd, getuid(), ld_lobby_new(getuid())) == 0);
    ld_control_serve(control, &ops, NULL);
}

/* Turn the loop once, and tell who waits that it is done. */
static void turn(void) {
    uv_run(&loop, UV_RUN_NOWAIT);
    while (waiters != NULL) {
        struct ld_waiter *waiter = waiters;
        waiters = waiter->next;
        waiter->done(waiter, answer("waited"));
    }
}

/* Receive what has been answered; false at the end. */
static bool receive(int fd, struct ld_text *answers) {
    char bytes[16384];
    ssize_t size = recv(fd, bytes, sizeof bytes, MSG_DONTWAIT);
    if (size > 0) {
        ld_text_add(answers, bytes, (size_t)size);
    }
    return size != 0 && (size > 0 || errno == EAGAIN);
}

/* Send a request in pieces, and receive answers, until there are WANTED or the connection ends. */
static void talk(int fd, const struct ld_text *request, size_t piece, size_t wanted,
                 struct ld_text *answers) {
    size_t sent = 0;
    size_t lines = 0;
    size_t seen = 0;
    for (int turns = 0; sent < request->size || lines < wanted; turns++) {
        FUZZ_CHECK(turns < TURNS_MAX);
        size_t left = request->size - sent;
        ssize_t size = left > 0 ? send(fd, request->data + sent, left < piece ? left : piece,
                                       MSG_NOSIGNAL | MSG_DONTWAIT)
                                : 0;
        sent += size > 0 ? (size_t)size : 0;
        turn();
        if (!receive(fd, answers)) {
            return;
        }
        for (; seen < answers->size; seen++) {
            lines += answers->data[seen] == '\n';
        }
    }
}

/* Check the answer to a line. */
static void check_answer(const char *line, size_t size, const char *text, size_t text_size) {
    json_t *request = json_loadb(line, size, JSON_REJECT_DUPLICATES, NULL);
    json_t *reply = json_loadb(text, text_size, JSON_REJECT_DUPLICATES, NULL);
    const char *verb = json_string_value(json_object_get(request, "verb"));
    const json_t *check = json_object_get(request, "check");
    bool waits = verb != NULL &&
                 ((strcmp(verb, "reload") == 0 && (check == NULL || json_is_boolean(check))) ||
                  strcmp(verb, "profile") == 0 || strcmp(verb, "heap") == 0 ||
                  (strcmp(verb, "eval") == 0 && json_is_string(json_object_get(request, "chunk"))));
    bool is_known =
        waits || (verb != NULL && (strcmp(verb, "status") == 0 || strcmp(verb, "stop") == 0 ||
                                   strcmp(verb, "reopen") == 0));
    FUZZ_CHECK(json_is_boolean(json_object_get(reply, "ok")));
    FUZZ_CHECK(json_is_true(json_object_get(reply, "ok")) == is_known);
    if (is_known) {
        const char *done = json_string_value(json_object_get(reply, "verb"));
        FUZZ_CHECK(strcmp(done, waits ? "waited" : verb) == 0);
    } else {
        const json_t *error = json_object_get(reply, "error");
        FUZZ_CHECK(json_is_string(error) && strchr(json_string_value(error), '\n') == NULL);
    }
    json_decref(request);
    json_decref(reply);
}

/* Check that each line has its answer; how many there are. */
static void check_answers(const struct ld_text *request, const struct ld_text *answers) {
    const char *line = ld_text_string(request);
    const char *end = line + request->size;
    const char *reply = ld_text_string(answers);
    const char *newline;
    while (line < end && (newline = memchr(line, '\n', (size_t)(end - line))) != NULL) {
        const char *reply_end = strchr(reply, '\n');
        FUZZ_CHECK(reply_end != NULL);
        check_answer(line, (size_t)(newline - line), reply, (size_t)(reply_end - reply));
        line = newline + 1;
        reply = reply_end + 1;
    }
    FUZZ_CHECK(end - line > (1 << 20) ? strstr(reply, "1 MiB") != NULL : *reply == '\0');
}

/* Count the lines. */
static size_t count_lines(const struct ld_text *text) {
    size_t count = 0;
    for (size_t i = 0; i < text->size; i++) {
        count += text->data[i] == '\n';
    }
    return count;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct fuzz_input input = {data, size};
    struct ld_text request = {0};
    struct ld_text answers = {0};
    if (control == NULL) {
        open_control();
    }
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    FUZZ_CHECK(connect(fd, (struct sockaddr *)&address, address_size) == 0);
    uint8_t mode = fuzz_byte(&input);
    size_t piece = (size_t)4 << 2 * (mode % 8);
    ld_text_add(&request, (const char *)input.at, input.left);
    bool is_too_much = mode == 255;
    while (is_too_much && request.size < TOO_MUCH) {
        ld_text_puts(&request, "################################################################");
    }
    bool holds = memmem(request.data, request.size, "hold", 4) != NULL; /* when they come decides */
    bool hangs_up = (mode >= 192 && mode < 224) || holds;
    talk(fd, &request, piece, hangs_up ? 0 : count_lines(&request) + (size_t)is_too_much, &answers);
    if (!hangs_up) {
        check_answers(&request, &answers);
    }
    close(fd);
    for (int i = 0; i < 8; i++) {
        turn();
    }
    FUZZ_CHECK(waiters == NULL);
    ld_text_fini(&request);
    ld_text_fini(&answers);
    return 0;
}
