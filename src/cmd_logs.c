/* logs. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "client.h"
#include "cmd.h"
#include "file.h"
#include "paths.h"
#include "say.h"
#include "target.h"

#define ASK_SECONDS 2.0
#define LOOK_MS     100 /* between looks for what is new */
#define BLOCK       16384

/* The log file of a running daemon, or NULL after complaining. Its starter has written it down; only if
 * that cannot be read, the daemon is asked, which could name any file. */
static char *ask_path(const struct ld_target *target) {
    struct ld_record record;
    if (ld_record_load(&record, target->dir->fd, target->name) == 0) {
        char *log = record.log != NULL ? strdup(record.log) : NULL;
        ld_record_fini(&record);
        if (log != NULL) {
            return log;
        }
    }
    struct ld_text why = {0};
    json_t *status;
    if (ld_client_ask(&(struct ld_request){target->dir->fd, target->name, "status", ASK_SECONDS},
                      &status, &why) < 0) {
        ld_text_fini(&why);
        return ld_paths_log_file(target->name);
    }
    const char *file = json_string_value(json_object_get(json_object_get(status, "log"), "file"));
    char *path = NULL;
    if (file != NULL && file[0] == '/') {
        path = strdup(file);
    } else {
        ld_complain("%s: its log goes to %s, not to a file", target->name,
                    file != NULL ? file : "nowhere");
    }
    json_decref(status);
    return path;
}

/* Read the block that ends at END; its size, 0 for none. */
static size_t read_block(int fd, char *block, off_t end) {
    size_t size = end < BLOCK ? (size_t)end : BLOCK;
    return pread(fd, block, size, end - (off_t)size) == (ssize_t)size ? size : 0;
}

/* Where the last LINES lines of a file begin. */
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
        newlines += block[size] == '\n' && at != end; /* the end of the last line is none */
        if (newlines == lines) {
            return at;
        }
        at--;
    }
    return 0;
}

/* Copy what stands at and behind the file position to stdout; false when nobody reads. */
static bool copy_rest(int fd) {
    char block[BLOCK];
    ssize_t size;
    while ((size = read(fd, block, sizeof block)) > 0) {
        if (ld_file_write(STDOUT_FILENO, block, (size_t)size) < 0) {
            return false;
        }
    }
    return true;
}

/* Whether PATH is another file than FD by now. */
static bool was_replaced(int fd, const char *path) {
    struct stat opened;
    struct stat there;
    return stat(path, &there) == 0 && fstat(fd, &opened) == 0 &&
           (opened.st_ino != there.st_ino || opened.st_dev != there.st_dev);
}

/* Go back to the beginning of a file that was cut. */
static void follow_cut(int fd) {
    struct stat facts;
    if (fstat(fd, &facts) == 0 && lseek(fd, 0, SEEK_CUR) > facts.st_size) {
        lseek(fd, 0, SEEK_SET);
    }
}

/* Go on with what is written to PATH, over rotations, until interrupted or nobody reads. */
static void follow(int fd, const char *path) {
    struct pollfd reader = {.fd = STDOUT_FILENO};
    while (copy_rest(fd) && (poll(&reader, 1, LOOK_MS) == 0 || (reader.revents & POLLERR) == 0)) {
        follow_cut(fd);
        int next = was_replaced(fd, path) ? open(path, O_RDONLY | O_CLOEXEC) : -1;
        if (next >= 0) {
            copy_rest(fd);
            close(fd);
            fd = next;
        }
    }
    close(fd);
}

/* Show the end of the log at PATH. */
static int show(const struct ld_call *call, const char *name, const char *path) {
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        ld_complain("%s: its log %s: %s", name, path, strerror(errno));
        return 1;
    }
    off_t start =
        call->options->lines > 0 ? find_tail(fd, call->options->lines) : lseek(fd, 0, SEEK_END);
    lseek(fd, start, SEEK_SET);
    copy_rest(fd);
    if (call->options->follow) {
        follow(fd, path);
    } else {
        close(fd);
    }
    return 0;
}

/* Show the end of a daemon's log. */
int ld_cmd_logs(const struct ld_call *call) {
    struct ld_rundir dir;
    struct ld_target target;
    int status = ld_rundir_open(&dir, call->options->run_dir);
    if (status == 0) {
        status = ld_target_find(&target, &dir, call->argv[call->operand]);
    }
    if (status == 0) {
        char *path = target.holder.state == LD_HOLDER_ALIVE ? ask_path(&target)
                                                            : ld_paths_log_file(target.name);
        status = path != NULL ? show(call, target.name, path) : 1;
        free(path);
    }
    ld_rundir_close(&dir);
    return status;
}
