/* lunad new */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "api/embedded.h"
#include "base/file.h"
#include "base/parse.h"
#include "base/say.h"
#include "cli/verbs.h"

#define PLACEHOLDER "NAME"
#define FOLDER      "spec"
#define EDITOR_FILE ".luarc.json"

/* A file to write. */
struct file {
    char path[NAME_MAX + 1];
    struct ld_text text;
};

/* Add an embedded file with NAME in the place of the placeholder. */
static void add_template(struct ld_text *text, const char *file, const char *name) {
    const struct ld_embedded *at = ld_embedded;
    while (at->name != NULL && strcmp(at->name, file) != 0) {
        at++;
    }
    const char *rest = at->text;
    const char *found;
    while ((found = strstr(rest, PLACEHOLDER)) != NULL) {
        ld_text_add(text, rest, (size_t)(found - rest));
        ld_text_puts(text, name);
        rest = found + strlen(PLACEHOLDER);
    }
    ld_text_puts(text, rest);
}

/* Find the annotations for editors: beside the installed program, or in the tree that it was built in. */
static bool find_annotations(char *path) {
    static const char *const places[] = {"../share/lunad/meta", "../../lua/meta"};
    char program[PATH_MAX];
    char place[PATH_MAX + 32];
    ssize_t size = readlink("/proc/self/exe", program, sizeof program - 1);
    if (size <= 0) {
        return false;
    }
    program[size] = '\0';
    *strrchr(program, '/') = '\0';
    for (size_t i = 0; i < LD_COUNT(places); i++) {
        snprintf(place, sizeof place, "%s/%s", program, places[i]);
        if (realpath(place, path) != NULL) {
            return true;
        }
    }
    return false;
}

/* Add the setting that names the annotations. */
static void add_library(struct ld_text *text, const char *path) {
    ld_text_puts(text, "  \"workspace.library\": [\"");
    for (const char *at = path; *at != '\0'; at++) {
        if (*at == '"' || *at == '\\') {
            ld_text_putc(text, '\\');
        }
        ld_text_putc(text, *at);
    }
    ld_text_puts(text, "\"],\n");
}

/* Add the settings of the Lua language server. */
static void add_settings(struct ld_text *text) {
    char path[PATH_MAX];
    ld_text_puts(text, "{\n  \"runtime.version\": \"Lua 5.4\",\n");
    if (find_annotations(path)) {
        add_library(text, path);
    }
    ld_text_puts(text, "  \"workspace.checkThirdParty\": false,\n"
                       "  \"diagnostics.globals\": [\"describe\", \"it\", \"pending\", \"setup\", "
                       "\"teardown\", \"before_each\", \"after_each\", \"finally\"]\n}\n");
}

/* Write a new file; 0 or a negative errno, with nothing left of it. */
static int write_new(const struct file *file) {
    int fd = open(file->path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0666);
    if (fd < 0) {
        return -errno;
    }
    errno = EIO; /* if it is written in part */
    bool ok = !file->text.failed &&
              write(fd, ld_text_string(&file->text), file->text.size) == (ssize_t)file->text.size;
    int code = ok ? 0 : errno;
    if (close(fd) < 0 && ok) {
        code = errno;
    }
    if (code != 0) {
        unlink(file->path);
    }
    return -code;
}

/* Check that nothing is at a path; false after complaining. */
static bool is_free(const char *path) {
    struct stat facts;
    if (lstat(path, &facts) < 0 && (errno == ENOENT || errno == ENOTDIR)) {
        return true;
    }
    ld_say_error("new: %s is there already: nothing was written", path);
    return false;
}

/* Remove the first COUNT files, and the folder if it was MADE. */
static void remove_all(const struct file *files, size_t count, bool made) {
    for (size_t i = 0; i < count; i++) {
        unlink(files[i].path);
    }
    if (made) {
        rmdir(FOLDER);
    }
}

/* Write all files or none; 0, or 1 after complaining. */
static int write_all(const struct file *files, size_t count) {
    bool made_folder = mkdir(FOLDER, 0777) == 0;
    if (!made_folder && errno != EEXIST) {
        ld_say_error("new: " FOLDER ": %s: nothing was written", strerror(errno));
        return 1;
    }
    for (size_t i = 0; i < count; i++) {
        int rc = write_new(&files[i]);
        if (rc < 0) {
            remove_all(files, i, made_folder);
            ld_say_error("new: %s: %s: nothing was written", files[i].path, strerror(-rc));
            return 1;
        }
    }
    return 0;
}

/* Say what to do next. */
static void say_next(const char *name, bool wrote_settings) {
    ld_say("%s.lua, a script to begin with, and " FOLDER "/%s_spec.lua, its specs%s", name, name,
           wrote_settings ? "; " EDITOR_FILE " is for the editor" : "");
    ld_say("next: lunad test; lunad run %s.lua; lunad start %s.lua", name, name);
}

/* Make the files of a service called NAME. */
static int make(const char *name) {
    struct file files[3] = {0};
    snprintf(files[0].path, sizeof files[0].path, "%s.lua", name);
    snprintf(files[1].path, sizeof files[1].path, FOLDER "/%s_spec.lua", name);
    snprintf(files[2].path, sizeof files[2].path, EDITOR_FILE);
    if (!is_free(files[0].path) || !is_free(files[1].path)) {
        return 1;
    }
    add_template(&files[0].text, "new_service.lua", name);
    add_template(&files[1].text, "new_spec.lua", name);
    add_settings(&files[2].text);
    struct stat facts;
    bool wants_settings = lstat(EDITOR_FILE, &facts) < 0; /* others may share it */
    int status = write_all(files, wants_settings ? 3 : 2);
    if (status == 0) {
        say_next(name, wants_settings);
    }
    for (size_t i = 0; i < LD_COUNT(files); i++) {
        ld_text_fini(&files[i].text);
    }
    return status;
}

/* Write a script to begin with. */
static int run(const struct ld_call *call) {
    const char *name = call->argv[call->operand];
    size_t size = strlen(name);
    bool has_ending = size > 4 && strcmp(name + size - 4, ".lua") == 0;
    if (!ld_parse_is_name(name) || has_ending) {
        struct ld_text word = {0};
        ld_text_add_escaped(&word, name, size, false);
        ld_say_error("new: \"%s\" cannot be a service's name (1 to 64 of A-Z a-z 0-9 . _ -, no "
                     "leading dot or dash, without .lua)",
                     ld_text_string(&word));
        ld_text_fini(&word);
        return 2;
    }
    return make(name);
}

const struct ld_verb ld_verb_new = {
    .name = "new",
    .operands = "NAME",
    .summary = "write a script to begin with, and its specs",
    .least = 1,
    .most = 1,
    .run = run,
};
