#include "base/file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* Make the directory that PATH is in, and those above it. */
int ld_file_make_parents(const char *path, mode_t mode) {
    char *copy = strdup(path);
    if (copy == NULL) {
        return -ENOMEM;
    }
    int rc = 0;
    for (char *slash = copy[0] != '\0' ? strchr(copy + 1, '/') : NULL; slash != NULL && rc == 0;
         slash = strchr(slash + 1, '/')) {
        *slash = '\0';
        if (mkdir(copy, mode) < 0 && errno != EEXIST) {
            rc = -errno;
        }
        *slash = '/';
    }
    free(copy);
    return rc;
}

/* Read all of FD into TEXT. */
int ld_file_read(int fd, struct ld_text *text) {
    char chunk[16384];
    for (;;) {
        ssize_t size = read(fd, chunk, sizeof chunk);
        if (size > 0) {
            ld_text_add(text, chunk, (size_t)size);
        } else if (size == 0) {
            return text->failed ? -ENOMEM : 0;
        } else if (errno != EINTR) {
            return -errno;
        }
    }
}

/* Read a whole file. */
int ld_file_load(const char *path, struct ld_text *text) {
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        return -errno;
    }
    int rc = ld_file_read(fd, text);
    close(fd);
    return rc;
}

/* Write all of BYTES to a blocking FD. */
int ld_file_write(int fd, const char *bytes, size_t size) {
    while (size > 0) {
        ssize_t written = write(fd, bytes, size);
        if (written >= 0) {
            bytes += written;
            size -= (size_t)written;
        } else if (errno != EINTR) {
            return -errno;
        }
    }
    return 0;
}

/* Find the facts of a file. */
int ld_file_find(int dir, const char *name, struct stat *facts) {
    int rc = fstatat(dir, name, facts, AT_SYMLINK_NOFOLLOW);
    if (rc < 0 && errno != ENOENT) {
        rc = fstatat(dir, name, facts, AT_SYMLINK_NOFOLLOW);
    }
    return rc < 0 ? -errno : 0;
}

/* Remove a file. */
void ld_file_remove(int dir, const char *name) {
    if (unlinkat(dir, name, 0) < 0 && errno != ENOENT) {
        unlinkat(dir, name, 0);
    }
}

/* Make the log file; -EEXIST if another process just did. */
static int create_file(int dir, const char *path, long gid) {
    int flags = O_WRONLY | O_APPEND | O_CREAT | O_EXCL | O_CLOEXEC | O_NOCTTY;
    int fd = openat(dir, path, flags, 0640);
    if (fd < 0 && errno == ENOENT && dir == AT_FDCWD) {
        int rc = ld_file_make_parents(path, 0755);
        if (rc < 0) {
            return rc;
        }
        fd = openat(dir, path, flags, 0640);
    }
    if (fd < 0) {
        return -errno;
    }
    int rc = fchmod(fd, 0640); /* whatever the umask was */
    if (rc == 0 && gid >= 0) {
        rc = fchown(fd, (uid_t)-1, (gid_t)gid);
    }
    if (rc < 0) {
        rc = -errno;
        close(fd);
        return rc;
    }
    return fd;
}

/* Open PATH for appending, making it if it is missing. */
int ld_file_open_log(int dir, const char *path, long gid) {
    for (;;) {
        /* Without O_NONBLOCK, opening a FIFO that has no reader would wait for ever. */
        const int flags = O_WRONLY | O_APPEND | O_NOFOLLOW | O_CLOEXEC | O_NOCTTY | O_NONBLOCK;
        int fd = openat(dir, path, flags);
        if (fd >= 0) {
            fcntl(fd, F_SETFL, O_APPEND);
            return fd;
        }
        if (errno != ENOENT) {
            return -errno;
        }
        fd = create_file(dir, path, gid);
        if (fd != -EEXIST) {
            return fd;
        }
    }
}
