#include "posix/paths.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pwd.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"

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
        return NULL; /* with errno */
    }
    char *absolute = format("%s/%s", strcmp(here, "/") == 0 ? "" : here, path);
    free(here);
    return absolute;
}

/* Why there is no absolute path. */
const char *ld_paths_why_not(void) {
    return errno == ENOENT ? "the path is relative, and the working directory has been removed"
                           : strerror(errno);
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

/* An environment variable with an absolute path, or NULL: the XDG specification has others ignored. */
static const char *absolute_variable(const char *name) {
    const char *value = variable(name);
    return value != NULL && value[0] == '/' ? value : NULL;
}

/* Make the relative directories of the environment absolute. */
void ld_paths_fix_environment(void) {
    static const char *const names[] = {"LUNAD_RUN_DIR", "LUNAD_LOG_DIR"};
    for (size_t i = 0; i < LD_COUNT(names); i++) {
        const char *value = variable(names[i]);
        char *absolute = value != NULL && value[0] != '/' ? ld_paths_absolute(value) : NULL;
        if (absolute != NULL) {
            setenv(names[i], absolute, 1);
            free(absolute);
        }
    }
}

/* The directory for a user's state files. */
static char *state_home(void) {
    const char *state = absolute_variable("XDG_STATE_HOME");
    if (state != NULL) {
        return without_slash(strdup(state));
    }
    const char *home = absolute_variable("HOME");
    if (home == NULL) {
        const struct passwd *entry = getpwuid(geteuid());
        home = entry != NULL && entry->pw_dir[0] == '/' ? entry->pw_dir : "/";
    }
    return format("%s/.local/state", strcmp(home, "/") == 0 ? "" : home);
}

/* Whether the directory PATH is there or can be made. A file that is not a directory, or that
 * belongs to another user, counts: it is refused later, with the reason. */
static bool can_have(const char *path) {
    struct stat facts;
    char *copy = strdup(path);
    char *slash;
    bool can = copy != NULL && lstat(copy, &facts) == 0;
    bool missing = copy != NULL && !can && errno == ENOENT;
    while (missing && (slash = strrchr(copy, '/')) != NULL) {
        slash[slash == copy ? 1 : 0] = '\0';
        int rc = stat(copy, &facts);
        missing = rc < 0 && errno == ENOENT && slash != copy;
        can = rc == 0 && S_ISDIR(facts.st_mode) &&
              faccessat(AT_FDCWD, copy, W_OK | X_OK, AT_EACCESS) == 0;
    }
    free(copy);
    return can;
}

/* The default run directory of a user who is not root. It must not depend on a session: it must be
 * the same under cron and after a logout. */
static char *user_run_dir(void) {
    char *state = state_home();
    char *path = state != NULL ? format("%s/lunad/run", state) : NULL;
    free(state);
    if (path != NULL && !can_have(path)) {
        free(path);
        path = format("/tmp/lunad-%u", (unsigned)geteuid());
    }
    return path;
}

/* The run directory. */
char *ld_paths_run_dir(const char *chosen) {
    if (chosen == NULL) {
        chosen = variable("LUNAD_RUN_DIR");
    }
    if (chosen != NULL) {
        return without_slash(ld_paths_absolute(chosen)); /* "link/" would be followed */
    }
    return geteuid() == 0 ? strdup("/run/lunad") : user_run_dir();
}

/* The path of NAME with SUFFIX: in the directory that VARIABLE names, or in ROOTS for root, or where a
 * user's state files are. */
static char *own_file(const char *variable_name, const char *roots, const char *name,
                      const char *suffix) {
    const char *dir = variable(variable_name);
    char *path = NULL;
    if (dir != NULL || geteuid() == 0) {
        path = format("%s/%s%s", dir != NULL ? dir : roots, name, suffix);
    } else {
        char *state = state_home();
        path = state != NULL ? format("%s/lunad/%s%s", state, name, suffix) : NULL;
        free(state);
    }
    char *absolute = path != NULL ? ld_paths_absolute(path) : NULL;
    free(path);
    return absolute;
}

/* The default log file of NAME. */
char *ld_paths_log_file(const char *name) {
    return own_file("LUNAD_LOG_DIR", "/var/log/lunad", name, ".log");
}

/* A file that is kept for the user. */
char *ld_paths_state_file(const char *name) {
    return own_file("LUNAD_STATE_DIR", "/var/lib/lunad", name, "");
}

/* The path of a control socket. */
int ld_paths_socket(char *path, size_t size, const char *run_dir, const char *name) {
    int length = snprintf(path, size, "%s/%s" LD_PATHS_SOCKET, run_dir, name);
    return length < 0 || (size_t)length >= size ? -ENAMETOOLONG : 0;
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

/* Find the descriptor that a path names. */
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

/* Check that a directory that already exists is safe to keep pidfiles in. */
static int check_run_dir(const char *path, const struct stat *facts, bool create,
                         struct ld_text *why) {
    bool may_look = geteuid() == 0 || facts->st_uid == 0;
    if (facts->st_uid != geteuid() && (create || !may_look)) {
        const struct passwd *entry = getpwuid(facts->st_uid);
        ld_text_format(why, "run directory %s: it belongs to another user (%s)", path,
                       entry != NULL ? entry->pw_name : "unknown");
        return -EPERM;
    }
    if (create && (facts->st_mode & (S_IWGRP | S_IWOTH)) != 0) {
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
    if (fstat(fd, &facts) == 0) {
        rc = check_run_dir(path, &facts, create, why);
    }
    if (rc < 0) {
        close(fd);
        return rc;
    }
    return fd;
}
