/* libuv where its table of descriptors cannot grow. */
#include "engine/uv_memory.h"

#include <fcntl.h>
#include <stdbool.h>
#include <sys/resource.h>
#include <unistd.h>
#include <uv.h>

#include "check.h"
#include "support.h"

static bool is_refused;
static int refused;

void *__real_realloc(void *memory, size_t size);
void *__wrap_realloc(void *memory, size_t size);

/* The C library's function, as the test wants it. */
void *__wrap_realloc(void *memory, size_t size) {
    refused += is_refused;
    return is_refused ? NULL : __real_realloc(memory, size);
}

static int events;

/* Count an event. */
static void on_event(uv_poll_t *poll, int status, int what) {
    CHECK_INT(0, status);
    CHECK_INT(UV_READABLE, what);
    events++;
    uv_close((uv_handle_t *)poll, NULL);
}

/* Begin to watch a copy of FD, which can be read, at NUMBER or above. */
static void watch(uv_loop_t *loop, uv_poll_t *poll, int fd, int number) {
    int copy = fcntl(fd, F_DUPFD_CLOEXEC, number);
    REQUIRE(copy >= number);
    REQUIRE(uv_poll_init(loop, poll, copy) == 0);
    REQUIRE(uv_poll_start(poll, UV_READABLE, on_event) == 0);
}

/* The table grows without memory, again with it, and again without: each descriptor is watched. */
static void grow(void) {
    struct rlimit limit;
    REQUIRE(getrlimit(RLIMIT_NOFILE, &limit) == 0);
    limit.rlim_cur = limit.rlim_max < 1024 ? limit.rlim_max : 1024;
    REQUIRE(setrlimit(RLIMIT_NOFILE, &limit) == 0);
    int ends[2];
    uv_loop_t loop;
    uv_poll_t polls[4];
    ld_uv_memory_install();
    REQUIRE(pipe2(ends, O_CLOEXEC) == 0 && write(ends[1], "x", 1) == 1);
    REQUIRE(uv_loop_init(&loop) == 0);
    watch(&loop, &polls[0], ends[0], 30);
    is_refused = true;
    watch(&loop, &polls[1], ends[0], 100);
    watch(&loop, &polls[2], ends[0], 200);
    is_refused = false;
    watch(&loop, &polls[3], ends[0], 400);
    CHECK(refused > 0);
    CHECK_INT(0, uv_run(&loop, UV_RUN_DEFAULT));
    CHECK_INT(4, events);
    CHECK_INT(0, uv_loop_close(&loop));
}

/* What is spare is used again and again. */
static void use_again(void) {
    int ends[2];
    ld_uv_memory_install();
    REQUIRE(pipe2(ends, O_CLOEXEC) == 0 && write(ends[1], "x", 1) == 1);
    for (int i = 0; i < 50; i++) {
        uv_loop_t loop;
        uv_poll_t poll;
        REQUIRE(uv_loop_init(&loop) == 0);
        is_refused = true;
        watch(&loop, &poll, ends[0], 100 + i);
        CHECK_INT(0, uv_run(&loop, UV_RUN_DEFAULT));
        CHECK_INT(0, uv_loop_close(&loop));
        is_refused = false;
    }
    CHECK_INT(50, events);
}

static void test_grow(void) {
    check_in_child(grow);
}

static void test_again(void) {
    check_in_child(use_again);
}

static const struct check_case cases[] = {
    {"the table of descriptors grows without memory", test_grow},
    {"as often as loops are closed", test_again},
};

CHECK_MAIN(cases)
