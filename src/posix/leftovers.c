#include "posix/leftovers.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/grow.h"
#include "posix/family.h"

/* In /proc/net/unix. */
#define LISTENS     0x10000 /* a flag */
#define UNCONNECTED 1       /* a state: bound, and perhaps about to listen */

/* The sockets of a process: the inodes of its descriptors. */
struct inodes {
    unsigned long *list;
    size_t count;
};

/* Add the inode of a descriptor, if it is a socket. */
static void add_inode(struct inodes *inodes, int dir, const char *name) {
    char target[64];
    unsigned long inode;
    ssize_t size = readlinkat(dir, name, target, sizeof target - 1);
    target[size > 0 ? size : 0] = '\0';
    if (sscanf(target, "socket:[%lu]", &inode) != 1) {
        return;
    }
    unsigned long *list = ld_grow(inodes->list, inodes->count, sizeof *list);
    if (list != NULL) {
        inodes->list = list;
        list[inodes->count++] = inode;
    }
}

/* List the sockets of a process. */
static void list_inodes(struct inodes *inodes, pid_t pid) {
    char path[40];
    const struct dirent *item;
    snprintf(path, sizeof path, "/proc/%d/fd", (int)pid);
    DIR *fds = opendir(path);
    while (fds != NULL && (item = readdir(fds)) != NULL) {
        add_inode(inodes, dirfd(fds), item->d_name);
    }
    if (fds != NULL) {
        closedir(fds);
    }
}

/* Whether an inode is in the list. */
static bool has_inode(const struct inodes *inodes, unsigned long inode) {
    bool found = false;
    for (size_t i = 0; i < inodes->count && !found; i++) {
        found = inodes->list[i] == inode;
    }
    return found;
}

/* Parse the groups in a line of /proc/PID/status. */
static void parse_groups(struct ld_user *user, const char *line) {
    char *end;
    for (unsigned long gid = strtoul(line, &end, 10); end != line; gid = strtoul(line, &end, 10)) {
        gid_t *groups = ld_grow(user->groups, (size_t)user->group_count, sizeof *groups);
        if (groups == NULL) {
            return;
        }
        user->groups = groups;
        groups[user->group_count++] = (gid_t)gid;
        line = end;
    }
}

/* Find whose rights a process has; false if it is gone. */
static bool find_user(struct ld_user *user, pid_t pid) {
    char path[40];
    char line[4096];
    unsigned id;
    bool found = false;
    *user = (struct ld_user){0};
    snprintf(path, sizeof path, "/proc/%d/status", (int)pid);
    FILE *status = fopen(path, "re");
    while (status != NULL && fgets(line, sizeof line, status) != NULL) {
        if (sscanf(line, "Uid: %*u %u", &id) == 1) {
            user->uid = id;
            found = true;
        } else if (sscanf(line, "Gid: %*u %u", &id) == 1) {
            user->gid = id;
        } else if (strncmp(line, "Groups:", 7) == 0) {
            parse_groups(user, line + 7);
        }
    }
    if (status != NULL) {
        fclose(status);
    }
    return found;
}

/* Whether the process is of the user, with fewer rights than ours, whom the leftovers are about. Only
 * one such user is dealt with; *IS_OURS says whether it has our rights. */
static bool is_of_user(struct ld_leftovers *leftovers, pid_t pid, bool *is_ours) {
    struct ld_user user;
    *is_ours = false;
    if (!find_user(&user, pid)) {
        return false;
    }
    *is_ours = user.uid == geteuid();
    if (ld_user_is_lesser(&user) && leftovers->user.uid == 0) {
        leftovers->user = user;
        return true;
    }
    bool same = ld_user_is_lesser(&user) && user.uid == leftovers->user.uid;
    ld_user_fini(&user);
    return same;
}

/* Note the file of a socket that a process listens on, or has bound. USER: the one whose rights it has,
 * or NULL for ours. */
static void note(struct ld_leftovers *leftovers, const char *path, const struct ld_user *user) {
    struct ld_leftover leftover;
    char text[PATH_MAX + 8];
    snprintf(text, sizeof text, "unix:%s", path);
    if (!ld_address_parse(text, &leftover.address) ||
        !ld_socket_file_note(&leftover.file, &leftover.address, user)) {
        return;
    }
    bool is_allowed = user == NULL || leftover.file.place.is_users;
    struct ld_leftover *list =
        is_allowed ? ld_grow(leftovers->list, leftovers->count, sizeof *list) : NULL;
    if (list == NULL) {
        ld_socket_file_forget(&leftover.file);
        return;
    }
    leftovers->list = list;
    list[leftovers->count++] = leftover;
}

/* Note what a process listens on. */
static void find_of(struct ld_leftovers *leftovers, pid_t pid) {
    char line[PATH_MAX + 128];
    struct inodes inodes = {0};
    bool is_ours;
    bool is_users = is_of_user(leftovers, pid, &is_ours);
    if (!is_users && !is_ours) {
        return;
    }
    list_inodes(&inodes, pid);
    FILE *sockets = inodes.count > 0 ? fopen("/proc/net/unix", "re") : NULL;
    while (sockets != NULL && fgets(line, sizeof line, sockets) != NULL) {
        unsigned flags;
        unsigned state;
        unsigned long inode;
        int at = 0;
        if (sscanf(line, "%*s %*x %*x %x %*x %x %lu %n", &flags, &state, &inode, &at) == 3 &&
            at > 0 && line[at] == '/' && ((flags & LISTENS) != 0 || state == UNCONNECTED) &&
            has_inode(&inodes, inode)) {
            line[strcspn(line, "\n")] = '\0';
            note(leftovers, line + at, is_users ? &leftovers->user : NULL);
        }
    }
    if (sockets != NULL) {
        fclose(sockets);
    }
    free(inodes.list);
}

/* Find what processes listen on. */
void ld_leftovers_find(struct ld_leftovers *leftovers, pid_t root) {
    struct ld_pids family = {0};
    find_of(leftovers, root);
    ld_family_find(root, &family);
    for (size_t i = 0; i < family.count; i++) {
        find_of(leftovers, family.list[i]);
    }
    ld_pids_fini(&family);
}

/* Remove the files that are left. */
void ld_leftovers_remove(struct ld_leftovers *leftovers) {
    for (size_t i = 0; i < leftovers->count; i++) {
        struct ld_leftover *at = &leftovers->list[i];
        bool entered = ld_place_enter(&at->file.place) == 0;
        bool is_stale = entered && ld_address_is_stale(&at->address);
        if (entered) {
            ld_place_leave(&at->file.place);
        }
        if (is_stale) {
            ld_socket_file_remove(&at->file);
        } else {
            ld_socket_file_forget(&at->file);
        }
    }
    free(leftovers->list);
    ld_user_fini(&leftovers->user);
    *leftovers = (struct ld_leftovers){0};
}
