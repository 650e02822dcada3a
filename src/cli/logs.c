/* lunad logs */
#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/say.h"
#include "base/time.h"
#include "base/writer.h"
#include "cli/client.h"
#include "cli/log_chain.h"
#include "cli/log_view.h"
#include "cli/target.h"
#include "cli/verbs.h"
#include "daemon/record.h"
#include "posix/paths.h"

#define LINES   10  /* that are shown */
#define LOOK_MS 100 /* between checks for what is new */
#define GROW_MS 20  /* the same while stdout takes nothing */
#define BLOCK   16384

/* Find the log file that the record of a daemon names, which runs or has died; NULL if there is none. */
static char *recorded_path(const struct ld_target *target) {
    struct ld_record record;
    char *log = NULL;
    if (target->dir->fd >= 0 && ld_record_load(&record, target->dir->fd, target->name) == 0) {
        log = record.log != NULL ? strdup(record.log) : NULL;
        ld_record_fini(&record);
    }
    return log;
}

/* Find the log file of a running daemon; NULL after complaining. The daemon itself, which could name any
 * file, is asked only if its record does not name one. */
static char *ask_path(const struct ld_target *target) {
    struct ld_text why = {0};
    json_t *status;
    const struct ld_request request = ld_target_request(target, "status", LD_CLIENT_SECONDS);
    if (ld_client_ask(&request, &status, &why) < 0) {
        ld_text_fini(&why);
        return ld_paths_log_file(target->name);
    }
    const char *file = json_string_value(json_object_get(json_object_get(status, "log"), "file"));
    char *path = NULL;
    if (file != NULL && file[0] == '/') {
        path = strdup(file);
    } else {
        ld_say_error("%s: its log goes to %s, not to a file", target->name,
                     file != NULL ? file : "nowhere");
    }
    json_decref(status);
    return path;
}

/* What is shown, and where it is in that. */
struct reader {
    const char *name;
    struct ld_log_chain chain;
    struct ld_log_view view;
    int watch; /* inotify, of the directory; -1: none */
    bool has_said_lost;
};

/* Open what has become part of the log, and say if some may be missing. */
static void grow(struct reader *reader) {
    ld_log_chain_grow(&reader->chain);
    if (reader->chain.lost && !reader->has_said_lost) {
        reader->has_said_lost = true;
        ld_say_error("%s: lines may be missing: its log was rotated faster than it was read",
                     reader->name);
    }
}

/* Write bytes to stdout, which may be non-blocking; 0 or a negative errno. While its reader is slow, what is rotated
 * meanwhile is opened before it is gone. */
static int write_out(void *arg, const char *bytes, size_t size) {
    struct reader *reader = arg;
    struct pollfd writer = {.fd = STDOUT_FILENO, .events = POLLOUT};
    while (size > 0) {
        if (poll(&writer, 1, GROW_MS) == 0) {
            grow(reader);
            continue;
        }
        ssize_t written = write(STDOUT_FILENO, bytes, size < PIPE_BUF ? size : PIPE_BUF);
        if (written < 0 && errno != EINTR && errno != EAGAIN) {
            return -errno;
        }
        bytes += written > 0 ? written : 0;
        size -= written > 0 ? (size_t)written : 0;
    }
    return 0;
}

/* Show from the file position to END: 0, or a negative errno of the write. */
static int show_until(struct reader *reader, int fd, off_t end) {
    char block[BLOCK];
    ssize_t size = 1;
    int rc = 0;
    while (rc == 0 && size > 0) {
        off_t left = end - lseek(fd, 0, SEEK_CUR);
        size = left > 0 ? read(fd, block, left < BLOCK ? (size_t)left : BLOCK) : 0;
        rc = size > 0 ? ld_log_view_add(&reader->view, block, (size_t)size) : 0;
    }
    return rc;
}

/* Show from the file position to the present end of the file; likewise. */
static int show_new(struct reader *reader, int fd) {
    struct stat facts;
    return fstat(fd, &facts) == 0 ? show_until(reader, fd, facts.st_size) : 0;
}

/* Read the block that ends at END; return its size, 0 if it cannot be read. */
static size_t read_block(int fd, char *block, off_t end) {
    size_t size = end < BLOCK ? (size_t)end : BLOCK;
    return pread(fd, block, size, end - (off_t)size) == (ssize_t)size ? size : 0;
}

/* Go to where the last *LINES lines of a file begin; how many it does not have stays in *LINES. */
static void seek_tail(int fd, long *lines) {
    char block[BLOCK];
    off_t end = lseek(fd, 0, SEEK_END);
    off_t at = end;
    long newlines = 0;
    size_t size = 0; /* of what is left of the block */
    while (at > 0) {
        size = size > 0 ? size : read_block(fd, block, at);
        if (size-- == 0) {
            at = 0;
            break;
        }
        newlines += block[size] == '\n' && at != end; /* the last one ends the last line */
        if (newlines == *lines) {
            break;
        }
        at--;
    }
    *lines = newlines == *lines ? 0 : *lines - newlines - (end > 0);
    lseek(fd, at, SEEK_SET);
}

/* Go to where the last LINES lines begin, in which file that is, and drop those before it. */
static void seek_lines(struct ld_log_chain *chain, long lines) {
    size_t at = chain->count;
    while (at > 0 && (lines > 0 || at == chain->count)) {
        at--;
        if (lines > 0) {
            seek_tail(chain->files[at].fd, &lines);
        } else {
            lseek(chain->files[at].fd, 0, SEEK_END);
        }
    }
    while (at-- > 0) {
        ld_log_chain_drop(chain);
    }
}

/* Drop files that have nothing since the time that is asked for. */
static void drop_old(struct ld_log_chain *chain, int64_t since) {
    struct stat facts;
    while (chain->count > 1 && fstat(chain->files[0].fd, &facts) == 0 &&
           facts.st_mtim.tv_sec < since / LD_TIME_SECOND) {
        ld_log_chain_drop(chain);
    }
}

/* Show what there is: as much of the last file as it has now, even if it grows; with IS_ALL nothing follows. 0, or a negative errno of the
 * write. */
static int show_present(struct reader *reader, bool is_all) {
    struct stat facts = {0};
    int rc = 0;
    fstat(reader->chain.files[reader->chain.count - 1].fd, &facts);
    for (size_t left = reader->chain.count; left > 1 && rc == 0; left--) {
        rc = show_new(reader, reader->chain.files[0].fd);
        rc = rc == 0 ? ld_log_view_end_file(&reader->view) : rc;
        ld_log_chain_drop(&reader->chain);
    }
    rc = rc == 0 ? show_until(reader, reader->chain.files[0].fd, facts.st_size) : rc;
    if (rc == 0) {
        rc = is_all ? ld_log_view_end_file(&reader->view) : ld_log_view_settle(&reader->view);
    }
    return rc == 0 ? ld_log_view_write_kept(&reader->view) : rc;
}

/* Go back to the beginning of a file that was truncated. */
static void follow_truncation(int fd) {
    struct stat facts;
    if (fstat(fd, &facts) == 0 && lseek(fd, 0, SEEK_CUR) > facts.st_size) {
        lseek(fd, 0, SEEK_SET);
    }
}

/* Ask to be told of new files in the directory of the log: it may be rotated often. */
static int watch_directory(const char *path) {
    char dir[PATH_MAX];
    const char *slash = strrchr(path, '/');
    int fd = inotify_init1(IN_NONBLOCK | IN_CLOEXEC);
    snprintf(dir, sizeof dir, "%.*s", slash != NULL ? (int)(slash - path) + 1 : 1,
             slash != NULL ? path : ".");
    if (fd >= 0) {
        inotify_add_watch(fd, dir, IN_CREATE | IN_MOVED_TO | IN_ONLYDIR);
    }
    return fd;
}

/* Wait a moment, or for a new file; false when stdout has no reader left. */
static bool wait_a_moment(const struct reader *reader) {
    struct pollfd polls[2] = {{.fd = STDOUT_FILENO}, {.fd = reader->watch, .events = POLLIN}};
    char events[4096];
    poll(polls, 2, LOOK_MS);
    while (reader->watch >= 0 && read(reader->watch, events, sizeof events) > 0) {
    }
    return (polls[0].revents & (POLLERR | POLLHUP | POLLNVAL)) == 0;
}

/* Show what has come: 1 if there was something, 0, or a negative errno of the write. A file is left when the log goes
 * on in the next one: until then lines are written to it, whatever its name is. */
static int show_more(struct reader *reader) {
    struct ld_log_chain *chain = &reader->chain;
    grow(reader);
    int fd = chain->files[0].fd;
    bool is_past = ld_log_chain_is_past_first(chain);
    follow_truncation(fd);
    off_t before = lseek(fd, 0, SEEK_CUR);
    int rc = show_new(reader, fd);
    bool has_more = is_past || lseek(fd, 0, SEEK_CUR) > before;
    if (rc == 0 && is_past) {
        rc = ld_log_view_end_file(&reader->view);
        ld_log_chain_drop(chain);
    }
    return rc < 0 ? rc : has_more;
}

/* Show what is written, across rotations, until interrupted or without a reader: 0, or a negative errno of the
 * write. A file that cannot be a log is not followed. */
static int follow(struct reader *reader) {
    int rc = 0;
    reader->watch = watch_directory(reader->chain.path);
    while (rc >= 0 && (rc > 0 || wait_a_moment(reader))) {
        rc = show_more(reader);
        if (rc == 0) {
            rc = ld_log_view_settle(&reader->view);
        }
    }
    if (reader->watch >= 0) {
        close(reader->watch);
    }
    return rc;
}

/* Show the log that is open, from where the options say. */
static int show_chain(struct reader *reader, const struct ld_options *options) {
    char since[32] = "";
    struct ld_writer writer = {.buffer = since, .capacity = sizeof since};
    struct ld_log_view *view = &reader->view;
    long lines = options->lines >= 0 ? options->lines : options->since > 0 ? -1 : LINES;
    view->level = options->level;
    view->json = options->json;
    view->lines = lines;
    view->write = write_out;
    view->arg = reader;
    if (options->since > 0) {
        ld_writer_time(&writer, options->since);
        view->since = since;
        drop_old(&reader->chain, options->since);
    }
    if (ld_log_view_is_plain(view) || lines == 0) {
        seek_lines(&reader->chain, lines);
        view->lines = -1;
    }
    int rc = show_present(reader, !options->follow);
    return rc == 0 && options->follow ? follow(reader) : rc;
}

/* Show the log at PATH. */
static int show(const struct ld_call *call, const char *name, const char *path) {
    struct reader reader = {.name = name, .watch = -1};
    int rc = ld_log_chain_open(&reader.chain, path);
    if (rc < 0) {
        const char *kind = reader.chain.kind;
        ld_say_error("%s: its log %s: %s%s", name, path, kind != NULL ? kind : strerror(-rc),
                     kind != NULL ? ", not a regular file" : "");
        ld_log_chain_close(&reader.chain);
        return 1;
    }
    rc = show_chain(&reader, call->options);
    ld_log_view_fini(&reader.view);
    ld_log_chain_close(&reader.chain);
    if (rc < 0 && rc != -EPIPE) {
        ld_say_error("%s: writing its log to stdout: %s", name, strerror(-rc));
    }
    return rc < 0 ? 1 : 0;
}

/* Show the end of a daemon's log. */
static int run(const struct ld_call *call) {
    struct ld_rundir dir;
    struct ld_target target;
    int status = ld_rundir_open(&dir, call->options->run_dir);
    if (status == 0) {
        status = ld_target_find(&target, &dir, call->argv[call->operand]);
    }
    if (status == 0) {
        char *path = recorded_path(&target);
        if (path == NULL) {
            path = target.holder.state == LD_HOLDER_ALIVE ? ask_path(&target)
                                                          : ld_paths_log_file(target.name);
        }
        status = path != NULL ? show(call, target.name, path) : 1;
        free(path);
    }
    ld_rundir_close(&dir);
    return status;
}

const struct ld_verb ld_verb_logs = {
    .name = "logs",
    .operands = "NAME",
    .summary = "show the end of a daemon's log",
    .options = LD_OPTIONS_TAIL | LD_OPTIONS_JSON,
    .least = 1,
    .most = 1,
    .run = run,
};
