#include "posix/socket.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"

/* Bind a Unix socket; its file has its mode from the first moment on. */
static int bind_unix(int fd, const struct ld_address *address, int mode) {
    mode_t mask = umask(mode >= 0 ? (mode_t)(0777 & ~mode) : 0);
    if (mode < 0) {
        umask(mask);
    }
    int rc = bind(fd, (const struct sockaddr *)&address->storage, address->size) < 0 ? -errno : 0;
    if (rc == -EADDRINUSE && ld_address_is_stale(address)) {
        unlink(ld_address_path(address));
        rc = bind(fd, (const struct sockaddr *)&address->storage, address->size) < 0 ? -errno : 0;
    }
    umask(mask);
    return rc;
}

/* Set what must be set before a socket is bound. */
static int set_options(int fd, const struct ld_address *address,
                       const struct ld_listen_options *options) {
    const int on = 1;
    int rc = 0;
    if (address->storage.ss_family == AF_UNIX) {
        return 0;
    }
    rc = setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (rc == 0 && options->reuse_port) {
        rc = setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &on, sizeof on);
    }
    if (rc == 0 && address->storage.ss_family == AF_INET6) {
        rc = setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof on);
    }
    return rc < 0 ? -errno : 0;
}

/* Give a socket its options and its address. */
static int bind_socket(int fd, const struct ld_address *address,
                       const struct ld_listen_options *options) {
    int rc = set_options(fd, address, options);
    if (rc < 0) {
        return rc;
    }
    if (ld_address_path(address) != NULL) {
        return bind_unix(fd, address, options->mode);
    }
    return bind(fd, (const struct sockaddr *)&address->storage, address->size) < 0 ? -errno : 0;
}

/* Make a listening socket. */
int ld_socket_listen(const struct ld_address *address, const struct ld_listen_options *options) {
    int fd = socket(address->storage.ss_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0) {
        return -errno;
    }
    int rc = bind_socket(fd, address, options);
    bool is_bound = rc == 0;
    if (rc == 0 && !options->is_bound_only &&
        listen(fd, options->backlog > 0 ? options->backlog : SOMAXCONN) < 0) {
        rc = -errno;
    }
    if (rc < 0) {
        close(fd);
        if (is_bound && ld_address_path(address) != NULL && ld_address_is_stale(address)) {
            ld_file_remove(AT_FDCWD, ld_address_path(address));
        }
        return rc;
    }
    return fd;
}

/* Whether the file at the place is a socket; its facts. */
static bool find_socket(const struct ld_place *place, struct stat *facts) {
    return ld_file_find(place->dir, place->name, facts) == 0 && S_ISSOCK(facts->st_mode);
}

/* Note the file at an open place, which is taken over. */
static bool note_at(struct ld_socket_file *file, struct ld_place *place) {
    struct stat facts;
    if (!find_socket(place, &facts)) {
        ld_place_close(place);
        return false;
    }
    *file = (struct ld_socket_file){
        .noted = true, .place = *place, .device = facts.st_dev, .inode = facts.st_ino};
    return true;
}

/* Note a file. */
bool ld_socket_file_note(struct ld_socket_file *file, const struct ld_address *address,
                         const struct ld_user *user) {
    struct ld_place place;
    *file = (struct ld_socket_file){.noted = false};
    return ld_address_path(address) != NULL &&
           ld_place_open(&place, ld_address_path(address), user, false) == 0 &&
           note_at(file, &place);
}

/* Whether the file is still the one at its place. */
bool ld_socket_file_is_current(const struct ld_socket_file *file) {
    struct stat there;
    return file->noted && find_socket(&file->place, &there) && there.st_dev == file->device &&
           there.st_ino == file->inode;
}

/* Remove a file. */
void ld_socket_file_remove(struct ld_socket_file *file) {
    if (file->noted && ld_place_enter(&file->place) == 0) {
        if (ld_socket_file_is_current(file)) {
            ld_file_remove(file->place.dir, file->place.name);
        }
        ld_place_leave(&file->place);
    }
    ld_socket_file_forget(file);
}

/* Forget a file. */
void ld_socket_file_forget(struct ld_socket_file *file) {
    if (file->noted) {
        ld_place_close(&file->place);
        file->noted = false;
    }
}

/* Make a listening socket for a user. */
int ld_socket_listen_for(const struct ld_user *user, const struct ld_address *address,
                         const struct ld_listen_options *options, struct ld_socket_file *file) {
    struct ld_place place;
    *file = (struct ld_socket_file){.noted = false};
    if (ld_address_path(address) == NULL) {
        return ld_socket_listen(address, options);
    }
    int rc = ld_place_open(&place, ld_address_path(address), user, false);
    if (rc < 0) {
        return rc;
    }
    rc = ld_place_enter(&place);
    int fd = rc < 0 ? rc : ld_socket_listen(address, options);
    if (rc == 0) {
        ld_place_leave(&place);
    }
    if (fd >= 0) {
        note_at(file, &place);
    } else {
        ld_place_close(&place);
    }
    return fd;
}
