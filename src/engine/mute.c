#include "engine/mute.h"

#include <errno.h>
#include <stddef.h>
#include <stdlib.h>
#include <sys/epoll.h>

#include "base/grow.h"
#include "engine/guest.h"
#include "engine/libc.h"

struct muted {
    int fd;
    bool silenced; /* its guest has stopped polling it */
};

static struct muted *muted;
static size_t muted_count;

/* The entry of a descriptor; NULL if it is not muted. */
static struct muted *find(int fd) {
    for (size_t i = 0; i < muted_count; i++) {
        if (muted[i].fd == fd) {
            return &muted[i];
        }
    }
    return NULL;
}

/* Accept no client from a descriptor. */
int ld_mute_start(int fd) {
    struct muted *grown = ld_grow(muted, muted_count, sizeof *grown);
    if (grown == NULL) {
        return -ENOMEM;
    }
    muted = grown;
    muted[muted_count++] = (struct muted){.fd = fd};
    return 0;
}

/* Forget an entry. */
static void forget(const struct muted *entry) {
    muted[entry - muted] = muted[--muted_count];
    if (muted_count == 0) {
        free(muted);
        muted = NULL;
    }
}

/* Accept clients again. */
void ld_mute_stop(int fd) {
    struct muted *entry = find(fd);
    if (entry == NULL) {
        return;
    }
    bool silenced = entry->silenced;
    forget(entry);
    uv_loop_t *loop = silenced ? ld_guest_loop_of_fd(fd) : NULL;
    if (loop != NULL) {
        struct epoll_event event = {.events = EPOLLIN, .data = {.fd = fd}};
        ld_libc_epoll_ctl(uv_backend_fd(loop), EPOLL_CTL_ADD, fd, &event);
    }
}

/* Refuse what comes from a muted socket. It stays readable, so its loop stops polling it. */
bool ld_mute_refuse(int fd) {
    struct muted *entry = find(fd);
    if (entry == NULL) {
        return false;
    }
    uv_loop_t *loop = ld_guest_loop_of_fd(fd);
    if (loop != NULL) {
        ld_libc_epoll_ctl(uv_backend_fd(loop), EPOLL_CTL_DEL, fd, NULL);
        entry->silenced = true;
    }
    return true;
}
