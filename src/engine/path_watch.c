/* What is watched: for each path, the file itself, by its inode; its directory, for its name alone; each link on the
 * way, by its name in its directory; and each directory on the way, but only for its own end or move, because one
 * like /tmp changes all the time. Where the way ends, the last directory is watched for the name that is missing.
 *
 * libuv's uv_fs_event would not do: it asks for every write to every file in a directory, and drops the event
 * of the kernel that says that others were lost. */
#include "engine/path_watch.h"

#include <errno.h>
#include <limits.h>
#include <search.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/base.h"
#include "base/grow.h"

#define LINKS_MAX 40 /* as the kernel */

#define WAY_MASK    (IN_DELETE_SELF | IN_MOVE_SELF)
#define NAMES_MASK  (IN_CREATE | IN_DELETE | IN_MOVED_FROM | IN_MOVED_TO | IN_ATTRIB | WAY_MASK)
#define FILE_MASK   (IN_MODIFY | IN_CLOSE_WRITE | IN_ATTRIB | WAY_MASK)
#define WRITES_MASK (IN_MODIFY | IN_CLOSE_WRITE)

/* A watch of the kernel. */
struct spot {
    int wd;
    unsigned round; /* of the last update that asked for it */
    char *file;     /* the path, if it is of a file; else NULL */
};

/* A name in a directory that is watched for it. */
struct name {
    int wd;
    bool is_file;     /* the end of a path; else a link, or what is missing on the way */
    const char *name; /* in path */
    char path[];
};

struct ld_path_watch {
    uv_poll_t poll;
    int fd;
    void (*changed)(void *arg);
    void *arg;
    char **paths;
    size_t path_count;
    size_t followed;    /* of them */
    struct spot *spots; /* the kernel gives numbers in ascending order, and so they are sorted */
    size_t spot_count;
    void *names; /* a tree of struct name */
    unsigned round;
    char *directory; /* of the path that was followed last, or NULL */
    char *real;      /* the same without links */
    int error;       /* the first of this update */
    char error_path[PATH_MAX];
};

/* The way to a file. */
struct way {
    char at[PATH_MAX];   /* a directory, without links; "" is the root */
    char rest[PATH_MAX]; /* what is still to be walked from there */
    char full[PATH_MAX]; /* the next step */
    int links;
};

/* Note that something cannot be watched. What is gone by now, or may not be read, is no error: for that, the other
 * watches of its path are enough. */
static void note_error(struct ld_path_watch *watch, int code, const char *path) {
    bool counts = code != ENOENT && code != ENOTDIR && code != EACCES && code != ELOOP;
    if (counts && watch->error == 0) {
        watch->error = -code;
        snprintf(watch->error_path, sizeof watch->error_path, "%s", path);
    }
}

/* Find the place of a number among the watches: where it is, or would be. */
static size_t find_place(const struct ld_path_watch *watch, int wd) {
    size_t low = 0;
    size_t high = watch->spot_count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (watch->spots[middle].wd < wd) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low;
}

/* Find a watch by its number; NULL if there is none. */
static struct spot *find_spot(const struct ld_path_watch *watch, int wd) {
    size_t place = find_place(watch, wd);
    bool found = place < watch->spot_count && watch->spots[place].wd == wd;
    return found ? &watch->spots[place] : NULL;
}

/* Make room for the number of a watch; NULL if memory ran out. */
static struct spot *insert_spot(struct ld_path_watch *watch, int wd) {
    struct spot *spots = ld_grow(watch->spots, watch->spot_count, sizeof *spots);
    if (spots == NULL) {
        return NULL;
    }
    watch->spots = spots;
    size_t place = find_place(watch, wd);
    memmove(spots + place + 1, spots + place, (watch->spot_count - place) * sizeof *spots);
    watch->spot_count++;
    spots[place] = (struct spot){.wd = wd};
    return &spots[place];
}

/* Forget a watch, which the kernel need not have any longer. */
static void remove_spot(struct ld_path_watch *watch, struct spot *spot) {
    size_t after = watch->spot_count - (size_t)(spot - watch->spots) - 1;
    inotify_rm_watch(watch->fd, spot->wd);
    free(spot->file);
    memmove(spot, spot + 1, after * sizeof *spot);
    watch->spot_count--;
}

/* Watch PATH, which is not a link; its number, or -1. */
static int watch_path(struct ld_path_watch *watch, const char *path, uint32_t mask) {
    int wd = inotify_add_watch(watch->fd, path, mask | IN_MASK_ADD | IN_DONT_FOLLOW);
    struct spot *spot = wd >= 0 ? find_spot(watch, wd) : NULL;
    if (wd < 0) {
        note_error(watch, errno, path);
        return -1;
    }
    if (spot == NULL && (spot = insert_spot(watch, wd)) == NULL) {
        inotify_rm_watch(watch->fd, wd);
        note_error(watch, ENOMEM, path);
        return -1;
    }
    spot->round = watch->round;
    return wd;
}

/* Watch the file at the end of a path, if it is there; its number, or -1. */
static int watch_file(struct ld_path_watch *watch, const char *path) {
    struct stat facts;
    bool is_file = lstat(path, &facts) == 0 && S_ISREG(facts.st_mode);
    int wd = is_file ? watch_path(watch, path, FILE_MASK) : -1;
    struct spot *spot = wd >= 0 ? find_spot(watch, wd) : NULL;
    if (spot != NULL && spot->file == NULL && (spot->file = strdup(path)) == NULL) {
        note_error(watch, ENOMEM, path);
    }
    return wd;
}

/* Order names by their directories. */
static int compare_names(const void *one, const void *other) {
    const struct name *a = one;
    const struct name *b = other;
    return a->wd != b->wd ? (a->wd > b->wd) - (a->wd < b->wd) : strcmp(a->name, b->name);
}

/* Have events of the name of PATH, in the directory with this number, count. */
static void want_name(struct ld_path_watch *watch, int wd, const char *path, bool is_file) {
    struct name *name = malloc(sizeof *name + strlen(path) + 1);
    if (name != NULL) {
        memcpy(name->path, path, strlen(path) + 1);
        *name = (struct name){wd, is_file, strrchr(name->path, '/') + 1};
    }
    struct name *const *kept = name != NULL ? tsearch(name, &watch->names, compare_names) : NULL;
    if (kept == NULL) {
        note_error(watch, ENOMEM, path);
    } else if (*kept != name) {
        (*kept)->is_file = (*kept)->is_file && is_file;
    }
    if (kept == NULL || *kept != name) {
        free(name);
    }
}

/* Watch the directory where the way is for the name of the next step. */
static void watch_name(struct ld_path_watch *watch, const struct way *way, bool is_file) {
    int wd =
        watch_path(watch, way->at[0] != '\0' ? way->at : "/", NAMES_MASK | (uint32_t)IN_ONLYDIR);
    if (wd >= 0) {
        want_name(watch, wd, way->full, is_file);
    }
}

/* Take the next step of the way from what is to be walked: false at the end, or if it is too long. "." and ".." are
 * done. */
static bool take_step(struct way *way) {
    for (;;) {
        char *from = way->rest + strspn(way->rest, "/");
        size_t size = strcspn(from, "/");
        if (size == 0) {
            return false;
        }
        bool fits = (size_t)snprintf(way->full, sizeof way->full, "%s/%.*s", way->at, (int)size,
                                     from) < sizeof way->full;
        bool is_up = size == 2 && memcmp(from, "..", 2) == 0;
        bool is_here = size == 1 && from[0] == '.';
        memmove(way->rest, from + size, strlen(from + size) + 1);
        if (is_up && way->at[0] != '\0') {
            *strrchr(way->at, '/') = '\0';
        }
        if (!is_up && !is_here) {
            return fits;
        }
    }
}

/* Whether nothing of the way is left after this step. */
static bool is_last(const struct way *way) {
    return way->rest[strspn(way->rest, "/")] == '\0';
}

/* Continue the way where the link at its next step leads; false if it leads nowhere. */
static bool follow_link(struct way *way) {
    char target[PATH_MAX];
    ssize_t size = readlink(way->full, target, sizeof target - 1);
    if (size <= 0 || ++way->links > LINKS_MAX ||
        (size_t)size + strlen(way->rest) + 2 > sizeof way->rest) {
        return false;
    }
    memmove(way->rest + size + 1, way->rest, strlen(way->rest) + 1);
    memcpy(way->rest, target, (size_t)size);
    way->rest[size] = '/';
    if (target[0] == '/') {
        way->at[0] = '\0';
    }
    return true;
}

/* Take one step of a way, which take_step has found: watch what is there; false at the end. The name is watched before
 * it is looked at again, so nothing is missed. */
static bool walk(struct ld_path_watch *watch, struct way *way) {
    struct stat facts;
    bool is_there = lstat(way->full, &facts) == 0;
    if (is_there && S_ISDIR(facts.st_mode) && !is_last(way)) {
        watch_path(watch, way->full, WAY_MASK);
        memcpy(way->at, way->full, sizeof way->at);
        return true;
    }
    watch_name(watch, way, is_last(way) && !(is_there && S_ISLNK(facts.st_mode)));
    if (lstat(way->full, &facts) < 0) {
        return false;
    }
    if (S_ISLNK(facts.st_mode)) {
        return follow_link(way);
    }
    if (is_last(way)) {
        watch_file(watch, way->full);
        return false;
    }
    if (S_ISDIR(facts.st_mode)) { /* it has just been made */
        watch_path(watch, way->full, WAY_MASK);
        memcpy(way->at, way->full, sizeof way->at);
        return true;
    }
    return false;
}

/* Forget the directory of the path that was followed last. */
static void forget_directory(struct ld_path_watch *watch) {
    free(watch->directory);
    free(watch->real);
    watch->directory = NULL;
    watch->real = NULL;
}

/* Note that what is before the last step of PATH is the directory at REAL, which is being watched. */
static void note_directory(struct ld_path_watch *watch, const char *path, const char *real) {
    forget_directory(watch);
    watch->directory = strndup(path, (size_t)(strrchr(path, '/') - path));
    watch->real = strdup(real);
}

/* Begin the way to a path: at the root, or if it is in the same directory as the one before, there. */
static void begin_way(const struct ld_path_watch *watch, struct way *way, const char *path) {
    size_t size = watch->directory != NULL ? strlen(watch->directory) : 0;
    bool is_near = watch->directory != NULL && watch->real != NULL && strrchr(path, '/') != NULL &&
                   strncmp(path, watch->directory, size) == 0 && strrchr(path, '/') == path + size;
    way->links = 0;
    snprintf(way->at, sizeof way->at, "%s", is_near ? watch->real : "");
    snprintf(way->rest, sizeof way->rest, "%s", is_near ? path + size : path);
}

/* Watch what is on the way to a path. */
static void follow(struct ld_path_watch *watch, const char *path) {
    struct way way;
    bool is_noted = false;
    if (path[0] != '/' || strlen(path) >= sizeof way.rest) {
        return; /* it cannot be opened either, or is not known */
    }
    for (begin_way(watch, &way, path); take_step(&way);) {
        if (!is_noted && is_last(&way)) {
            note_directory(watch, path, way.at);
            is_noted = true;
        }
        if (!walk(watch, &way)) {
            return;
        }
    }
}

/* Forget the names. */
static void clear_names(struct ld_path_watch *watch) {
    tdestroy(watch->names, free);
    watch->names = NULL;
}

/* Watch the paths that are not watched yet. */
static void follow_rest(struct ld_path_watch *watch) {
    while (watch->followed < watch->path_count) {
        follow(watch, watch->paths[watch->followed++]);
    }
    forget_directory(watch);
}

/* Watch all paths, and nothing else. */
static void follow_all(struct ld_path_watch *watch) {
    watch->round++;
    watch->followed = 0;
    clear_names(watch);
    follow_rest(watch);
    for (size_t i = watch->spot_count; i > 0; i--) {
        if (watch->spots[i - 1].round != watch->round) {
            remove_spot(watch, &watch->spots[i - 1]);
        }
    }
}

/* Begin to watch the paths. */
int ld_path_watch_update(struct ld_path_watch *watch, const char **where) {
    watch->error = 0;
    if (watch->followed == 0) {
        follow_all(watch);
    } else {
        follow_rest(watch);
    }
    *where = watch->error_path;
    return watch->error;
}

/* Go on with a file that may have been replaced: watch what is at its path now. */
static void renew_file(struct ld_path_watch *watch, int wd) {
    struct spot *spot = find_spot(watch, wd);
    char *path = spot->file;
    spot->file = NULL;
    if (watch_file(watch, path) != wd) {
        remove_spot(watch, find_spot(watch, wd));
    }
    free(path);
}

/* What an event means. */
enum meaning {
    NOTHING,
    CONTENT,  /* a file may have another content */
    STRUCTURE /* other things are to be watched */
};

/* Handle an event of what is watched itself. */
static enum meaning on_self(struct ld_path_watch *watch, struct spot *spot, uint32_t mask) {
    if (spot->file == NULL) {
        return STRUCTURE;
    }
    if ((mask & IN_IGNORED) != 0) {
        char *path = spot->file;
        spot->file = NULL;
        remove_spot(watch, spot);
        watch_file(watch, path);
        free(path);
    } else if ((mask & ~(uint32_t)WRITES_MASK) != 0) {
        renew_file(watch, spot->wd);
    }
    return CONTENT;
}

/* Handle an event of a name in a directory. */
static enum meaning on_name(struct ld_path_watch *watch, int wd, const char *text) {
    const struct name key = {.wd = wd, .name = text};
    struct name *const *found = tfind(&key, &watch->names, compare_names);
    struct stat facts;
    if (found == NULL) {
        return NOTHING;
    }
    bool is_link = lstat((*found)->path, &facts) == 0 && S_ISLNK(facts.st_mode);
    if (!(*found)->is_file || is_link) {
        return STRUCTURE;
    }
    watch_file(watch, (*found)->path);
    return CONTENT;
}

/* Handle an event. */
static enum meaning on_event(struct ld_path_watch *watch, const struct inotify_event *event) {
    struct spot *spot = find_spot(watch, event->wd);
    if ((event->mask & IN_Q_OVERFLOW) != 0) {
        return STRUCTURE;
    }
    if (spot == NULL) {
        return NOTHING;
    }
    return event->len > 0 ? on_name(watch, event->wd, event->name)
                          : on_self(watch, spot, event->mask);
}

/* Read what there is; what it means, all in all. */
static enum meaning read_events(struct ld_path_watch *watch) {
    _Alignas(struct inotify_event) char bytes[16384];
    enum meaning meaning = NOTHING;
    ssize_t size;
    while ((size = read(watch->fd, bytes, sizeof bytes)) > 0) {
        for (ssize_t at = 0; at < size;) {
            const struct inotify_event *event = (const void *)(bytes + at);
            enum meaning this = on_event(watch, event);
            meaning = this > meaning ? this : meaning;
            at += (ssize_t)(sizeof *event + event->len);
        }
    }
    return meaning;
}

/* Handle events. */
static void on_readable(uv_poll_t *poll, int status, int events) {
    struct ld_path_watch *watch = LD_CONTAINER_OF(poll, struct ld_path_watch, poll);
    (void)status;
    (void)events;
    enum meaning meaning = read_events(watch);
    if (meaning == STRUCTURE) {
        follow_all(watch);
    }
    if (meaning != NOTHING) {
        watch->changed(watch->arg);
    }
}

/* Make a watch. */
int ld_path_watch_open(struct ld_path_watch **out, uv_loop_t *loop, void (*changed)(void *arg),
                       void *arg) {
    struct ld_path_watch *watch = calloc(1, sizeof *watch);
    if (watch == NULL) {
        return -ENOMEM;
    }
    watch->changed = changed;
    watch->arg = arg;
    watch->fd = inotify_init1(IN_NONBLOCK | IN_CLOEXEC);
    int rc = watch->fd < 0 ? -errno : uv_poll_init(loop, &watch->poll, watch->fd);
    if (rc < 0) {
        if (watch->fd >= 0) {
            close(watch->fd);
        }
        free(watch);
        return rc;
    }
    *out = watch;
    rc = uv_poll_start(&watch->poll, UV_READABLE, on_readable);
    LD_ASSERT(rc == 0);
    return 0;
}

/* Forget the paths. */
void ld_path_watch_clear(struct ld_path_watch *watch) {
    for (size_t i = 0; i < watch->path_count; i++) {
        free(watch->paths[i]);
    }
    free(watch->paths);
    watch->paths = NULL;
    watch->path_count = 0;
    watch->followed = 0;
}

/* Add a path. */
int ld_path_watch_add(struct ld_path_watch *watch, const char *path) {
    char **paths = ld_grow(watch->paths, watch->path_count, sizeof *paths);
    watch->paths = paths != NULL ? paths : watch->paths;
    char *copy = paths != NULL ? strdup(path) : NULL;
    if (copy == NULL) {
        return -ENOMEM;
    }
    watch->paths[watch->path_count++] = copy;
    return 0;
}

/* Free a watch with its descriptor. */
static void on_closed(uv_handle_t *handle) {
    struct ld_path_watch *watch = LD_CONTAINER_OF((uv_poll_t *)handle, struct ld_path_watch, poll);
    close(watch->fd);
    for (size_t i = 0; i < watch->spot_count; i++) {
        free(watch->spots[i].file);
    }
    free(watch->spots);
    free(watch);
}

/* Close a watch. */
void ld_path_watch_close(struct ld_path_watch *watch) {
    ld_path_watch_clear(watch);
    clear_names(watch);
    uv_close((uv_handle_t *)&watch->poll, on_closed);
}

/* Count the watches. */
size_t ld_path_watch_count(const struct ld_path_watch *watch) {
    return watch->spot_count;
}
