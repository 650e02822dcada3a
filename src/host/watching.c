/* --watch: the service reloads when the script, or a file that it has loaded, changes on disk.
 *
 * What was loaded is in the memory of the generation, and in that of the last reload, if it was refused: the
 * next save of a file that is at fault is to be seen. An event says only that something may have changed. When
 * there was none for a moment, the files are compared with what was read, and so neither a touch nor a file that is
 * saved again as it was reloads anything. A file that is gone is not a change: it is when it is there again. */
#include <errno.h>
#include <fcntl.h>
#include <search.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"
#include "base/grow.h"
#include "base/log.h"
#include "base/text.h"
#include "base/time.h"
#include "host/internal.h"
#include "host/workers.h"
#include "posix/reserve.h"

#define QUIET_MS 100 /* after the last change, until the files are compared */
#define FRESH_S  1   /* what was written so recently may be written again without a new time */

/* What a file has: equal if its text is. */
struct print {
    bool is_there;
    uint64_t size;
    uint64_t hash;
};

struct ld_watching_file {
    char *path;
    struct print print; /* as it was loaded, or compared last */
    struct stat facts;  /* when it was read for that; st_ino is 0 if they say nothing */
    bool is_loaded;     /* else it was missing */
    bool is_library;    /* a C module */
    bool is_service;    /* the service has loaded it, and not only what was refused */
};

/* Order files by their paths. */
static int compare_paths(const void *one, const void *other) {
    return strcmp(((const struct ld_watching_file *)one)->path,
                  ((const struct ld_watching_file *)other)->path);
}

/* Whether the facts prove that a file is still what was read. */
static bool is_as_before(const struct stat *before, const struct stat *now) {
    return before->st_ino != 0 && before->st_ino == now->st_ino && before->st_dev == now->st_dev &&
           before->st_size == now->st_size && before->st_mtim.tv_sec == now->st_mtim.tv_sec &&
           before->st_mtim.tv_nsec == now->st_mtim.tv_nsec &&
           before->st_ctim.tv_sec == now->st_ctim.tv_sec &&
           before->st_ctim.tv_nsec == now->st_ctim.tv_nsec;
}

/* Find out what an open file has, with its facts in FACTS; 0 or a negative errno. A very large one goes by its time. */
static int read_print(int fd, const struct stat *facts, struct print *print) {
    struct ld_text text = {0};
    int rc = 0;
    if (facts->st_size > LD_MEMORY_BYTES) {
        *print = (struct print){true, (uint64_t)facts->st_size, (uint64_t)facts->st_mtim.tv_sec};
    } else if ((rc = ld_file_read(fd, &text)) == 0) {
        *print = (struct print){true, text.size, ld_text_hash(ld_text_string(&text), text.size)};
    }
    ld_text_fini(&text);
    return rc;
}

/* Find out what a file has now: the same as before, if it cannot be known. */
static struct print look_at_file(struct ld_watching_file *file) {
    struct stat facts;
    struct print print = {.is_there = false};
    int fd = open(file->path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    if (fd < 0) {
        return errno == ENOENT || errno == ENOTDIR || errno == EACCES ? print : file->print;
    }
    if (fstat(fd, &facts) < 0 || !S_ISREG(facts.st_mode) || is_as_before(&file->facts, &facts) ||
        read_print(fd, &facts, &print) < 0) {
        print = file->print;
    } else {
        bool is_fresh = facts.st_ctim.tv_sec + FRESH_S >= ld_time_real() / LD_TIME_SECOND;
        file->facts = facts;
        file->facts.st_ino = is_fresh ? 0 : facts.st_ino;
    }
    close(fd);
    return print;
}

/* Free a file. */
static void free_file(struct ld_watching_file *file) {
    free(file->path);
    free(file);
}

/* Leave the tree's values alone. */
static void leave(void *value) {
    (void)value;
}

/* Add a file; NULL if memory ran out. */
static struct ld_watching_file *add_file(struct ld_watching *watch, const char *path) {
    struct ld_watching_file **files = ld_grow(watch->files, watch->count, sizeof(void *));
    watch->files = files != NULL ? files : watch->files;
    struct ld_watching_file *file = files != NULL ? calloc(1, sizeof *file) : NULL;
    if (file == NULL || (file->path = strdup(path)) == NULL ||
        tsearch(file, &watch->by_path, compare_paths) == NULL) {
        if (file != NULL) {
            free_file(file);
        }
        return NULL;
    }
    files[watch->count++] = file;
    return file;
}

/* Find a file, or add it; NULL if memory ran out. */
static struct ld_watching_file *find_file(struct ld_watching *watch, char *path) {
    const struct ld_watching_file key = {.path = path};
    struct ld_watching_file *const *found = tfind(&key, &watch->by_path, compare_paths);
    return found != NULL ? *found : add_file(watch, path);
}

/* Watch a file of a memory, that of the service or of code that was refused; false if memory ran out. A service from
 * memory says nothing about the disk. */
static bool take_file(struct ld_watching *watch, const struct ld_memory_file *noted,
                      bool is_service) {
    struct ld_watching_file *file = find_file(watch, noted->absolute);
    if (file == NULL) {
        return false;
    }
    file->is_service |= is_service;
    if (noted->kind == LD_MEMORY_MISSING) {
        return true;
    }
    watch->loaded += !file->is_loaded;
    file->is_loaded = true;
    if (noted->kind == LD_MEMORY_TEXT && !(is_service && watch->is_from_memory)) {
        file->print = (struct print){true, noted->text->size, noted->text->hash};
    } else {
        file->is_library = noted->kind == LD_MEMORY_PATH && noted->module != NULL;
        file->facts.st_ino = 0;
        file->print = look_at_file(file);
    }
    file->facts.st_ino = 0;
    return true;
}

/* Watch the files of a memory from the one at FROM on; false if memory ran out. */
static bool take(struct ld_watching *watch, const struct ld_memory *memory, size_t from,
                 bool is_service) {
    bool ok = true;
    for (size_t i = from; ok && i < ld_memory_count(memory); i++) {
        ok = take_file(watch, ld_memory_at(memory, i), is_service);
    }
    return ok;
}

/* Forget the files; with REFUSED, only those that the service has not loaded. */
static void forget(struct ld_watching *watch, bool refused) {
    size_t kept = 0;
    tdestroy(watch->by_path, leave);
    watch->by_path = NULL;
    watch->loaded = 0;
    for (size_t i = 0; i < watch->count; i++) {
        struct ld_watching_file *file = watch->files[i];
        if (refused && file->is_service && tsearch(file, &watch->by_path, compare_paths) != NULL) {
            watch->files[kept++] = file;
            watch->loaded += file->is_loaded;
        } else {
            free_file(file);
        }
    }
    watch->count = kept;
}

/* Note that something may have changed. */
static void on_change(void *arg) {
    struct ld_host *host = arg;
    host->watch.look_at = uv_now(&host->loop) + QUIET_MS;
    ld_alarm_wake_at(host, host->watch.look_at);
}

/* Log once why not everything is watched; 0: everything is. */
static void tell_error(struct ld_watching *watch, int code, const char *where) {
    if (code != watch->error && code < 0) {
        const char *limit = code == -ENOSPC ? ": raise the sysctl fs.inotify.max_user_watches"
                            : code == -EMFILE
                                ? ": raise the sysctl fs.inotify.max_user_instances, or nofile"
                                : "";
        ld_log(LD_LOG_WARN, "--watch: not every change is noticed: inotify: %s%s%s%s",
               code == -ENOSPC ? "too many watches" : strerror(-code),
               where[0] != '\0' ? " at " : "", where, limit);
    }
    watch->error = code;
}

/* Watch the files from the one at FROM on; 0: these, and no others. */
static void watch_from(struct ld_host *host, size_t from) {
    struct ld_watching *watch = &host->watch;
    const char *where = "";
    int rc =
        watch->paths != NULL ? 0 : ld_path_watch_open(&watch->paths, &host->loop, on_change, host);
    if (rc == 0 && from == 0) {
        ld_path_watch_clear(watch->paths);
    }
    for (size_t i = from; i < watch->count && rc == 0; i++) {
        rc = ld_path_watch_add(watch->paths, watch->files[i]->path);
    }
    rc = rc == 0 ? ld_path_watch_update(watch->paths, &where) : rc;
    tell_error(watch, rc, where);
    on_change(host); /* a file may have changed since it was read */
}

/* Bring what is watched up to date: all of it after a reload, or what the service has loaded since then. */
static void refresh(struct ld_host *host) {
    struct ld_watching *watch = &host->watch;
    const struct ld_reload *reload = &host->reload;
    const struct ld_memory *memory = host->script->memory;
    uint64_t ends = reload->ends + 1;
    size_t from = watch->count;
    bool is_new = ends != watch->ends;
    watch->is_from_memory = host->script->recall != NULL;
    if (is_new) {
        bool goes_on = reload->refused != NULL && !watch->is_from_memory;
        from = 0;
        forget(watch, goes_on);
        watch->taken = goes_on ? watch->taken : 0;
        watch->ends = ends;
    }
    bool ok = take(watch, memory, watch->taken, true);
    watch->taken = ld_memory_count(memory);
    if (is_new && reload->refused != NULL) {
        ok = take(watch, reload->refused, 0, false) && ok;
    }
    watch_from(host, from);
    if (!ok) {
        tell_error(watch, -ENOMEM, "");
    }
}

/* Find the files that have changed, but not by the script itself, and note what all have now: the path of the first goes to TEXT, and what has
 * happened to it; their count is returned. */
static size_t compare(struct ld_watching *watch, const struct ld_written *written,
                      struct ld_text *text) {
    size_t count = 0;
    for (size_t i = 0; i < watch->count; i++) {
        struct ld_watching_file *file = watch->files[i];
        struct print print = look_at_file(file);
        bool is_same = print.is_there == file->print.is_there && print.size == file->print.size &&
                       print.hash == file->print.hash;
        if (is_same || !print.is_there) {
            continue;
        }
        if (ld_written_has(written, file->path)) {
            file->print = print;
            continue;
        }
        if (count++ == 0) {
            ld_text_format(text, "%s has %s", file->path,
                           file->print.is_there ? "changed" : "appeared");
        }
        file->print = print;
        if (file->is_library && file->is_service) {
            ld_log(LD_LOG_WARN,
                   "%s has changed: a process keeps a C module as it was first loaded: restart it",
                   file->path);
        }
    }
    return count;
}

/* Ask for a reload if a file has changed. */
static void look(struct ld_host *host) {
    struct ld_text text = {0};
    host->watch.look_at = 0;
    ld_reserve_lend();
    size_t count = compare(&host->watch, host->written, &text);
    ld_reserve_take_back();
    ld_written_clear(host->written);
    if (count > 1) {
        ld_text_format(&text, ", and %zu more", count - 1);
    }
    if (count > 0) {
        ld_log_with(LD_LOG_INFO, &text, "reloading: ");
        if (!ld_worker_ask_reload(host, true)) { /* which reloads all of them */
            ld_reload_ask(host, NULL);
        }
    }
    ld_text_fini(&text);
}

/* Look whether it is time. What changes during a reload is looked at after it. */
void ld_watching_step(struct ld_host *host) {
    struct ld_watching *watch = &host->watch;
    if (!host->service->options->watch || host->state != LD_HOST_RUNNING ||
        host->reload.phase != LD_RELOAD_NONE || ld_reload_is_asked(host)) {
        return;
    }
    if (watch->ends != host->reload.ends + 1 ||
        watch->taken != ld_memory_count(host->script->memory)) {
        refresh(host);
    }
    if (watch->look_at != 0 && uv_now(&host->loop) >= watch->look_at) {
        look(host);
    } else if (watch->look_at != 0) {
        ld_alarm_wake_at(host, watch->look_at);
    }
}

/* Stop watching. */
void ld_watching_close(struct ld_host *host) {
    struct ld_watching *watch = &host->watch;
    forget(watch, false);
    free(watch->files);
    watch->files = NULL;
    if (watch->paths != NULL) {
        ld_path_watch_close(watch->paths);
        watch->paths = NULL;
    }
}
