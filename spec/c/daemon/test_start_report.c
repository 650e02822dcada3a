#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "check.h"
#include "daemon/start_report.h"
#include "support.h"

/* A channel as ld_detach_fork makes it. */
static void open_channel(int ends[2]) {
    REQUIRE(ld_start_report_open(ends) == 0);
}

static void test_kinds(void) {
    static const enum ld_start_report_kind kinds[] = {LD_START_REPORT_BORN, LD_START_REPORT_READY,
                                                      LD_START_REPORT_FINISHED,
                                                      LD_START_REPORT_FAILED};
    int ends[2];
    struct ld_start_report report = {0};
    open_channel(ends);
    for (size_t i = 0; i < LD_COUNT(kinds); i++) {
        ld_start_report_send(ends[1], kinds[i], 100 + (int)i, "the\nreason");
    }
    close(ends[1]);
    for (size_t i = 0; i < LD_COUNT(kinds); i++) {
        CHECK_INT(1, ld_start_report_receive(ends[0], &report));
        CHECK_INT(kinds[i], report.kind);
        CHECK_INT(100 + (int)i, report.status);
        CHECK_INT(getpid(), report.sender);
        CHECK_STR("the\nreason", ld_text_string(&report.text));
    }
    CHECK_INT(0, ld_start_report_receive(ends[0], &report));
    ld_text_fini(&report.text);
    close(ends[0]);
}

static void test_text(void) {
    static const size_t sizes[] = {0, 1, 4096, 59999, 60000, 60001, 200000};
    for (size_t i = 0; i < LD_COUNT(sizes); i++) {
        int ends[2];
        struct ld_text sent = {0};
        struct ld_start_report got = {0};
        open_channel(ends);
        for (size_t j = 0; j < sizes[i]; j++) {
            ld_text_putc(&sent, (char)('a' + j % 26));
        }
        ld_start_report_send(ends[1], LD_START_REPORT_FAILED, 1, ld_text_string(&sent));
        ld_text_puts(&got.text, "what was there before");
        CHECK_INT(1, ld_start_report_receive(ends[0], &got));
        CHECK_INT(sizes[i] < 60000 ? sizes[i] : 60000, got.text.size);
        CHECK(strncmp(ld_text_string(&sent), ld_text_string(&got.text), got.text.size) == 0);
        ld_text_fini(&sent);
        ld_text_fini(&got.text);
        close(ends[0]);
        close(ends[1]);
    }
}

static void test_nobody_reads(void) {
    int ends[2];
    open_channel(ends);
    close(ends[0]);
    ld_start_report_send(ends[1], LD_START_REPORT_READY, 1, "x"); /* no SIGPIPE either */
    close(ends[1]);
    ld_start_report_send(-1, LD_START_REPORT_READY, 1, "x");
    ld_start_report_send(ends[1], LD_START_REPORT_READY, 1, "x");
}

static void test_sender_dies(void) {
    int ends[2];
    struct ld_start_report report = {0};
    open_channel(ends);
    pid_t pid = fork_bound();
    if (pid == 0) {
        ld_start_report_send(ends[1], LD_START_REPORT_BORN, 5, "");
        _exit(0);
    }
    close(ends[1]);
    wait_child(pid);
    CHECK_INT(1, ld_start_report_receive(ends[0], &report));
    CHECK_INT(LD_START_REPORT_BORN, report.kind);
    CHECK_INT(pid, report.sender); /* as the kernel says, whatever the packet contains */
    CHECK_INT(0, ld_start_report_receive(ends[0], &report));
    close(ends[0]);
    CHECK_INT(-EBADF, ld_start_report_receive(ends[0], &report));
    ld_text_fini(&report.text);
}

static void test_garbage(void) {
    int ends[2];
    struct ld_start_report report = {0};
    open_channel(ends);
    CHECK_INT(3, send(ends[1], "abc", 3, 0));
    CHECK_INT(-EPROTO, ld_start_report_receive(ends[0], &report));
    close(ends[0]);
    close(ends[1]);
}

static const struct check_case cases[] = {
    {"reports of each kind arrive, then the end", test_kinds},
    {"a text arrives whole, up to 60,000 bytes", test_text},
    {"a missing reader is not an error", test_nobody_reads},
    {"the channel ends when its sender dies", test_sender_dies},
    {"garbage is refused", test_garbage},
};

CHECK_MAIN(cases)
