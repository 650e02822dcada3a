#include "posix/fds.h"

#include <ctype.h>
#include <dirent.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/grow.h"

struct noted {
    int fd;
    enum ld_fd_owner owner;
    struct stat facts;
};

static struct {
    struct noted *list;
    size_t count;
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

/* Note the open descriptors. */
void ld_fds_note(enum ld_fd_owner owner) {
    DIR *fds = opendir("/proc/self/fd");
    const struct dirent *item;
    while (fds != NULL && (item = readdir(fds)) != NULL) {
        int fd = isdigit((unsigned char)item->d_name[0]) ? atoi(item->d_name) : -1;
        if (fd > STDERR_FILENO && fd != dirfd(fds) && ld_fds_owner(fd) == LD_FD_NOBODY) {
            add(fd, owner);
        }
    }
    if (fds != NULL) {
        closedir(fds);
    }
}
