/* Listening sockets, and the files of Unix sockets. */
#ifndef LD_POSIX_SOCKET_H
#define LD_POSIX_SOCKET_H

#include <stdbool.h>
#include <sys/types.h>

#include "posix/address.h"
#include "posix/place.h"

struct ld_listen_options {
    int backlog; /* 0: as many as the system allows */
    int mode;    /* of a Unix socket's file; -1: by the mask */
    bool reuse_port;
    bool is_bound_only; /* it does not listen yet */
};

/* Make a listening socket: a descriptor (not inherited by programs, not blocking) or a negative
 * errno. The file of a Unix socket is replaced only if no process listens on it. An IPv6
 * address is for IPv6 alone. */
int ld_socket_listen(const struct ld_address *address, const struct ld_listen_options *options);

/* The file of a Unix socket, to be told from others that may come to have its path. Zeroed means
 * none; what was noted is to be removed or forgotten. */
struct ld_socket_file {
    bool noted;
    struct ld_place place;
    dev_t device;
    ino_t inode;
};

/* Note the file that is at a Unix address now; false for any other address, or if there is none. The
 * path to it is judged for USER (NULL: no user), which is borrowed. */
bool ld_socket_file_note(struct ld_socket_file *file, const struct ld_address *address,
                         const struct ld_user *user);

/* Whether the file that was noted is still the one at its place. */
bool ld_socket_file_is_current(const struct ld_socket_file *file);

/* Remove it if it still is the one, and forget it. */
void ld_socket_file_remove(struct ld_socket_file *file);
void ld_socket_file_forget(struct ld_socket_file *file);

/* Make a listening socket as ld_socket_listen does, for a host that will have the rights of USER: at
 * a path that USER can change it is made with those rights. Notes its file. */
int ld_socket_listen_for(const struct ld_user *user, const struct ld_address *address,
                         const struct ld_listen_options *options, struct ld_socket_file *file);

#endif
