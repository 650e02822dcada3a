/* The log: one line per event to a file, stderr, syslog or nowhere. Process-wide; every function
 * keeps errno, and none of them ever fails its caller: a line that cannot be written is
 * counted, and the count is reported when writing works again. */
#ifndef LD_BASE_LOG_H
#define LD_BASE_LOG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/base.h"
#include "base/log_line.h"
#include "base/text.h"

enum ld_log_sink { LD_LOG_STDERR, LD_LOG_FILE, LD_LOG_SYSLOG, LD_LOG_NONE };

/* Opens the log file again: a descriptor or a negative errno. */
typedef int ld_log_opener(void *arg);

struct ld_log_config {
    enum ld_log_sink sink;
    enum ld_log_level level; /* the least that is written */
    bool json;
    bool capture;      /* descriptors 1 and 2 follow the file (or /dev/null) */
    int fd;            /* of a stderr sink: where else to write; 0: to stderr */
    const char *path;  /* of a file sink, or of the socket of syslog (NULL: /dev/log); copied */
    const char *ident; /* of a syslog sink; copied */
    int worker; /* which of the workers that share the log this process is: messages of lunad say so; 0: none */
    uint64_t
        max_size; /* of a file sink: it is rotated before a line makes it larger; 0: it is not */
    ld_log_opener *opener; /* how a file sink is opened; NULL: by path */
    void *opener_arg;
};

/* Open the log; 0 or a negative errno. Events before it are dropped without a count. */
int ld_log_open(const struct ld_log_config *config);
void ld_log_close(void);

/* Replace how the file is opened again (a process that dropped its privileges asks another). */
void ld_log_set_opener(ld_log_opener *opener, void *arg);

/* Have the file rotated by ROTATOR, which moves it away if it has at least half of max_size (a line that does not
 * fit may come before it is full), and opens a new one: a descriptor or a negative errno. Without one (NULL) it is not. It is called by the thread that calls this, with the log
 * locked: it must not log. A rotation that fails is logged once and tried again later. */
void ld_log_set_rotator(ld_log_opener *rotator, void *arg);

/* Rotate the file if that is due because of what others have written to it: what goes to descriptors 1 and 2
 * by other ways is not counted. */
void ld_log_check_size(void);

/* The descriptor of a file sink, or -1. */
int ld_log_fd(void);

/* The descriptor of a file sink that is rotated, or -1, with how many files were opened so far. */
int ld_log_rotated_fd(uint64_t *count);

/* Open the file again after a rotation; on failure (negative errno) the old one stays in use. Syslog is
 * connected to again. */
int ld_log_reopen(void);

/* In a copy of the process that fork has made: the threads that may have been writing are missing.
 * Async-signal-safe. */
void ld_log_free_in_copy(void);

/* Write one event. From any thread. */
void ld_log_put(const struct ld_log_event *event);

/* Write an event like EVENT for each line of its message, which ends with a newline. From any thread. */
void ld_log_put_lines(const struct ld_log_event *event);

/* Write a printf-formatted message with "lunad" as its source. */
void ld_log(enum ld_log_level level, const char *format, ...) LD_PRINTF(2, 3);

/* The same, followed by a text that may have bytes of any kind. */
void ld_log_with(enum ld_log_level level, const struct ld_text *text, const char *format, ...)
    LD_PRINTF(3, 4);

/* Write a message with "lunad" as its source from a signal handler, without keeping lines in order: it
 * interrupts whatever the log was doing. A message of several lines is one event, but in syslog, where
 * each is one. */
void ld_log_from_handler(enum ld_log_level level, const char *message, size_t size);

/* Whether lines go to a regular file that this process has opened. */
bool ld_log_is_file(void);

/* Facts for the status report. The path is NULL unless the sink is a file; owned by the log. */
const char *ld_log_path(void);
enum ld_log_sink ld_log_sink(void);
enum ld_log_level ld_log_level(void);
uint64_t ld_log_dropped(void);

#endif
