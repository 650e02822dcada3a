#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "check.h"
#include "daemon/detach.h"
#include "daemon/start_report.h"
#include "support.h"

/* What a daemon reports about itself. */
struct facts {
    pid_t pid;
    pid_t session;
    pid_t group;
    pid_t parent;
    bool has_terminal;
    bool gains_terminal;
};

/* Open a terminal that belongs to no session, as a session leader would gain it. */
static bool gain_terminal(void) {
    int master = posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC);
    if (master < 0 || grantpt(master) < 0 || unlockpt(master) < 0) {
        return false;
    }
    return open(ptsname(master), O_RDWR) >= 0 && open("/dev/tty", O_RDWR) >= 0;
}

/* Report about the daemon, and wait until its channel is closed. */
static void be_daemon(int channel, pid_t adopter) {
    struct pollfd poller = {.fd = channel, .events = POLLIN};
    while (getppid() != adopter) {
        poll(NULL, 0, 1);
    }
    struct facts facts = {.pid = getpid(), .session = getsid(0), .group = getpgrp()};
    facts.parent = getppid();
    facts.has_terminal = open("/dev/tty", O_RDWR) >= 0;
    facts.gains_terminal = gain_terminal();
    send(channel, &facts, sizeof facts, MSG_NOSIGNAL);
    poll(&poller, 1, WAIT_SECONDS * 1000);
    _exit(7);
}

/* Detach a daemon that is adopted by us, from a session with a terminal of its own. */
static void detach(void) {
    struct facts facts = {0};
    pid_t adopter = getpid();
    int channel = -1;
    prctl(PR_SET_CHILD_SUBREAPER, 1);
    setsid();
    gain_terminal();
    int rc = ld_detach_fork(&channel);
    if (rc == 0) {
        be_daemon(channel, adopter);
    }
    CHECK_INT(1, rc);
    CHECK_INT(FD_CLOEXEC, fcntl(channel, F_GETFD));
    CHECK_INT(sizeof facts, recv(channel, &facts, sizeof facts, 0));
    CHECK(facts.pid != getpid());
    CHECK(facts.session != getsid(0));
    CHECK(facts.session != facts.pid); /* it is not a session leader */
    CHECK_INT(facts.session, facts.group);
    CHECK_INT(getpid(), facts.parent); /* adopted: the middle process is gone */
    CHECK(kill(facts.session, 0) < 0 && errno == ESRCH);
    CHECK(!facts.has_terminal);
    CHECK(!facts.gains_terminal);
    close(channel);
    CHECK_INT(7, WEXITSTATUS(wait_child(facts.pid)));
    CHECK(waitpid(-1, NULL, 0) < 0 && errno == ECHILD);
}

static void test_detach(void) {
    check_in_child(detach);
}

/* Detach from a process that may be a session leader. */
static void detach_from_leader(void) {
    int channel = -1;
    int rc = ld_detach_fork(&channel);
    if (rc == 0) {
        ld_start_report_send(channel, LD_START_REPORT_READY, getpid(), "");
        _exit(0);
    }
    struct ld_start_report report = {0};
    CHECK_INT(1, ld_start_report_receive(channel, &report));
    CHECK_INT(LD_START_REPORT_READY, report.kind);
    CHECK_INT(report.status, report.sender);
    CHECK_INT(0, ld_start_report_receive(channel, &report)); /* no other process has it */
    ld_text_fini(&report.text);
    close(channel);
}

static void test_detach_reports(void) {
    check_in_child(detach_from_leader);
}

/* Make the second fork fail, which is reported over the channel. */
static void fail_in_middle(void) {
    int channel = -1;
    deny_syscall(SYS_setsid, EPERM);
    CHECK_INT(1, ld_detach_fork(&channel));
    struct ld_start_report report = {0};
    CHECK_INT(1, ld_start_report_receive(channel, &report));
    CHECK_INT(LD_START_REPORT_FAILED, report.kind);
    CHECK_INT(1, report.status);
    CHECK_STR("Operation not permitted", ld_text_string(&report.text));
    CHECK_INT(0, ld_start_report_receive(channel, &report));
    ld_text_fini(&report.text);
    close(channel);
}

/* Make the first fork fail, which is returned and leaves nothing open. */
static void fail_to_fork(void) {
    int channel = -1;
    int next = dup(1);
    close(next);
    deny_syscall(SYS_clone, EAGAIN);
    CHECK_INT(-EAGAIN, ld_detach_fork(&channel));
    CHECK_INT(next, dup(1));
    CHECK(waitpid(-1, NULL, 0) < 0 && errno == ECHILD);
}

/* Leave no descriptor for the channel. */
static void fail_to_open(void) {
    int channel = -1;
    struct rlimit none = {3, 3};
    setrlimit(RLIMIT_NOFILE, &none);
    closefrom(3);
    CHECK_INT(-EMFILE, ld_detach_fork(&channel));
    CHECK(waitpid(-1, NULL, 0) < 0 && errno == ECHILD);
}

static void test_detach_fails(void) {
    check_in_child(fail_in_middle);
    check_in_child(fail_to_fork);
    check_in_child(fail_to_open);
}

static const struct check_case cases[] = {
    {"a daemon has left session, terminal and parent", test_detach},
    {"a daemon reports only to its starter", test_detach_reports},
    {"a daemon that cannot be forked is reported", test_detach_fails},
};

CHECK_MAIN(cases)
