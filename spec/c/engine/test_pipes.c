#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "base/text.h"
#include "check.h"
#include "engine/pipes.h"
#include "support.h"

static uv_loop_t loop;
static struct ld_outlet outlet;
static struct ld_inlet inlet;
static struct ld_text got;
static int ends;   /* of the output */
static int drains; /* of the input */
static int closes;
static int theirs;

static void on_bytes(struct ld_outlet *from, const char *bytes, size_t size) {
    CHECK(from == &outlet);
    if (bytes == NULL) {
        CHECK(!from->open);
        ends++;
    } else {
        CHECK(size > 0);
        ld_text_add(&got, bytes, size);
    }
}

static void on_drained(struct ld_inlet *to) {
    CHECK(to == &inlet);
    drains++;
}

static void on_closed(void *owner) {
    CHECK(owner == &loop);
    closes++;
}

/* Begin with a loop. */
static void begin(void) {
    signal(SIGPIPE, SIG_IGN); /* the host sees to it elsewhere */
    REQUIRE(uv_loop_init(&loop) == 0);
    outlet = (struct ld_outlet){.owner = &loop, .on_bytes = on_bytes, .on_closed = on_closed};
    inlet = (struct ld_inlet){.owner = &loop, .on_drained = on_drained, .on_closed = on_closed};
    ends = 0;
    drains = 0;
    closes = 0;
    theirs = -1;
}

/* Close everything. */
static void end(int handles) {
    ld_pipes_close_outlet(&outlet);
    ld_pipes_close_inlet(&inlet);
    ld_pipes_close_inlet(&inlet); /* twice does nothing */
    CHECK_INT(0, uv_run(&loop, UV_RUN_DEFAULT));
    CHECK_INT(handles, closes);
    CHECK_INT(0, uv_loop_close(&loop));
    ld_text_fini(&got);
}

/* Let the loop turn until no event is left. */
static void turn(void) {
    for (int i = 0; i < 4; i++) {
        uv_run(&loop, UV_RUN_NOWAIT);
    }
}

/* Open an outlet that reads. */
static void open_outlet(void) {
    begin();
    REQUIRE(ld_pipes_open_outlet(&outlet, &loop, &theirs) == 0);
    CHECK(outlet.open);
    CHECK_INT(FD_CLOEXEC, fcntl(theirs, F_GETFD));
    CHECK_INT(0, fcntl(theirs, F_GETFL) & O_NONBLOCK); /* as the child expects it */
    ld_pipes_read(&outlet);
}

static void test_output(void) {
    open_outlet();
    CHECK(write(theirs, "hello", 5) == 5);
    turn();
    CHECK_STR("hello", ld_text_string(&got));
    CHECK_INT(0, ends);
    CHECK(write(theirs, " there", 6) == 6);
    close(theirs);
    CHECK_INT(0, uv_run(&loop, UV_RUN_DEFAULT));
    CHECK_STR("hello there", ld_text_string(&got));
    CHECK_INT(1, ends);
    end(1);
}

static void test_hold(void) {
    open_outlet();
    ld_pipes_hold(&outlet, 1);
    ld_pipes_hold(&outlet, 2);
    CHECK(write(theirs, "late", 4) == 4);
    turn();
    ld_pipes_unhold(&outlet, 1);
    turn();
    CHECK_STR("", ld_text_string(&got));
    ld_pipes_unhold(&outlet, 2);
    turn();
    CHECK_STR("late", ld_text_string(&got));
    ld_pipes_hold(&outlet, 1);
    close(theirs);
    turn();
    CHECK_INT(0, ends); /* its end waits too */
    ld_pipes_unhold(&outlet, 1);
    CHECK_INT(0, uv_run(&loop, UV_RUN_DEFAULT));
    CHECK_INT(1, ends);
    ld_pipes_hold(&outlet, 1); /* closed: nothing happens */
    ld_pipes_unhold(&outlet, 1);
    end(1);
}

static void test_close_output(void) {
    open_outlet();
    CHECK(write(theirs, "lost", 4) == 4);
    ld_pipes_close_outlet(&outlet);
    ld_pipes_close_outlet(&outlet);
    CHECK_INT(0, uv_run(&loop, UV_RUN_DEFAULT));
    CHECK_STR("", ld_text_string(&got));
    CHECK_INT(0, ends);
    close(theirs);
    end(1);
}

/* Open an inlet. */
static void open_inlet(void) {
    begin();
    REQUIRE(ld_pipes_open_inlet(&inlet, &loop, &theirs) == 0);
    CHECK_INT(FD_CLOEXEC, fcntl(theirs, F_GETFD));
    CHECK_INT(0, fcntl(theirs, F_GETFL) & O_NONBLOCK);
}

static void test_input(void) {
    open_inlet();
    CHECK_INT(0, ld_pipes_write(&inlet, "hello", 5));
    CHECK_INT(0, ld_pipes_write(&inlet, "", 0));
    CHECK_INT(0, ld_pipes_unwritten(&inlet));
    ld_pipes_finish(&inlet);
    CHECK(!inlet.open);
    turn();
    CHECK_STR("hello", read_fd(theirs));
    CHECK_INT(-EBADF, ld_pipes_write(&inlet, "x", 1));
    close(theirs);
    end(1);
}

/* Read what waits in the pipe while the loop turns, until its end; the number of bytes. */
static size_t drain(char last) {
    static char bytes[65536];
    size_t size = 0;
    ssize_t count;
    fcntl(theirs, F_SETFL, O_NONBLOCK);
    while ((count = read(theirs, bytes, sizeof bytes)) != 0) {
        if (count > 0) {
            size += (size_t)count;
            last = bytes[count - 1];
        }
        uv_run(&loop, UV_RUN_NOWAIT);
    }
    CHECK_INT('z', last);
    return size;
}

static void test_much_input(void) {
    static const size_t size = 1 << 20;
    char *bytes = malloc(size);
    memset(bytes, 'x', size);
    open_inlet();
    CHECK_INT(0, ld_pipes_write(&inlet, bytes, size));
    free(bytes); /* it was copied */
    CHECK(ld_pipes_unwritten(&inlet) > 0 && ld_pipes_unwritten(&inlet) < size);
    CHECK_INT(0, ld_pipes_write(&inlet, "yz", 2));
    ld_pipes_finish(&inlet);
    CHECK(inlet.open); /* not before everything is written */
    CHECK_INT(-EBADF, ld_pipes_write(&inlet, "x", 1));
    turn();
    CHECK_INT(0, drains);
    CHECK_INT(size + 2, drain(0));
    CHECK(drains > 0);
    CHECK(!inlet.open);
    CHECK_INT(0, inlet.error);
    close(theirs);
    end(1);
}

static void test_reader_gone(void) {
    open_inlet();
    close(theirs);
    CHECK_INT(-EPIPE, ld_pipes_write(&inlet, "x", 1));
    CHECK_INT(1, drains); /* who waits must not wait for ever */
    CHECK_INT(-EPIPE, ld_pipes_write(&inlet, "x", 1));
    end(1);
}

static void test_reader_goes(void) {
    char *bytes = calloc(1, 1 << 20);
    open_inlet();
    CHECK_INT(0, ld_pipes_write(&inlet, bytes, 1 << 20));
    free(bytes);
    close(theirs);
    turn();
    CHECK_INT(1, drains);
    CHECK_INT(-EPIPE, inlet.error);
    CHECK_INT(-EPIPE, ld_pipes_write(&inlet, "x", 1));
    CHECK_INT(0, ld_pipes_unwritten(&inlet));
    end(1);
}

static void test_close_input(void) {
    char *bytes = calloc(1, 1 << 20);
    open_inlet();
    CHECK_INT(0, ld_pipes_write(&inlet, bytes, 1 << 20));
    free(bytes);
    ld_pipes_close_inlet(&inlet); /* with something to be written */
    CHECK_INT(0, uv_run(&loop, UV_RUN_DEFAULT));
    CHECK_INT(0, drains);
    close(theirs);
    end(1);
}

/* No descriptors are left. */
static void open_too_many(void) {
    static const struct rlimit few = {40, 40};
    begin();
    REQUIRE(setrlimit(RLIMIT_NOFILE, &few) == 0);
    while (dup(1) >= 0) {
    }
    CHECK_INT(-EMFILE, ld_pipes_open_outlet(&outlet, &loop, &theirs));
    CHECK_INT(-EMFILE, ld_pipes_open_inlet(&inlet, &loop, &theirs));
    CHECK_INT(-1, theirs);
    CHECK(!outlet.open && !inlet.open);
    end(0);
}

static void test_too_many(void) {
    check_in_child(open_too_many);
}

static const struct check_case cases[] = {
    {"output, and its end", test_output},
    {"output is held until no reason is left", test_hold},
    {"output that is not wanted any longer", test_close_output},
    {"input", test_input},
    {"input that is not taken at once is copied and waits", test_much_input},
    {"input without a reader", test_reader_gone},
    {"input whose reader goes", test_reader_goes},
    {"input that is given up", test_close_input},
    {"no descriptors are left", test_too_many},
};

CHECK_MAIN(cases)
