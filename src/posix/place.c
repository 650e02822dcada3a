#include "posix/place.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define LINKS_MAX 40 /* as many as the kernel follows */
#define TRIES_MAX 8  /* to make a directory that another process removes at once */

/* A walk along a path. */
struct walk {
    struct ld_place *place;
    bool make;
    int links;           /* followed so far */
    char rest[PATH_MAX]; /* what is still to be walked */
};

/* Note whether the user can change the next step, to ENTRY in the directory (NULL: there is no such
 * entry): from there on the path is walked with the user's rights. In a sticky directory that is every
 * entry that neither root nor the directory's owner has made. 1 if that begins here, 0 if not, or a
 * negative errno. */
static int judge(const struct walk *walk, const struct stat *entry) {
    struct ld_place *place = walk->place;
    struct stat dir;
    if (!ld_user_is_lesser(place->user) || place->is_users) {
        return 0;
    }
    if (fstat(place->dir, &dir) < 0) {
        return -errno;
    }
    bool owns = entry != NULL && entry->st_uid == place->user->uid;
    bool bends = ld_user_can_rename_in(place->user, place->dir);
    if (bends && (dir.st_mode & S_ISVTX) != 0 && dir.st_uid != place->user->uid) {
        bends = entry != NULL && entry->st_uid != 0 && entry->st_uid != dir.st_uid;
    }
    if (!bends && !(owns && S_ISLNK(entry->st_mode))) {
        return 0;
    }
    place->is_users = true;
    int rc = ld_user_enter(place->user);
    return rc < 0 ? rc : 1;
}

/* Continue at TARGET, the text of a link, followed by what is still to be walked. */
static int follow(struct walk *walk, const char *target) {
    char joined[PATH_MAX];
    int size = snprintf(joined, sizeof joined, "%s/%s", target, walk->rest);
    if (size < 0 || (size_t)size >= sizeof joined) {
        return -ENAMETOOLONG;
    }
    if (++walk->links > LINKS_MAX) {
        return -ELOOP;
    }
    memcpy(walk->rest, joined, (size_t)size + 1);
    return 0;
}

/* Move the walk to directory FD. */
static void move(struct walk *walk, int fd) {
    if (walk->place->dir >= 0) {
        close(walk->place->dir);
    }
    walk->place->dir = fd;
}

/* Start at the root directory, if that is where the rest begins. */
static int begin(struct walk *walk) {
    if (walk->rest[0] != '/') {
        return 0;
    }
    int fd = open("/", O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0) {
        return -errno;
    }
    move(walk, fd);
    return 0;
}

/* Open NAME in the directory, whatever it is, without following it; its facts. */
static int open_entry(const struct walk *walk, const char *name, struct stat *facts) {
    int fd = openat(walk->place->dir, name, O_PATH | O_NOFOLLOW | O_CLOEXEC);
    if (fd >= 0 && fstat(fd, facts) < 0) {
        int code = errno;
        close(fd);
        return -code;
    }
    return fd < 0 ? -errno : fd;
}

/* Open the next step, NAME, with the rights that it is to be walked with, and make it if it is missing
 * and may be made. What was opened is judged, not what has the name: that can change in between. */
static int open_step(const struct walk *walk, const char *name, struct stat *facts) {
    int fd = open_entry(walk, name, facts);
    int rc = judge(walk, fd >= 0 ? facts : NULL);
    if (rc != 0 && fd >= 0) {
        close(fd);
    }
    if (rc < 0) {
        return rc;
    }
    fd = rc > 0 ? open_entry(walk, name, facts) : fd;
    if (fd != -ENOENT || !walk->make) {
        return fd;
    }
    if (mkdirat(walk->place->dir, name, 0755) < 0 && errno != EEXIST) {
        return -errno;
    }
    return -EAGAIN; /* what is there now is to be judged in its turn */
}

/* Continue at the target of the link FD. */
static int follow_link(struct walk *walk, int fd) {
    char target[PATH_MAX];
    ssize_t size = readlinkat(fd, "", target, sizeof target - 1);
    if (size <= 0) {
        return size < 0 ? -errno : -ENOENT;
    }
    target[size] = '\0';
    int rc = follow(walk, target);
    return rc == 0 ? begin(walk) : rc;
}

/* Walk into NAME: a directory, or a link to follow. */
static int step(struct walk *walk, const char *name) {
    struct stat facts = {0};
    int fd = -EAGAIN;
    for (int tries = 0; fd == -EAGAIN && tries < TRIES_MAX; tries++) {
        fd = open_step(walk, name, &facts);
    }
    if (fd < 0) {
        return fd;
    }
    if (S_ISDIR(facts.st_mode)) {
        move(walk, fd);
        return 0;
    }
    int rc = S_ISLNK(facts.st_mode) ? follow_link(walk, fd) : -ENOTDIR;
    close(fd);
    return rc;
}

/* Judge the last step, to the file itself. A link there is not followed. */
static int judge_last(const struct walk *walk) {
    struct stat facts;
    int rc = fstatat(walk->place->dir, walk->place->name, &facts, AT_SYMLINK_NOFOLLOW);
    rc = judge(walk, rc == 0 ? &facts : NULL);
    return rc < 0 ? rc : 0;
}

/* Take the next name from what is still to be walked; false when it is the last, which stays. */
static bool take_name(struct walk *walk, char *name) {
    const char *at = walk->rest + strspn(walk->rest, "/");
    size_t size = strcspn(at, "/");
    const char *after = at + size + strspn(at + size, "/");
    if (size > NAME_MAX || *after == '\0') {
        memmove(walk->rest, at, strlen(at) + 1);
        return false;
    }
    memcpy(name, at, size);
    name[size] = '\0';
    memmove(walk->rest, after, strlen(after) + 1);
    return true;
}

/* Walk to the directory of the file. */
static int walk_all(struct walk *walk) {
    char name[NAME_MAX + 1];
    int rc = begin(walk);
    while (rc == 0 && take_name(walk, name)) {
        rc = step(walk, name);
    }
    size_t size = strcspn(walk->rest, "/");
    if (rc == 0 && (size == 0 || size > NAME_MAX)) {
        rc = size == 0 ? -EISDIR : -ENAMETOOLONG;
    }
    if (rc == 0) {
        memcpy(walk->place->name, walk->rest, size);
        walk->place->name[size] = '\0';
        rc = judge_last(walk);
    }
    return rc;
}

/* Find the place of a file. */
int ld_place_open(struct ld_place *place, const char *path, const struct ld_user *user, bool make) {
    struct walk walk = {.place = place, .make = make};
    *place = (struct ld_place){.dir = -1, .user = user};
    if (path[0] != '/' || strlen(path) >= sizeof walk.rest) {
        return path[0] != '/' ? -EINVAL : -ENAMETOOLONG;
    }
    memcpy(walk.rest, path, strlen(path) + 1);
    int rc = walk_all(&walk);
    if (place->is_users) {
        ld_user_leave(user);
    }
    if (rc < 0) {
        ld_place_close(place);
    }
    return rc;
}

/* Close the directory. */
void ld_place_close(struct ld_place *place) {
    if (place->dir >= 0) {
        close(place->dir);
        place->dir = -1;
    }
}

/* Take the rights that the file may be touched with. */
int ld_place_enter(const struct ld_place *place) {
    return place->is_users ? ld_user_enter(place->user) : 0;
}

/* Give up these rights. */
void ld_place_leave(const struct ld_place *place) {
    if (place->is_users) {
        ld_user_leave(place->user);
    }
}
