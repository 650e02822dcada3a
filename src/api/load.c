/* loadfile, dofile and require: as Lua's own, but what they read is noted in the memory of the generation, and a
 * generation that is made from the memory of another one gets the texts from there. */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "api/module.h"
#include "base/file.h"
#include "base/log.h"

/* A file that is to be loaded. */
struct job {
    const char *path;
    const char *module; /* or NULL */
    const char *mode;   /* "b", "t", or NULL */
    struct ld_texts_item *text;
};

/* A text that is being compiled: what goes before the rest of it, and the rest. */
struct reader {
    char head[3];
    size_t head_size;
    const char *rest;
    size_t rest_size;
};

/* Begin to read a text. As Lua does, skip a byte order mark and a first line with "#", for which an empty line
 * stays; the beginning of a mark that is not whole stays, too. */
static void begin(struct reader *reader, const struct ld_texts_item *text) {
    static const char mark[] = "\xEF\xBB\xBF";
    const char *at = text->data;
    const char *end = text->data + text->size;
    while (at < end && mark[at - text->data] != '\0' && *at == mark[at - text->data]) {
        at++;
    }
    reader->head_size = (size_t)(at - text->data) % strlen(mark);
    memcpy(reader->head, mark, reader->head_size);
    if (at < end && *at == '#') {
        const char *newline = memchr(at, '\n', (size_t)(end - at));
        at = newline != NULL ? newline + 1 : end;
        if (at == end || *at != LUA_SIGNATURE[0]) {
            reader->head[reader->head_size++] = '\n';
        }
    }
    reader->rest = at;
    reader->rest_size = (size_t)(end - at);
}

/* Give Lua the next part of a text. */
static const char *read_part(lua_State *L, void *arg, size_t *size) {
    struct reader *reader = arg;
    bool is_head = reader->head_size > 0;
    (void)L;
    *size = is_head ? reader->head_size : reader->rest_size;
    reader->head_size = 0;
    reader->rest_size = is_head ? reader->rest_size : 0;
    return is_head ? reader->head : reader->rest;
}

/* Note a file; 0 or -ENOMEM. */
static int note(const struct ld_script *script, const struct job *job, enum ld_memory_kind kind) {
    bool was_partial = ld_memory_is_partial(script->memory);
    int rc = ld_memory_note(script->memory, kind, job->path, job->module, job->text);
    if (ld_memory_is_partial(script->memory) && !was_partial) {
        ld_log(LD_LOG_WARN,
               "generation %u has loaded more than %d files or %u MB of them: %s and what follows "
               "is not remembered, nor watched",
               script->generation, LD_MEMORY_FILES, LD_MEMORY_BYTES >> 20, job->path);
    }
    return rc;
}

/* Read an open file, and note its text, which is held; 0 or a negative errno. */
static int read_open(const struct ld_script *script, struct job *job, int fd) {
    struct ld_text text = {0};
    int rc = ld_file_read(fd, &text);
    if (rc == 0) {
        job->text = ld_texts_hold(script->setup->texts, ld_text_string(&text), text.size);
        rc = job->text != NULL ? note(script, job, LD_MEMORY_TEXT) : -ENOMEM;
    }
    ld_text_fini(&text);
    return rc;
}

/* Read and note a file; 0 or a negative errno: -ENOTSUP if Lua has to read it by itself. */
static int read_file(const struct ld_script *script, struct job *job) {
    struct stat facts;
    if (stat(job->path, &facts) < 0) {
        return -errno;
    }
    if (S_ISREG(facts.st_mode) && facts.st_size > LD_MEMORY_BYTES) {
        int rc = note(script, job, LD_MEMORY_PATH);
        return rc < 0 ? rc : -ENOTSUP;
    }
    int fd = S_ISREG(facts.st_mode) ? open(job->path, O_RDONLY | O_CLOEXEC) : -1;
    if (fd < 0) {
        return S_ISREG(facts.st_mode) ? -errno : -ENOTSUP; /* a pipe is read only once */
    }
    int rc = read_open(script, job, fd);
    close(fd);
    return rc;
}

/* Find the text of a file, in the memory that the generation is made from, or on disk. */
static int find_text(const struct ld_script *script, struct job *job) {
    const struct ld_memory_file *file =
        script->recall != NULL ? ld_memory_find(script->recall, job->path) : NULL;
    int rc;
    if (file != NULL) {
        job->text = ld_texts_hold_again(file->text);
        rc = note(script, job, LD_MEMORY_TEXT);
    } else {
        rc = read_file(script, job);
    }
    if (rc == -ENOENT || rc == -EACCES || rc == -ENOTDIR) {
        int noted = note(script, job, LD_MEMORY_MISSING);
        rc = noted < 0 ? noted : rc;
    }
    return rc;
}

/* Load a file, and push its function, or a message; a status of Lua. Where it cannot be read, Lua tries: its
 * messages are its own. */
static int load_file(lua_State *L, struct job *job) {
    const struct ld_script *script = ld_state_script(L);
    struct reader reader;
    luaL_checkstack(L, 4, NULL);
    lua_pushfstring(L, "@%s", job->path);
    int rc = find_text(script, job);
    if (rc < 0 || job->text == NULL) {
        ld_texts_drop(script->setup->texts, job->text);
        lua_pop(L, 1);
        if (rc != -ENOMEM) {
            return luaL_loadfilex(L, job->path, job->mode);
        }
        lua_pushliteral(L, "not enough memory");
        return LUA_ERRMEM;
    }
    begin(&reader, job->text);
    int status = lua_load(L, read_part, &reader, lua_tostring(L, -1), job->mode); /* never raises */
    ld_texts_drop(script->setup->texts, job->text);
    lua_remove(L, -2);
    return status;
}

/* loadfile([path [, mode [, env]]]) */
static int l_loadfile(lua_State *L) {
    struct job job = {.path = luaL_optstring(L, 1, NULL), .mode = luaL_optstring(L, 2, NULL)};
    bool has_env = !lua_isnone(L, 3);
    int status = job.path != NULL ? load_file(L, &job) : luaL_loadfilex(L, NULL, job.mode);
    if (status != LUA_OK) {
        luaL_pushfail(L);
        lua_insert(L, -2);
        return 2;
    }
    if (has_env) {
        lua_pushvalue(L, 3);
        if (lua_setupvalue(L, -2, 1) == NULL) {
            lua_pop(L, 1);
        }
    }
    return 1;
}

/* Return what a file has returned. */
static int end_dofile(lua_State *L, int status, lua_KContext context) {
    (void)status;
    (void)context;
    return lua_gettop(L) - 1;
}

/* dofile([path]) */
static int l_dofile(lua_State *L) {
    struct job job = {.path = luaL_optstring(L, 1, NULL)};
    lua_settop(L, 1);
    int status = job.path != NULL ? load_file(L, &job) : luaL_loadfilex(L, NULL, NULL);
    if (status != LUA_OK) {
        return lua_error(L);
    }
    lua_callk(L, 0, LUA_MULTRET, 0, end_dofile);
    return end_dofile(L, 0, 0);
}

/* Push package.path or package.cpath; raises if it is not a string. */
static const char *push_templates(lua_State *L, const char *field) {
    lua_getfield(L, lua_upvalueindex(1), field);
    const char *templates = lua_tostring(L, -1);
    if (templates == NULL) {
        luaL_error(L, "'package.%s' must be a string", field);
    }
    return templates;
}

/* Search NAME on the path in FIELD: push the path of the file and return it, or push where it was looked for and
 * return NULL. */
static const char *search(lua_State *L, const char *name, const char *field) {
    lua_pushvalue(L, lua_upvalueindex(2));
    lua_pushstring(L, name);
    push_templates(L, field);
    lua_call(L, 2, 2);
    if (lua_isnil(L, -2)) {
        lua_remove(L, -2);
        return NULL;
    }
    lua_pop(L, 1);
    return lua_tostring(L, -1);
}

/* Note where a module was looked for before it was found at FOUND (NULL: nowhere). A file that appears there is
 * what the next generation loads. */
static void note_missing(lua_State *L, const char *name, const char *field, const char *found) {
    const struct ld_script *script = ld_state_script(L);
    if (!ld_memory_wants_missing(script->memory)) {
        return;
    }
    const char *templates = push_templates(L, field);
    const char *file = luaL_gsub(L, name, ".", LUA_DIRSEP);
    for (const char *at = luaL_gsub(L, templates, LUA_PATH_MARK, file); *at != '\0';) {
        size_t size = strcspn(at, LUA_PATH_SEP);
        struct job job = {.path = lua_pushlstring(L, at, size)};
        if (found != NULL && strcmp(job.path, found) == 0) {
            lua_pop(L, 1);
            break;
        }
        if (size > 0 && note(script, &job, LD_MEMORY_MISSING) < 0) {
            luaL_error(L, "not enough memory");
        }
        lua_pop(L, 1);
        at += size + (at[size] != '\0');
    }
    lua_pop(L, 3);
}

/* Note the C library that require is going to load for MODULE, if there is one of NAME. */
static bool note_library(lua_State *L, const char *module, const char *name) {
    struct job job = {.path = search(L, name, "cpath"), .module = module};
    note_missing(L, name, "cpath", job.path);
    if (job.path != NULL && note(ld_state_script(L), &job, LD_MEMORY_PATH) < 0) {
        luaL_error(L, "not enough memory");
    }
    lua_pop(L, 1);
    return job.path != NULL;
}

/* Note the C library that the searchers after this one are going to find: of the module, or of what it is a
 * submodule of. They are Lua's own. */
static void note_libraries(lua_State *L, const char *name) {
    lua_getfield(L, lua_upvalueindex(1), "cpath");
    bool can_search = lua_isstring(L, -1);
    lua_pop(L, 1);
    const char *dot = strchr(name, '.');
    if (can_search && !note_library(L, name, name) && dot != NULL) {
        note_library(L, name, lua_pushlstring(L, name, (size_t)(dot - name)));
        lua_pop(L, 1);
    }
}

/* The searcher of Lua files: search(name) -> loader, path | message. */
static int l_search(lua_State *L) {
    const struct ld_script *script = ld_state_script(L);
    struct job job = {.module = luaL_checkstring(L, 1)};
    const struct ld_memory_file *file =
        script->recall != NULL ? ld_memory_find_module(script->recall, job.module) : NULL;
    job.path = file != NULL ? lua_pushstring(L, file->path) : search(L, job.module, "path");
    note_missing(L, job.module, "path", job.path);
    if (job.path == NULL) {
        note_libraries(L, job.module);
        return 1;
    }
    if (load_file(L, &job) != LUA_OK) {
        return luaL_error(L, "error loading module '%s' from file '%s':\n\t%s", job.module,
                          job.path, lua_tostring(L, -1));
    }
    lua_pushstring(L, job.path);
    return 2;
}

/* Open this part: it replaces functions of Lua's libraries. */
static int set_up(lua_State *L) {
    lua_pushcfunction(L, l_loadfile);
    lua_setglobal(L, "loadfile");
    lua_pushcfunction(L, l_dofile);
    lua_setglobal(L, "dofile");
    lua_getglobal(L, "package");
    lua_getfield(L, -1, "searchers");
    lua_pushvalue(L, -2);
    lua_getfield(L, -1, "searchpath");
    lua_pushcclosure(L, l_search, 2);
    lua_rawseti(L, -2, 2);
    return 0;
}

const struct ld_part ld_api_load_part = {
    .name = "load",
    .open = set_up,
};
