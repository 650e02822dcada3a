#include "base/log.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/stat.h>
#include <syslog.h>
#include <unistd.h>

#include "base/file.h"
#include "base/log_last.h"
#include "base/log_line.h"
#include "base/log_ring.h"
#include "base/syslogger.h"
#include "base/text.h"
#include "base/time.h"

#define PATIENCE_S   1     /* how long to wait for another thread that writes */
#define PATIENCE_MS  200   /* how long to wait, once, for a reader that does not read */
#define SYSLOG_PIECE 32768 /* bytes of a message that fit a datagram, also when escaped */
#define FIELDS_MAX   64    /* that a cut message can have */
#define SLACK        65536 /* bytes that a line which is written in pieces may add to a full file */
#define BATCH_SIZE   32768
#define RETRY_S      10  /* between attempts to rotate */
#define RETRY_MS     100 /* the same while such a line is being written */

static const int syslog_priorities[] = {LOG_DEBUG, LOG_INFO, LOG_WARNING, LOG_ERR};

static atomic_ullong missed; /* lines of threads that could not wait for the lock */

static struct {
    bool open;
    struct ld_log_config config; /* but for its strings */
    char *path;
    char *ident;
    int fd;              /* where lines go; 2 for stderr, -1 for syslog and none */
    bool may_block;      /* not a regular file: ask before writing */
    bool torn;           /* the last write left a line without its end */
    uint64_t dropped;    /* lines lost in all */
    uint64_t unsaid;     /* lines lost and not yet reported */
    int cause;           /* errno of the last loss */
    struct ld_text line; /* the line being made */
    struct ld_syslogger syslogger;

    uint64_t file_count;
    uint64_t size;  /* of the file, as far as it is known */
    uint64_t limit; /* a line that would make it larger has it rotated */
    ld_log_opener *rotator;
    void *rotator_arg;
    pid_t rotator_thread; /* that may call it */
    uint64_t rotate_at;   /* ld_time_coarse: not before */
    int rotate_error;     /* errno of a rotation that failed, while none has succeeded */
    bool rotate_unsaid;   /* it has not been reported */
} logger = {.fd = -1, .syslogger = {.fd = -1}, .limit = UINT64_MAX};

/* Whole lines, to be written together before the lock is released. */
static char batch[BATCH_SIZE];
static size_t batch_size;

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER; /* of the line, and where it goes */

/* Lock the log, but do not wait for ever: a thread that holds it may be stuck in a write. False if it
 * cannot be locked. */
static bool lock(void) {
    struct timespec until;
    if (pthread_mutex_trylock(&mutex) == 0) {
        return true;
    }
    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_sec += PATIENCE_S;
    return pthread_mutex_clocklock(&mutex, CLOCK_MONOTONIC, &until) == 0;
}

/* Unlock it. */
static void unlock(void) {
    pthread_mutex_unlock(&mutex);
}

/* Unlock it in a copy of the process, where the thread that held it is missing. */
void ld_log_free_in_copy(void) {
    mutex = (pthread_mutex_t)PTHREAD_MUTEX_INITIALIZER;
}

/* Open the file of a file sink in the configured way. */
static int open_sink_file(void) {
    if (logger.config.opener != NULL) {
        return logger.config.opener(logger.config.opener_arg);
    }
    return ld_file_open_log(AT_FDCWD, logger.path, -1);
}

/* Let descriptors 1 and 2 go to FD. */
static int capture_std(int fd) {
    for (int std = STDOUT_FILENO; std <= STDERR_FILENO; std++) {
        int rc;
        do {
            rc = dup2(fd, std);
        } while (rc < 0 && (errno == EINTR || errno == EBUSY));
        if (rc < 0) {
            return -errno;
        }
    }
    return 0;
}

/* Set the size that the file must not exceed. */
static void set_limit(void) {
    bool is_rotated = logger.rotator != NULL && logger.config.max_size > 0 &&
                      logger.config.sink == LD_LOG_FILE && !logger.may_block;
    logger.limit = is_rotated ? logger.config.max_size : UINT64_MAX;
}

/* Let lines go to FD from now on, and descriptors 1 and 2 with them. */
static int use_file(int fd) {
    struct stat facts;
    if (logger.config.capture) {
        int rc = capture_std(fd);
        if (rc < 0) {
            close(fd);
            return rc;
        }
    }
    if (logger.config.sink == LD_LOG_FILE && logger.fd >= 0) {
        close(logger.fd);
    }
    logger.fd = fd;
    logger.may_block = fstat(fd, &facts) < 0 || !S_ISREG(facts.st_mode);
    logger.torn = false;
    logger.size = logger.may_block ? 0 : (uint64_t)facts.st_size;
    logger.file_count++;
    logger.rotate_at = 0;
    set_limit();
    return 0;
}

/* Send descriptors 1 and 2 to /dev/null. */
static int capture_nothing(void) {
    int fd = open("/dev/null", O_RDWR | O_CLOEXEC);
    if (fd < 0) {
        return -errno;
    }
    int rc = capture_std(fd);
    close(fd);
    return rc;
}

/* Bring the configured sink into use. */
static int open_sink(void) {
    switch (logger.config.sink) {
    case LD_LOG_STDERR:
        return use_file(logger.config.fd > 0 ? logger.config.fd : STDERR_FILENO);
    case LD_LOG_FILE: {
        int fd = open_sink_file();
        return fd < 0 ? fd : use_file(fd);
    }
    case LD_LOG_SYSLOG:
        logger.syslogger.path = logger.path;
        ld_syslogger_connect(&logger.syslogger); /* if that fails, each line tries again */
        return logger.config.capture ? capture_nothing() : 0;
    case LD_LOG_NONE:
        return logger.config.capture ? capture_nothing() : 0;
    }
    return -EINVAL;
}

/* Open the log. */
int ld_log_open(const struct ld_log_config *config) {
    ld_log_close();
    logger.config = *config;
    logger.path = config->path != NULL ? strdup(config->path) : NULL;
    logger.ident = strdup(config->ident != NULL ? config->ident : "lunad");
    int rc = logger.ident == NULL || (config->path != NULL && logger.path == NULL) ? -ENOMEM
                                                                                   : open_sink();
    logger.open = rc == 0;
    if (rc < 0) {
        ld_log_close();
    }
    return rc;
}

/* Close the log; what comes later is dropped. */
void ld_log_close(void) {
    if (logger.config.sink == LD_LOG_FILE && logger.fd >= 0) {
        close(logger.fd);
    }
    ld_syslogger_close(&logger.syslogger);
    free(logger.path);
    free(logger.ident);
    ld_text_fini(&logger.line);
    ld_log_ring_clear();
    batch_size = 0;
    memset(&logger, 0, sizeof logger);
    logger.fd = -1;
    logger.syslogger.fd = -1;
    logger.limit = UINT64_MAX;
}

/* Replace how the file is opened again. */
void ld_log_set_opener(ld_log_opener *opener, void *arg) {
    logger.config.opener = opener;
    logger.config.opener_arg = arg;
}

/* Replace how the file is rotated. */
void ld_log_set_rotator(ld_log_opener *rotator, void *arg) {
    logger.rotator = rotator;
    logger.rotator_arg = arg;
    logger.rotator_thread = gettid();
    logger.rotate_at = 0;
    set_limit();
}

/* How long to wait for a reader: not at all while lines are being lost anyway. */
static int patience(void) {
    return logger.unsaid > 0 ? 0 : PATIENCE_MS;
}

/* Wait a little until FD takes bytes. */
static bool is_writable(void) {
    if (!logger.may_block) {
        return true;
    }
    struct pollfd poller = {.fd = logger.fd, .events = POLLOUT};
    struct timespec wait = {.tv_nsec = patience() * 1000000L};
    sigset_t all;
    sigfillset(&all);
    int rc = ppoll(&poller, 1, &wait, &all); /* a signal does not end it */
    return rc > 0 && (poller.revents & POLLOUT) != 0;
}

/* Write SIZE bytes in pieces that cannot block; false with the cause when some were not taken. */
static bool write_bytes(const char *bytes, size_t size) {
    while (size > 0) {
        if (!is_writable()) {
            logger.cause = EAGAIN;
            return false;
        }
        size_t piece = logger.may_block && size > PIPE_BUF ? PIPE_BUF : size;
        ssize_t written = write(logger.fd, bytes, piece);
        if (written < 0 && errno == EINTR) {
            continue;
        }
        if (written < 0) {
            logger.cause = errno;
            return false;
        }
        logger.torn = bytes[written - 1] != '\n';
        logger.size += (uint64_t)written;
        bytes += written;
        size -= (size_t)written;
    }
    return true;
}

/* Whether the file ends with a whole line, or that cannot be found out. */
static bool ends_with_line(uint64_t size) {
    char path[32];
    char last = '\n';
    snprintf(path, sizeof path, "/proc/self/fd/%d", logger.fd);
    int fd = open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC); /* ours can only be written to */
    if (fd >= 0) {
        if (pread(fd, &last, 1, (off_t)size - 1) != 1) {
            last = '\n';
        }
        close(fd);
    }
    return last == '\n';
}

/* Check whether the file is to be rotated before MORE bytes are written. Half a line of another writer of this
 * process is waited for, but not for ever. */
static bool is_rotation_due(uint64_t more) {
    struct stat facts;
    uint64_t now = ld_time_coarse();
    if (now < logger.rotate_at || gettid() != logger.rotator_thread ||
        fstat(logger.fd, &facts) < 0) {
        return false;
    }
    logger.size = (uint64_t)facts.st_size; /* another process may have cut it */
    if (logger.size < (logger.limit + 1) / 2 || logger.size + more <= logger.limit) {
        return false;
    }
    if (!logger.torn && logger.size < logger.limit + SLACK && !ends_with_line(logger.size)) {
        logger.rotate_at = now + RETRY_MS * 1000000ULL;
        return false;
    }
    return true;
}

/* Rotate the file. */
static void rotate(void) {
    int rc = logger.rotator(logger.rotator_arg);
    rc = rc < 0 ? rc : use_file(rc);
    if (rc == 0) {
        logger.rotate_error = 0;
        return;
    }
    if (rc == -EAGAIN) { /* another process is at it */
        logger.rotate_at = ld_time_coarse() + RETRY_MS * 1000000ULL;
        return;
    }
    logger.rotate_unsaid = logger.rotate_unsaid || logger.rotate_error == 0;
    logger.rotate_error = -rc;
    logger.rotate_at = ld_time_coarse() + RETRY_S * (uint64_t)LD_TIME_SECOND;
}

/* Write one finished line, after the end of a torn one; false when it was lost. */
static bool write_line(const struct ld_text *line) {
    if (line->failed) {
        logger.cause = ENOMEM;
        return false;
    }
    if (logger.size + line->size > logger.limit && is_rotation_due(line->size)) {
        rotate();
    }
    return (!logger.torn || write_bytes("\n", 1)) && write_bytes(line->data, line->size);
}

/* Add EVENT to the line in the configured form. */
static void format_line(const struct ld_log_event *event) {
    ld_text_clear(&logger.line);
    if (logger.config.json) {
        ld_log_line_json(&logger.line, event);
    } else {
        ld_log_line_text(&logger.line, event);
    }
}

/* Make what syslog gets of an event: it has its own time and level. */
static void format_syslog(const struct ld_log_event *event) {
    ld_text_clear(&logger.line);
    if (logger.config.json) {
        ld_log_line_json(&logger.line, event);
        logger.line.size -= logger.line.size > 0 ? 1 : 0; /* without the newline */
        return;
    }
    ld_text_add_escaped(&logger.line, event->source, strlen(event->source), false);
    ld_text_puts(&logger.line, ": ");
    ld_text_add_escaped(&logger.line, event->message, event->size, false);
    ld_log_line_fields(&logger.line, event);
}

/* Send an event to syslog; false when it was lost. */
static bool send_event(const struct ld_log_event *event) {
    format_syslog(event);
    const struct ld_syslogger_message message = {.priority = syslog_priorities[event->level],
                                                 .ident = logger.ident,
                                                 .text = ld_text_string(&logger.line),
                                                 .size = logger.line.size,
                                                 .wait_ms = patience()};
    ld_log_ring_keep(message.text, message.size);
    int rc = logger.line.failed ? -ENOMEM : ld_syslogger_send(&logger.syslogger, &message);
    logger.cause = rc < 0 ? -rc : logger.cause;
    return rc == 0;
}

/* Write an event that is one line; false when it was lost. */
static bool put_event(const struct ld_log_event *event) {
    if (logger.config.sink == LD_LOG_SYSLOG) {
        return send_event(event);
    }
    format_line(event);
    ld_log_ring_keep(ld_text_string(&logger.line), logger.line.size);
    return write_line(&logger.line);
}

/* Why lines were lost, in words. */
static const char *loss_cause(void) {
    if (logger.cause == EAGAIN) {
        return "the reader did not keep up";
    }
    bool no_listener = logger.cause == ECONNREFUSED || logger.cause == ENOENT;
    return logger.config.sink == LD_LOG_SYSLOG && no_listener ? "no process listened to syslog"
                                                              : strerror(logger.cause);
}

/* Report how many lines were lost; false when that cannot be written either. */
static bool report_loss(void) {
    char message[128];
    int size = snprintf(message, sizeof message, "%llu log line%s dropped: %s",
                        (unsigned long long)logger.unsaid, logger.unsaid == 1 ? " was" : "s were",
                        loss_cause());
    struct ld_log_event event = {
        .level = LD_LOG_WARN, .source = "lunad", .message = message, .size = (size_t)size};
    if (!put_event(&event)) {
        return false;
    }
    logger.unsaid = 0;
    return true;
}

/* Report once that the file cannot be rotated. */
static void report_rotation(void) {
    char message[PATH_MAX + 128];
    logger.rotate_unsaid = false;
    int size =
        snprintf(message, sizeof message,
                 "%s cannot be rotated, and grows: %s; trying again every %d s", logger.path,
                 logger.rotate_error == EEXIST ? "one of the older names is not a regular file"
                                               : strerror(logger.rotate_error),
                 RETRY_S);
    struct ld_log_event event = {.level = LD_LOG_ERROR,
                                 .source = "lunad",
                                 .message = message,
                                 .size = (size_t)size < sizeof message ? (size_t)size
                                                                       : sizeof message - 1};
    put_event(&event);
}

/* Count what was lost without the lock. */
static void count_missed(void) {
    if (atomic_load_explicit(&missed, memory_order_relaxed) > 0) {
        unsigned long long count = atomic_exchange(&missed, 0);
        logger.dropped += count;
        logger.unsaid += count;
        logger.cause = EAGAIN;
    }
}

/* Write an event, or count it as lost. */
static void put_or_count(const struct ld_log_event *event) {
    count_missed();
    if ((logger.unsaid > 0 && !report_loss()) || !put_event(event)) {
        logger.dropped++;
        logger.unsaid++;
    }
    if (logger.rotate_unsaid) {
        report_rotation();
    }
}

/* Write the piece of an event that the first SIZE bytes of the message are; the last one has the
 * event's own fields too. */
static void put_piece(const struct ld_log_event *event, size_t size, long long number) {
    struct ld_log_field fields[FIELDS_MAX + 2];
    bool is_cut = size < event->size;
    struct ld_log_event piece = *event;
    piece.size = size;
    piece.field_count = is_cut || event->field_count > FIELDS_MAX ? 0 : event->field_count;
    if (piece.field_count > 0) {
        memcpy(fields, event->fields, piece.field_count * sizeof *fields);
    }
    piece.field_count += ld_log_line_piece_fields(fields + piece.field_count, number, is_cut);
    piece.fields = fields;
    put_or_count(&piece);
}

/* Write an event that is too long for a datagram, in pieces. */
static void put_in_pieces(const struct ld_log_event *event) {
    struct ld_log_event rest = *event;
    long long number = 1;
    for (; rest.size > SYSLOG_PIECE; number++) {
        size_t size = ld_text_cut(rest.message, SYSLOG_PIECE);
        put_piece(&rest, size, number);
        rest.message += size;
        rest.size -= size;
    }
    put_piece(&rest, rest.size, number);
}

/* Write one event. */
void ld_log_put(const struct ld_log_event *event) {
    if (!logger.open || event->level < logger.config.level || logger.config.sink == LD_LOG_NONE) {
        return;
    }
    int saved = errno;
    bool is_locked = lock();
    if (!is_locked) {
        atomic_fetch_add(&missed, 1);
    } else if (logger.config.sink == LD_LOG_SYSLOG && event->size > SYSLOG_PIECE) {
        put_in_pieces(event);
    } else {
        put_or_count(event);
    }
    if (is_locked) {
        unlock();
    }
    errno = saved;
}

/* Write the batch. A line is lost if its end is. */
static void flush_batch(void) {
    uint64_t before = logger.size;
    if (!write_bytes(batch, batch_size)) {
        for (size_t i = (size_t)(logger.size - before); i < batch_size; i++) {
            logger.dropped += batch[i] == '\n';
            logger.unsaid += batch[i] == '\n';
        }
    }
    batch_size = 0;
}

/* Whether lines for where they go now can be written together. */
static bool takes_batch(void) {
    return logger.fd >= 0 && !logger.may_block && !logger.torn && logger.unsaid == 0;
}

/* Add the line that was made to the batch; false if it has to be written by itself. */
static bool add_to_batch(void) {
    const struct ld_text *line = &logger.line;
    if (line->failed || line->size > BATCH_SIZE ||
        logger.size + batch_size + line->size > logger.limit) {
        return false;
    }
    if (batch_size + line->size > BATCH_SIZE) {
        flush_batch();
        if (!takes_batch()) {
            return false;
        }
    }
    memcpy(batch + batch_size, line->data, line->size);
    batch_size += line->size;
    ld_log_ring_keep(line->data, line->size);
    return true;
}

/* Write an event that is one line, perhaps with those that follow. */
static void collect_event(const struct ld_log_event *event) {
    bool is_collected = false;
    if (takes_batch()) {
        format_line(event);
        is_collected = add_to_batch();
    }
    if (!is_collected) {
        flush_batch();
        put_or_count(event);
    }
}

/* Write an event for each line. */
void ld_log_put_lines(const struct ld_log_event *event) {
    struct ld_log_event line = *event;
    const char *end = event->message + event->size;
    if (!logger.open || event->level < logger.config.level || logger.config.sink == LD_LOG_NONE) {
        return;
    }
    int saved = errno;
    bool is_locked = lock();
    if (is_locked) {
        count_missed();
    }
    for (const char *at = event->message; at < end; at += line.size + 1) {
        line.message = at;
        line.size = (size_t)((const char *)memchr(at, '\n', (size_t)(end - at)) - at);
        if (is_locked) {
            collect_event(&line);
        } else {
            atomic_fetch_add(&missed, 1);
        }
    }
    if (is_locked) {
        flush_batch();
        unlock();
    }
    errno = saved;
}

/* Write what a signal handler has put together. */
static void drain_last(void *arg, const char *bytes, size_t size) {
    (void)arg;
    write_bytes(bytes, size);
}

/* Write a message from a signal handler. */
void ld_log_from_handler(enum ld_log_level level, const char *message, size_t size) {
    write_bytes(batch, batch_size); /* lines whose writing was interrupted */
    batch_size = 0;
    const struct ld_log_last last = {.level = level,
                                     .json = logger.config.json,
                                     .torn = logger.torn,
                                     .priority = syslog_priorities[level],
                                     .ident = logger.ident,
                                     .message = message,
                                     .size = size};
    if (!logger.open || logger.config.sink == LD_LOG_NONE) {
        return;
    }
    if (logger.config.sink == LD_LOG_SYSLOG) {
        ld_log_last_send(&last, &logger.syslogger);
    } else {
        ld_log_last_write(&last, drain_last);
    }
}

/* Write a message of lunad itself: what printf would print and, if there is one, TEXT after it; only
 * its beginning when memory runs out. */
static void log_message(enum ld_log_level level, const struct ld_text *text, const char *format,
                        va_list args) {
    char beginning[256] = "";
    struct ld_text message = {0};
    va_list again;
    va_copy(again, args);
    if (logger.config.worker > 0) {
        ld_text_format(&message, "worker %d: ", logger.config.worker);
    }
    ld_text_vformat(&message, format, args);
    if (text != NULL) {
        ld_text_append(&message, text);
    }
    if (message.failed) {
        int size = vsnprintf(beginning, sizeof beginning, format, again);
        if (text != NULL && size >= 0 && (size_t)size < sizeof beginning) {
            snprintf(beginning + size, sizeof beginning - (size_t)size, "%s", ld_text_string(text));
        }
    }
    va_end(again);
    struct ld_log_event event = {
        .level = level,
        .source = "lunad",
        .message = message.failed ? beginning : ld_text_string(&message),
        .size = message.failed ? strlen(beginning) : message.size,
    };
    ld_log_put(&event);
    ld_text_fini(&message);
}

/* Write a formatted message. */
void ld_log(enum ld_log_level level, const char *format, ...) {
    int saved = errno;
    va_list args;
    va_start(args, format);
    log_message(level, NULL, format, args);
    va_end(args);
    errno = saved;
}

/* Write a formatted message and a text. */
void ld_log_with(enum ld_log_level level, const struct ld_text *text, const char *format, ...) {
    int saved = errno;
    va_list args;
    va_start(args, format);
    log_message(level, text, format, args);
    va_end(args);
    errno = saved;
}

/* Use the file that was opened again, or connect to syslog again. */
static int use_again(int fd) {
    int rc = 0;
    if (logger.config.sink == LD_LOG_FILE) {
        rc = use_file(fd);
    } else {
        ld_syslogger_close(&logger.syslogger);
    }
    if (rc == 0 && logger.unsaid > 0) {
        report_loss();
    }
    return rc;
}

/* Open the file again; the old one stays if that fails. */
int ld_log_reopen(void) {
    if (!logger.open) {
        return 0;
    }
    int saved = errno;
    bool is_file = logger.config.sink == LD_LOG_FILE;
    int fd = is_file ? open_sink_file() : -1;
    int rc = is_file && fd < 0 ? fd : lock() ? 0 : -ETIMEDOUT;
    if (rc == 0) {
        rc = use_again(fd);
        unlock();
    } else if (fd >= 0) {
        close(fd);
    }
    errno = saved;
    return rc;
}

/* Rotate the file if others have made it large enough. */
void ld_log_check_size(void) {
    int saved = errno;
    if (logger.limit < UINT64_MAX && lock()) {
        if (is_rotation_due(1)) {
            rotate();
        }
        if (logger.rotate_unsaid) {
            report_rotation();
        }
        unlock();
    }
    errno = saved;
}

/* The descriptor of a file that is rotated. */
int ld_log_rotated_fd(uint64_t *count) {
    *count = logger.file_count;
    return logger.limit < UINT64_MAX ? logger.fd : -1;
}

/* The descriptor of the file. */
int ld_log_fd(void) {
    return logger.open && logger.config.sink == LD_LOG_FILE ? logger.fd : -1;
}

/* Whether lines go to a regular file. */
bool ld_log_is_file(void) {
    return logger.open && logger.config.sink == LD_LOG_FILE && !logger.may_block;
}

/* The path of a file sink. */
const char *ld_log_path(void) {
    return logger.config.sink == LD_LOG_FILE ? logger.path : NULL;
}

/* Where lines go. */
enum ld_log_sink ld_log_sink(void) {
    return logger.config.sink;
}

/* The least level that is written. */
enum ld_log_level ld_log_level(void) {
    return logger.config.level;
}

/* How many lines were lost since the start. */
uint64_t ld_log_dropped(void) {
    return logger.dropped + atomic_load(&missed);
}
