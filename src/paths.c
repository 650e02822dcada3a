#include "paths.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pwd.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "file.h"

/* What printf would print, as a string of its own. */
LD_PRINTF(1, 2) static char *format(const char *pattern, ...) {
    char *string = NULL;
    va_list args;
    va_start(args, pattern);
    int rc = vasprintf(&string, pattern, args);
    va_end(args);
    return rc < 0 ? NULL : string;
}

/* PATH made absolute. */
char *ld_paths_absolute(const char *path) {
    if (path[0] == '/') {
        return strdup(path);
    }
    while (path[0] == '.' && path[1] == '/') {
        path += 2 + strspn(path + 2, "/");
    }
    char *here = getcwd(NULL, 0);
    if (here == NULL) {
        return NULL;
    }
    char *absolute = format("%s/%s", strcmp(here, "/") == 0 ? "" : here, path);
    free(here);
    return absolute;
}

/* PATH without slashes at its end. */
static char *without_slash(char *path) {
    size_t length = path != NULL ? strlen(path) : 0;
    while (length > 1 && path[length - 1] == '/') {
        path[--length] = '\0';
    }
    return path;
}

/* An environment variable that says something, or NULL. */
static const char *variable(const char *name) {
    const char *value = getenv(name);
    return value != NULL && value[0] != '\0' ? value : NULL;
}

/* The run directory. */
char *ld_paths_run_dir(const char *chosen) {
    if (chosen == NULL) {
        chosen = variable("LUNAD_RUN_DIR");
    }
    if (chosen != NULL) {
        return without_slash(ld_paths_absolute(chosen)); /* "link/" would be followed */
    }
    if (geteuid() == 0) {
        return strdup("/run/lunad");
    }
    const char *runtime = variable("XDG_RUNTIME_DIR");
    return runtime != NULL ? format("%s/lunad", runtime)
                           : format("/tmp/lunad-%u", (unsigned)geteuid());
}

/* The directory for a user's state files. */
static char *state_home(void) {
    const char *state = variable("XDG_STATE_HOME");
    if (state != NULL) {
        return strdup(state);
    }
    const char *home = variable("HOME");
    if (home == NULL) {
        const struct passwd *entry = getpwuid(geteuid());
        home = entry != NULL ? entry->pw_dir : "/";
    }
    return format("%s/.local/state", home);
}

/* The default log file of NAME. */
char *ld_paths_log_file(const char *name) {
    const char *dir = variable("LUNAD_LOG_DIR");
    char *path = NULL;
    if (dir != NULL) {
        path = format("%s/%s.log", dir, name);
    } else if (geteuid() == 0) {
        path = format("/var/log/lunad/%s.log", name);
    } else {
        char *state = state_home();
        path = state != NULL ? format("%s/lunad/%s.log", state, name) : NULL;
        free(state);
    }
    char *absolute = path != NULL ? ld_paths_absolute(path) : NULL;
    free(path);
    return absolute;
}

/* Add one element of a search path. */
static bool add_search(struct ld_text *search, const char *element, const char *templates) {
    char *absolute = ld_paths_absolute(element);
    if (absolute == NULL) {
        return false;
    }
    if (strchr(element, '?') != NULL) {
        ld_text_puts(search, absolute);
    } else {
        const char *at = templates;
        for (const char *dir = strstr(at, "DIR"); dir != NULL; dir = strstr(at, "DIR")) {
            ld_text_add(search, at, (size_t)(dir - at));
            ld_text_puts(search, without_slash(absolute));
            at = dir + 3;
        }
        ld_text_puts(search, at);
    }
    ld_text_putc(search, ';');
    free(absolute);
    return true;
}

/* Search templates for --path and --cpath. */
char *ld_paths_search(const char *list, const char *templates) {
    struct ld_text search = {0};
    char *copy = strdup(list);
    char *rest = NULL;
    bool ok = copy != NULL;
    for (char *element = ok ? strtok_r(copy, ";", &rest) : NULL; ok && element != NULL;
         element = strtok_r(NULL, ";", &rest)) {
        ok = add_search(&search, element, templates);
    }
    free(copy);
    if (!ok || search.failed || search.data == NULL) {
        ld_text_fini(&search);
        return ok && !search.failed ? strdup("") : NULL;
    }
    return search.data;
}

/* The daemon's name that SCRIPT implies. */
char *ld_paths_script_name(const char *script) {
    const char *slash = strrchr(script, '/');
    const char *base = slash != NULL ? slash + 1 : script;
    size_t length = strlen(base);
    if (length > 4 && strcmp(base + length - 4, ".lua") == 0) {
        length -= 4;
    }
    return strndup(base, length);
}

/* The descriptor that a path stands for. */
int ld_paths_descriptor(const char *path) {
    static const char *const standard[] = {"/dev/stdin", "/dev/stdout", "/dev/stderr"};
    static const char *const folders[] = {"/dev/fd/", "/proc/self/fd/"};
    for (int fd = 0; fd < (int)LD_COUNT(standard); fd++) {
        if (strcmp(path, standard[fd]) == 0) {
            return fd;
        }
    }
    for (size_t i = 0; i < LD_COUNT(folders); i++) {
        size_t length = strlen(folders[i]);
        const char *digits = path + length;
        if (strncmp(path, folders[i], length) == 0 && digits[0] != '\0' &&
            strspn(digits, "0123456789") == strlen(digits) && strlen(digits) <= 7) {
            return atoi(digits);
        }
    }
    return -1;
}

/* Whether a NAME argument means a script's path. */
bool ld_paths_is_script(const char *name) {
    size_t length = strlen(name);
    return strchr(name, '/') != NULL || (length > 4 && strcmp(name + length - 4, ".lua") == 0);
}

/* Say why a directory cannot be used; the code for it. */
static int refuse(struct ld_text *why, const char *path, int code, const char *reason) {
    ld_text_format(why, "run directory %s: %s", path, reason);
    return code;
}

/* Whether a directory of other people's making can be trusted with our pidfiles. */
static int check_run_dir(const char *path, const struct stat *facts, struct ld_text *why) {
    if (facts->st_uid != geteuid()) {
        const struct passwd *entry = getpwuid(facts->st_uid);
        ld_text_format(why, "run directory %s: it belongs to another user (%s)", path,
                       entry != NULL ? entry->pw_name : "unknown");
        return -EPERM;
    }
    if ((facts->st_mode & (S_IWGRP | S_IWOTH)) != 0) {
        return refuse(why, path, -EPERM,
                      "others may write to it: take that away (chmod go-w), or choose another");
    }
    return 0;
}

/* Make the run directory and those above it. */
static int make_run_dir(const char *path) {
    mode_t mode = geteuid() == 0 ? 0755 : 0700;
    mode_t mask = umask(022);
    int rc = ld_file_make_parents(path, 0755);
    umask(0);
    if (rc == 0 && mkdir(path, mode) < 0 && errno != EEXIST) {
        rc = -errno;
    }
    umask(mask);
    return rc;
}

/* Open the run directory. */
int ld_paths_open_run_dir(const char *path, bool create, struct ld_text *why) {
    const int flags = O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC;
    struct stat facts;
    int rc = 0;
    int fd = open(path, flags);
    if (fd < 0 && errno == ENOENT && create) {
        rc = make_run_dir(path);
        fd = rc == 0 ? open(path, flags) : -1;
    }
    if (fd < 0) {
        rc = rc < 0 ? rc : -errno;
        bool is_link = lstat(path, &facts) == 0 && S_ISLNK(facts.st_mode);
        return refuse(why, path, rc, is_link ? "it is a symbolic link" : strerror(-rc));
    }
    if (create && fstat(fd, &facts) == 0) {
        rc = check_run_dir(path, &facts, why);
    }
    if (rc < 0) {
        close(fd);
        return rc;
    }
    return fd;
}
