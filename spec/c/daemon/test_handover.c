#include "daemon/handover_service.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "base/file.h"
#include "check.h"
#include "support.h"

static char run_word[] = "run";
static char program_word[] = "lunad";
static char script_word[] = "/tmp/x.lua";
static char *words[] = {program_word, run_word, script_word, NULL};
static char *environment[] = {(char *)(size_t) "A=\xff", NULL};

/* Fill in a service that holds nothing. */
static struct ld_service make_service(void) {
    return (struct ld_service){.name = (char *)(size_t) "x",
                               .run_dir = (char *)(size_t) "/tmp/run",
                               .script = script_word,
                               .text_title = "=x",
                               .words = words,
                               .script_word = 2,
                               .environment = environment,
                               .starter_uid = 7,
                               .run_fd = -1,
                               .crash_fd = -1,
                               .pidfile = {.fd = -1, .name = "x.pid"},
                               .claim = -1,
                               .file_watch = -1,
                               .keeper = -1,
                               .watchdog = 0.5};
}

/* Write a service and a state, and read them. */
static void test_round_trip(void) {
    struct ld_service service = make_service();
    struct ld_service got;
    struct ld_handover *written = ld_handover_new();
    struct ld_handover read;
    ld_text_add(&written->parts[LD_HANDOVER_STATE], "\0one\n", 5);
    written->has[LD_HANDOVER_STATE] = true;
    ld_handover_service_write(written, &service);
    CHECK(ld_handover_write(written, -1) == 0);
    CHECK(ld_handover_read(&read, written->paper, "why"));
    CHECK(ld_handover_service_read(&read, &got));
    CHECK_STR("x", got.name);
    CHECK_STR("A=\xff", got.environment[0]);
    CHECK_STR("why", read.back);
    CHECK(got.starter_uid == 7 && got.watchdog == 0.5 && got.run_fd == -1);
    CHECK(read.has[LD_HANDOVER_STATE] && !read.has[LD_HANDOVER_KEPT]);
    CHECK(read.parts[LD_HANDOVER_STATE].size == 5 &&
          memcmp(read.parts[LD_HANDOVER_STATE].data, "\0one\n", 5) == 0);
    ld_service_fini(&got);
    ld_handover_fini(&read);
    ld_handover_free(written);
}

/* Read TEXT; the reason why it is refused must have WORDS in it. */
static void refuse(const char *text, const char *expected) {
    struct ld_handover read;
    struct ld_service got = {.run_fd = -1, .log_place = {.dir = -1}};
    int fd = open(box_path("paper"), O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    REQUIRE(fd >= 0);
    CHECK(ld_file_write(fd, text, strlen(text)) == 0);
    bool ok = ld_handover_read(&read, fd, NULL) && ld_handover_service_read(&read, &got);
    CHECK(!ok);
    CHECK(strstr(ld_text_string(&read.why), expected) != NULL);
    ld_service_fini(&got);
    ld_handover_fini(&read);
    close(fd);
}

#define LEFT  "\"fds\": [], \"program\": -1, "
#define PARTS "\"parts\": {\"state\": 0, \"kept\": 0, \"code\": 0, \"mail\": 0}"

static void test_strict(void) {
    refuse("", "it has no end");
    refuse("{}", "it has no end");
    refuse("[]\n", "cannot be read");
    refuse("{\"format\": 1\n", "cannot be read");
    refuse("{\"format\": 1, \"format\": 1}\n", "duplicate");
    refuse("{\"format\": 99999999999999999999}\n", "cannot be read");
    refuse("{\"format\": 2}\n", "the old program leaves format 2");
    refuse("{\"format\": \"1\"}\n", "\"format\" is not a whole number");
    refuse("{\"format\": 1}\n", "\"fds\" is missing");
    refuse("{\"format\": 1, \"fds\": {}}\n", "\"fds\" is not a list");
    refuse("{\"format\": 1, \"fds\": [\"1\"]}\n", "\"fds\" is not a list of descriptors");
    refuse("{\"format\": 1, \"fds\": [4294967297]}\n", "\"fds\" is not a list of descriptors");
    refuse("{\"format\": 1, \"fds\": [-1]}\n", "\"fds\" is not a list of descriptors");
    refuse("{\"format\": 1, \"fds\": [], \"program\": -2}\n", "\"program\" is out of its bounds");
    refuse("{\"format\": 1, " LEFT "\"x\": 0}\n", "\"state\" is not the size");
    refuse("{\"format\": 1, " LEFT
           "\"parts\": {\"state\": 9, \"kept\": null, \"code\": null, \"mail\": null}}\nx",
           "\"state\"");
    refuse("{\"format\": 1, " LEFT
           "\"parts\": {\"state\": -1, \"kept\": null, \"code\": null, \"mail\": null}}\n",
           "\"state\"");
    refuse("{\"format\": 1, " LEFT PARTS "}\nx", "less than what follows");
    refuse("{\"format\": 1, " LEFT PARTS "}\n", "\"worker\" is missing");
    refuse("{\"format\": 1, " LEFT "\"worker\": 0, \"daemon\": false, \"words\": [\"a\", \"run\", "
           "\"--later\"], " PARTS "}\n",
           "options that lunad");
    refuse("{\"format\": 1, " LEFT "\"worker\": 0, \"daemon\": false, \"words\": [\"a\", \"run\", "
           "\"x\\u0000y\"], " PARTS "}\n",
           "\"words\" is not a list of strings");
    refuse("{\"format\": 1, " LEFT "\"worker\": 0, \"daemon\": false, \"words\": [\"a\", \"run\", "
           "\"x\"], \"run_fd\": 999999, " PARTS "}\n",
           "\"is_bare\" is missing");
}

/* Read one member of a line with it. */
static struct ld_handover read_member(const char *value, json_t **root) {
    char line[256];
    snprintf(line, sizeof line, "{\"m\": %s}", value);
    *root = json_loads(line, JSON_ALLOW_NUL, NULL);
    REQUIRE(*root != NULL);
    return (struct ld_handover){.paper = -1};
}

/* Check that a member is refused as the number of a process, or as a descriptor. */
static void refuse_number(const char *value, bool is_fd) {
    json_t *root;
    struct ld_handover handover = read_member(value, &root);
    CHECK(is_fd ? ld_handover_fd(&handover, root, "m") == -1
                : ld_handover_pid(&handover, root, "m") == 0);
    CHECK(!ld_text_is_empty(&handover.why));
    json_decref(root);
    ld_handover_fini(&handover);
}

/* Check that a member is refused as a string, and as text unless it may be that. */
static void refuse_string(const char *value, bool may_be_text) {
    json_t *root;
    struct ld_handover handover = read_member(value, &root);
    struct ld_text text = {0};
    CHECK(ld_handover_string(&handover, root, "m") == NULL);
    CHECK(!ld_text_is_empty(&handover.why));
    ld_text_clear(&handover.why);
    ld_handover_text(&handover, root, "m", &text);
    CHECK(ld_text_is_empty(&handover.why) == may_be_text);
    ld_text_fini(&text);
    json_decref(root);
    ld_handover_fini(&handover);
}

static void test_bounds(void) {
    refuse_number("1", false); /* to signal it would be to signal all */
    refuse_number("0", false);
    refuse_number("-1", false);
    refuse_number("4294967298", false);
    refuse_number("2.0", false);
    refuse_number("-2", true);
    refuse_number("4294967296", true); /* which is 0 in 32 bits */
    refuse_number("999999", true);
    refuse_string("\"a\\u0000b\"", true);
    refuse_string("\"\\u0100\"", false);
    refuse_string("5", false);
}

/* What cannot be written must not be missing on the paper. */
static void test_incomplete(void) {
    struct ld_service service = make_service();
    for (int what = 0; what < 3; what++) {
        struct ld_handover *written = ld_handover_new();
        json_t *list = json_array();
        ld_handover_service_write(written, &service);
        if (what == 0) {
            ld_handover_set(written, written->root, "m", NULL);
        } else if (what == 1) {
            ld_handover_add(written, list, NULL);
        } else {
            written->parts[LD_HANDOVER_CODE].failed = true;
        }
        CHECK(ld_handover_write(written, -1) == -ENOMEM);
        json_decref(list);
        ld_handover_free(written);
    }
}

/* Whoever reads the paper needs a second descriptor for each, the old program too when it comes back. */
static void test_limit(void) {
    struct rlimit before;
    struct ld_handover *written = ld_handover_new();
    REQUIRE(getrlimit(RLIMIT_NOFILE, &before) == 0);
    int next = dup(0);
    close(next);
    REQUIRE(setrlimit(RLIMIT_NOFILE, &(struct rlimit){(rlim_t)next + 20, before.rlim_max}) == 0);
    for (int i = 0; i < 15; i++) {
        json_decref(ld_handover_leave_fd(written, 0));
    }
    CHECK(ld_handover_write(written, -1) == 0);
    close(written->paper);
    for (int i = 0; i < 15; i++) {
        json_decref(ld_handover_leave_fd(written, 0));
    }
    CHECK(ld_handover_write(written, -1) == -EMFILE);
    REQUIRE(setrlimit(RLIMIT_NOFILE, &before) == 0);
    ld_handover_free(written);
}

static const struct check_case cases[] = {
    {"a service is read as it was written, with its parts", test_round_trip},
    {"what was not written like this is refused, with the name of the member", test_strict},
    {"numbers have bounds, strings no zeros, and both are bytes", test_bounds},
    {"a paper on which something would be missing is not made", test_incomplete},
    {"a paper that nothing could read for want of descriptors is not made", test_limit},
};

CHECK_MAIN(cases)
