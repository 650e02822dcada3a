#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/log.h"
#include "check.h"
#include "daemon/keeper.h"
#include "daemon/keeper_channel.h"
#include "posix/inherit.h"
#include "posix/packet.h"
#include "support.h"

/* Wait for a packet. */
static int wait_packet(int channel, struct ld_packet *packet) {
    struct pollfd poller = {.fd = channel, .events = POLLIN};
    int rc;
    do {
        poll(&poller, 1, WAIT_SECONDS * 1000);
        rc = ld_packet_receive(channel, packet);
    } while (rc == -EAGAIN || rc == -EINTR);
    return rc;
}

static struct ld_service service;

/* Run a keeper in this process, with HOST in its host; the exit status. */
static int keep(void (*host)(void)) {
    static struct ld_options options = {.stop_timeout = 10};
    struct ld_text why = {0};
    service.options = &options;
    service.name = (char *)(size_t) "x";
    service.run_dir = (char *)(size_t)box_path("");
    service.run_fd = open(box_path(""), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    service.log_path = (char *)(size_t)box_path("log");
    service.pidfile.fd = service.claim = service.listener = service.file_watch = -1;
    service.log_place.dir = service.keeper = service.notify_fd = -1;
    ld_inherit_reset_signals();
    int status = ld_keeper_fork(&service, &why);
    if (service.keeper >= 0) {
        int before = check_failures();
        host();
        fflush(stdout);
        _exit(check_failures() > before);
    }
    CHECK_STR("", ld_text_string(&why));
    close(service.run_fd);
    return status;
}

/* Run a keeper and its host in a child, and check exit status and report. */
static void check_kept(void (*host)(void), int status, enum ld_start_report_kind kind,
                       const char *text) {
    int ends[2];
    struct ld_start_report report = {0};
    box_path(""); /* the box is ours, not the child's */
    REQUIRE(ld_start_report_open(ends) == 0);
    fflush(stdout);
    pid_t pid = fork_bound();
    if (pid == 0) {
        close(ends[0]);
        service.channel = ends[1];
        int got = keep(host);
        fflush(stdout);
        _exit(got);
    }
    close(ends[1]);
    CHECK_INT(1, ld_start_report_receive(ends[0], &report));
    CHECK_INT(kind, report.kind);
    CHECK_INT(pid, report.sender);
    CHECK_STR(text, ld_text_string(&report.text));
    CHECK_INT(0, ld_start_report_receive(ends[0], &report)); /* there is only one report */
    int got = wait_child(pid);
    CHECK_INT(status, WIFEXITED(got) ? WEXITSTATUS(got) : -1);
    ld_text_fini(&report.text);
    close(ends[0]);
}

/* Ask the keeper for something that it does not do. */
static void check_refused(unsigned long number, const char *word, const char *text) {
    struct ld_packet packet;
    CHECK_INT(0, ld_packet_send(service.keeper, number, word, text, strlen(text), 0));
    CHECK_INT(1, wait_packet(service.keeper, &packet));
    CHECK_INT((long long)number, (long long)packet.number);
    CHECK_STR("error", packet.word);
    CHECK_STR("1", packet.text); /* EPERM */
    CHECK_INT(-1, packet.fd);
}

/* Ask for the log, and for what a host must not get. */
static void ask_for_all(void) {
    int fd = ld_keeper_channel_open_log(&service);
    CHECK(fd > 2 && write(fd, "line\n", 5) == 5);
    close(fd);
    check_refused(800001, "open-log", "/etc/passwd");
    check_refused(800002, "open", "/etc/passwd");
    check_refused(800003, "socket", "");
    check_refused(800004, "stop", "");
    check_refused(800005, "ok", "");
    for (int i = 0; i < 50; i++) {
        send(service.keeper, "junk", 4, 0);
        send(service.keeper, "", 0, 0);
        ld_packet_send(service.keeper, 0, "else", "", 0, 0); /* gets no answer */
    }
    check_refused(800006, "else", "");
    ld_keeper_channel_report_start(&service, LD_START_REPORT_READY, "");
    ld_keeper_channel_report_start(&service, LD_START_REPORT_READY, "");
    ld_keeper_channel_report_start(&service, LD_START_REPORT_FAILED, "not any more");
    fd = ld_keeper_channel_open_log(&service);
    CHECK(fd > 2);
    close(fd);
}

static void test_keeper(void) {
    check_kept(ask_for_all, 0, LD_START_REPORT_READY, "");
    CHECK_STR("line\n", read_file(box_path("log")));
}

/* Die before being ready. */
static void die(void) {
    kill(getpid(), SIGKILL);
}

/* Fail without having read what the keeper sent. */
static void fail_unread(void) {
    struct pollfd poller = {.fd = service.keeper, .events = POLLIN};
    kill(getppid(), SIGTERM);
    CHECK_INT(1, poll(&poller, 1, WAIT_SECONDS * 1000)); /* to stop */
    ld_keeper_channel_report_start(&service, LD_START_REPORT_FAILED, "the reason");
}

/* Finish at once, and leave a process. */
static void finish(void) {
    if (fork() == 0) {
        for (;;) {
            pause();
        }
    }
    ld_keeper_channel_report_start(&service, LD_START_REPORT_FINISHED, "");
}

static void test_ends(void) {
    check_kept(die, 128 + SIGKILL, LD_START_REPORT_FAILED,
               "x died before it was ready: killed by SIGKILL");
    check_kept(fail_unread, 0, LD_START_REPORT_FAILED, "the reason");
    check_kept(finish, 0, LD_START_REPORT_FINISHED, "");
}

static const struct check_case cases[] = {
    {"the keeper opens the log, and refuses everything else", test_keeper},
    {"the keeper reports how the host ended", test_ends},
};

CHECK_MAIN(cases)
