#include "file.h"

#include <errno.h>
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
    for (char *slash = strchr(copy + 1, '/'); slash != NULL && rc == 0;
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
