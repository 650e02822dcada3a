/* Whether the code that runs is what a start would load: its files are compared with those on disk. A status report
 * asks this, and must not take long however many there are: a file whose facts are those of the last look is not
 * read, and only some are looked at each time, those first that differed before. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"
#include "base/time.h"
#include "host/internal.h"

#define FILES_MOST 500 /* in one report */
#define FRESH_S    1   /* what was written so recently may be written again without a new time */

/* Forget what was seen. */
void ld_disk_close(struct ld_host *host) {
    free(host->disk.seen);
    ld_memory_drop(host->disk.memory);
    memset(&host->disk, 0, sizeof host->disk);
}

/* Whether the facts prove that a file is still what was looked at. */
static bool is_as_seen(const struct ld_disk_seen *seen, const struct stat *facts) {
    return seen->inode == facts->st_ino && seen->inode != 0 && seen->size == facts->st_size &&
           seen->modified.tv_sec == facts->st_mtim.tv_sec &&
           seen->modified.tv_nsec == facts->st_mtim.tv_nsec &&
           seen->changed.tv_sec == facts->st_ctim.tv_sec &&
           seen->changed.tv_nsec == facts->st_ctim.tv_nsec;
}

/* Whether an open file has another text than the one that is remembered; one that cannot be read does not count. */
static bool has_other_text(int fd, const struct ld_texts_item *text) {
    struct ld_text now = {0};
    bool is_other =
        ld_file_read(fd, &now) == 0 &&
        (now.size != text->size || memcmp(ld_text_string(&now), text->data, text->size) != 0);
    ld_text_fini(&now);
    return is_other;
}

/* Whether a file differs from what is remembered of it. */
static bool differs(const struct ld_memory_file *file, struct ld_disk_seen *seen) {
    struct stat facts;
    int fd = open(file->absolute, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    if (fd < 0) {
        return errno == ENOENT || errno == ENOTDIR || errno == EACCES || errno == ELOOP;
    }
    if (fstat(fd, &facts) == 0 && !is_as_seen(seen, &facts)) {
        bool is_fresh = facts.st_ctim.tv_sec + FRESH_S >= ld_time_real() / LD_TIME_SECOND;
        seen->differs = !S_ISREG(facts.st_mode) || facts.st_size != (off_t)file->text->size ||
                        has_other_text(fd, file->text);
        seen->inode = is_fresh ? 0 : facts.st_ino;
        seen->size = facts.st_size;
        seen->modified = facts.st_mtim;
        seen->changed = facts.st_ctim;
    }
    close(fd);
    return seen->differs;
}

/* Have room for what is seen of each file of the memory; false if there is none. */
static bool prepare(struct ld_host *host, struct ld_memory *memory) {
    struct ld_disk *disk = &host->disk;
    size_t count = ld_memory_count(memory);
    if (disk->memory != memory) {
        ld_disk_close(host);
        disk->memory = ld_memory_hold(memory);
    }
    if (count > disk->count) {
        struct ld_disk_seen *seen = realloc(disk->seen, count * sizeof *seen);
        if (seen == NULL) {
            return false;
        }
        memset(seen + disk->count, 0, (count - disk->count) * sizeof *seen);
        disk->seen = seen;
        disk->count = count;
    }
    return count > 0;
}

/* Look at the file at INDEX; its path if it differs, else NULL. */
static const char *look(struct ld_disk *disk, size_t index) {
    const struct ld_memory_file *file = ld_memory_at(disk->memory, index);
    bool is_other = file->kind == LD_MEMORY_TEXT && differs(file, &disk->seen[index]);
    return is_other ? file->absolute : NULL;
}

/* Whether the disk has code that was undone. */
bool ld_disk_is_undone(const struct ld_host *host) {
    return host->code != 0 || (host->script->recall != NULL && !host->upgrade.is_back) ||
           (host->service->is_master && host->master.inherited >= 0);
}

/* Find a file that differs. */
const char *ld_disk_differs(struct ld_host *host) {
    struct ld_disk *disk = &host->disk;
    if (!prepare(host, host->script->memory)) {
        return NULL;
    }
    const char *path = look(disk, disk->found);
    for (size_t i = 0; path == NULL && i < disk->count && i < FILES_MOST; i++) {
        disk->next = (disk->next + 1) % disk->count;
        path = look(disk, disk->next);
        disk->found = path != NULL ? disk->next : disk->found;
    }
    return path;
}
