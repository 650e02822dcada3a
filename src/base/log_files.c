#include "base/log_files.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#define EXTRA 16 /* files after KEEP that processes can still write to */

/* The names of the files. */
struct files {
    int dir;
    const char *name;
};

/* What has a number. */
enum kind { MISSING, REGULAR, OTHER };

/* Put together the name with NUMBER, 0 for the log itself; 0 or a negative errno. */
static int put_name(char out[PATH_MAX], const struct files *files, int number) {
    int size = number > 0 ? snprintf(out, PATH_MAX, "%s.%d", files->name, number)
                          : snprintf(out, PATH_MAX, "%s", files->name);
    return size < 0 || size >= PATH_MAX ? -ENAMETOOLONG : 0;
}

/* Find out what has NUMBER, or a negative errno. */
static int find_kind(const struct files *files, int number) {
    char name[PATH_MAX];
    struct stat facts;
    int rc = put_name(name, files, number);
    if (rc == 0 && fstatat(files->dir, name, &facts, AT_SYMLINK_NOFOLLOW) < 0) {
        rc = -errno;
    }
    return rc == -ENOENT ? MISSING : rc < 0 ? rc : S_ISREG(facts.st_mode) ? REGULAR : OTHER;
}

/* Whether a process has the file with NUMBER open to write: then the kernel refuses a read lease. (Another one
 * that opens it while we have the lease makes the kernel signal us: with a signal that is ignored.) */
static bool is_held(const struct files *files, int number) {
    char name[PATH_MAX];
    int fd =
        put_name(name, files, number) == 0
            ? openat(files->dir, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC)
            : -1;
    if (fd < 0) {
        return false;
    }
    fcntl(fd, F_SETSIG, SIGURG);
    bool is_held = fcntl(fd, F_SETLEASE, F_RDLCK) < 0 && errno == EAGAIN;
    close(fd); /* gives the lease up */
    return is_held;
}

/* Find the number that the files before it are moved up to: the first free one, else that of the oldest file
 * which can be removed. A negative errno. */
static int find_slot(const struct files *files, int keep) {
    for (int number = 1; number < keep + EXTRA; number++) {
        int kind = find_kind(files, number);
        if (kind < 0 || kind == OTHER) {
            return kind < 0 ? kind : -EEXIST;
        }
        if (kind == MISSING || (number >= keep && !is_held(files, number))) {
            return number;
        }
    }
    return keep + EXTRA;
}

/* Give the file with NUMBER the next one. Only the last is replaced by that. */
static int move_up(const struct files *files, int number, bool replace) {
    char from[PATH_MAX];
    char to[PATH_MAX];
    int rc = put_name(from, files, number);
    rc = rc == 0 ? put_name(to, files, number + 1) : rc;
    if (rc < 0) {
        return rc;
    }
    rc = replace ? -1 : renameat2(files->dir, from, files->dir, to, RENAME_NOREPLACE);
    if (replace ||
        (rc < 0 && (errno == EINVAL || errno == ENOSYS))) { /* not in every file system */
        rc = renameat(files->dir, from, files->dir, to);
    }
    return rc == 0 || errno == ENOENT ? 0 : errno == EEXIST ? -EAGAIN : -errno;
}

/* Remove the files after KEEP that no process can write to any longer. */
static void remove_extra(const struct files *files, int keep) {
    char name[PATH_MAX];
    for (int number = keep + 1; number <= keep + EXTRA; number++) {
        if (find_kind(files, number) == REGULAR && !is_held(files, number) &&
            put_name(name, files, number) == 0) {
            unlinkat(files->dir, name, 0);
        }
    }
}

/* Rotate. */
int ld_log_files_rotate(int dir, const char *name, uint64_t size, int keep) {
    const struct files files = {.dir = dir, .name = name};
    struct stat facts;
    if (fstatat(dir, name, &facts, AT_SYMLINK_NOFOLLOW) < 0) {
        return errno == ENOENT ? 0 : -errno;
    }
    if (!S_ISREG(facts.st_mode) || (uint64_t)facts.st_size < size) {
        return 0;
    }
    int slot = find_slot(&files, keep);
    int rc = slot < 0 ? slot : 0;
    for (int number = slot - 1; number >= 0 && rc == 0; number--) {
        rc = move_up(&files, number, number == slot - 1);
    }
    if (rc == 0) {
        remove_extra(&files, keep);
    }
    return rc;
}
