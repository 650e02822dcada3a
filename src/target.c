#include "target.h"

#include <dirent.h>
#include <errno.h>
#include <poll.h>
#include <pwd.h>
#include <string.h>
#include <unistd.h>

#include "cmd.h"
#include "parse.h"
#include "paths.h"
#include "say.h"

#define END_LOOKS   50 /* for the end of a daemon whose connection has broken */
#define END_LOOK_MS 10

/* Open the run directory. */
int ld_rundir_open(struct ld_rundir *dir, const char *chosen) {
    struct ld_text why = {0};
    *dir = (struct ld_rundir){.path = ld_paths_run_dir(chosen), .fd = -1};
    if (dir->path == NULL) {
        ld_complain("run directory: %s", ld_paths_why_not());
        return 1;
    }
    int fd = ld_paths_open_run_dir(dir->path, false, &why);
    dir->fd = fd < 0 ? -1 : fd;
    ld_text_format(&dir->where, "looked in %s%s", dir->path,
                   fd == -ENOENT ? ", which does not exist" : "");
    if (fd < 0 && fd != -ENOENT) {
        ld_complain("%s", ld_text_string(&why));
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

/* Whether a directory entry is a pidfile or a record; its name without the ending in NAME. */
static bool is_of_daemon(const char *entry, char *name, size_t size) {
    static const char *const endings[] = {".pid", ".start"};
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
                          ? realloc(names, (count + 1) * sizeof *names)
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

/* A search for the daemon that runs a script. */
struct search {
    const struct ld_rundir *dir;
    const char *script; /* resolved */
    char found[LD_NAME_MAX + 1];
};

enum answer { RUNS_IT, RUNS_ANOTHER, DOES_NOT_SAY };

/* PATH without links, also if the file itself is gone; the caller frees it. NULL if it has no folder. */
static char *resolve(const char *path) {
    char *resolved = realpath(path, NULL);
    if (resolved != NULL || errno != ENOENT) {
        return resolved;
    }
    const char *slash = strrchr(path, '/');
    char *folder = slash != NULL ? strndup(path, (size_t)(slash - path) + 1) : strdup(".");
    char *real = folder != NULL ? realpath(folder, NULL) : NULL;
    if (real == NULL || asprintf(&resolved, "%s/%s", real, slash != NULL ? slash + 1 : path) < 0) {
        resolved = NULL;
    }
    free(folder);
    free(real);
    return resolved;
}

/* Whether the daemon NAME runs the script that is searched for, as its starter has written down: the
 * daemon itself could say anything. */
static enum answer ask_for_script(const struct search *search, const char *name) {
    struct ld_holder holder;
    struct ld_record record;
    if (ld_pidfile_inspect(&holder, search->dir->fd, name) < 0 || holder.state != LD_HOLDER_ALIVE ||
        ld_record_load(&record, search->dir->fd, name) < 0) {
        return DOES_NOT_SAY;
    }
    char *resolved = record.script != NULL ? resolve(record.script) : NULL;
    const char *script = resolved != NULL ? resolved : record.script;
    bool same = script != NULL && strcmp(script, search->script) == 0;
    free(resolved);
    ld_record_fini(&record);
    return same ? RUNS_IT : RUNS_ANOTHER;
}

/* Note the first daemon that runs the script. */
static bool look_at(const char *name, void *arg) {
    struct search *search = arg;
    if (ask_for_script(search, name) != RUNS_IT) {
        return true;
    }
    snprintf(search->found, sizeof search->found, "%s", name);
    return false;
}

/* Note the daemon that runs the script; first the one of its own name is asked. What that one says. */
static enum answer search_script(struct search *search, const char *name) {
    enum answer answer = name[0] != '\0' ? ask_for_script(search, name) : RUNS_ANOTHER;
    if (answer == RUNS_IT) {
        snprintf(search->found, sizeof search->found, "%s", name);
    } else {
        ld_rundir_each(search->dir, look_at, search);
    }
    return answer;
}

/* Whether a daemon, dead or alive, bears NAME. */
static bool is_borne(const struct ld_rundir *dir, const char *name) {
    struct ld_holder holder;
    return ld_parse_is_name(name) && dir->fd >= 0 &&
           ld_pidfile_inspect(&holder, dir->fd, name) == 0 && holder.state != LD_HOLDER_NONE;
}

/* Name the daemon that is meant by a script's path: one that runs it, one whose name only looks like
 * a path, or one of the script's name that does not say what it runs. False if there is none. */
static bool name_by_script(struct ld_target *target, const char *path) {
    char *resolved = resolve(path);
    char *name = ld_paths_script_name(path);
    const char *own = name != NULL && ld_parse_is_name(name) ? name : "";
    struct search search = {.dir = target->dir, .script = resolved != NULL ? resolved : path};
    enum answer answer = search_script(&search, own);
    const char *found = search.found[0] != '\0'       ? search.found
                        : is_borne(target->dir, path) ? path
                        : answer == DOES_NOT_SAY      ? own
                                                      : "";
    bool is_found = found[0] != '\0';
    struct ld_text clean = {0};
    if (!is_found) {
        ld_text_add_escaped(&clean, path, strlen(path), false);
        found = ld_text_string(&clean);
    }
    snprintf(target->name, sizeof target->name, "%s", found);
    ld_text_fini(&clean);
    free(resolved);
    free(name);
    return is_found;
}

/* Refuse what belongs to another user; 0 if it is ours. */
static int check_owner(const struct ld_target *target, int rc) {
    bool is_ours = target->holder.owner == geteuid() || geteuid() == 0 ||
                   target->holder.state == LD_HOLDER_NONE;
    if (rc == 0 && is_ours) {
        return 0;
    }
    if (rc < 0 && rc != -EACCES && rc != -EPERM) {
        ld_complain("%s: pidfile %s/%s.pid: %s", target->name, target->dir->path, target->name,
                    rc == -ELOOP ? "it is a symbolic link" : strerror(-rc));
        return 1;
    }
    const struct passwd *entry = rc == 0 ? getpwuid(target->holder.owner) : NULL;
    ld_complain("%s: it belongs to another user%s%s: permission denied", target->name,
                entry != NULL ? ", " : "", entry != NULL ? entry->pw_name : "");
    return 1;
}

/* Find a daemon. */
int ld_target_find(struct ld_target *target, const struct ld_rundir *dir, const char *argument) {
    *target = (struct ld_target){.dir = dir};
    if (ld_paths_is_script(argument)) {
        if (!name_by_script(target, argument)) {
            return 0;
        }
    } else if (!ld_parse_is_name(argument)) {
        ld_complain("\"%s\" is not a name: 1 to 64 of A-Z a-z 0-9 . _ -, no leading dot or dash",
                    argument);
        return 2;
    } else {
        snprintf(target->name, sizeof target->name, "%s", argument);
    }
    if (dir->fd < 0) {
        return 0;
    }
    return check_owner(target, ld_pidfile_inspect(&target->holder, dir->fd, target->name));
}

/* Say why a daemon is not running. */
void ld_target_death_text(const struct ld_target *target, struct ld_text *text) {
    struct ld_record record;
    if (target->dir->fd >= 0 && ld_record_load(&record, target->dir->fd, target->name) == 0) {
        ld_text_puts(text, "; it ");
        ld_record_death_text(text, &record, target->dir->fd, target->name);
        ld_record_fini(&record);
    } else if (target->holder.state == LD_HOLDER_DEAD) {
        ld_text_puts(text, "; it died and left its pidfile");
    }
}

/* Find a daemon that runs. */
int ld_target_find_running(struct ld_target *target, const struct ld_rundir *dir,
                           const char *argument) {
    int status = ld_target_find(target, dir, argument);
    if (status == 0 && target->holder.state != LD_HOLDER_ALIVE) {
        struct ld_text death = {0};
        ld_target_death_text(target, &death);
        ld_complain("%s: not running (%s)%s", target->name, ld_text_string(&dir->where),
                    ld_text_string(&death));
        ld_text_fini(&death);
        status = 3;
    }
    return status;
}

/* Look for a moment whether a daemon has ended. */
bool ld_target_has_ended(struct ld_target *target) {
    for (int looks = 0; looks < END_LOOKS; looks++) {
        struct ld_holder holder;
        if (ld_pidfile_inspect(&holder, target->dir->fd, target->name) < 0) {
            return false;
        }
        if (holder.state != LD_HOLDER_ALIVE) {
            target->holder = holder;
            return true;
        }
        poll(NULL, 0, END_LOOK_MS);
    }
    return false;
}

/* Open a pidfd for a running target. */
int ld_target_open(const struct ld_target *target) {
    int pidfd = ld_pidfile_open_holder(&target->holder, target->dir->fd, target->name);
    if (pidfd < 0) {
        ld_complain("%s: it runs, but the kernel does not confirm that pid %d of its pidfile is "
                    "it (%s): nothing is signalled",
                    target->name, (int)target->holder.pid, strerror(-pidfd));
    }
    return pidfd;
}

/* Remove what a dead daemon has left behind. */
void ld_target_clear(const struct ld_target *target) {
    struct ld_pidfile file;
    char socket[sizeof target->name + 8];
    if (target->dir->fd >= 0 && ld_pidfile_acquire(&file, target->dir->fd, target->name) == 0) {
        snprintf(socket, sizeof socket, "%s.sock", target->name);
        unlinkat(target->dir->fd, socket, 0);
        ld_record_remove(target->dir->fd, target->name);
        ld_pidfile_remove(&file);
    }
}

/* Call EACH for every operand. */
int ld_target_each(const struct ld_call *call,
                   int (*each)(const struct ld_call *call, const struct ld_rundir *dir,
                               const char *argument)) {
    struct ld_rundir dir;
    int worst = ld_rundir_open(&dir, call->options->run_dir);
    if (worst == 0) {
        for (int i = call->operand; call->argv[i] != NULL; i++) {
            int status = each(call, &dir, call->argv[i]);
            worst = status > worst ? status : worst;
        }
    }
    ld_rundir_close(&dir);
    return worst;
}
