/* Users and groups: finding them and becoming them. */
#ifndef LD_USER_H
#define LD_USER_H

#include <sys/types.h>

#include "text.h"

/* Who to become. Zeroed means nobody; free with ld_user_fini. */
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

/* Become USER for good, groups included, and prove that root cannot be regained. 0, or a negative
 * errno with the step that failed in WHY; the process must end then. */
int ld_user_become(const struct ld_user *user, struct ld_text *why);

#endif
