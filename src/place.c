#include "place.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define LINKS_MAX 40 /* as many as the kernel follows */

/* A walk along a path. */
struct walk {
    struct ld_place *place;
    bool make;
    int links;              /* followed so far */
    char rest[PATH_MAX];    /* what is still to be walked */
};

/* Note whether a step from the directory to ENTRY (NULL: nothing is there yet) is one that the user
 * can bend. In a sticky directory that is so for what neither root nor its owner has made; ENTRY must
 * be what was opened then, as another could stand there a moment later. */
static int judge(const struct walk *walk, const struct stat *entry) {
    struct ld_place *place = walk->place;
    struct stat dir;
    if (!ld_user_is_lesser(place->user) || place->is_users) {
        return 0;
    }
    if (fstat(place->dir, &dir) < 0) {
        return -errno;
    }
    bool bends = ld_user_can_rename_in(place->user, place->dir);
    if (bends && (dir.st_mode & S_ISVTX) != 0 && dir.st_uid != place->user->uid) {
        bends = entry != NULL && entry->st_uid != 0 && entry->st_uid != dir.st_uid;
    }
    if (bends) {
        place->is_users = true;
        return ld_user_enter(place->user);
    }
    return 0;
}

/* Go on at TARGET, what a link says, with what is still to be walked behind it. */
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

/* Let the walk be in directory FD. */
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

/* Open NAME in the directory, whatever it is, and judge the step to it before and after: only then
 * it is known. A descriptor or a negative errno. */
static int open_step(struct walk *walk, const char *name, struct stat *facts) {
    const int flags = O_PATH | O_NOFOLLOW | O_CLOEXEC;
    int rc = judge(walk, NULL);
    if (rc < 0) {
        return rc;
    }
    int fd = openat(walk->place->dir, name, flags);
    if (fd < 0 && errno == ENOENT && walk->make &&
        (mkdirat(walk->place->dir, name, 0755) == 0 || errno == EEXIST)) {
        fd = openat(walk->place->dir, name, flags);
    }
    if (fd < 0) {
        return -errno;
    }
    rc = fstat(fd, facts) < 0 ? -errno : judge(walk, facts);
    if (rc < 0) {
        close(fd);
        return rc;
    }
    return fd;
}

/* Walk into NAME: a directory, or a link to follow. */
static int step(struct walk *walk, const char *name) {
    char target[PATH_MAX];
    struct stat facts;
    int rc;
    int fd = open_step(walk, name, &facts);
    if (fd < 0) {
        return fd;
    }
    if (S_ISDIR(facts.st_mode)) {
        move(walk, fd);
        return 0;
    } else if (S_ISLNK(facts.st_mode)) {
        ssize_t size = readlinkat(fd, "", target, sizeof target - 1);
        target[size > 0 ? size : 0] = '\0';
        rc = size > 0 ? follow(walk, target) : -ENOENT;
        rc = rc == 0 ? begin(walk) : rc;
    } else {
        rc = -ENOTDIR;
    }
    close(fd);
    return rc;
}

/* Take the next name from what is still to be walked; false when it is the last, which stays. */
static bool take_name(struct walk *walk, char *name) {
    const char *at = walk->rest + strspn(walk->rest, "/");
    size_t size = strcspn(at, "/");
    const char *behind = at + size + strspn(at + size, "/");
    if (size > NAME_MAX || *behind == '\0') {
        memmove(walk->rest, at, strlen(at) + 1);
        return false;
    }
    memcpy(name, at, size);
    name[size] = '\0';
    memmove(walk->rest, behind, strlen(behind) + 1);
    return true;
}

/* Walk to the directory of the file. */
static int walk_all(struct walk *walk) {
    char name[NAME_MAX + 1];
    struct stat entry;
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
        bool is_there =
            fstatat(walk->place->dir, walk->place->name, &entry, AT_SYMLINK_NOFOLLOW) == 0;
        rc = judge(walk, is_there ? &entry : NULL);
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
    strcpy(walk.rest, path);
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

/* Give them back. */
void ld_place_leave(const struct ld_place *place) {
    if (place->is_users) {
        ld_user_leave(place->user);
    }
}
