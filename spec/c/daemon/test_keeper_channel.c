#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/time.h>
#include <unistd.h>

#include "check.h"
#include "daemon/keeper_channel.h"
#include "posix/packet.h"
#include "support.h"

/* The host's end of a channel, and a process at the other end that plays the keeper. */
struct play {
    struct ld_service service;
    pid_t keeper;
};

/* Start a process that plays the keeper with PART. */
static void start_play(struct play *play, void (*part)(int channel)) {
    int ends[2];
    REQUIRE(ld_packet_open(ends) == 0);
    play->keeper = fork_bound();
    if (play->keeper == 0) {
        int before = check_failures();
        close(ends[1]);
        part(ends[0]);
        fflush(stdout);
        _exit(check_failures() > before);
    }
    close(ends[0]);
    play->service = (struct ld_service){
        .keeper = ends[1], .listener = -1, .channel = -1, .notify_fd = -1, .pidfile = {.fd = -1}};
}

/* Close the channel, and check that the keeper's part went well. */
static void end_play(struct play *play) {
    close(play->service.keeper);
    CHECK_INT(0, wait_child(play->keeper));
}

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

/* Wait for a request; return its number. */
static unsigned long take_request(int channel) {
    struct ld_packet packet;
    REQUIRE(wait_packet(channel, &packet) == 1);
    CHECK_STR("open-log", packet.word);
    CHECK_INT(0, packet.size);
    CHECK_INT(-1, packet.fd);
    CHECK(packet.number > 0);
    return packet.number;
}

/* Wait until the host has closed its end. */
static void wait_end(int channel) {
    struct ld_packet packet;
    while (wait_packet(channel, &packet) == 1) {
    }
}

/* Answer a request with a file that says TEXT. */
static void send_file(int channel, unsigned long number, const char *text) {
    int ends[2];
    REQUIRE(pipe2(ends, O_CLOEXEC) == 0);
    REQUIRE(write(ends[1], text, strlen(text)) == (ssize_t)strlen(text));
    CHECK_INT(0, ld_packet_send(channel, number, "ok", "", 0, ends[0]));
    close(ends[0]);
    close(ends[1]);
}

/* Ask for the log, and check the contents of the file. */
static void check_log_says(struct play *play, const char *text) {
    int fd = ld_keeper_channel_open_log(&play->service);
    CHECK(fd > 2);
    if (fd >= 0) {
        CHECK_INT(FD_CLOEXEC, fcntl(fd, F_GETFD));
        CHECK_STR(text, read_fd(fd));
        close(fd);
    }
}

/* Give the log, then an error. */
static void answer_well(int channel) {
    unsigned long first = take_request(channel);
    send_file(channel, first, "one");
    unsigned long second = take_request(channel);
    CHECK(second != first);
    ld_packet_send(channel, second, "error", "13", 2, -1);
    ld_packet_send(channel, take_request(channel), "error", "4095", 4, -1);
    wait_end(channel);
}

static void test_answers(void) {
    struct play play;
    start_play(&play, answer_well);
    check_log_says(&play, "one");
    CHECK_INT(-EACCES, ld_keeper_channel_open_log(&play.service));
    CHECK_INT(-4095, ld_keeper_channel_open_log(&play.service));
    end_play(&play);
}

static const struct {
    const char *word;
    const char *text;
    size_t size;
    bool has_fd;
} wrong_answers[] = {
    {"ok", "", 0, false},        {"error", "", 0, false},      {"error", "0", 1, false},
    {"error", "-13", 3, false},  {"error", "13x", 3, false},   {"error", " 13", 3, false},
    {"error", "4096", 4, false}, {"error", "99999", 5, false}, {"error", "1e2", 3, false},
    {"yes", "", 0, true},        {"error", "x", 1, true},      {"socket", "", 0, true},
    {"stop", "", 0, false},
};

/* Answer wrongly in every way. */
static void answer_wrongly(int channel) {
    for (size_t i = 0; i < LD_COUNT(wrong_answers); i++) {
        unsigned long number = take_request(channel);
        ld_packet_send(channel, number, wrong_answers[i].word, wrong_answers[i].text,
                       wrong_answers[i].size, wrong_answers[i].has_fd ? 0 : -1);
    }
    unsigned long number = take_request(channel);
    send(channel, "junk", 4, 0); /* not a packet: the answer still comes */
    send_file(channel, number, "good");
    wait_end(channel);
}

static void test_wrong_answers(void) {
    struct play play;
    start_play(&play, answer_wrongly);
    int before = check_descriptors();
    for (size_t i = 0; i < LD_COUNT(wrong_answers); i++) {
        CHECK_INT(-EPROTO, ld_keeper_channel_open_log(&play.service));
    }
    CHECK_INT(before, check_descriptors());
    check_log_says(&play, "good");
    CHECK_INT(-1, play.service.listener);
    end_play(&play);
}

/* Answer the first request together with the second. */
static void answer_late(int channel) {
    unsigned long first = take_request(channel);
    unsigned long second = take_request(channel);
    send_file(channel, first, "late");
    send_file(channel, second + 1, "early");
    send_file(channel, second, "right");
    wait_end(channel);
}

/* Handle a signal by doing nothing. */
static void ignore(int signo) {
    (void)signo;
}

/* Send a signal every few milliseconds, or stop that. */
static void set_alarms(bool on) {
    struct itimerval timer = {.it_interval = {.tv_usec = on ? 5000 : 0},
                              .it_value = {.tv_usec = on ? 5000 : 0}};
    struct sigaction action = {.sa_handler = ignore}; /* without SA_RESTART */
    sigaction(SIGALRM, &action, NULL);
    REQUIRE(setitimer(ITIMER_REAL, &timer, NULL) == 0);
}

static void test_late_answer(void) {
    struct play play;
    start_play(&play, answer_late);
    int before = check_descriptors();
    uint64_t start = now_ns();
    set_alarms(true);
    CHECK_INT(-ETIMEDOUT, ld_keeper_channel_open_log(&play.service));
    set_alarms(false);
    CHECK(now_ns() - start >= 1900000000U);
    check_log_says(&play, "right");
    CHECK_INT(before, check_descriptors());
    end_play(&play);
}

/* Answer when a quarter of the time is over. */
static void answer_slowly(int channel) {
    unsigned long number = take_request(channel);
    poll(NULL, 0, 500);
    send_file(channel, number, "slow");
    wait_end(channel);
}

static void test_signals(void) {
    struct play play;
    start_play(&play, answer_slowly);
    set_alarms(true);
    int fd = ld_keeper_channel_open_log(&play.service);
    set_alarms(false);
    CHECK(fd >= 0);
    close(fd);
    end_play(&play);
}

/* Never answer. */
static void leave(int channel) {
    take_request(channel);
}

/* Never read. */
static void read_nothing(int channel) {
    struct pollfd poller = {.fd = channel, .events = POLLRDHUP};
    while ((poller.revents & (POLLRDHUP | POLLHUP)) == 0) {
        poll(&poller, 1, WAIT_SECONDS * 1000);
    }
}

static void test_no_keeper(void) {
    struct play play = {.service = {.keeper = -1, .listener = -1, .notify_fd = -1}};
    CHECK_INT(-ESRCH, ld_keeper_channel_open_log(&play.service));
    start_play(&play, leave);
    CHECK_INT(-ESRCH, ld_keeper_channel_open_log(&play.service)); /* at once */
    CHECK(ld_keeper_channel_open_log(&play.service) < 0);
    end_play(&play);
    start_play(&play, read_nothing);
    while (ld_packet_send(play.service.keeper, 0, "x", "", 0, -1) == 0) {
    }
    uint64_t start = now_ns();
    CHECK_INT(-EAGAIN, ld_keeper_channel_open_log(&play.service)); /* it is not waited for */
    CHECK(now_ns() - start < 1000000000U);
    end_play(&play);
    play.service.keeper = open("/dev/null", O_RDWR | O_CLOEXEC);
    CHECK_INT(-ENOTSOCK, ld_keeper_channel_open_log(&play.service));
    close(play.service.keeper);
}

/* Send the log to a host that is at its limit of descriptors, then an error. */
static void answer_at_limit(int channel) {
    send_file(channel, take_request(channel), "one");
    send_file(channel, take_request(channel), "two");
    ld_packet_send(channel, take_request(channel), "error", "2", 1, -1);
    wait_end(channel);
}

/* Ask for the log at the limit of descriptors. */
static void ask_at_limit(void) {
    struct play play;
    start_play(&play, answer_at_limit);
    if (!deny_descriptors()) {
        check_skip("the number of descriptors cannot be limited here");
        end_child(play.keeper);
        return;
    }
    CHECK_INT(-EMFILE, ld_keeper_channel_open_log(&play.service));
    CHECK_INT(-EMFILE, ld_keeper_channel_open_log(&play.service));
    CHECK_INT(-ENOENT,
              ld_keeper_channel_open_log(&play.service)); /* an answer without a descriptor comes */
    CHECK(fcntl(0, F_GETFD) >= 0);
    CHECK_INT(-1, dup(0)); /* still at the limit: nothing of ours was closed */
    end_play(&play);
}

static void test_limit(void) {
    check_in_child(ask_at_limit);
}

/* Send events before the answer. */
static void interrupt(int channel) {
    unsigned long number = take_request(channel);
    ld_packet_send(channel, 0, "socket", "", 0, 0);
    ld_packet_send(channel, 0, "socket", "", 0, 0); /* the first is old */
    ld_packet_send(channel, 0, "socket", "", 0, -1);
    ld_packet_send(channel, 0, "stop", "", 0, -1);
    ld_packet_send(channel, 0, "else", "", 0, 0);
    send_file(channel, number, "log");
    wait_end(channel);
}

static void test_events_meanwhile(void) {
    struct play play;
    sigset_t mask;
    sigset_t old;
    sigset_t pending;
    start_play(&play, interrupt);
    sigemptyset(&mask);
    sigaddset(&mask, SIGTERM);
    sigprocmask(SIG_BLOCK, &mask, &old);
    int before = check_descriptors();
    check_log_says(&play, "log");
    CHECK(play.service.listener > 2);
    close(play.service.listener);
    CHECK_INT(before, check_descriptors());
    CHECK(sigpending(&pending) == 0 && sigismember(&pending, SIGTERM) == 1);
    signal(SIGTERM, SIG_IGN); /* discards the pending one */
    signal(SIGTERM, SIG_DFL);
    sigprocmask(SIG_SETMASK, &old, NULL);
    end_play(&play);
}

static void test_hear(void) {
    int ends[2];
    int fd = -1;
    REQUIRE(ld_packet_open(ends) == 0);
    struct ld_service service = {.keeper = ends[1], .listener = -1};
    int before = check_descriptors();
    CHECK_INT(LD_KEEPER_NOTHING, ld_keeper_channel_hear(&service, &fd));
    ld_packet_send(ends[0], 5, "ok", "", 0, 0); /* an answer that came too late */
    CHECK_INT(LD_KEEPER_NOTHING, ld_keeper_channel_hear(&service, &fd));
    send(ends[0], "junk", 4, 0);
    CHECK_INT(LD_KEEPER_NOTHING, ld_keeper_channel_hear(&service, &fd));
    ld_packet_send(ends[0], 0, "socket", "", 0, -1);
    CHECK_INT(LD_KEEPER_NOTHING, ld_keeper_channel_hear(&service, &fd));
    CHECK_INT(-1, fd);
    CHECK_INT(before, check_descriptors());
    ld_packet_send(ends[0], 0, "socket", "", 0, 0);
    CHECK_INT(LD_KEEPER_SOCKET, ld_keeper_channel_hear(&service, &fd));
    CHECK(fd > 2);
    close(fd);
    ld_packet_send(ends[0], 0, "stop", "", 0, -1);
    CHECK_INT(LD_KEEPER_STOP, ld_keeper_channel_hear(&service, &fd));
    close(ends[0]);
    CHECK_INT(LD_KEEPER_GONE, ld_keeper_channel_hear(&service, &fd));
    close(ends[1]);
}

static void test_report(void) {
    int ends[2];
    struct ld_start_report report = {0};
    REQUIRE(ld_start_report_open(ends) == 0);
    struct ld_service alone = {.keeper = -1, .channel = ends[1], .notify_fd = -1};
    ld_keeper_channel_report_start(&alone, LD_START_REPORT_FAILED, "the reason");
    CHECK(alone.channel >= 0);
    ld_keeper_channel_report_start(&alone, LD_START_REPORT_READY, "");
    CHECK_INT(-1, alone.channel);
    CHECK_INT(1, ld_start_report_receive(ends[0], &report));
    CHECK_INT(LD_START_REPORT_FAILED, report.kind);
    CHECK_STR("the reason", ld_text_string(&report.text));
    CHECK_INT(1, ld_start_report_receive(ends[0], &report));
    CHECK_INT(LD_START_REPORT_READY, report.kind);
    CHECK_INT(getpid(), report.status);
    CHECK_INT(0, ld_start_report_receive(ends[0], &report));
    ld_text_fini(&report.text);
    close(ends[0]);
}

static const struct check_case cases[] = {
    {"the log comes from the keeper, or an error", test_answers},
    {"a wrong answer is refused, and its descriptor is closed", test_wrong_answers},
    {"a late answer is not taken for the next one, and signals do not shorten the wait",
     test_late_answer},
    {"an answer arrives in spite of signals", test_signals},
    {"a keeper that has ended or does not read is not waited for", test_no_keeper},
    {"a descriptor that is lost is an error", test_limit},
    {"events that come before an answer are kept", test_events_meanwhile},
    {"every event is received", test_hear},
    {"a service without a keeper reports itself", test_report},
};

CHECK_MAIN(cases)
