#include "script/source.h"

#include <errno.h>
#include <fcntl.h>
#include <lauxlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "base/file.h"

/* What is being compiled. */
struct job {
    const char *text;
    size_t size;
    const char *title;
};

/* Note why a file cannot be used. */
static int refuse(struct ld_text *why, const char *path, int code, const char *reason) {
    ld_text_format(why, "%s: %s", path, reason);
    return code;
}

/* Why others than root and the owner may write to a file; NULL if they may not. Root's own group is
 * root, unless the bits of the group are those of an access list. */
const char *ld_source_other_writers(int fd, const struct stat *facts) {
    bool has_list = fgetxattr(fd, "system.posix_acl_access", NULL, 0) > 0;
    if ((facts->st_mode & S_IWOTH) != 0) {
        return "it would run as root, and everyone may write to it: chmod go-w it";
    }
    if ((facts->st_mode & S_IWGRP) != 0 && has_list) {
        return "it would run as root, and its access list lets others write to it: setfacl -b it";
    }
    if ((facts->st_mode & S_IWGRP) != 0 && facts->st_gid != 0) {
        return "it would run as root, and its group may write to it: chmod g-w it";
    }
    return NULL;
}

/* Check an open file before it is read. */
static int check_file(int fd, const struct ld_source *source, struct ld_text *why) {
    struct stat facts;
    if (fstat(fd, &facts) < 0) {
        return refuse(why, source->path, -errno, strerror(errno));
    }
    if (S_ISDIR(facts.st_mode)) {
        return refuse(why, source->path, -EISDIR, "it is a directory, not a script");
    }
    if (!S_ISREG(facts.st_mode)) {
        return refuse(why, source->path, -EINVAL,
                      "it is not a regular file (lunad run - reads a script from stdin)");
    }
    const char *writers = source->as_root ? ld_source_other_writers(fd, &facts) : NULL;
    return writers != NULL ? refuse(why, source->path, -EPERM, writers) : 0;
}

/* Read the file of a source. */
int ld_source_read(const struct ld_source *source, struct ld_text *text, struct ld_text *why) {
    int fd = open(source->path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    if (fd < 0) {
        int code = errno;
        return refuse(why, source->path, -code,
                      code == ENOENT ? "there is no such script" : strerror(code));
    }
    int rc = check_file(fd, source, why);
    if (rc == 0) {
        rc = ld_file_read(fd, text);
        if (rc < 0) {
            refuse(why, source->path, rc, strerror(-rc));
        }
    }
    close(fd);
    return rc;
}

/* Compile; the job is the light userdata argument. Runs protected. */
static int compile(lua_State *L) {
    const struct job *job = lua_touserdata(L, 1);
    if (luaL_loadbufferx(L, job->text, job->size, job->title, "t") != LUA_OK) {
        return lua_error(L);
    }
    return 1;
}

/* Skip what may come before Lua: a byte order mark, and a first line with "#". */
static void skip_preface(struct job *job) {
    if (job->size >= 3 && memcmp(job->text, "\xEF\xBB\xBF", 3) == 0) {
        job->text += 3;
        job->size -= 3;
    }
    if (job->size > 0 && job->text[0] == '#') {
        const char *newline = memchr(job->text, '\n', job->size);
        size_t length = newline != NULL ? (size_t)(newline - job->text) : job->size;
        job->text += length; /* the newline stays: lines keep their numbers */
        job->size -= length;
    }
}

/* Compile TEXT and push the function. */
static int compile_text(lua_State *L, struct job *job, struct ld_text *why) {
    skip_preface(job);
    if (job->size > 0 && job->text[0] == LUA_SIGNATURE[0]) {
        return refuse(why, job->title + 1, -EINVAL, "it is bytecode, and a script must be text");
    }
    lua_pushcfunction(L, compile);
    lua_pushlightuserdata(L, job);
    if (lua_pcall(L, 1, 1, 0) == LUA_OK) {
        return 0;
    }
    size_t size;
    const char *message = lua_tolstring(L, -1, &size);
    if (message != NULL) {
        ld_text_add_escaped(why, message, size, true); /* it may quote any byte of the text */
    } else {
        ld_text_puts(why, "it does not compile");
    }
    lua_pop(L, 1);
    return -EINVAL;
}

/* Compile the text of a file. */
int ld_source_compile(lua_State *L, const struct ld_source *source, const char *bytes, size_t size,
                      struct ld_text *why) {
    struct ld_text title = {0};
    ld_text_format(&title, "@%s", source->path);
    struct job job = {.text = bytes, .size = size, .title = ld_text_string(&title)};
    int rc = compile_text(L, &job, why);
    ld_text_fini(&title);
    return rc;
}

/* Compile a source. */
int ld_source_load(lua_State *L, const struct ld_source *source, struct ld_text *why) {
    if (source->path == NULL) {
        struct job job = {.text = source->text, .size = source->size, .title = source->title};
        return compile_text(L, &job, why);
    }
    struct ld_text text = {0};
    int rc = ld_source_read(source, &text, why);
    if (rc == 0) {
        rc = ld_source_compile(L, source, ld_text_string(&text), text.size, why);
    }
    ld_text_fini(&text);
    return rc;
}

/* Compile a source in a state of its own. */
int ld_source_check(const struct ld_source *source, struct ld_text *why) {
    lua_State *L = luaL_newstate();
    if (L == NULL) {
        ld_text_puts(why, strerror(ENOMEM));
        return -ENOMEM;
    }
    int rc = ld_source_load(L, source, why);
    lua_close(L);
    return rc;
}
