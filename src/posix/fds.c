#include "posix/fds.h"

#include <ctype.h>
#include <dirent.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/grow.h"

#define DIRECTORY "/proc/self/fd"
#define LOW       256 /* numbers that are looked at one by one */

struct noted {
    int fd;
    enum ld_fd_owner owner;
    struct stat facts;
};

/* A number that was given away. */
struct given {
    const void *holder; /* or NULL */
    dev_t device;
    ino_t inode;
};

static struct {
    struct noted *list;
    size_t count;
    struct given *given; /* by the number */
    size_t given_count;
} state;

/* Whether a number is still the file that was noted. */
static bool is_same(const struct noted *noted) {
    struct stat now;
    return fstat(noted->fd, &now) == 0 && now.st_dev == noted->facts.st_dev &&
           now.st_ino == noted->facts.st_ino && now.st_rdev == noted->facts.st_rdev;
}

/* Find the owner of a descriptor. */
enum ld_fd_owner ld_fds_owner(int fd) {
    for (size_t i = 0; i < state.count; i++) {
        if (state.list[i].fd == fd && is_same(&state.list[i])) {
            return state.list[i].owner;
        }
    }
    return LD_FD_NOBODY;
}

/* Note one descriptor. */
static void add(int fd, enum ld_fd_owner owner) {
    struct noted noted = {.fd = fd, .owner = owner};
    struct noted *list = ld_grow(state.list, state.count, sizeof *list);
    if (list == NULL) {
        return;
    }
    state.list = list;
    if (fstat(fd, &noted.facts) == 0) {
        list[state.count++] = noted;
    }
}

/* Find one of an owner. */
int ld_fds_at(enum ld_fd_owner owner, size_t index) {
    for (size_t i = 0; i < state.count; i++) {
        if (state.list[i].owner == owner && is_same(&state.list[i]) && index-- == 0) {
            return state.list[i].fd;
        }
    }
    return -1;
}

/* Note one. */
void ld_fds_note_one(int fd, enum ld_fd_owner owner) {
    add(fd, owner);
}

/* Note one that is open, unless it has an owner. */
static void note(int fd, enum ld_fd_owner owner) {
    if (fd > STDERR_FILENO && ld_fds_owner(fd) == LD_FD_NOBODY) {
        add(fd, owner);
    }
}

/* How many are open: since Linux 6.2 the size of their directory. 0 before. */
static size_t size_of_directory(void) {
    struct stat directory;
    return stat(DIRECTORY, &directory) == 0 && directory.st_size > 0 ? (size_t)directory.st_size
                                                                     : 0;
}

/* Count the open descriptors. */
size_t ld_fds_count(void) {
    size_t count = size_of_directory();
    DIR *fds = count == 0 ? opendir(DIRECTORY) : NULL;
    if (fds == NULL) {
        return count;
    }
    while (readdir(fds) != NULL) {
        count++;
    }
    closedir(fds);
    return count - 3; /* ".", "..", and the one that lists them */
}

/* Note what is open, if the kernel says how many that is and they have low numbers; else some are missing. */
static bool note_low(enum ld_fd_owner owner) {
    size_t left = size_of_directory();
    bool is_known = left > 0;
    for (int fd = 0; fd < LOW && left > 0; fd++) {
        if (fcntl(fd, F_GETFD) >= 0) {
            left--;
            note(fd, owner);
        }
    }
    return is_known && left == 0;
}

/* Note the open descriptors. The kernel takes several times as long to list them. */
void ld_fds_note(enum ld_fd_owner owner) {
    DIR *fds = note_low(owner) ? NULL : opendir(DIRECTORY);
    const struct dirent *item;
    while (fds != NULL && (item = readdir(fds)) != NULL) {
        int fd = isdigit((unsigned char)item->d_name[0]) ? atoi(item->d_name) : -1;
        if (fd != dirfd(fds)) {
            note(fd, owner);
        }
    }
    if (fds != NULL) {
        closedir(fds);
    }
}

/* Note who was given a descriptor. */
void ld_fds_give(int fd, const void *holder) {
    struct stat facts;
    size_t before = state.given_count;
    if (fd < 0 || fstat(fd, &facts) < 0) {
        return;
    }
    if ((size_t)fd >= before) {
        struct given *grown =
            ld_grow_to(state.given, &state.given_count, (size_t)fd + 1, sizeof *grown);
        if (grown == NULL) {
            return;
        }
        state.given = grown;
        memset(grown + before, 0, (state.given_count - before) * sizeof *grown);
    }
    state.given[fd] =
        (struct given){.holder = holder, .device = facts.st_dev, .inode = facts.st_ino};
}

/* Forget who was given a descriptor. */
void ld_fds_forget(int fd) {
    if (fd >= 0 && (size_t)fd < state.given_count) {
        state.given[fd].holder = NULL;
    }
}

/* Forget what a holder was given. */
void ld_fds_forget_holder(const void *holder) {
    for (size_t i = 0; i < state.given_count; i++) {
        if (state.given[i].holder == holder) {
            state.given[i].holder = NULL;
        }
    }
}

/* Find who was given a descriptor. */
const void *ld_fds_holder(int fd) {
    struct stat now;
    if (fd < 0 || (size_t)fd >= state.given_count || state.given[fd].holder == NULL ||
        fstat(fd, &now) < 0) {
        return NULL;
    }
    const struct given *given = &state.given[fd];
    return now.st_dev == given->device && now.st_ino == given->inode ? given->holder : NULL;
}
