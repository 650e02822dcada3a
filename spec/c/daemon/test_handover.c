#include "daemon/handover.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
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
    struct ld_handover written = {.paper = -1, .has = {[LD_HANDOVER_STATE] = true}};
    struct ld_handover read;
    ld_text_add(&written.parts[LD_HANDOVER_STATE], "\0one\n", 5);
    CHECK(ld_handover_begin(&written, &service) == 0);
    CHECK(ld_handover_write(&written, -1) == 0);
    CHECK(ld_handover_read(&read, written.paper, "why"));
    CHECK(ld_handover_read_service(&read, &got));
    CHECK_STR("x", got.name);
    CHECK_STR("A=\xff", got.environment[0]);
    CHECK_STR("why", read.back);
    CHECK(got.starter_uid == 7 && got.watchdog == 0.5 && got.run_fd == -1);
    CHECK(read.has[LD_HANDOVER_STATE] && !read.has[LD_HANDOVER_KEPT]);
    CHECK(read.parts[LD_HANDOVER_STATE].size == 5 &&
          memcmp(read.parts[LD_HANDOVER_STATE].data, "\0one\n", 5) == 0);
    ld_service_fini(&got);
    ld_handover_fini(&read);
    close(written.paper);
    ld_handover_fini(&written);
}

/* Read TEXT; the reason why it is refused must have WORDS in it. */
static void refuse(const char *text, const char *expected) {
    struct ld_handover read;
    struct ld_service got = {.run_fd = -1, .log_place = {.dir = -1}};
    int fd = open(box_path("paper"), O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    REQUIRE(fd >= 0);
    CHECK(ld_file_write(fd, text, strlen(text)) == 0);
    bool ok = ld_handover_read(&read, fd, NULL) && ld_handover_read_service(&read, &got);
    CHECK(!ok);
    CHECK(strstr(ld_text_string(&read.why), expected) != NULL);
    ld_service_fini(&got);
    ld_handover_fini(&read);
    close(fd);
}

static void test_strict(void) {
    refuse("", "it has no end");
    refuse("{}", "it has no end");
    refuse("[]\n", "cannot be read");
    refuse("{\"format\": 1\n", "cannot be read");
    refuse("{\"format\": 1, \"format\": 1}\n", "duplicate");
    refuse("{\"format\": 2}\n", "the old program leaves format 2");
    refuse("{\"format\": \"1\"}\n", "\"format\" is not a whole number");
    refuse("{\"format\": 1}\n", "\"state\" is not the size");
    refuse("{\"format\": 1, \"parts\": {\"state\": 9, \"kept\": null, \"code\": null, \"mail\": "
           "null}}\nx",
           "\"state\"");
    refuse("{\"format\": 1, \"parts\": {\"state\": -1, \"kept\": null, \"code\": null, \"mail\": "
           "null}}\n",
           "\"state\"");
    refuse("{\"format\": 1, \"parts\": {\"state\": 0, \"kept\": 0, \"code\": 0, \"mail\": 0}}\nx",
           "less than what follows");
    refuse("{\"format\": 1, \"parts\": {\"state\": 0, \"kept\": 0, \"code\": 0, \"mail\": 0}}\n",
           "\"worker\" is missing");
    refuse("{\"format\": 1, \"worker\": 0, \"daemon\": false, \"words\": [\"a\", \"run\", "
           "\"--later\"], "
           "\"parts\": {\"state\": 0, \"kept\": 0, \"code\": 0, \"mail\": 0}}\n",
           "options that lunad");
    refuse("{\"format\": 1, \"worker\": 0, \"daemon\": false, \"words\": [\"a\", \"run\", \"x\"], "
           "\"run_fd\": "
           "999999, "
           "\"parts\": {\"state\": 0, \"kept\": 0, \"code\": 0, \"mail\": 0}}\n",
           "\"is_bare\" is missing");
}

static const struct check_case cases[] = {
    {"a service is read as it was written, with its parts", test_round_trip},
    {"what was not written like this is refused, with the name of the member", test_strict},
};

CHECK_MAIN(cases)
