#include "posix/user.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <limits.h>
#include <linux/capability.h>
#include <linux/keyctl.h>
#include <linux/securebits.h>
#include <pwd.h>
#include <string.h>
#include <sys/fsuid.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/parse.h"

/* Parse a numeric id. */
static bool parse_id(const char *text, uid_t *id) {
    long number;
    if (!ld_parse_whole(text, 0, (long)UINT_MAX - 1, &number)) {
        return false;
    }
    *id = (uid_t)number;
    return true;
}

/* Find a group by name or number. */
int ld_user_find_group(const char *name, gid_t *gid) {
    const struct group *entry = getgrnam(name);
    if (entry != NULL) {
        *gid = entry->gr_gid;
        return 0;
    }
    return parse_id(name, gid) ? 0 : -ENOENT;
}

/* Find the entry of a user by name or number. */
static const struct passwd *find_entry(const char *name, uid_t *uid) {
    const struct passwd *entry = getpwnam(name);
    if (entry == NULL && parse_id(name, uid)) {
        entry = getpwuid(*uid);
    }
    return entry;
}

/* Fill in the supplementary groups of a user that has a name. */
static int find_groups(struct ld_user *user) {
    int count = 32;
    for (;;) {
        gid_t *groups = realloc(user->groups, (size_t)count * sizeof *groups);
        if (groups == NULL) {
            return -ENOMEM;
        }
        user->groups = groups;
        user->group_count = count;
        if (getgrouplist(user->name, user->gid, groups, &user->group_count) >= 0) {
            return 0;
        }
        count = user->group_count > count ? user->group_count : count * 2;
    }
}

/* Take over what the user database says. */
static int take_entry(struct ld_user *user, const struct passwd *entry) {
    user->uid = entry->pw_uid;
    user->gid = entry->pw_gid;
    user->name = strdup(entry->pw_name);
    user->home = strdup(entry->pw_dir);
    return user->name != NULL && user->home != NULL ? 0 : -ENOMEM;
}

/* Find the user and the group that were named. */
static int find_named(struct ld_user *user, const char *name, const char *group,
                      struct ld_text *why) {
    const struct passwd *entry = find_entry(name, &user->uid);
    uid_t number;
    if (entry == NULL && !parse_id(name, &number)) {
        ld_text_format(why, "there is no user \"%s\"", name);
        return -ENOENT;
    }
    if (entry == NULL && group == NULL) {
        ld_text_format(why, "user %s is not in the user database: give USER:GROUP", name);
        return -ENOENT;
    }
    int rc = entry != NULL ? take_entry(user, entry) : 0;
    if (rc == 0 && group != NULL && ld_user_find_group(group, &user->gid) < 0) {
        ld_text_format(why, "there is no group \"%s\"", group);
        return -ENOENT;
    }
    if (rc == 0 && user->name != NULL) {
        rc = find_groups(user);
    }
    if (rc < 0) {
        ld_text_puts(why, strerror(-rc));
    }
    return rc;
}

/* Find "USER[:GROUP]". */
int ld_user_find(struct ld_user *user, const char *spec, struct ld_text *why) {
    *user = (struct ld_user){0};
    char *name = strdup(spec);
    if (name == NULL) {
        ld_text_puts(why, strerror(ENOMEM));
        return -ENOMEM;
    }
    char *colon = strchr(name, ':');
    if (colon != NULL) {
        *colon = '\0';
    }
    int rc = find_named(user, name, colon != NULL ? colon + 1 : NULL, why);
    free(name);
    if (rc < 0) {
        ld_user_fini(user);
    }
    return rc;
}

/* Free what a user holds. */
void ld_user_fini(struct ld_user *user) {
    free(user->name);
    free(user->home);
    free(user->groups);
    *user = (struct ld_user){0};
}

/* Note the step that failed. */
static int failed(struct ld_text *why, const char *step) {
    int code = errno;
    ld_text_format(why, "%s: %s", step, strerror(code));
    return -code;
}

/* Show that no id of the process is root's and that none can become it. */
static int prove_drop(const struct ld_user *user, struct ld_text *why) {
    uid_t real;
    uid_t effective;
    uid_t saved;
    if (getresuid(&real, &effective, &saved) < 0) {
        return failed(why, "getresuid");
    }
    bool is_user = real == user->uid && effective == user->uid && saved == user->uid;
    if (!is_user || (user->uid != 0 && (setuid(0) == 0 || seteuid(0) == 0))) {
        ld_text_puts(why, "root could be regained after the drop");
        return -EPERM;
    }
    return 0;
}

/* Whether becoming USER gives up rights. */
bool ld_user_is_lesser(const struct ld_user *user) {
    return user != NULL && geteuid() == 0 && user->uid != 0;
}

/* The supplementary groups of this process while it has the rights of another user. */
static struct {
    gid_t *list;
    int count;
} own_groups;

/* Save our supplementary groups. */
static int save_groups(void) {
    int count = getgroups(0, NULL);
    gid_t *list = count >= 0 ? calloc((size_t)count + 1, sizeof *list) : NULL;
    if (list == NULL || getgroups(count, list) != count) {
        free(list);
        return -ENOMEM;
    }
    own_groups.list = list;
    own_groups.count = count;
    return 0;
}

/* Restore our supplementary groups. */
static void restore_groups(void) {
    setgroups((size_t)own_groups.count, own_groups.list);
    free(own_groups.list);
    own_groups.list = NULL;
    own_groups.count = 0;
}

/* Have the kernel check files against USER: the ids that it checks files by say afterwards whether
 * it does. */
int ld_user_enter(const struct ld_user *user) {
    if (!ld_user_is_lesser(user)) {
        return 0;
    }
    int rc = save_groups();
    if (rc < 0) {
        return rc;
    }
    if (setgroups((size_t)user->group_count, user->groups) < 0) {
        rc = -errno;
        restore_groups();
        return rc;
    }
    setfsgid(user->gid);
    setfsuid(user->uid);
    if (setfsuid((uid_t)-1) != (int)user->uid || setfsgid((gid_t)-1) != (int)user->gid) {
        ld_user_leave(user);
        return -EPERM;
    }
    return 0;
}

/* Have the kernel check files against this process again. */
void ld_user_leave(const struct ld_user *user) {
    if (ld_user_is_lesser(user) && own_groups.list != NULL) {
        setfsuid(geteuid());
        setfsgid(getegid());
        restore_groups();
    }
}

/* Whether GID is among the groups of a user. */
static bool is_in_group(const struct ld_user *user, gid_t gid) {
    bool found = user->gid == gid;
    for (int i = 0; i < user->group_count && !found; i++) {
        found = user->groups[i] == gid;
    }
    return found;
}

/* Whether the kernel lets USER write to a directory: a list of access rights says more than its mode. */
static bool may_write(const struct ld_user *user, int dir) {
    if ((prctl(PR_GET_SECUREBITS) & SECBIT_NO_SETUID_FIXUP) != 0) {
        return false; /* it would speak of root's rights; to become the user is refused later */
    }
    if (ld_user_enter(user) < 0) {
        return true;
    }
    bool may = faccessat(dir, "", W_OK, AT_EACCESS | AT_EMPTY_PATH) == 0;
    ld_user_leave(user);
    return may;
}

/* Whether USER may change the names in a directory. Its owner may, whatever its mode. */
bool ld_user_can_rename_in(const struct ld_user *user, int dir) {
    struct stat facts;
    return fstat(dir, &facts) < 0 || facts.st_uid == user->uid || (facts.st_mode & S_IWOTH) != 0 ||
           ((facts.st_mode & S_IWGRP) != 0 && is_in_group(user, facts.st_gid)) ||
           may_write(user, dir);
}

/* Give up the session keyring: its keys are of use to whoever has it, whatever its ids. Where keyrings
 * are denied there is nothing to give up. */
static int leave_keys(struct ld_text *why) {
    if (syscall(SYS_keyctl, KEYCTL_JOIN_SESSION_KEYRING, NULL) < 0 && errno != ENOSYS &&
        errno != EPERM && errno != EACCES) {
        return failed(why, "keyctl");
    }
    return 0;
}

/* Give up capabilities, which some settings keep over a change of ids. */
static int leave_capabilities(struct ld_text *why) {
    struct __user_cap_header_struct head = {.version = _LINUX_CAPABILITY_VERSION_3};
    const struct __user_cap_data_struct none[_LINUX_CAPABILITY_U32S_3] = {{0}};
    prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0);
    return syscall(SYS_capset, &head, none) < 0 ? failed(why, "capset") : 0;
}

/* Become another user for good. */
int ld_user_become(const struct ld_user *user, struct ld_text *why) {
    if (geteuid() != 0 && getuid() == user->uid && getgid() == user->gid) {
        return 0; /* an unprivileged caller who names itself: nothing to give up */
    }
    int rc = leave_keys(why);
    if (rc < 0) {
        return rc;
    }
    if (setgroups((size_t)user->group_count, user->groups) < 0) {
        return failed(why, "setgroups");
    }
    if (setresgid(user->gid, user->gid, user->gid) < 0) {
        return failed(why, "setresgid");
    }
    if (setresuid(user->uid, user->uid, user->uid) < 0) {
        return failed(why, "setresuid");
    }
    rc = prove_drop(user, why);
    return rc == 0 && user->uid != 0 ? leave_capabilities(why) : rc;
}
