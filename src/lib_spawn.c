#include "lib_spawn.h"

#include <ctype.h>
#include <lauxlib.h>
#include <string.h>
#include <unistd.h>

#include "luax.h"
#include "parse.h"
#include "process.h"

extern char **environ;

/* A file descriptor; raises for another number. */
static int read_fd(lua_State *L, const char *name) {
    return (int)lx_option_integer(L, name, 0, 1 << 30);
}

/* Choose a stream's kind by a word. */
static void read_stream_word(lua_State *L, const char *name, int index,
                             struct ld_spawn_request *request) {
    static const struct {
        const char *word;
        enum ld_stream_kind kind;
        unsigned streams; /* a bit each */
    } words[] = {
        {"null", LD_STREAM_NULL, 7},       {"pipe", LD_STREAM_PIPE, 1},   {"log", LD_STREAM_LOG, 6},
        {"inherit", LD_STREAM_INHERIT, 6}, {"stdout", LD_STREAM_JOIN, 4},
    };
    const char *value = lx_option_string(L, name);
    for (size_t i = 0; i < LD_COUNT(words); i++) {
        if (strcmp(value, words[i].word) == 0 && (words[i].streams & (1U << index)) != 0) {
            request->config.streams[index].kind = words[i].kind;
            return;
        }
    }
    lx_error(L, "option '%s': '%s' is not one of %s", name, value,
             index == 0   ? "null, pipe"
             : index == 1 ? "log, null, inherit"
                          : "log, null, inherit, stdout");
}

/* Read where a stream goes. */
static void read_stream(lua_State *L, const char *name, int index,
                        struct ld_spawn_request *request) {
    if (lua_type(L, -1) == LUA_TNUMBER) {
        request->config.streams[index].kind = LD_STREAM_FD;
        request->config.streams[index].fd = read_fd(L, name);
    } else if (lua_type(L, -1) == LUA_TSTRING) {
        read_stream_word(L, name, index, request);
    } else if (index > 0 && lx_is_callable(L, -1)) {
        request->config.streams[index].kind = LD_STREAM_PIPE;
    } else {
        lx_error(L, "option '%s': %s expected, got %s", name,
                 index == 0 ? "string or file descriptor" : "string, file descriptor or function",
                 luaL_typename(L, -1));
    }
}

static void read_stdin(lua_State *L, const char *name, void *into) {
    read_stream(L, name, 0, into);
}

static void read_stdout(lua_State *L, const char *name, void *into) {
    read_stream(L, name, 1, into);
}

static void read_stderr(lua_State *L, const char *name, void *into) {
    read_stream(L, name, 2, into);
}

static void read_name(lua_State *L, const char *name, void *into) {
    struct ld_spawn_request *request = into;
    const char *value = lx_option_string(L, name);
    if (!ld_parse_is_name(value)) {
        lx_error(L,
                 "option 'name': '%s' is not a name: 1 to 64 of A-Z a-z 0-9 . _ -, no leading "
                 "dot or dash",
                 value);
    }
    snprintf(request->name, sizeof request->name, "%s", value);
}

static void read_cwd(lua_State *L, const char *name, void *into) {
    ((struct ld_spawn_request *)into)->config.spawn.cwd = lx_option_string(L, name);
}

static void read_env(lua_State *L, const char *name, void *into) {
    (void)into;
    if (!lua_istable(L, -1)) {
        lx_error(L, "option '%s': table expected, got %s", name, luaL_typename(L, -1));
    }
}

static void read_clear_env(lua_State *L, const char *name, void *into) {
    ((struct ld_spawn_request *)into)->clear_env = lx_option_boolean(L, name);
}

static void read_on_exit(lua_State *L, const char *name, void *into) {
    (void)into;
    lx_option_callable(L, name);
}

static void read_timeout(lua_State *L, const char *name, void *into) {
    struct ld_spawn_request *request = into;
    request->config.timeout_ms = (lx_option_seconds(L, name, true) + 999999) / 1000000;
}

static void read_kill_after(lua_State *L, const char *name, void *into) {
    struct ld_spawn_request *request = into;
    request->config.kill_after_ms = (lx_option_seconds(L, name, false) + 999999) / 1000000;
}

static void read_detach(lua_State *L, const char *name, void *into) {
    ((struct ld_spawn_request *)into)->config.spawn.session = lx_option_boolean(L, name);
}

static const struct lx_row rows[] = {
    {"name", read_name},       {"cwd", read_cwd},
    {"env", read_env},         {"clear_env", read_clear_env},
    {"stdin", read_stdin},     {"stdout", read_stdout},
    {"stderr", read_stderr},   {"on_exit", read_on_exit},
    {"timeout", read_timeout}, {"kill_after", read_kill_after},
    {"detach", read_detach},   {NULL, NULL},
};

/* Push a vector for COUNT strings and its end. */
static const char **push_vector(lua_State *L, size_t count) {
    const char **vector = lua_newuserdatauv(L, (count + 1) * sizeof *vector, 0);
    memset(vector, 0, (count + 1) * sizeof *vector);
    return vector;
}

/* Keep the string at the top alive in the table at ANCHORS; popped. */
static const char *anchor(lua_State *L, int anchors) {
    const char *string = lua_tostring(L, -1);
    lua_rawseti(L, anchors, (lua_Integer)lua_rawlen(L, anchors) + 1);
    return string;
}

/* Push the vector of a command's words: the integer keys of the table at INDEX. */
static char *const *push_words(lua_State *L, int index, int anchors) {
    size_t count = lua_rawlen(L, index);
    if (count == 0) {
        lx_error(L, "spawn: the command is missing (the table's first element)");
    }
    const char **words = push_vector(L, count);
    for (size_t i = 0; i < count; i++) {
        int type = lua_rawgeti(L, index, (lua_Integer)i + 1);
        if (type != LUA_TSTRING && type != LUA_TNUMBER) {
            lx_error(L, "spawn: word %d of the command: string expected, got %s", (int)i + 1,
                     luaL_typename(L, -1));
        }
        size_t size = lua_rawlen(L, -1);
        words[i] = anchor(L, anchors);
        if ((type == LUA_TSTRING && strlen(words[i]) != size) || words[0][0] == '\0') {
            lx_error(L, "spawn: word %d of the command %s", (int)i + 1,
                     words[0][0] == '\0' ? "is empty" : "has a zero byte in it");
        }
    }
    return (char *const *)(uintptr_t)words;
}

/* Push "KEY=VALUE" for the key and the value at the top. */
static void push_variable(lua_State *L) {
    int type = lua_type(L, -1);
    if (lua_type(L, -2) != LUA_TSTRING || strchr(lua_tostring(L, -2), '=') != NULL) {
        lx_error(L, "option 'env': a variable's name must be a string without '='");
    }
    if (type != LUA_TSTRING && type != LUA_TNUMBER) {
        lx_error(L, "option 'env': %s: string expected, got %s", lua_tostring(L, -2),
                 luaL_typename(L, -1));
    }
    lua_pushvalue(L, -2);
    lua_pushliteral(L, "=");
    lua_pushvalue(L, -3);
    lua_concat(L, 3);
}

/* Whether the table at ENV (0: none) sets the variable of "KEY=VALUE". */
static bool is_overridden(lua_State *L, int env, const char *variable) {
    if (env == 0) {
        return false;
    }
    lua_pushlstring(L, variable, strcspn(variable, "="));
    bool found = lua_rawget(L, env) != LUA_TNIL;
    lua_pop(L, 1);
    return found;
}

/* The number of variables in our environment. */
static size_t count_environ(void) {
    size_t count = 0;
    while (environ[count] != NULL) {
        count++;
    }
    return count;
}

/* The number of pairs in the table at INDEX (0: none). */
static size_t count_pairs(lua_State *L, int index) {
    size_t count = 0;
    if (index != 0) {
        lua_pushnil(L);
        while (lua_next(L, index) != 0) {
            lua_pop(L, 1);
            count++;
        }
    }
    return count;
}

/* Push the vector of the child's environment; ENV is the index of the table, or 0. */
static char *const *push_environment(lua_State *L, const struct ld_spawn_request *request, int env,
                                     int anchors) {
    size_t used = 0;
    const char **vector = push_vector(L, count_environ() + count_pairs(L, env) + 1);
    for (size_t i = 0; !request->clear_env && environ[i] != NULL; i++) {
        if (!is_overridden(L, env, environ[i])) {
            vector[used++] = environ[i];
        }
    }
    if (request->config.spawn.session) {
        vector[used++] = LD_DETACHED_VARIABLE "=1";
    }
    if (env != 0) {
        lua_pushnil(L);
        while (lua_next(L, env) != 0) {
            push_variable(L);
            vector[used++] = anchor(L, anchors);
            lua_pop(L, 1);
        }
    }
    return (char *const *)(uintptr_t)vector;
}

/* Name a child after its command, in the alphabet of names. */
static void name_after(struct ld_spawn_request *request, const char *command) {
    const char *slash = strrchr(command, '/');
    snprintf(request->name, LD_NAME_MAX + 1, "%s",
             slash != NULL && slash[1] != '\0' ? slash + 1 : command);
    for (char *at = request->name; *at != '\0'; at++) {
        bool allowed = isalnum((unsigned char)*at) || *at == '_' ||
                       (at > request->name && (*at == '.' || *at == '-'));
        if (!allowed) {
            *at = '_';
        }
    }
}

/* Read the options of a spawn. */
void ld_spawn_request_read(lua_State *L, int index, struct ld_spawn_request *request) {
    struct ld_spawn *spawn = &request->config.spawn;
    *request = (struct ld_spawn_request){0};
    request->config.kill_after_ms = LD_KILL_AFTER_MS;
    request->config.streams[1].kind = LD_STREAM_LOG;
    request->config.streams[2].kind = LD_STREAM_LOG;
    spawn->mask = -1;
    spawn->identity =
        (struct ld_spawn_identity){.uid = (uid_t)-1, .gid = (gid_t)-1, .group_count = -1};
    index = lua_absindex(L, index);
    luaL_checkstack(L, 20, "spawn");
    lx_read_options(L, index, rows, request, "spawn");
    lua_newtable(L);
    int anchors = lua_gettop(L);
    spawn->argv = push_words(L, index, anchors);
    int env = lua_getfield(L, index, "env") == LUA_TTABLE ? lua_gettop(L) : 0;
    spawn->envp = push_environment(L, request, env, anchors);
    if (request->name[0] == '\0') {
        name_after(request, spawn->argv[0]);
    }
    request->config.name = request->name;
}
