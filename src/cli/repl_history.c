#include "cli/repl_history.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"
#include "posix/paths.h"

#define SIZE_MOST  ((off_t)1 << 20) /* of the file; a larger one is cut when it is opened */
#define SIZE_TAKEN ((off_t)1 << 18) /* of what is left then */

/* Open the file; a descriptor or a negative errno. */
static int open_file(const char *path) {
    int rc = ld_file_make_parents(path, 0700);
    if (rc < 0) {
        return rc;
    }
    int fd = open(
        path, O_RDWR | O_APPEND | O_CREAT | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC, 0600);
    return fd < 0 ? -errno : fd;
}

/* Describe what is wrong with the file; NULL: nothing. */
static const char *blame(int fd, struct stat *facts) {
    if (fstat(fd, facts) < 0) {
        return strerror(errno);
    }
    if (!S_ISREG(facts->st_mode)) {
        return "it is not a regular file";
    }
    if (facts->st_uid != geteuid()) {
        return "it belongs to another user";
    }
    return facts->st_nlink != 1 ? "it has a second name" : NULL;
}

/* Whether a line can be shown and edited: it is text without control characters. */
static bool is_plain(const char *line) {
    size_t left = strlen(line);
    while (left > 0) {
        size_t length = ld_text_utf8_length(line, left);
        if (length == 0 || (unsigned char)line[0] < ' ' || line[0] == 0x7F) {
            return false;
        }
        line += length;
        left -= length;
    }
    return true;
}

/* Read the end of the file, from the beginning of a line on. */
static void read_tail(int fd, off_t size, struct ld_text *text) {
    bool is_cut = size > SIZE_TAKEN && lseek(fd, size - SIZE_TAKEN, SEEK_SET) >= 0;
    ld_file_read(fd, text);
    const char *newline = is_cut ? memchr(ld_text_string(text), '\n', text->size) : NULL;
    if (newline != NULL) {
        size_t skipped = (size_t)(newline - text->data) + 1;
        text->size -= skipped;
        memmove(text->data, newline + 1, text->size);
    }
    ld_text_putc(text, '\0');
}

/* Cut a file that has grown large to its end, TEXT. */
static void cut_file(int fd, const struct ld_text *text) {
    if (flock(fd, LOCK_EX | LOCK_NB) == 0) {
        if (ftruncate(fd, 0) == 0) {
            ld_file_write(fd, text->data, text->size - 1);
        }
        flock(fd, LOCK_UN);
    }
}

/* Call EACH with the last lines of TEXT. */
static void take_lines(char *text, size_t size, void (*each)(void *arg, const char *line),
                       void *arg) {
    char *from = text + size;
    for (int count = 0; from > text && count <= LD_REPL_HISTORY_LINES; from--) {
        count += from[-1] == '\n';
    }
    char *rest = NULL;
    for (char *line = strtok_r(from, "\n", &rest); line != NULL;
         line = strtok_r(NULL, "\n", &rest)) {
        if (is_plain(line)) {
            each(arg, line);
        }
    }
}

/* Open the history. */
int ld_repl_history_open(struct ld_repl_history *history, void (*each)(void *arg, const char *line),
                         void *arg, struct ld_text *why) {
    char *path = ld_paths_state_file("repl_history");
    struct ld_text text = {0};
    struct stat facts = {0};
    history->fd = path != NULL ? open_file(path) : -ENOMEM;
    int rc = history->fd < 0 ? history->fd : 0;
    const char *wrong = rc < 0 ? rc == -ELOOP ? "it is a symbolic link" : strerror(-rc)
                               : blame(history->fd, &facts);
    if (wrong != NULL) {
        ld_text_format(why, "%s: %s", path != NULL ? path : "history", wrong);
        ld_repl_history_close(history);
        free(path);
        return rc < 0 ? rc : -EPERM;
    }
    fchmod(history->fd, 0600);
    read_tail(history->fd, facts.st_size, &text);
    if (!text.failed) {
        if (facts.st_size > SIZE_MOST) {
            cut_file(history->fd, &text);
        }
        take_lines(text.data, text.size - 1, each, arg);
    }
    ld_text_fini(&text);
    free(path);
    return 0;
}

/* Close it. */
void ld_repl_history_close(struct ld_repl_history *history) {
    if (history->fd >= 0) {
        close(history->fd);
    }
    history->fd = -1;
}

/* Add a line, in one write: other consoles add theirs. */
void ld_repl_history_add(const struct ld_repl_history *history, const char *line) {
    struct ld_text text = {0};
    ld_text_format(&text, "%s\n", line);
    if (history->fd >= 0 && !text.failed && is_plain(line)) {
        ld_file_write(history->fd, text.data, text.size);
    }
    ld_text_fini(&text);
}
