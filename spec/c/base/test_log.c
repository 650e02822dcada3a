#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "base/log.h"
#include "check.h"
#include "support.h"

#define ODD_ERRNO 77

/* Open the log as a file in the box. */
static void open_file_log(const char *path) {
    struct ld_log_config config = {.sink = LD_LOG_FILE, .level = LD_LOG_INFO, .path = path};
    REQUIRE(ld_log_open(&config) == 0);
}

/* How many times PIECE is in TEXT. */
static int count_of(const char *text, const char *piece) {
    int count = 0;
    for (const char *at = strstr(text, piece); at != NULL; at = strstr(at + 1, piece)) {
        count++;
    }
    return count;
}

/* Check that TEXT is whole lines, each one of the log, and return how many. */
static int count_lines(const char *text) {
    int count = 0;
    while (*text != '\0') {
        const char *newline = strchr(text, '\n');
        REQUIRE(newline != NULL);
        CHECK(newline - text > 25 && text[10] == 'T' && text[23] == 'Z');
        text = newline + 1;
        count++;
    }
    return count;
}

static void test_levels(void) {
    static const char *const names[] = {"debug", "info", "warn", "error"};
    for (int level = LD_LOG_DEBUG; level <= LD_LOG_ERROR; level++) {
        CHECK_STR(names[level], ld_log_line_level_name((enum ld_log_level)level));
        CHECK_INT(level, ld_log_line_parse_level(names[level]));
    }
    CHECK_INT(-1, ld_log_line_parse_level("Info"));
    CHECK_INT(-1, ld_log_line_parse_level(""));
    CHECK_INT(-1, ld_log_line_parse_level("infox"));
}

static void test_least_level(void) {
    for (int least = LD_LOG_DEBUG; least <= LD_LOG_ERROR; least++) {
        char name[16];
        snprintf(name, sizeof name, "log%d", least);
        struct ld_log_config config = {.sink = LD_LOG_FILE, .path = box_path(name)};
        config.level = (enum ld_log_level)least;
        REQUIRE(ld_log_open(&config) == 0);
        CHECK_INT(least, ld_log_level());
        for (int level = LD_LOG_DEBUG; level <= LD_LOG_ERROR; level++) {
            ld_log((enum ld_log_level)level, "line %d", level);
        }
        const char *text = read_file(box_path(name));
        CHECK_INT(4 - least, count_lines(text));
        CHECK(least == LD_LOG_DEBUG || strstr(text, "debug") == NULL);
        CHECK_INT(0, ld_log_dropped());
        ld_log_close();
    }
}

static void test_before_and_after(void) {
    struct ld_log_event event = {.source = "x", .message = "x", .size = 1};
    ld_log(LD_LOG_ERROR, "to no log");
    ld_log_put(&event);
    CHECK_INT(0, ld_log_reopen());
    CHECK_INT(0, ld_log_dropped());
    CHECK(ld_log_path() == NULL);
    open_file_log(box_path("log"));
    CHECK_STR(box_path("log"), ld_log_path());
    CHECK_INT(LD_LOG_FILE, ld_log_sink());
    ld_log_close();
    ld_log(LD_LOG_ERROR, "to no log");
    CHECK_INT(0, ld_log_dropped());
    CHECK_STR("", read_file(box_path("log")));
    ld_log_close();
}

static void test_message(void) {
    open_file_log(box_path("log"));
    ld_log(LD_LOG_WARN, "%s %d", "formatted", 7);
    struct ld_log_field field = {.key = "k", .type = LD_FIELD_INTEGER, .value.integer = 1};
    struct ld_log_event event = {LD_LOG_ERROR, "beat", "whole\0", 6, &field, 1};
    ld_log_put(&event);
    const char *text = read_file(box_path("log"));
    CHECK(strstr(text, "Z warn  lunad: formatted 7\n") != NULL);
    CHECK(strstr(text, "Z error beat: whole\\x00 k=1\n") != NULL);
    CHECK_INT(2, count_lines(text));
    ld_log_close();
}

static void test_json(void) {
    struct ld_log_config config = {.sink = LD_LOG_FILE, .path = box_path("log"), .json = true};
    REQUIRE(ld_log_open(&config) == 0);
    ld_log(LD_LOG_INFO, "a\nb");
    json_t *object = json_loads(read_file(box_path("log")), 0, NULL);
    CHECK_STR("a\nb", json_string_value(json_object_get(object, "message")));
    json_decref(object);
    ld_log_close();
}

static void test_mode(void) {
    struct stat facts = {0};
    umask(077);
    open_file_log(box_path("new/dir/log"));
    umask(022);
    CHECK(stat(box_path("new/dir/log"), &facts) == 0);
    CHECK_INT(0640, facts.st_mode & 07777);
    ld_log_close();
    umask(0);
    open_file_log(box_path("log"));
    umask(022);
    CHECK(stat(box_path("log"), &facts) == 0);
    CHECK_INT(0640, facts.st_mode & 07777);
    ld_log_close();
}

static void test_symlink(void) {
    struct ld_log_config config = {.sink = LD_LOG_FILE, .path = box_path("link")};
    write_file(box_path("target"), "");
    REQUIRE(symlink(box_path("target"), box_path("link")) == 0);
    CHECK_INT(-ELOOP, ld_log_open(&config));
    ld_log(LD_LOG_ERROR, "to no log");
    CHECK_STR("", read_file(box_path("target")));
    open_file_log(box_path("log"));
    REQUIRE(rename(box_path("log"), box_path("log.1")) == 0);
    REQUIRE(symlink(box_path("target"), box_path("log")) == 0);
    CHECK_INT(-ELOOP, ld_log_reopen());
    ld_log(LD_LOG_ERROR, "to the old one");
    CHECK_STR("", read_file(box_path("target")));
    CHECK_INT(1, count_lines(read_file(box_path("log.1"))));
    ld_log_close();
}

static void test_reopen(void) {
    open_file_log(box_path("log"));
    for (int i = 0; i < 1000; i++) {
        ld_log(LD_LOG_INFO, "line %d.", i);
        if (i % 100 == 50) {
            char name[16];
            snprintf(name, sizeof name, "log.%d", i);
            REQUIRE(rename(box_path("log"), box_path(name)) == 0);
            ld_log(LD_LOG_INFO, "to the renamed one");
            CHECK_INT(0, ld_log_reopen());
        }
    }
    int count = count_lines(read_file(box_path("log")));
    for (int i = 50; i < 1000; i += 100) {
        char name[16];
        snprintf(name, sizeof name, "log.%d", i);
        const char *text = read_file(box_path(name));
        CHECK_INT(1, count_of(text, "renamed"));
        count += count_lines(text);
    }
    CHECK_INT(1010, count);
    CHECK_INT(0, ld_log_dropped());
    ld_log_close();
}

static void test_reopen_fails(void) {
    open_file_log(box_path("dir/log"));
    ld_log(LD_LOG_INFO, "one");
    REQUIRE(rename(box_path("dir"), box_path("gone")) == 0);
    write_file(box_path("dir"), "in the way");
    CHECK_INT(-ENOTDIR, ld_log_reopen());
    ld_log(LD_LOG_INFO, "two");
    CHECK_INT(2, count_lines(read_file(box_path("gone/log"))));
    ld_log_close();
}

/* Write to 1 and 2, as C code and children do. */
static void write_raw(const char *text) {
    CHECK(write(1, text, strlen(text)) > 0);
    CHECK(write(2, text, strlen(text)) > 0);
}

/* Keep what 1 and 2 were. */
static void save_std(int *saved) {
    fflush(stdout);
    saved[0] = fcntl(1, F_DUPFD_CLOEXEC, 10);
    saved[1] = fcntl(2, F_DUPFD_CLOEXEC, 10);
}

/* Give 1 and 2 back. */
static void restore_std(const int *saved) {
    dup2(saved[0], 1);
    dup2(saved[1], 2);
    close(saved[0]);
    close(saved[1]);
}

static void test_capture(void) {
    int saved[2];
    struct ld_log_config config = {.sink = LD_LOG_FILE, .path = box_path("log"), .capture = true};
    save_std(saved);
    int rc = ld_log_open(&config);
    write_raw("raw one\n");
    ld_log(LD_LOG_INFO, "line");
    rename(box_path("log"), box_path("log.1"));
    int reopened = ld_log_reopen();
    write_raw("raw two\n");
    bool std_stays = fcntl(1, F_GETFD) == 0 && fcntl(2, F_GETFD) == 0;
    restore_std(saved);
    CHECK_INT(0, rc);
    CHECK_INT(0, reopened);
    CHECK(std_stays); /* they are for children too */
    CHECK_INT(2, count_of(read_file(box_path("log.1")), "raw one\n"));
    CHECK_INT(1, count_of(read_file(box_path("log.1")), "lunad: line\n"));
    CHECK_STR("raw two\nraw two\n", read_file(box_path("log")));
    ld_log_close();
}

static void test_capture_nothing(void) {
    int saved[2];
    struct stat out;
    struct stat null;
    struct ld_log_config config = {.sink = LD_LOG_NONE, .capture = true};
    save_std(saved);
    int rc = ld_log_open(&config);
    int stats = fstat(1, &out) + stat("/dev/null", &null);
    restore_std(saved);
    CHECK_INT(0, rc);
    CHECK_INT(0, stats);
    CHECK(out.st_rdev == null.st_rdev);
    ld_log(LD_LOG_ERROR, "to no log");
    CHECK_INT(0, ld_log_dropped());
    CHECK_INT(0, ld_log_reopen());
    ld_log_close();
}

static void test_stderr(void) {
    int saved[2];
    int ends[2];
    struct ld_log_config config = {.sink = LD_LOG_STDERR};
    REQUIRE(pipe2(ends, O_CLOEXEC) == 0);
    save_std(saved);
    dup2(ends[1], 2);
    close(ends[1]);
    int rc = ld_log_open(&config);
    ld_log(LD_LOG_INFO, "line");
    CHECK_INT(0, ld_log_reopen());
    ld_log_close();
    bool still_open = fcntl(2, F_GETFD) >= 0;
    restore_std(saved);
    CHECK_INT(0, rc);
    CHECK(still_open);
    CHECK_INT(1, count_lines(read_fd(ends[0])));
    close(ends[0]);
}

/* An opener that gives the descriptor in ARG away, or a failure. */
static int open_given(void *arg) {
    int *given = arg;
    int fd = *given;
    *given = -EBADF;
    return fd >= 0 ? fcntl(fd, F_DUPFD_CLOEXEC, 3) : fd;
}

static void test_opener(void) {
    int given = open(box_path("a"), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    int first = given;
    struct ld_log_config config = {
        .sink = LD_LOG_FILE, .path = box_path("no"), .opener = open_given, .opener_arg = &given};
    REQUIRE(ld_log_open(&config) == 0);
    close(first);
    ld_log(LD_LOG_INFO, "one");
    CHECK_INT(-EBADF, ld_log_reopen());
    ld_log(LD_LOG_INFO, "two");
    int other = open(box_path("b"), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    int second = other;
    ld_log_set_opener(open_given, &other);
    CHECK_INT(0, ld_log_reopen());
    close(second);
    ld_log(LD_LOG_INFO, "three");
    CHECK_INT(2, count_lines(read_file(box_path("a"))));
    CHECK_INT(1, count_lines(read_file(box_path("b"))));
    CHECK(access(box_path("no"), F_OK) < 0);
    ld_log_close();
}

static void test_full_disk(void) {
    struct ld_log_config config = {.sink = LD_LOG_FILE, .path = "/dev/full"};
    REQUIRE(ld_log_open(&config) == 0);
    int given = open(box_path("log"), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    int file = given;
    for (int i = 0; i < 5; i++) {
        ld_log(LD_LOG_INFO, "lost");
    }
    CHECK_INT(5, ld_log_dropped());
    ld_log_set_opener(open_given, &given);
    CHECK_INT(0, ld_log_reopen());
    close(file);
    ld_log(LD_LOG_INFO, "kept");
    const char *text = read_file(box_path("log"));
    CHECK_INT(2, count_lines(text));
    CHECK(strstr(text, "warn  lunad: 5 log lines were dropped: No space left on device\n") != NULL);
    CHECK(strstr(text, "dropped") < strstr(text, "kept"));
    CHECK_INT(5, ld_log_dropped());
    ld_log_close();
}

static void test_one_is_lost(void) {
    struct ld_log_config config = {.sink = LD_LOG_FILE, .path = "/dev/full"};
    REQUIRE(ld_log_open(&config) == 0);
    int given = open(box_path("log"), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    int file = given;
    ld_log(LD_LOG_DEBUG, "lost");
    ld_log_set_opener(open_given, &given);
    ld_log_reopen();
    close(file);
    CHECK(strstr(read_file(box_path("log")), ": 1 log line was dropped: No space") != NULL);
    ld_log_close();
}

/* Let files have no more than SIZE bytes. */
static void limit_files(rlim_t size) {
    struct rlimit limit;
    REQUIRE(getrlimit(RLIMIT_FSIZE, &limit) == 0);
    limit.rlim_cur = size;
    REQUIRE(setrlimit(RLIMIT_FSIZE, &limit) == 0);
}

static void tear_a_line(void) {
    signal(SIGXFSZ, SIG_IGN);
    open_file_log(box_path("log"));
    ld_log(LD_LOG_INFO, "first");
    size_t size = strlen(read_file(box_path("log")));
    limit_files(size + 10); /* the disk is full in the middle of the next line */
    ld_log(LD_LOG_INFO, "torn");
    ld_log(LD_LOG_INFO, "lost");
    limit_files(RLIM_INFINITY);
    ld_log(LD_LOG_INFO, "last");
    const char *text = read_file(box_path("log"));
    const char *line = text + size + 10;
    CHECK_INT('\n', line[0]); /* the torn one is ended before anything else */
    CHECK(strstr(line, "2 log lines were dropped: File too large\n") != NULL);
    CHECK_INT(2, count_lines(line + 1));
    CHECK_INT(2, ld_log_dropped());
    ld_log_close();
}

static void test_torn(void) {
    box_path("");
    check_in_child(tear_a_line);
}

/* Log the lines of a text. */
static void put_lines(const char *text) {
    const struct ld_log_event event = {
        .level = LD_LOG_INFO, .source = "s", .message = text, .size = strlen(text)};
    ld_log_put_lines(&event);
}

static void test_lines(void) {
    enum { COUNT = 5000 }; /* more than are written together */
    struct ld_text lines = {0};
    for (int i = 0; i < COUNT; i++) {
        ld_text_format(&lines, "%d\n", i);
    }
    open_file_log(box_path("log"));
    put_lines(ld_text_string(&lines));
    put_lines("\na\x01\n");
    put_lines("");
    ld_log_close();
    const char *at = read_file(box_path("log"));
    CHECK_INT(COUNT + 2, count_lines(at));
    for (int i = 0; i < COUNT; i++) {
        at += strlen("2026-11-22T10:11:12.123Z info  s: ");
        REQUIRE(atoi(at) == i);
        at = strchr(at, '\n') + 1;
    }
    CHECK(strncmp(at + strlen("2026-11-26T10:11:12.123Z info  "), "s: \n", 4) == 0);
    CHECK(strstr(at, "s: a\\x01\n") != NULL);
    ld_text_fini(&lines);
}

static void tear_lines(void) {
    signal(SIGXFSZ, SIG_IGN);
    open_file_log(box_path("log"));
    ld_log(LD_LOG_INFO, "first");
    size_t size = strlen(read_file(box_path("log")));
    limit_files(2 * size + 10);
    put_lines("kept.......\ntorn\nlost\nlost\n");
    limit_files(RLIM_INFINITY);
    put_lines("after\nlast\n");
    const char *text = read_file(box_path("log"));
    CHECK(strstr(text, "s: kept.......\n") != NULL);
    CHECK(strstr(text, "3 log lines were dropped: File too large\n") != NULL);
    CHECK(strstr(text, "dropped") < strstr(text, "after"));
    CHECK(strstr(text, "after") < strstr(text, "last"));
    CHECK(strstr(text, "lost") == NULL);
    CHECK_INT('\n', text[2 * size + 10]); /* the torn one is ended before anything else */
    CHECK_INT(3, count_lines(text + 2 * size + 11));
    CHECK_INT(3, ld_log_dropped());
    ld_log_close();
}

static void test_torn_lines(void) {
    box_path("");
    check_in_child(tear_lines);
}

static void test_torn_is_over_at_reopen(void) {
    int ends[2];
    REQUIRE(pipe2(ends, O_CLOEXEC | O_NONBLOCK) == 0);
    int given = ends[1];
    struct ld_log_config config = {.sink = LD_LOG_FILE, .opener = open_given, .opener_arg = &given};
    static char filler[200000];
    memset(filler, 'f', sizeof filler - 1);
    REQUIRE(ld_log_open(&config) == 0);
    ld_log(LD_LOG_INFO, "%s", filler); /* more than a pipe takes */
    CHECK_INT(1, ld_log_dropped());
    given = open(box_path("log"), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    int file = given;
    CHECK_INT(0, ld_log_reopen());
    close(file);
    ld_log(LD_LOG_INFO, "whole");
    CHECK_INT(2, count_lines(read_file(box_path("log"))));
    ld_log_close();
    close(ends[0]);
    close(ends[1]);
}

/* The log goes to a FIFO whose reading end is returned. */
static int open_fifo_log(void) {
    REQUIRE(mkfifo(box_path("fifo"), 0600) == 0);
    int reader = open(box_path("fifo"), O_RDONLY | O_NONBLOCK | O_CLOEXEC);
    REQUIRE(reader >= 0);
    open_file_log(box_path("fifo"));
    return reader;
}

static void test_full_pipe(void) {
    int reader = open_fifo_log();
    uint64_t start = now_ns();
    int written = 0;
    for (; ld_log_dropped() < 1000; written++) {
        ld_log(LD_LOG_INFO, "line %d with some words to fill the pipe more quickly", written);
        REQUIRE(written < 100000);
    }
    CHECK(now_ns() - start < 10000000000U); /* it waits once, and not for each */
    const char *text = read_fd(reader);
    CHECK_INT(written - 1000, count_lines(text));
    ld_log(LD_LOG_INFO, "after");
    text = read_fd(reader);
    CHECK_INT(2, count_lines(text));
    CHECK(strstr(text, "1000 log lines were dropped: the reader did not keep up\n") != NULL);
    CHECK_INT(1000, ld_log_dropped());
    ld_log_close();
    close(reader);
}

static void test_full_pipe_tears(void) {
    static char filler[45000];
    memset(filler, 'f', sizeof filler - 1);
    int reader = open_fifo_log();
    while (ld_log_dropped() < 3) {
        ld_log(LD_LOG_INFO, "%s", filler);
    }
    const char *text = read_fd(reader);
    const char *torn = strrchr(text, '\n') + 1;
    CHECK(torn[0] != '\0');
    ld_log(LD_LOG_INFO, "after");
    text = read_fd(reader);
    CHECK_INT('\n', text[0]);
    CHECK_INT(2, count_lines(text + 1));
    CHECK(strstr(text, "3 log lines were dropped") != NULL);
    ld_log_close();
    close(reader);
}

static void lose_reader(void) {
    signal(SIGPIPE, SIG_IGN);
    int reader = open_fifo_log();
    close(reader);
    ld_log(LD_LOG_INFO, "lost");
    ld_log(LD_LOG_INFO, "lost");
    CHECK_INT(2, ld_log_dropped());
    reader = open(box_path("fifo"), O_RDONLY | O_NONBLOCK | O_CLOEXEC);
    ld_log(LD_LOG_INFO, "kept");
    const char *text = read_fd(reader);
    CHECK_INT(2, count_lines(text));
    CHECK(strstr(text, "2 log lines were dropped: Broken pipe\n") != NULL);
    ld_log_close();
}

static void test_reader_gone(void) {
    box_path("");
    check_in_child(lose_reader);
}

static void test_errno(void) {
    struct ld_log_event event = {.source = "x", .message = "x", .size = 1};
    static const char *const sinks[] = {"/dev/full", NULL};
    for (int i = 0; i < 2; i++) {
        open_file_log(sinks[i] != NULL ? sinks[i] : box_path("log"));
        errno = ODD_ERRNO;
        ld_log(LD_LOG_ERROR, "%s", "x");
        CHECK_INT(ODD_ERRNO, errno);
        errno = ODD_ERRNO;
        ld_log_put(&event);
        CHECK_INT(ODD_ERRNO, errno);
        errno = ODD_ERRNO;
        ld_log_reopen();
        CHECK_INT(ODD_ERRNO, errno);
        ld_log_close();
    }
    open_file_log(box_path("dir/log"));
    REQUIRE(rename(box_path("dir"), box_path("old")) == 0);
    write_file(box_path("dir"), "");
    errno = ODD_ERRNO;
    CHECK(ld_log_reopen() < 0);
    CHECK_INT(ODD_ERRNO, errno);
    ld_log_close();
}

/* Be heard by a syslog of our own, in a /dev of our own. */
static void log_to_syslog(void) {
    if (unshare(CLONE_NEWNS) < 0 || mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0 ||
        mount("none", "/dev", "tmpfs", 0, NULL) < 0) {
        check_skip("needs root");
        return;
    }
    struct sockaddr_un address = {.sun_family = AF_UNIX, .sun_path = "/dev/log"};
    char packet[256] = "";
    int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    REQUIRE(bind(fd, (struct sockaddr *)&address, sizeof address) == 0);
    struct ld_log_config config = {.sink = LD_LOG_SYSLOG, .level = LD_LOG_INFO, .ident = "beat"};
    struct ld_log_field field = {.key = "k", .type = LD_FIELD_BOOLEAN, .value.boolean = true};
    struct ld_log_event event = {LD_LOG_ERROR, "src", "a\n%s", 4, &field, 1};
    CHECK_INT(0, ld_log_open(&config));
    ld_log_put(&event);
    ld_log(LD_LOG_DEBUG, "not this");
    CHECK(recv(fd, packet, sizeof packet - 1, 0) > 0);
    CHECK(strncmp(packet, "<27>", 4) == 0); /* daemon.err */
    CHECK(strstr(packet, " beat[") != NULL);
    CHECK(strstr(packet, "]: src: a\\x0A%s k=true") != NULL);
    CHECK(recv(fd, packet, sizeof packet - 1, 0) < 0);
    errno = ODD_ERRNO;
    ld_log_put(&event);
    CHECK_INT(ODD_ERRNO, errno);
    ld_log_close();
}

static void test_syslog(void) {
    check_in_child(log_to_syslog);
}

/* Listen as syslog does; a descriptor. */
static int open_listener(int type) {
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    snprintf(address.sun_path, sizeof address.sun_path, "%s", box_path("syslog"));
    unlink(address.sun_path);
    int fd = socket(AF_UNIX, type | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    REQUIRE(bind(fd, (struct sockaddr *)&address, sizeof address) == 0);
    REQUIRE(type == SOCK_DGRAM || listen(fd, 5) == 0);
    return fd;
}

/* Check that the next packet ends with TEXT. */
static void check_packet(int fd, const char *text) {
    static char packet[100000];
    ssize_t size = recv(fd, packet, sizeof packet - 1, 0);
    packet[size > 0 ? size : 0] = '\0';
    size_t length = strlen(text);
    CHECK_STR(text, size > (ssize_t)length ? packet + size - length : packet);
}

/* Open a log that goes to our syslog. */
static void open_syslog(bool json) {
    struct ld_log_config config = {.sink = LD_LOG_SYSLOG,
                                   .level = LD_LOG_INFO,
                                   .json = json,
                                   .ident = "beat",
                                   .path = box_path("syslog")};
    CHECK_INT(0, ld_log_open(&config));
    CHECK(ld_log_path() == NULL);
}

static void test_syslog_without_listener(void) {
    open_syslog(false);
    ld_log(LD_LOG_INFO, "lost");
    ld_log(LD_LOG_INFO, "lost");
    CHECK_INT(2, ld_log_dropped());
    int fd = open_listener(SOCK_DGRAM);
    ld_log(LD_LOG_INFO, "one");
    check_packet(fd, "]: lunad: 2 log lines were dropped: no process listened to syslog");
    check_packet(fd, "]: lunad: one");
    close(fd); /* it ends, with its socket left */
    ld_log(LD_LOG_INFO, "lost");
    CHECK_INT(3, ld_log_dropped());
    fd = open_listener(SOCK_DGRAM);
    ld_log_reopen();
    check_packet(fd, "]: lunad: 1 log line was dropped: no process listened to syslog");
    int next = open_listener(SOCK_DGRAM); /* restarted: nothing is lost */
    close(fd);
    ld_log(LD_LOG_INFO, "two");
    check_packet(next, "]: lunad: two");
    CHECK_INT(3, ld_log_dropped());
    close(next);
    ld_log_close();
}

static void test_syslog_that_is_full(void) {
    int fd = open_listener(SOCK_DGRAM);
    char packet[1000];
    unsigned long long got = 0;
    open_syslog(false);
    time_t start = time(NULL);
    for (int i = 0; i < 2000; i++) {
        ld_log(LD_LOG_INFO, "line");
    }
    CHECK(time(NULL) - start < 5);
    unsigned long long dropped = ld_log_dropped();
    CHECK(dropped > 0);
    while (recv(fd, packet, sizeof packet, 0) > 0) {
        got++;
    }
    CHECK_INT(2000, dropped + got);
    ld_log(LD_LOG_INFO, "again");
    snprintf(packet, sizeof packet,
             "lunad: %llu log lines were dropped: the reader did not keep up", dropped);
    check_packet(fd, packet);
    check_packet(fd, "lunad: again");
    close(fd);
    ld_log_close();
}

static void test_syslog_by_a_stream(void) {
    int fd = open_listener(SOCK_STREAM);
    char bytes[1000] = "";
    open_syslog(false);
    ld_log(LD_LOG_INFO, "one");
    ld_log(LD_LOG_INFO, "two");
    int client = accept(fd, NULL, NULL);
    ssize_t size = recv(client, bytes, sizeof bytes, 0);
    CHECK(size > 0 && bytes[size - 1] == '\0');
    CHECK(strstr(bytes, "lunad: one") != NULL);
    CHECK(size > 0 && strstr(bytes + strlen(bytes) + 1, "lunad: two") != NULL);
    close(client);
    ld_log(LD_LOG_INFO, "three");
    client = accept(fd, NULL, NULL);
    CHECK(recv(client, bytes, sizeof bytes, 0) > 0 && strstr(bytes, "lunad: three") != NULL);
    CHECK_INT(0, ld_log_dropped());
    close(client);
    close(fd);
    ld_log_close();
}

static void test_syslog_of_long_messages(void) {
    char *message = malloc(70001);
    memset(message, 'x', 70001);
    struct ld_log_field field = {.key = "k", .type = LD_FIELD_BOOLEAN, .value.boolean = true};
    struct ld_log_event event = {LD_LOG_ERROR, "src", message, 70001, &field, 1};
    int fd = open_listener(SOCK_DGRAM);
    static char packet[200000];
    open_syslog(false);
    ld_log_put(&event);
    CHECK_INT(0, ld_log_dropped());
    size_t found = 0;
    const char *const ends[] = {"x part=1 cut=true", "x part=2 cut=true", "x k=true part=3"};
    for (int i = 0; i < 3; i++) {
        ssize_t size = recv(fd, packet, sizeof packet - 1, 0);
        REQUIRE(size > 0);
        packet[size] = '\0';
        CHECK_STR(ends[i], packet + size - strlen(ends[i]));
        found += strspn(strstr(packet, ": src: ") + 7, "x");
    }
    CHECK_INT(70001, found);
    memset(message, '\1', 30000);
    event.size = 30000;
    ld_log_put(&event); /* four times as long when it is escaped */
    CHECK(recv(fd, packet, sizeof packet, 0) > 120000);
    CHECK_INT(0, ld_log_dropped());
    free(message);
    close(fd);
    ld_log_close();
}

static void test_syslog_as_json(void) {
    int fd = open_listener(SOCK_DGRAM);
    open_syslog(true);
    ld_log(LD_LOG_INFO, "a\nb");
    check_packet(fd, "\"message\":\"a\\nb\"}");
    close(fd);
    ld_log_close();
}

/* What a handler of a crash writes, to a log of one form. */
static const char *write_from_handler(bool json) {
    static const char message[] = "first\nsecond \x1b\n\n";
    struct ld_log_config config = {
        .sink = LD_LOG_FILE, .level = LD_LOG_INFO, .json = json, .path = box_path("handler.log")};
    unlink(box_path("handler.log"));
    CHECK_INT(0, ld_log_open(&config));
    CHECK(ld_log_is_file());
    ld_log_from_handler(LD_LOG_ERROR, message, sizeof message - 1);
    ld_log(LD_LOG_INFO, "later");
    ld_log_close();
    ld_log_from_handler(LD_LOG_ERROR, message, sizeof message - 1); /* not open */
    CHECK(!ld_log_is_file());
    return read_file(box_path("handler.log"));
}

static void test_from_handler(void) {
    const char *text = write_from_handler(false);
    CHECK(strstr(text, "Z error lunad: first\n    second \\x1B\n2") == text + 23);
    CHECK(strstr(text, "Z info  lunad: later\n") != NULL);
    text = write_from_handler(true);
    CHECK(strstr(text, "{\"time\":\"2") == text);
    CHECK(strstr(text, "Z\",\"level\":\"error\",\"source\":\"lunad\",\"pid\":") != NULL);
    CHECK(strstr(text, ",\"message\":\"first\\u000asecond \\u001b\"}\n{") != NULL);
}

static void test_syslog_from_handler(void) {
    static const char message[] = "first\n\nsecond\x1b\n";
    int fd = open_listener(SOCK_DGRAM);
    open_syslog(false);
    ld_log_from_handler(LD_LOG_ERROR, message, sizeof message - 1);
    check_packet(fd, "]: lunad: first");
    check_packet(fd, "]: lunad: second\\x1B");
    open_syslog(true);
    ld_log_from_handler(LD_LOG_ERROR, "one", 3);
    check_packet(fd, ",\"message\":\"one\"}");
    close(fd);
    unlink(box_path("syslog"));
    ld_log_reopen(); /* which closes the connection */
    ld_log_from_handler(LD_LOG_ERROR, "nobody listens", 14);
    ld_log_close();
}

static const struct check_case cases[] = {
    {"levels have names", test_levels},
    {"what is below the least level is not written", test_least_level},
    {"what comes before and after is dropped without a count", test_before_and_after},
    {"an event is a line", test_message},
    {"an event is a JSON object", test_json},
    {"the file is made with mode 0640, its directory too", test_mode},
    {"a symbolic link is refused, at reopen too", test_symlink},
    {"no line is lost at a reopen", test_reopen},
    {"a reopen that fails leaves the old file in use", test_reopen_fails},
    {"descriptors 1 and 2 follow the file", test_capture},
    {"descriptors 1 and 2 go to /dev/null without a file", test_capture_nothing},
    {"stderr is not ours to close", test_stderr},
    {"the file is opened by the opener", test_opener},
    {"lines lost to a full disk are counted, and said later", test_full_disk},
    {"one lost line is one", test_one_is_lost},
    {"a line that was torn is ended first", test_torn},
    {"lines that are written together", test_lines},
    {"lines that are written together, on a full disk", test_torn_lines},
    {"a torn line is forgotten at a reopen", test_torn_is_over_at_reopen},
    {"a reader that does not read stops no caller", test_full_pipe},
    {"a long line torn by a full pipe is ended first", test_full_pipe_tears},
    {"a reader that is gone stops no caller", test_reader_gone},
    {"errno is kept", test_errno},
    {"syslog gets priority, source, message and fields", test_syslog},
    {"lines without a listener of syslog are counted, and said later",
     test_syslog_without_listener},
    {"a syslog that does not keep up stops no caller", test_syslog_that_is_full},
    {"a syslog that wants a stream gets one", test_syslog_by_a_stream},
    {"a message too long for syslog comes in pieces", test_syslog_of_long_messages},
    {"syslog gets JSON when that is asked for", test_syslog_as_json},
    {"a signal handler can write an event", test_from_handler},
    {"a signal handler can send lines to syslog", test_syslog_from_handler},
};

CHECK_MAIN(cases)
