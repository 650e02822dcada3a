#include "daemon/crash_file.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/file.h"
#include "base/log.h"
#include "posix/place.h"

#define ENDING    ".crash"
#define OLDER     4 /* earlier reports that are kept; below 10 */
#define TRIES_MAX 3 /* another process may make the file again meanwhile */

/* What keeper and host share. */
struct ld_crash_page {
    atomic_size_t size;
    char bytes[LD_CRASH_FILE_MAX];
};

/* Find the path of the file. */
int ld_crash_file_find(struct ld_service *service, struct ld_text *why) {
    const char *slash = ld_log_is_file() ? strrchr(service->log_path, '/') : NULL;
    int size = slash != NULL ? (int)(slash - service->log_path) : (int)strlen(service->run_dir);
    const char *dir = slash != NULL ? service->log_path : service->run_dir;
    if (service->sink == LD_LOG_STDERR) {
        return 0;
    }
    if (asprintf(&service->crash_path, "%.*s/%s" ENDING, size, dir, service->name) < 0) {
        service->crash_path = NULL;
        ld_text_puts(why, strerror(ENOMEM));
        return 1;
    }
    return 0;
}

/* Rename reports to make room for a new one. What cannot be renamed is replaced, or in the way. */
static void shift(int dir, const char *path, size_t length) {
    char from[PATH_MAX];
    char to[PATH_MAX];
    memcpy(from, path, length + 1);
    memcpy(to, path, length + 1);
    for (int number = OLDER; number > 0; number--) {
        const char older[] = {'.', (char)('0' + number), '\0'};
        const char newer[] = {'.', (char)('0' + number - 1), '\0'};
        memcpy(to + length, older, sizeof older);
        memcpy(from + length, number > 1 ? newer : "\0\0", sizeof newer);
        renameat(dir, from, dir, to);
    }
}

/* Open a new file; nothing that is there is opened. */
static int make_new(int dir, const char *path) {
    const int flags = O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_NOCTTY | O_CLOEXEC | O_APPEND;
    int fd = openat(dir, path, flags, 0640);
    return fd < 0 ? -errno : fd;
}

/* Make the file. */
int ld_crash_file_make(int dir, const char *path) {
    size_t length = strlen(path);
    int rc = length + 3 <= PATH_MAX ? -EEXIST : -ENAMETOOLONG;
    for (int tries = 0; rc == -EEXIST && tries < TRIES_MAX; tries++) {
        shift(dir, path, length);
        rc = make_new(dir, path);
    }
    return rc;
}

/* Make the memory, whose size no process can change: the other process would be killed as it reads. */
static int make_memory(void) {
    int fd = memfd_create("lunad-crash", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    if (fd >= 0 && (ftruncate(fd, sizeof(struct ld_crash_page)) < 0 ||
                    fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) < 0)) {
        close(fd);
        fd = -1;
    }
    return fd;
}

/* Map the memory. */
void ld_crash_file_adopt(struct ld_service *service) {
    void *page = service->crash_fd >= 0
                     ? mmap(NULL, sizeof *service->crash_page, PROT_READ | PROT_WRITE, MAP_SHARED,
                            service->crash_fd, 0)
                     : MAP_FAILED;
    service->crash_page = page != MAP_FAILED ? page : NULL;
}

/* Share memory with the host. */
void ld_crash_file_share(struct ld_service *service) {
    if (service->crash_page == NULL) {
        service->crash_fd = make_memory();
        ld_crash_file_adopt(service);
    }
    if (service->crash_page != NULL) {
        atomic_store(&service->crash_page->size, 0);
    }
}

/* Leave a part of the report. */
void ld_crash_file_leave(struct ld_service *service, const char *bytes, size_t size) {
    struct ld_crash_page *page = service->crash_page;
    size_t used = page != NULL ? atomic_load(&page->size) : LD_CRASH_FILE_MAX;
    size_t room = used < LD_CRASH_FILE_MAX ? LD_CRASH_FILE_MAX - used : 0;
    if (room > 0) {
        size = size < room ? size : room;
        memcpy(page->bytes + used, bytes, size);
        atomic_store(&page->size, used + size);
    }
}

/* Copy what the host left, escaped line by line, and say how it ended. It is copied first, because
 * processes of the host that share the memory may still write there. */
static void copy_report(struct ld_text *text, struct ld_crash_page *page, const char *how) {
    struct ld_text raw = {0};
    size_t size = atomic_load(&page->size);
    ld_text_add(&raw, page->bytes, size < LD_CRASH_FILE_MAX ? size : LD_CRASH_FILE_MAX);
    const char *line = ld_text_string(&raw);
    const char *end = line + raw.size;
    while (line < end) {
        const char *newline = memchr(line, '\n', (size_t)(end - line));
        size_t length = (size_t)((newline != NULL ? newline : end) - line);
        ld_text_add_escaped(text, line, length, false);
        ld_text_putc(text, '\n');
        line += length + 1;
    }
    ld_text_format(text, "\nThe keeper saw it %s.\n", how);
    ld_text_fini(&raw);
}

/* Write the file, in the directory where the host's user may have rights of its own. */
static int write_file(const struct ld_service *service, const struct ld_text *text) {
    struct ld_place place;
    int rc = ld_place_open(&place, service->crash_path, ld_service_lesser(service), true);
    if (rc < 0) {
        return rc;
    }
    rc = ld_place_enter(&place);
    int fd = rc == 0 ? ld_crash_file_make(place.dir, place.name) : rc;
    if (rc == 0) {
        ld_place_leave(&place);
    }
    ld_place_close(&place);
    if (fd < 0) {
        return fd;
    }
    if (service->has_user && fchown(fd, (uid_t)-1, service->user.gid) < 0) {
        /* Only the starter can read it. */
    }
    rc = ld_file_write(fd, text->data, text->size);
    close(fd);
    return rc;
}

/* Write the file from what the host left. */
const char *ld_crash_file_take(struct ld_service *service, const char *how) {
    struct ld_text text = {0};
    const char *path = service->crash_path;
    if (service->crash_page == NULL || atomic_load(&service->crash_page->size) == 0) {
        return NULL;
    }
    copy_report(&text, service->crash_page, how);
    int rc = text.failed ? -ENOMEM : path != NULL ? write_file(service, &text) : 0;
    if (path == NULL) {
        ld_log_with(LD_LOG_ERROR, &text, "crash report of %s:\n", service->name);
    } else if (rc < 0) {
        ld_log_with(LD_LOG_ERROR, &text, "the crash report cannot be written to %s (%s):\n", path,
                    strerror(-rc));
    }
    ld_text_fini(&text);
    return rc == 0 ? path : NULL;
}
