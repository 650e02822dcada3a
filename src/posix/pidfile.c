#include "posix/pidfile.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"
#include "base/parse.h"
#include "posix/paths.h"
#include "posix/process.h"

/* Fill in the file's name. */
static void name_file(char *out, size_t size, const char *name) {
    snprintf(out, size, "%s" LD_PATHS_PIDFILE, name);
}

#define LOCK_AT    0
#define WITNESS_AT 1

/* Find the facts of the file at the path, if it is still the one that FD has open. */
static bool find_current(const struct ld_pidfile *file, struct stat *there) {
    struct stat opened;
    return fstat(file->fd, &opened) == 0 && ld_file_find(file->dir, file->name, there) == 0 &&
           opened.st_dev == there->st_dev && opened.st_ino == there->st_ino;
}

/* Whether the file at the path is still the one that FD has open. */
bool ld_pidfile_is_current(const struct ld_pidfile *file) {
    struct stat there;
    return find_current(file, &there);
}

/* The kind of lock that others have on the byte AT of FD and that would keep one of kind WANTED out:
 * F_WRLCK, F_RDLCK or F_UNLCK; a negative errno. */
static int find_lock(int fd, short wanted, off_t at) {
    struct flock lock = {.l_type = wanted, .l_whence = SEEK_SET, .l_start = at, .l_len = 1};
    return fcntl(fd, F_OFD_GETLK, &lock) < 0 ? -errno : lock.l_type;
}

/* Lock one byte of FD. */
static int lock_byte(int fd, short type, off_t at) {
    struct flock lock = {.l_type = type, .l_whence = SEEK_SET, .l_start = at, .l_len = 1};
    if (fcntl(fd, F_OFD_SETLK, &lock) < 0) {
        return errno == EACCES || errno == EAGAIN ? -EWOULDBLOCK : -errno;
    }
    return 0;
}

/* Push aside a pidfile that another user's process, which may read it, has locked for reading: exchange
 * it for one of ours that is locked already, so that no process ever finds the name free. If it was
 * another file that we took, exchange them back. -ESTALE if that could be tried: try to lock again. */
static int push_aside(const struct ld_pidfile *file) {
    char name[100];
    struct stat old;
    struct stat taken;
    snprintf(name, sizeof name, ".%s.%d", file->name, (int)getpid());
    int fd = openat(file->dir, name, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
    if (fd < 0) {
        return -EWOULDBLOCK;
    }
    int rc = -EWOULDBLOCK;
    if (lock_byte(fd, F_WRLCK, LOCK_AT) == 0 && fstat(file->fd, &old) == 0 &&
        renameat2(file->dir, name, file->dir, file->name, RENAME_EXCHANGE) == 0) {
        rc = -ESTALE;
        if (fstatat(file->dir, name, &taken, AT_SYMLINK_NOFOLLOW) == 0 &&
            taken.st_ino != old.st_ino) {
            renameat2(file->dir, name, file->dir, file->name, RENAME_EXCHANGE);
        }
    }
    ld_file_remove(file->dir, name);
    close(fd);
    return rc;
}

/* Lock the open pidfile, whatever other users' processes have done to it. */
static int lock(const struct ld_pidfile *file) {
    int rc = lock_byte(file->fd, F_WRLCK, LOCK_AT);
    return rc == -EWOULDBLOCK && find_lock(file->fd, F_WRLCK, LOCK_AT) == F_RDLCK ? push_aside(file)
                                                                                  : rc;
}

/* Read the number in a pidfile; 0 for none. */
static pid_t read_pid(int fd) {
    char number[16] = "";
    long pid = 0;
    ssize_t size = pread(fd, number, sizeof number - 1, 0);
    if (size <= 0) {
        return 0;
    }
    number[strcspn(number, "\n")] = '\0';
    return ld_parse_whole(number, 2, 1L << 30, &pid) ? (pid_t)pid : 0;
}

/* Whether a text of /proc/PID/fdinfo says that the descriptor holds our lock, or the witness. */
static bool shows_lock(const char *info, off_t at) {
    const char *type = at == LOCK_AT ? "WRITE" : "READ";
    for (const char *lock = strstr(info, "lock:"); lock != NULL; lock = strstr(lock + 5, "lock:")) {
        char kind[16];
        char mode[16];
        long start;
        if (sscanf(lock, "lock: %*s %15s %*s %15s %*s %*s %ld", kind, mode, &start) == 3 &&
            strcmp(kind, "OFDLCK") == 0 && strcmp(mode, type) == 0 && start == (long)at) {
            return true;
        }
    }
    return false;
}

/* Whether descriptor FD of process PID is the pidfile and holds a lock on its byte AT. */
static bool holds_lock(pid_t pid, const char *fd, const struct stat *pidfile, off_t at) {
    char path[300];
    struct stat facts;
    snprintf(path, sizeof path, "/proc/%d/fd/%s", (int)pid, fd);
    if (stat(path, &facts) < 0 || facts.st_dev != pidfile->st_dev ||
        facts.st_ino != pidfile->st_ino) {
        return false;
    }
    snprintf(path, sizeof path, "/proc/%d/fdinfo/%s", (int)pid, fd);
    struct ld_text info = {0};
    ld_file_load(path, &info);
    bool found = shows_lock(ld_text_string(&info), at);
    ld_text_fini(&info);
    return found;
}

/* Whether root looks at a user's pidfile, and PID is not that user's: it can hold a lock only because
 * the descriptor was handed to it, to have root take it for the daemon. */
static bool is_handed_on(pid_t pid, const struct stat *pidfile) {
    uid_t uid;
    return geteuid() == 0 && pidfile->st_uid != 0 &&
           (ld_process_user(pid, &uid) < 0 || uid != pidfile->st_uid);
}

/* Whether PID holds a lock on byte AT of PIDFILE; 0, -ESRCH or -EACCES. */
static int confirm_holder(pid_t pid, const struct stat *pidfile, off_t at) {
    char path[80];
    if (pid <= 1 || is_handed_on(pid, pidfile)) {
        return -ESRCH;
    }
    snprintf(path, sizeof path, "/proc/%d/fd", (int)pid);
    DIR *fds = opendir(path);
    if (fds == NULL) {
        return errno == EACCES || errno == EPERM ? -EACCES : -ESRCH;
    }
    const struct dirent *item;
    bool found = false;
    while (!found && (item = readdir(fds)) != NULL) {
        found = item->d_name[0] != '.' && holds_lock(pid, item->d_name, pidfile, at);
    }
    closedir(fds);
    return found ? 0 : -ESRCH;
}

/* Open the pidfile, or make it: then *MADE is set. -ESTALE if it was removed between the two. */
static int open_file(const struct ld_pidfile *file, bool *made) {
    const int flags = O_RDWR | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC;
    int fd = openat(file->dir, file->name, flags | O_CREAT | O_EXCL, 0644);
    *made = fd >= 0;
    if (fd < 0 && errno == EEXIST) {
        fd = openat(file->dir, file->name, flags);
        if (fd < 0 && errno == ENOENT) {
            return -ESTALE;
        }
    }
    return fd < 0 ? -errno : fd;
}

/* Lock the open pidfile, and check that it is the current one and that no other process has it. */
static int claim(const struct ld_pidfile *file) {
    struct stat facts;
    if (fstat(file->fd, &facts) < 0 || !S_ISREG(facts.st_mode)) {
        return -EINVAL;
    }
    int rc = lock(file);
    if (rc == 0 && !find_current(file, &facts)) {
        return -ESTALE;
    }
    if (rc == 0 && facts.st_nlink > 1) { /* it could be any file: only this name of it is ours */
        return unlinkat(file->dir, file->name, 0) < 0 ? -errno : -ESTALE;
    }
    if (rc == 0 && confirm_holder(read_pid(file->fd), &facts, WITNESS_AT) == 0) {
        return -EWOULDBLOCK; /* a host whose keeper has died */
    }
    if (rc == 0 && ftruncate(file->fd, 0) < 0) { /* an old number means nothing now */
        rc = -errno;
    }
    return rc;
}

/* Open the pidfile and lock it; -ESTALE if it was removed between the two. */
static int open_and_lock(struct ld_pidfile *file) {
    bool made;
    int rc = open_file(file, &made);
    if (rc < 0) {
        return rc;
    }
    file->fd = rc;
    rc = claim(file);
    if (rc < 0) {
        if (made && rc != -EWOULDBLOCK && ld_pidfile_is_current(file)) {
            ld_file_remove(file->dir, file->name);
        }
        close(file->fd);
        file->fd = -1;
    }
    return rc;
}

/* Make and lock the pidfile. */
int ld_pidfile_acquire(struct ld_pidfile *file, int dir, const char *name) {
    file->dir = dir;
    file->fd = -1;
    name_file(file->name, sizeof file->name, name);
    mode_t mask = umask(022);
    int rc;
    do {
        rc = open_and_lock(file);
    } while (rc == -ESTALE);
    umask(mask);
    return rc;
}

/* Whether two descriptors are of one file. */
static bool is_same_file(int a, int b) {
    struct stat first;
    struct stat second;
    return fstat(a, &first) == 0 && fstat(b, &second) == 0 && first.st_dev == second.st_dev &&
           first.st_ino == second.st_ino;
}

/* Open the file for the witness. */
int ld_pidfile_open_witness(const struct ld_pidfile *file) {
    const int flags = O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC;
    int fd = openat(file->dir, file->name, flags);
    if (fd < 0) {
        return -errno;
    }
    if (!is_same_file(file->fd, fd)) {
        close(fd);
        return -ESTALE;
    }
    return fd;
}

/* Take the witness with FD. */
int ld_pidfile_adopt(struct ld_pidfile *file, int fd) {
    int rc = lock_byte(fd, F_RDLCK, WITNESS_AT);
    if (rc < 0) {
        close(fd);
        return rc;
    }
    close(file->fd);
    file->fd = fd;
    return 0;
}

/* Keep the witness instead of the lock. */
int ld_pidfile_witness(struct ld_pidfile *file) {
    int fd = ld_pidfile_open_witness(file);
    return fd < 0 ? fd : ld_pidfile_adopt(file, fd);
}

/* Show that there is no host, or no longer. */
void ld_pidfile_show_waiting(const struct ld_pidfile *file, bool waits) {
    lock_byte(file->fd, waits ? F_WRLCK : F_UNLCK, WITNESS_AT);
}

/* Write a pid into a held pidfile. */
int ld_pidfile_write(const struct ld_pidfile *file, pid_t pid) {
    char number[16];
    int size = snprintf(number, sizeof number, "%d\n", (int)pid);
    /* One write over the old number first: a reader never sees an empty file. */
    if (pwrite(file->fd, number, (size_t)size, 0) != size) {
        return errno != 0 ? -errno : -EIO;
    }
    return ftruncate(file->fd, size) < 0 ? -errno : 0;
}

/* Remove a held pidfile. */
void ld_pidfile_remove(struct ld_pidfile *file) {
    if (file->fd < 0) {
        return;
    }
    if (ld_pidfile_is_current(file)) {
        ld_file_remove(file->dir, file->name);
    }
    close(file->fd);
    file->fd = -1;
}

/* Read a pidfile. */
int ld_pidfile_inspect(struct ld_holder *holder, int dir, const char *name) {
    char file[80];
    struct stat facts;
    struct stat parent;
    *holder = (struct ld_holder){.state = LD_HOLDER_NONE};
    name_file(file, sizeof file, name);
    int fd = openat(dir, file, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
    if (fd < 0) {
        return errno == ENOENT ? 0 : -errno;
    }
    if (fstat(fd, &facts) < 0 || fstat(dir, &parent) < 0 || !S_ISREG(facts.st_mode)) {
        close(fd);
        return -EINVAL;
    }
    if (facts.st_uid != parent.st_uid) { /* another directory's, under a second name */
        close(fd);
        return -EPERM;
    }
    int rc =
        find_lock(fd, F_RDLCK, LOCK_AT); /* a read lock of another user's process means nothing */
    holder->owner = facts.st_uid;
    holder->pid = read_pid(fd);
    bool is_held =
        rc == F_WRLCK || (rc == F_UNLCK && confirm_holder(holder->pid, &facts, WITNESS_AT) == 0);
    holder->waiting = rc == F_WRLCK && find_lock(fd, F_RDLCK, WITNESS_AT) == F_WRLCK;
    holder->state = is_held ? LD_HOLDER_ALIVE : LD_HOLDER_DEAD;
    close(fd);
    return rc < 0 ? rc : 0;
}

/* Whether the kernel confirms that PID holds the lock. */
int ld_pidfile_confirm(pid_t pid, int dir, const char *name) {
    char path[80];
    struct stat pidfile;
    name_file(path, sizeof path, name);
    if (pid <= 1 || fstatat(dir, path, &pidfile, AT_SYMLINK_NOFOLLOW) < 0) {
        return -ESRCH;
    }
    int rc = confirm_holder(pid, &pidfile, LOCK_AT);
    return rc == -ESRCH ? confirm_holder(pid, &pidfile, WITNESS_AT) : rc;
}

/* Open a pidfd for the holder of the lock. The pidfd comes first: if its process still lives after
 * the confirmation, the number meant the same process all the time. */
int ld_pidfile_open_holder(const struct ld_holder *holder, int dir, const char *name) {
    int pidfd = ld_process_open(holder->pid);
    if (pidfd < 0) {
        return pidfd == -EINVAL ? -ESRCH : pidfd;
    }
    int rc = ld_pidfile_confirm(holder->pid, dir, name);
    if (rc == 0 && ld_process_has_ended(pidfd, 0)) {
        rc = -ESRCH;
    }
    if (rc < 0) {
        close(pidfd);
        return rc;
    }
    return pidfd;
}
