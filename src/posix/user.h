/* Users and groups: finding them and becoming them. */
#ifndef LD_POSIX_USER_H
#define LD_POSIX_USER_H

#include <stdbool.h>
#include <sys/stat.h>
#include <sys/types.h>

#include "base/text.h"

/* A user to become. Zeroed means none; free with ld_user_fini. */
struct ld_user {
    char *name; /* NULL for a number without an entry in the user database */
    char *home;
    uid_t uid;
    gid_t gid;
    gid_t *groups; /* supplementary ones, the primary among them */
    int group_count;
};

/* Find "USER[:GROUP]", each a name or a number. 0, or a negative errno (-ENOENT: unknown) with the
 * reason in WHY. */
int ld_user_find(struct ld_user *user, const char *spec, struct ld_text *why);
void ld_user_fini(struct ld_user *user);

/* Find a group by name or number; 0 or -ENOENT. */
int ld_user_find_group(const char *name, gid_t *gid);

/* Whether becoming USER gives up rights: this process is root, and USER is not. False for NULL. */
bool ld_user_is_lesser(const struct ld_user *user);

/* Touch files with the rights of USER alone until ld_user_leave, in a process of one thread. Does
 * nothing unless USER is lesser. 0 or a negative errno, and then nothing has changed. Calls do not
 * nest; to leave without having entered does nothing. */
int ld_user_enter(const struct ld_user *user);
void ld_user_leave(const struct ld_user *user);

/* Whether USER may change the names in a directory, by its mode or by what else the kernel goes by. DIR
 * may be O_PATH. */
bool ld_user_can_rename_in(const struct ld_user *user, int dir);

/* Become USER for good, groups included, and prove that root cannot be regained. 0, or a negative
 * errno with the step that failed in WHY; the process must end then. */
int ld_user_become(const struct ld_user *user, struct ld_text *why);

#endif
