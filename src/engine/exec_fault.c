#include "engine/exec_fault.h"

#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <link.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "engine/command_path.h"

#define HEAD_SIZE 256 /* of a script: as much as the kernel reads */
#define DEPTH_MAX 5   /* interpreters of interpreters, as the kernel has it */

/* The failure that is examined. */
struct inquiry {
    const struct ld_spawn *spec;
    int code; /* the errno */
    struct ld_text *why;
};

/* Add a path, which may have any byte in it. */
static void add_path(struct ld_text *text, const char *path) {
    ld_text_add_escaped(text, path, strlen(path), false);
}

/* Add "FILE", or "interpreter FILE of SCRIPT". */
static void add_file(const struct inquiry *inquiry, const char *file, const char *script) {
    if (script != NULL) {
        ld_text_puts(inquiry->why, "interpreter ");
    }
    add_path(inquiry->why, file);
    if (script != NULL) {
        ld_text_puts(inquiry->why, " of ");
        add_path(inquiry->why, script);
    }
}

/* Open a file as the child would find it; -1 if there is none, or it must not be read. */
static int open_file(const struct ld_spawn *spec, const char *path) {
    int at = AT_FDCWD;
    if (spec->cwd != NULL && path[0] != '/') {
        at = open(spec->cwd, O_PATH | O_DIRECTORY | O_CLOEXEC);
    }
    int fd = openat(at, path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    if (at >= 0) {
        close(at);
    }
    return fd;
}

/* Find out about a file as the child would find it; 0 or -1. */
static int find_facts(const struct ld_spawn *spec, const char *path, struct stat *facts) {
    int at = AT_FDCWD;
    if (spec->cwd != NULL && path[0] != '/') {
        at = open(spec->cwd, O_PATH | O_DIRECTORY | O_CLOEXEC);
    }
    int rc = fstatat(at, path, facts, 0);
    if (at >= 0) {
        close(at);
    }
    return rc;
}

/* Take the interpreter out of the first line of a script; NULL for a file without such a line. */
static char *take_interpreter(char *head) {
    if (strncmp(head, "#!", 2) != 0) {
        return NULL;
    }
    char *name = head + 2 + strspn(head + 2, " \t");
    name[strcspn(name, " \t\n")] = '\0';
    return name;
}

/* Read the name of the loader of a native program into NAME; false if it has none. */
static bool read_loader(int fd, char name[HEAD_SIZE]) {
    ElfW(Ehdr) header;
    ElfW(Phdr) part;
    if (pread(fd, &header, sizeof header, 0) != (ssize_t)sizeof header ||
        memcmp(header.e_ident, ELFMAG, SELFMAG) != 0 || header.e_phentsize != sizeof part) {
        return false;
    }
    for (int i = 0; i < header.e_phnum; i++) {
        off_t at = (off_t)(header.e_phoff + (size_t)i * sizeof part);
        if (pread(fd, &part, sizeof part, at) == (ssize_t)sizeof part && part.p_type == PT_INTERP &&
            part.p_filesz > 0 && part.p_filesz < HEAD_SIZE) {
            ssize_t size = pread(fd, name, part.p_filesz, (off_t)part.p_offset);
            name[size > 0 ? size : 0] = '\0';
            return size > 0;
        }
    }
    return false;
}

/* Say what is wrong with a file that exists, is not a script and has a proper mode. */
static bool blame_content(const struct inquiry *inquiry, int fd, const char *file,
                          const char *script) {
    char loader[HEAD_SIZE];
    struct stat facts;
    if (inquiry->code == ENOENT && read_loader(fd, loader) &&
        find_facts(inquiry->spec, loader, &facts) < 0) {
        ld_text_puts(inquiry->why, "loader ");
        add_path(inquiry->why, loader);
        ld_text_puts(inquiry->why, " of ");
        add_file(inquiry, file, script);
        return true;
    }
    if (inquiry->code == ENOEXEC) {
        add_file(inquiry, file, script);
        ld_text_puts(inquiry->why, " is neither a program for this machine nor a script that "
                                   "names its interpreter in a first line with #!");
        return true;
    }
    return false;
}

/* Say what is wrong with a file by its mode. */
static bool blame_mode(const struct inquiry *inquiry, const struct stat *facts, const char *file,
                       const char *script) {
    bool denied =
        inquiry->code == EACCES && (!S_ISREG(facts->st_mode) || (facts->st_mode & 0111) == 0);
    if (denied) {
        add_file(inquiry, file, script);
        ld_text_puts(inquiry->why, S_ISDIR(facts->st_mode)    ? " is a directory"
                                   : !S_ISREG(facts->st_mode) ? " is not a file"
                                                              : " is not executable");
    }
    return denied;
}

/* Say that an interpreter does not exist. */
static void blame_missing(const struct inquiry *inquiry, const char *file, const char *script) {
    size_t size = strlen(file);
    add_file(inquiry, file, script);
    if (size > 0 && file[size - 1] == '\r') {
        ld_text_puts(inquiry->why, ", whose lines end with CR LF");
    }
}

/* Read the beginning of a file as a string. */
static void read_head(int fd, char head[HEAD_SIZE + 1]) {
    ssize_t size = pread(fd, head, HEAD_SIZE, 0);
    head[size > 0 ? size : 0] = '\0';
}

/* What one file of a chain of interpreters turned out to be. */
enum finding { FINDING_BLAMED, FINDING_NOTHING, FINDING_SCRIPT };

/* Look at one FILE: whether it is at fault, or a script, whose interpreter comes to *NEXT (in
 * HEAD). */
static enum finding look_at(const struct inquiry *inquiry, const char *file, const char *script,
                            char head[HEAD_SIZE + 1], const char **next) {
    struct stat facts;
    if (find_facts(inquiry->spec, file, &facts) < 0) {
        if (script == NULL) {
            return FINDING_NOTHING;
        }
        blame_missing(inquiry, file, script);
        return FINDING_BLAMED;
    }
    if (blame_mode(inquiry, &facts, file, script)) {
        return FINDING_BLAMED;
    }
    int fd = S_ISREG(facts.st_mode) ? open_file(inquiry->spec, file) : -1;
    if (fd < 0) {
        return FINDING_NOTHING;
    }
    read_head(fd, head);
    char *interpreter = take_interpreter(head);
    enum finding finding = FINDING_SCRIPT;
    if (interpreter != NULL && interpreter[0] != '\0') {
        *next = interpreter;
    } else {
        bool blamed = blame_content(inquiry, fd, file, script);
        finding = blamed ? FINDING_BLAMED : FINDING_NOTHING;
    }
    close(fd);
    return finding;
}

/* Follow a file, its interpreter and so on to what is wrong; false if nothing is found. */
static bool follow(const struct inquiry *inquiry, const char *file) {
    char heads[2][HEAD_SIZE + 1];
    const char *script = NULL;
    enum finding finding = FINDING_SCRIPT;
    for (int depth = 0; depth <= DEPTH_MAX && finding == FINDING_SCRIPT; depth++) {
        const char *next = "";
        finding = look_at(inquiry, file, script, heads[depth % 2], &next);
        script = file;
        file = next;
    }
    return finding == FINDING_BLAMED;
}

/* Say how large the arguments and the environment are. */
static void blame_size(const struct inquiry *inquiry) {
    const struct ld_spawn *spec = inquiry->spec;
    size_t words = strlen(spec->argv[0]) + 1;
    size_t variables = 0;
    for (size_t i = 1; spec->argv[i] != NULL; i++) {
        words += strlen(spec->argv[i]) + 1;
    }
    for (size_t i = 0; spec->envp[i] != NULL; i++) {
        variables += strlen(spec->envp[i]) + 1;
    }
    add_path(inquiry->why, spec->argv[0]);
    ld_text_format(inquiry->why, ": %zu bytes of words, %zu of environment", words, variables);
}

/* Find the file at fault. */
void ld_exec_fault_explain(const struct ld_spawn *spec, int code, struct ld_text *why) {
    const struct inquiry inquiry = {.spec = spec, .code = -code, .why = why};
    if (code == -E2BIG) {
        blame_size(&inquiry);
        return;
    }
    char **paths = ld_command_path_list(spec->argv[0], spec->envp);
    bool blamed = false;
    for (char **path = paths; path != NULL && *path != NULL && !blamed; path++) {
        blamed = follow(&inquiry, *path);
    }
    ld_command_path_free(paths);
    if (!blamed) {
        add_path(why, spec->argv[0]);
    }
}
