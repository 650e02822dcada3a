/* What killed processes leave: the files of the Unix sockets that they listened on. */
#ifndef LD_POSIX_LEFTOVERS_H
#define LD_POSIX_LEFTOVERS_H

#include <stddef.h>
#include <sys/types.h>

#include "posix/socket.h"

/* Zeroed means none. */
struct ld_leftovers {
    struct ld_leftover {
        struct ld_address address;
        struct ld_socket_file file;
    } * list;
    size_t count;
    struct ld_user
        user; /* with fewer rights than ours, whose processes are among them; or zeroed */
};

/* Find, before they are killed and best when they are stopped, which Unix sockets ROOT and the
 * processes that descend from it listen on, or have bound, as the kernel says. */
void ld_leftovers_find(struct ld_leftovers *leftovers, pid_t root);

/* Remove the files of those that no process listens on any more, with no more rights than the process
 * had that listened. Frees LEFTOVERS. */
void ld_leftovers_remove(struct ld_leftovers *leftovers);

#endif
