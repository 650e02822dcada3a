#include "daemon/hold_log.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"
#include "base/log.h"
#include "base/log_files.h"
#include "daemon/keeper_channel.h"
#include "posix/place.h"

#define OPEN_ROUNDS 10 /* attempts to open a log that is being moved */

/* Check that an open log file has no other name, if the user dropped to can make links in its
 * directory: the other name could be that of a file which this user may not write. The count of
 * links is reliable only while PLACE is one of them; -ESTALE if it is not. */
static int check_links(const struct ld_place *place, int fd) {
    struct stat opened;
    struct stat there;
    if (place->is_users || !ld_user_can_rename_in(place->user, place->dir)) {
        return 0;
    }
    if (fstat(fd, &opened) < 0 ||
        fstatat(place->dir, place->name, &there, AT_SYMLINK_NOFOLLOW) < 0 ||
        opened.st_dev != there.st_dev || opened.st_ino != there.st_ino) {
        return -ESTALE;
    }
    return there.st_nlink > 1 ? -EMLINK : 0;
}

/* Open the log file at its place; try again if another process moves it meanwhile. */
static int open_log_at(const struct ld_place *place, long gid) {
    int rc = -ESTALE;
    for (int round = 0; round < OPEN_ROUNDS && rc == -ESTALE; round++) {
        rc = ld_place_enter(place);
        if (rc < 0) {
            return rc;
        }
        int fd = ld_file_open_log(place->dir, place->name, gid);
        ld_place_leave(place);
        rc = fd < 0 ? fd : check_links(place, fd);
        if (rc == 0) {
            return fd;
        }
        if (fd >= 0) {
            close(fd);
        }
    }
    return rc;
}

/* Open the log file. A new one gets the group of the user dropped to, who may read it. */
int ld_hold_log_open(void *arg) {
    struct ld_service *service = arg;
    const struct ld_place *place = &service->log_place;
    long gid = service->has_user ? (long)service->user.gid : -1;
    const struct ld_user *user = ld_service_lesser(service);
    if (user == NULL) {
        return ld_file_open_log(AT_FDCWD, service->log_path, gid);
    }
    int fd = place->dir >= 0 ? open_log_at(place, gid) : -ENOENT;
    if (fd == -ENOENT) { /* the directory was removed, or this is the first time */
        ld_place_close(&service->log_place);
        int rc = ld_place_open(&service->log_place, service->log_path, user, true);
        fd = rc < 0 ? rc : open_log_at(place, gid);
    }
    return fd;
}

/* Rotate the log file, and open a new one. Whoever asks for that, a file that is not half full stays: else a
 * dropped host could push out older ones at will. */
int ld_hold_log_rotate(void *arg) {
    struct ld_service *service = arg;
    const struct ld_place *place = &service->log_place;
    const int keep = service->options->log_keep;
    const uint64_t least = (service->options->log_max_size + 1) / 2;
    if (ld_service_lesser(service) == NULL) {
        int rc = ld_log_files_rotate(AT_FDCWD, service->log_path, least, keep);
        return rc < 0 ? rc : ld_hold_log_open(service);
    }
    int rc = place->dir >= 0 ? ld_place_enter(place) : 0;
    if (place->dir >= 0 && rc == 0) {
        rc = ld_log_files_rotate(place->dir, place->name, least, keep);
        ld_place_leave(place);
    }
    return rc < 0 ? rc : ld_hold_log_open(service);
}

/* Explain why the log cannot be opened. */
static int blame_log(const struct ld_service *service, int rc, struct ld_text *why) {
    ld_text_format(why, "log %s: %s",
                   service->log_path != NULL ? service->log_path : service->options->log,
                   rc == -ELOOP ? "it is a symbolic link" : strerror(-rc));
    if (service->log_path != NULL && service->options->log == NULL) {
        ld_text_puts(why, " (--log FILE puts it elsewhere)");
    }
    if (service->log_place.is_users && (rc == -EACCES || rc == -EPERM)) {
        ld_text_format(why, " (it is opened as %s, who can change the way to it)",
                       service->options->user);
    }
    return 1;
}

/* Open the log by OPENER; 0 or a negative errno. */
static int open_by(struct ld_service *service, ld_log_opener *opener, void *arg) {
    const struct ld_log_config config = {.sink = service->sink,
                                         .level = (enum ld_log_level)service->options->log_level,
                                         .json = service->options->log_format == 1,
                                         .capture = service->daemon,
                                         .fd = service->log_fd,
                                         .path = service->log_path,
                                         .ident = service->name,
                                         .worker = service->worker,
                                         .max_size = service->options->log_max_size,
                                         .opener = opener,
                                         .opener_arg = arg};
    return ld_log_open(&config);
}

/* Open the log. */
int ld_hold_log_take(struct ld_service *service, struct ld_text *why) {
    int rc = open_by(service, service->worker > 0 ? ld_keeper_channel_open_log : ld_hold_log_open,
                     service);
    return rc < 0 ? blame_log(service, rc, why) : 0;
}

/* Open the log that is open already. */
int ld_hold_log_resume(struct ld_service *service, ld_log_opener *opener, void *arg) {
    int rc = open_by(service, opener, arg);
    ld_log_set_opener(ld_hold_log_open, service);
    return rc;
}

/* Remove the log file that a check has made. */
static void remove_log(const struct ld_service *service) {
    const struct ld_place *place = &service->log_place;
    if (place->dir < 0) {
        ld_file_remove(AT_FDCWD, service->log_path);
    } else if (ld_place_enter(place) == 0) {
        ld_file_remove(place->dir, place->name);
        ld_place_leave(place);
    }
}

/* Check that the log can be opened, and remove it if it did not exist before. */
int ld_hold_log_check(struct ld_service *service, struct ld_text *why) {
    if (service->sink != LD_LOG_FILE) {
        return 0;
    }
    bool was_there = access(service->log_path, F_OK) == 0;
    int fd = ld_hold_log_open(service);
    if (fd < 0) {
        return blame_log(service, fd, why);
    }
    close(fd);
    if (!was_there) {
        remove_log(service);
    }
    return 0;
}
