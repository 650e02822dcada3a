/* lunad logs */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/say.h"
#include "cli/client.h"
#include "cli/target.h"
#include "cli/verbs.h"
#include "daemon/record.h"
#include "posix/paths.h"

#define LOOK_MS 100 /* between checks for what is new */
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

/* Read the block that ends at END; return its size, 0 if it cannot be read. */
static size_t read_block(int fd, char *block, off_t end) {
    size_t size = end < BLOCK ? (size_t)end : BLOCK;
    return pread(fd, block, size, end - (off_t)size) == (ssize_t)size ? size : 0;
}

/* Find where the last LINES lines of a file begin. */
static off_t find_tail(int fd, long lines) {
    char block[BLOCK];
    off_t end = lseek(fd, 0, SEEK_END);
    off_t at = end;
    long newlines = 0;
    size_t size = 0; /* of what is left of the block */
    while (at > 0) {
        size = size > 0 ? size : read_block(fd, block, at);
        if (size-- == 0) {
            return 0;
        }
        newlines += block[size] == '\n' && at != end; /* the last one ends the last line */
        if (newlines == lines) {
            return at;
        }
        at--;
    }
    return 0;
}

/* Name the type of a file that is not regular. */
static const char *kind_of(mode_t mode) {
    switch (mode & S_IFMT) {
    case S_IFLNK:
        return "a symbolic link";
    case S_IFDIR:
        return "a directory";
    case S_IFIFO:
        return "a FIFO";
    case S_IFSOCK:
        return "a socket";
    default:
        return "a device";
    }
}

/* Open a log to read it: a descriptor, or a negative errno; -EINVAL with the type of the file in
 * *KIND. Opening or reading anything but a regular file could block, take data that is meant for
 * another process, or never end. */
static int open_log(const char *path, const char **kind) {
    struct stat facts;
    int fd = -1;
    int rc = lstat(path, &facts); /* because opening can have effects */
    if (rc == 0 && S_ISREG(facts.st_mode)) {
        fd = open(path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
        rc = fd < 0 ? -1 : fstat(fd, &facts);
    }
    if (rc == 0 && S_ISREG(facts.st_mode)) {
        return fd;
    }
    rc = rc < 0 ? -errno : -EINVAL;
    *kind = rc == -EINVAL ? kind_of(facts.st_mode) : NULL;
    if (fd >= 0) {
        close(fd);
    }
    return rc;
}

/* Write a block to stdout, which may be non-blocking; 0 or a negative errno. */
static int write_out(const char *block, size_t size) {
    struct pollfd writer = {.fd = STDOUT_FILENO, .events = POLLOUT};
    while (size > 0) {
        ssize_t written = write(STDOUT_FILENO, block, size);
        if (written < 0 && errno == EAGAIN) {
            poll(&writer, 1, -1);
        } else if (written < 0 && errno != EINTR) {
            return -errno;
        }
        block += written > 0 ? written : 0;
        size -= written > 0 ? (size_t)written : 0;
    }
    return 0;
}

/* Copy from the file position to END to stdout: 0, or a negative errno of the write. */
static int copy_until(int fd, off_t end) {
    char block[BLOCK];
    ssize_t size = 1;
    int rc = 0;
    while (rc == 0 && size > 0) {
        off_t left = end - lseek(fd, 0, SEEK_CUR);
        size = left > 0 ? read(fd, block, left < BLOCK ? (size_t)left : BLOCK) : 0;
        rc = size > 0 ? write_out(block, (size_t)size) : 0;
    }
    return rc;
}

/* Copy from the file position to the present end of the file; likewise. */
static int copy_new(int fd) {
    struct stat facts;
    return fstat(fd, &facts) == 0 ? copy_until(fd, facts.st_size) : 0;
}

/* Check whether PATH has become another file than FD. */
static bool was_replaced(int fd, const char *path) {
    struct stat opened;
    struct stat there;
    return lstat(path, &there) == 0 && fstat(fd, &opened) == 0 &&
           (opened.st_ino != there.st_ino || opened.st_dev != there.st_dev);
}

/* Go back to the beginning of a file that was truncated. */
static void follow_truncation(int fd) {
    struct stat facts;
    if (fstat(fd, &facts) == 0 && lseek(fd, 0, SEEK_CUR) > facts.st_size) {
        lseek(fd, 0, SEEK_SET);
    }
}

/* Wait a moment; false when stdout has no reader left. */
static bool wait_a_moment(void) {
    struct pollfd reader = {.fd = STDOUT_FILENO};
    return poll(&reader, 1, LOOK_MS) <= 0 || (reader.revents & (POLLERR | POLLHUP | POLLNVAL)) == 0;
}

/* Switch to the file NEXT: copy the rest of *FD, close it, and copy what NEXT has. 0, or a negative
 * errno of the write. */
static int switch_to(int *fd, int next) {
    int rc = copy_new(*fd);
    close(*fd);
    *fd = next;
    return rc < 0 ? rc : copy_new(next);
}

/* Copy what is written to PATH, across rotations, until interrupted or without a reader: 0, or a
 * negative errno of the write. A new file at PATH is followed if it can be a log. */
static int follow(int *fd, const char *path) {
    const char *kind;
    int rc = 0;
    while (rc == 0 && wait_a_moment()) {
        follow_truncation(*fd);
        int next = was_replaced(*fd, path) ? open_log(path, &kind) : -1;
        rc = next >= 0 ? switch_to(fd, next) : copy_new(*fd);
    }
    return rc;
}

/* Show the end of the log at PATH. */
static int show(const struct ld_call *call, const char *name, const char *path) {
    const char *kind = NULL;
    int fd = open_log(path, &kind);
    if (fd < 0) {
        ld_say_error("%s: its log %s: %s%s", name, path, kind != NULL ? kind : strerror(-fd),
                     kind != NULL ? ", not a regular file" : "");
        return 1;
    }
    off_t start =
        call->options->lines > 0 ? find_tail(fd, call->options->lines) : lseek(fd, 0, SEEK_END);
    lseek(fd, start, SEEK_SET);
    int rc = copy_new(fd);
    if (rc == 0 && call->options->follow) {
        rc = follow(&fd, path);
    }
    close(fd);
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
    .options = LD_OPTIONS_TAIL,
    .least = 1,
    .most = 1,
    .run = run,
};
