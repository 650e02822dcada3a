#include "daemon/state_file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/base.h"
#include "base/file.h"
#include "base/parse.h"
#include "base/time.h"

#define HEADER_MOST 256  /* bytes of the first line */
#define ASIDE_MOST  1000 /* damaged files that are kept */
#define SUM_START   0xCBF29CE484222325U
#define SUM_FACTOR  0x100000001B3U

static const char mark[] = "lunad-state ";

/* What the first line says. */
struct header {
    unsigned format;
    char name[LD_NAME_MAX + 1];
    unsigned long long time; /* Unix time in milliseconds */
    unsigned long long sizes[LD_STATE_PARTS];
    unsigned long long sum;
    size_t length; /* of the line; 0: it is damaged */
};

#define FORMAT 1

/* Explain what could not be done to PATH. */
static int fail(int code, const char *path, const char *what, struct ld_text *why) {
    ld_text_format(why, "%s: %s: %s", path, what, strerror(-code));
    return code;
}

/* Explain why the file PATH is not taken. */
static int refuse(int code, const char *path, const char *reason, struct ld_text *why) {
    ld_text_format(why, "%s: %s", path, reason);
    return code;
}

/* Continue a sum over bytes (FNV-1a): it tells a file that is torn, not one that was forged. */
static uint64_t add_to_sum(uint64_t sum, const char *bytes, size_t size) {
    for (size_t i = 0; i < size; i++) {
        sum = (sum ^ (unsigned char)bytes[i]) * SUM_FACTOR;
    }
    return sum;
}

/* Write the first line; its length, which depends on the name alone. */
static size_t write_header(const struct header *header, char line[HEADER_MOST]) {
    int size = snprintf(line, HEADER_MOST, "%s%u %s %013llu %016llx %016llx %016llx %016llx\n",
                        mark, header->format, header->name, header->time, header->sizes[0],
                        header->sizes[1], header->sizes[2], header->sum);
    LD_ASSERT(size > 0 && size < HEADER_MOST);
    return (size_t)size;
}

/* Read the first line from the beginning of a file, SIZE bytes of it. No other line is taken than the one that would be
 * written. */
static void read_header(struct header *header, const char *bytes, size_t size) {
    char text[HEADER_MOST] = "";
    char again[HEADER_MOST];
    memcpy(text, bytes, size < sizeof text ? size : sizeof text - 1);
    header->length = 0;
    if (sscanf(text, "lunad-state %u %64s %llu %llx %llx %llx %llx", &header->format, header->name,
               &header->time, &header->sizes[0], &header->sizes[1], &header->sizes[2],
               &header->sum) == 7) {
        size_t length = write_header(header, again);
        bool is_same = strncmp(text, again, length) == 0 && ld_parse_is_name(header->name);
        header->length = is_same ? length : 0;
    }
}

/* Check what a file is before anything of it is read: not a pipe that waits, not what another user has made for us,
 * or may change. */
static int check_facts(int fd, const char *path, struct stat *facts, struct ld_text *why) {
    if (fstat(fd, facts) < 0) {
        return fail(-errno, path, "it cannot be examined", why);
    }
    if (!S_ISREG(facts->st_mode)) {
        return refuse(-EPERM, path, "it is not a regular file", why);
    }
    if (facts->st_uid != geteuid() && facts->st_uid != 0) {
        ld_text_format(why, "%s: it belongs to another user (uid %u)", path, facts->st_uid);
        return -EPERM;
    }
    return (facts->st_mode & (S_IWGRP | S_IWOTH)) != 0
               ? refuse(-EPERM, path, "others may write it (chmod 600)", why)
               : 0;
}

/* Open a state file to read it. A descriptor or a negative errno. */
static int open_file(int dir, const char *name) {
    int fd = openat(dir, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
    return fd < 0 ? -errno : fd;
}

/* Check that the text of a file begins as one of SERVICE does; its first line. */
static int check_owner(const struct ld_text *text, const char *path, const char *service,
                       struct header *header, struct ld_text *why) {
    size_t size = sizeof mark - 1;
    if (text->size == 0) {
        return refuse(-EBADMSG, path, "it is damaged: it is empty", why);
    }
    if (text->size < size && memcmp(text->data, mark, text->size) == 0) {
        return refuse(-EBADMSG, path, "it is damaged: it is cut off", why);
    }
    if (text->size < size || memcmp(text->data, mark, size) != 0) {
        return refuse(-EPERM, path, "it is not a state file of lunad: it is left as it is", why);
    }
    read_header(header, text->data, text->size);
    bool is_later = header->format > FORMAT; /* then the rest of the line may be another one */
    if (is_later || (header->length > 0 && header->format != FORMAT)) {
        ld_text_format(why, "%s: it has format %u, and this lunad reads format %d", path,
                       header->format, FORMAT);
        return -EPERM;
    }
    if (header->length > 0 && strcmp(header->name, service) != 0) {
        ld_text_format(why,
                       "%s: it is the state of \"%s\", not of \"%s\": give another file (or, to "
                       "take it over, change the name in its first line)",
                       path, header->name, service);
        return -EPERM;
    }
    return 0;
}

/* Find the parts in the text of a file. */
static int find_parts(struct ld_state_file *file, const char *path, const struct header *header,
                      struct ld_text *why) {
    uint64_t left = file->text.size - header->length;
    char *at = file->text.data + header->length;
    for (int i = 0; i < LD_STATE_PARTS; i++) {
        if (header->length == 0 || header->sizes[i] > left) {
            return refuse(-EBADMSG, path, "it is damaged: it is cut off", why);
        }
        file->parts[i] = (struct ld_text){.data = at, .size = (size_t)header->sizes[i]};
        at += header->sizes[i];
        left -= header->sizes[i];
    }
    uint64_t sum =
        add_to_sum(SUM_START, file->text.data + header->length, file->text.size - header->length);
    if (left > 0 || sum != header->sum) {
        return refuse(-EBADMSG, path, "it is damaged: its bytes are not those that were written",
                      why);
    }
    file->time = (double)header->time / 1e3;
    return 0;
}

/* Read the file that is open as FD. */
static int read_file(struct ld_state_file *file, int fd, const char *path, const char *service,
                     struct ld_text *why) {
    struct stat facts;
    struct header header = {0};
    int rc = check_facts(fd, path, &facts, why);
    if (rc < 0) {
        return rc;
    }
    rc = ld_file_read(fd, &file->text);
    if (rc < 0) {
        return fail(rc, path, "it cannot be read", why);
    }
    rc = check_owner(&file->text, path, service, &header, why);
    return rc == 0 ? find_parts(file, path, &header, why) : rc;
}

/* Read a state file. */
int ld_state_file_read(struct ld_state_file *file, const char *path, const char *service,
                       struct ld_text *why) {
    *file = (struct ld_state_file){0};
    int fd = open_file(AT_FDCWD, path);
    if (fd == -ENOENT) {
        return fd;
    }
    if (fd < 0) {
        return fd == -ELOOP ? refuse(-EPERM, path, "it is a symbolic link", why)
                            : fail(fd, path, "it cannot be opened", why);
    }
    int rc = read_file(file, fd, path, service, why);
    close(fd);
    return rc;
}

/* Free it. */
void ld_state_file_fini(struct ld_state_file *file) {
    ld_text_fini(&file->text);
    *file = (struct ld_state_file){0};
}

/* Rename a damaged file, to the first name that is free. */
int ld_state_file_put_aside(const char *path, struct ld_text *kept) {
    int rc = -EEXIST;
    for (int i = 1; i <= ASIDE_MOST && rc == -EEXIST; i++) {
        ld_text_clear(kept);
        ld_text_format(kept, "%s.damaged.%d", path, i);
        rc = kept->failed                                                             ? -ENOMEM
             : renameat2(AT_FDCWD, path, AT_FDCWD, kept->data, RENAME_NOREPLACE) == 0 ? 0
                                                                                      : -errno;
    }
    return rc;
}

/* Open the folder of PATH, and note the names there. */
static int open_dir(struct ld_state_draft *draft, const char *path, struct ld_text *why) {
    struct ld_text folder = {0};
    const char *slash = strrchr(path, '/');
    const char *name = slash != NULL ? slash + 1 : path;
    if (slash == NULL || strlen(name) == 0 || strlen(name) >= sizeof draft->name) {
        return refuse(-EINVAL, path, "it cannot be the name of a file", why);
    }
    int rc = ld_file_make_parents(path, 0700);
    if (rc < 0) {
        return fail(rc, path, "its folder cannot be made", why);
    }
    snprintf(draft->name, sizeof draft->name, "%s", name);
    snprintf(draft->draft, sizeof draft->draft, "%s" LD_STATE_DRAFT, name);
    ld_text_add(&folder, path, (size_t)(slash - path) + 1);
    draft->dir = folder.failed ? -1 : open(folder.data, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    rc = folder.failed ? -ENOMEM : draft->dir < 0 ? -errno : 0;
    ld_text_fini(&folder);
    return rc < 0 ? fail(rc, path, "its folder cannot be opened", why) : 0;
}

/* Make the first line as far as it is known. */
static size_t make_header(const struct ld_state_draft *draft, char line[HEADER_MOST]) {
    struct header header = {.format = FORMAT,
                            .time = (unsigned long long)(ld_time_real() / 1000000),
                            .sum = draft->sum};
    snprintf(header.name, sizeof header.name, "%s", draft->service);
    for (int i = 0; i < LD_STATE_PARTS; i++) {
        header.sizes[i] = draft->sizes[i];
    }
    return write_header(&header, line);
}

/* Remove the draft of a process that died while it wrote. What has its name and is none is left alone. */
static int remove_left(const struct ld_state_draft *draft, struct ld_text *why) {
    char bytes[sizeof mark - 1];
    struct stat facts;
    int fd = open_file(draft->dir, draft->draft);
    if (fd == -ENOENT) {
        return 0;
    }
    bool is_file = fd >= 0 && fstat(fd, &facts) == 0 && S_ISREG(facts.st_mode);
    ssize_t size = is_file ? read(fd, bytes, sizeof bytes) : -1;
    if (fd >= 0) {
        close(fd);
    }
    if (size < 0 || memcmp(bytes, mark, (size_t)size) != 0) {
        ld_text_format(why, "%s: %s is in the way, and no draft of a state file", draft->path,
                       draft->draft);
        return -EEXIST;
    }
    ld_file_remove(draft->dir, draft->draft);
    return 0;
}

/* Begin to write. */
int ld_state_draft_open(struct ld_state_draft *draft, const char *path, const char *service,
                        struct ld_text *why) {
    char line[HEADER_MOST];
    *draft = (struct ld_state_draft){
        .dir = -1, .fd = -1, .service = service, .path = path, .sum = SUM_START};
    int rc = open_dir(draft, path, why);
    if (rc < 0) {
        return rc;
    }
    rc = remove_left(draft, why);
    if (rc < 0) {
        return rc;
    }
    draft->fd = openat(draft->dir, draft->draft,
                       O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
    if (draft->fd < 0 || fchmod(draft->fd, 0600) < 0) {
        return fail(-errno, path, "a new file cannot be made beside it", why);
    }
    rc = ld_file_write(draft->fd, line, make_header(draft, line));
    return rc < 0 ? fail(rc, path, "it cannot be written", why) : 0;
}

/* Add bytes to a part. */
int ld_state_draft_add(struct ld_state_draft *draft, enum ld_state_part part,
                       const struct ld_text *bytes, struct ld_text *why) {
    draft->sizes[part] += bytes->size;
    draft->sum = add_to_sum(draft->sum, ld_text_string(bytes), bytes->size);
    int rc = ld_file_write(draft->fd, ld_text_string(bytes), bytes->size);
    return rc < 0 ? fail(rc, draft->path, "it cannot be written", why) : 0;
}

/* Keep a damaged file that has the name. */
static int put_aside(const struct ld_state_draft *draft, struct ld_text *why) {
    struct ld_text kept = {0};
    int rc = ld_state_file_put_aside(draft->path, &kept);
    ld_text_fini(&kept);
    return rc < 0 ? fail(rc, draft->path, "it is damaged, and cannot be put aside", why) : 0;
}

/* Read the first line of what has the name now, if it is ours, and the size of the whole. */
static int look(const struct ld_state_draft *draft, int fd, struct header *header, uint64_t *size,
                struct ld_text *why) {
    struct stat facts = {0};
    char bytes[HEADER_MOST];
    int rc = check_facts(fd, draft->path, &facts, why);
    if (rc < 0) {
        return rc;
    }
    *size = (uint64_t)facts.st_size;
    ssize_t count = read(fd, bytes, sizeof bytes);
    if (count < 0) {
        return fail(-errno, draft->path, "it cannot be read, and is not replaced", why);
    }
    const struct ld_text text = {.data = bytes, .size = (size_t)count};
    return check_owner(&text, draft->path, draft->service, header, why);
}

/* Compare what has the name now: 1 if it has the same parts, 0 if it may be replaced. What is not ours never is. */
static int compare(const struct ld_state_draft *draft, struct ld_text *why) {
    struct header header = {0};
    uint64_t size = 0;
    int fd = open_file(draft->dir, draft->name);
    if (fd == -ENOENT) {
        return 0;
    }
    if (fd < 0) {
        return fail(fd, draft->path, "it cannot be opened, and is not replaced", why);
    }
    int rc = look(draft, fd, &header, &size, why);
    close(fd);
    if (rc == -EBADMSG || (rc == 0 && header.length == 0)) { /* damaged since it was read */
        return put_aside(draft, why);
    }
    if (rc < 0) {
        return rc;
    }
    uint64_t total = header.length;
    bool is_same = header.sum == draft->sum;
    for (int i = 0; i < LD_STATE_PARTS; i++) {
        total += draft->sizes[i];
        is_same = is_same && header.sizes[i] == draft->sizes[i];
    }
    return is_same && size == total;
}

/* Whether the draft still has its name: another process that writes the same file has its own there. */
static bool is_current(const struct ld_state_draft *draft) {
    struct stat ours;
    struct stat there;
    return fstat(draft->fd, &ours) == 0 &&
           fstatat(draft->dir, draft->draft, &there, AT_SYMLINK_NOFOLLOW) == 0 &&
           ours.st_dev == there.st_dev && ours.st_ino == there.st_ino;
}

/* Bring the draft to the disk, and give it its name. */
static int replace(struct ld_state_draft *draft, struct ld_text *why) {
    char line[HEADER_MOST];
    size_t length = make_header(draft, line);
    ssize_t written = pwrite(draft->fd, line, length, 0);
    if (written != (ssize_t)length) {
        return fail(written < 0 ? -errno : -EIO, draft->path, "it cannot be written", why);
    }
    if (fsync(draft->fd) < 0) {
        return fail(-errno, draft->path, "it cannot be brought to the disk", why);
    }
    if (!is_current(draft)) {
        return refuse(-ESTALE, draft->path, "another process has begun to write it", why);
    }
    if (renameat(draft->dir, draft->draft, draft->dir, draft->name) < 0) {
        return fail(-errno, draft->path, "the new file cannot be renamed", why);
    }
    close(draft->fd);
    draft->fd = -1;
    if (fsync(draft->dir) < 0 && errno != EINVAL) { /* of file systems that have no such thing */
        return fail(-errno, draft->path, "its folder cannot be brought to the disk", why);
    }
    return 1;
}

/* Finish. */
int ld_state_draft_finish(struct ld_state_draft *draft, uint64_t *size, struct ld_text *why) {
    char line[HEADER_MOST];
    int rc = compare(draft, why);
    *size = make_header(draft, line);
    for (int i = 0; i < LD_STATE_PARTS; i++) {
        *size += draft->sizes[i];
    }
    return rc < 0 ? rc : rc > 0 ? 0 : replace(draft, why);
}

/* Remove what has not got its name. */
void ld_state_draft_fini(struct ld_state_draft *draft) {
    if (draft->fd >= 0) {
        if (is_current(draft)) {
            ld_file_remove(draft->dir, draft->draft);
        }
        close(draft->fd);
    }
    if (draft->dir >= 0) {
        close(draft->dir);
    }
    draft->fd = draft->dir = -1;
}
