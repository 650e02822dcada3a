#include "cli/rundir.h"

#include <dirent.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/grow.h"
#include "base/parse.h"
#include "base/say.h"
#include "posix/paths.h"

/* Open the run directory. */
int ld_rundir_open(struct ld_rundir *dir, const char *chosen) {
    struct ld_text why = {0};
    *dir = (struct ld_rundir){.path = ld_paths_run_dir(chosen), .fd = -1};
    if (dir->path == NULL) {
        ld_say_error("run directory: %s", ld_paths_why_not());
        return 1;
    }
    int fd = ld_paths_open_run_dir(dir->path, false, &why);
    dir->fd = fd < 0 ? -1 : fd;
    ld_text_format(&dir->where, "looked in %s%s", dir->path,
                   fd == -ENOENT ? ", which does not exist" : "");
    if (fd < 0 && fd != -ENOENT) {
        ld_say_error("%s", ld_text_string(&why));
    }
    ld_text_fini(&why);
    return fd < 0 && fd != -ENOENT ? 1 : 0;
}

/* Close the run directory. */
void ld_rundir_close(struct ld_rundir *dir) {
    free(dir->path);
    ld_text_fini(&dir->where);
    if (dir->fd >= 0) {
        close(dir->fd);
    }
}

/* Check whether a directory entry is a pidfile or a record; put its daemon's name into NAME. */
static bool is_of_daemon(const char *entry, char *name, size_t size) {
    static const char *const endings[] = {LD_PATHS_PIDFILE, LD_PATHS_RECORD};
    size_t length = strlen(entry);
    for (size_t i = 0; i < LD_COUNT(endings); i++) {
        size_t ending = strlen(endings[i]);
        if (length > ending && length - ending < size &&
            strcmp(entry + length - ending, endings[i]) == 0) {
            memcpy(name, entry, length - ending);
            name[length - ending] = '\0';
            return ld_parse_is_name(name);
        }
    }
    return false;
}

/* Order names. */
static int compare_names(const void *left, const void *right) {
    return strcmp(left, right);
}

/* Call EACH with every name. */
void ld_rundir_each(const struct ld_rundir *dir, bool (*each)(const char *name, void *arg),
                    void *arg) {
    char(*names)[LD_NAME_MAX + 1] = NULL;
    size_t count = 0;
    DIR *entries = dir->fd >= 0 ? opendir(dir->path) : NULL;
    const struct dirent *entry;
    while (entries != NULL && (entry = readdir(entries)) != NULL) {
        char name[LD_NAME_MAX + 1];
        void *grown = is_of_daemon(entry->d_name, name, sizeof name)
                          ? ld_grow(names, count, sizeof *names)
                          : NULL;
        if (grown != NULL) {
            names = grown;
            memcpy(names[count++], name, sizeof name);
        }
    }
    if (entries != NULL) {
        closedir(entries);
    }
    if (count > 0) {
        qsort(names, count, sizeof *names, compare_names);
    }
    bool more = true;
    for (size_t i = 0; i < count && more; i++) {
        more = (i > 0 && strcmp(names[i], names[i - 1]) == 0) || each(names[i], arg);
    }
    free(names);
}
