#include "cli/log_chain.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/grow.h"
#include "base/log_files.h"

#define NUMBER_MAX (LD_LOG_FILES_KEEP_MAX + 100)

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

/* Open the file with NUMBER, 0 for NAME itself; 0 or a negative errno, -EINVAL with its type in *KIND. */
static int open_file(struct ld_log_file *file, const char *path, int number, const char **kind) {
    char name[PATH_MAX + 16];
    struct stat facts = {0};
    *file = (struct ld_log_file){.fd = -1};
    snprintf(name, sizeof name, number > 0 ? "%s.%d" : "%s", path, number);
    int rc = lstat(name, &facts); /* because opening can have effects */
    if (rc == 0 && S_ISREG(facts.st_mode)) {
        file->fd = open(name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
        rc = file->fd < 0 ? -1 : fstat(file->fd, &facts);
    }
    file->dev = facts.st_dev;
    file->ino = facts.st_ino;
    if (rc == 0 && S_ISREG(facts.st_mode)) {
        return 0;
    }
    rc = rc < 0 ? -errno : -EINVAL;
    *kind = rc == -EINVAL ? kind_of(facts.st_mode) : NULL;
    if (file->fd >= 0) {
        close(file->fd);
    }
    file->fd = -1;
    return rc;
}

/* Whether two are the same file. */
static bool is_same(const struct ld_log_file *one, const struct ld_log_file *other) {
    return one->fd >= 0 && other->fd >= 0 && one->ino == other->ino && one->dev == other->dev;
}

/* Whether FILE is one of those after the first KNOWN. */
static bool is_among(const struct ld_log_chain *chain, size_t known,
                     const struct ld_log_file *file) {
    for (size_t i = known; i < chain->count; i++) {
        if (is_same(&chain->files[i], file)) {
            return true;
        }
    }
    return false;
}

/* Add a file; false, and it is closed, if memory ran out. */
static bool add(struct ld_log_chain *chain, const struct ld_log_file *file) {
    struct ld_log_file *grown =
        ld_grow_to(chain->files, &chain->capacity, chain->count + 1, sizeof *grown);
    if (grown == NULL) {
        close(file->fd);
        return false;
    }
    chain->files = grown;
    grown[chain->count++] = *file;
    return true;
}

/* Reverse the files after the first KNOWN. */
static void reverse(struct ld_log_chain *chain, size_t known) {
    for (size_t i = known, j = chain->count; i + 1 < j; i++, j--) {
        struct ld_log_file file = chain->files[i];
        chain->files[i] = chain->files[j - 1];
        chain->files[j - 1] = file;
    }
}

/* Open the files that came after the last one, from NAME on. Meanwhile files may be renamed to the next number: one
 * that is met again is passed over, and one number is free for a moment. 0 or the errno of NAME. */
static int collect(struct ld_log_chain *chain) {
    const struct ld_log_file none = {.fd = -1};
    size_t known = chain->count;
    const struct ld_log_file last = known > 0 ? chain->files[known - 1] : none;
    int first_rc = 0;
    bool is_joined = false;
    for (int number = 0, missing = 0; number < NUMBER_MAX && missing < 2 && !is_joined; number++) {
        struct ld_log_file file;
        const char *kind = NULL;
        int rc = open_file(&file, chain->path, number, &kind);
        missing = rc < 0 ? missing + 1 : 0;
        if (number == 0) {
            first_rc = rc;
            chain->kind = kind;
        }
        is_joined = is_same(&file, &last) || is_same(&file, &chain->older);
        if (rc == 0 && (is_joined || is_among(chain, known, &file))) {
            close(file.fd);
        } else if (rc == 0 && !add(chain, &file)) {
            break;
        }
    }
    chain->lost = chain->lost || (known > 0 && !is_joined && chain->count - known > 1);
    reverse(chain, known);
    return first_rc;
}

/* Open all files. There may be more of them than a process can usually have open. */
int ld_log_chain_open(struct ld_log_chain *chain, const char *path) {
    struct rlimit limit;
    *chain = (struct ld_log_chain){.path = path, .older.fd = -1};
    if (strlen(path) >= PATH_MAX) {
        return -ENAMETOOLONG;
    }
    if (getrlimit(RLIMIT_NOFILE, &limit) == 0) {
        limit.rlim_cur = limit.rlim_max;
        setrlimit(RLIMIT_NOFILE, &limit);
    }
    int rc = collect(chain);
    bool is_moving = rc == -ENOENT && chain->count > 0; /* the new file is not there yet */
    return is_moving ? 0 : rc;
}

/* Close all files. */
void ld_log_chain_close(struct ld_log_chain *chain) {
    for (size_t i = 0; i < chain->count; i++) {
        close(chain->files[i].fd);
    }
    if (chain->older.fd >= 0) {
        close(chain->older.fd);
    }
    free(chain->files);
    *chain = (struct ld_log_chain){.older.fd = -1};
}

/* Open what is new. */
void ld_log_chain_grow(struct ld_log_chain *chain) {
    struct stat there;
    const struct ld_log_file *last = &chain->files[chain->count - 1];
    if (lstat(chain->path, &there) < 0 || there.st_ino != last->ino || there.st_dev != last->dev) {
        collect(chain);
    }
}

/* Close the first file. */
void ld_log_chain_drop(struct ld_log_chain *chain) {
    if (chain->older.fd >= 0) {
        close(chain->older.fd);
    }
    chain->older = chain->files[0];
    chain->count--;
    memmove(chain->files, chain->files + 1, chain->count * sizeof *chain->files);
}

/* Whether a later file has something. An empty one may be there before its writers use it. */
bool ld_log_chain_is_past_first(const struct ld_log_chain *chain) {
    struct stat facts;
    for (size_t i = 1; i < chain->count; i++) {
        if (fstat(chain->files[i].fd, &facts) == 0 && facts.st_size > 0) {
            return true;
        }
    }
    return false;
}
