/* The place of a file: its directory as a descriptor, and its name there.
 *
 * A process with rights that a dropped host does not have must not follow a path that the dropped
 * user can change: a directory where that user may rename, or a link that is the user's own. From the
 * first such step on, the path is walked and the file is touched with the user's rights alone. */
#ifndef LD_POSIX_PLACE_H
#define LD_POSIX_PLACE_H

#include <limits.h>
#include <stdbool.h>

#include "posix/user.h"

struct ld_place {
    int dir; /* O_PATH; -1: none */
    char name[NAME_MAX + 1];
    const struct ld_user *user; /* borrowed; NULL: no user to be careful of */
    bool is_users;              /* the user can change the path to it */
};

/* Find the place of PATH, which is absolute, being careful of USER (NULL: of no user). With MAKE,
 * missing directories are made, 0755. 0 or a negative errno. To be closed if it was found. */
int ld_place_open(struct ld_place *place, const char *path, const struct ld_user *user, bool make);
void ld_place_close(struct ld_place *place);

/* Take the rights that the file may be touched with, and give them back; 0 or a negative errno. */
int ld_place_enter(const struct ld_place *place);
void ld_place_leave(const struct ld_place *place);

#endif
