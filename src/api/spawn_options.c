#include "api/spawn_options.h"

#include <lauxlib.h>
#include <string.h>

#include "base/parse.h"
#include "script/luax.h"

#define FD_MAX 1023

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

/* Read where stdin comes from. */
static void read_stdin(lua_State *L, const char *name, void *member) {
    read_stream(L, name, 0, member);
}

/* Read where stdout goes. */
static void read_stdout(lua_State *L, const char *name, void *member) {
    read_stream(L, name, 1, member);
}

/* Read where stderr goes. */
static void read_stderr(lua_State *L, const char *name, void *member) {
    read_stream(L, name, 2, member);
}

/* Read the name of a child. */
static void read_name(lua_State *L, const char *name, void *member) {
    const char *value = lx_option_string(L, name);
    if (!ld_parse_is_name(value)) {
        lx_error(L,
                 "option 'name': '%s' is not a name: 1 to 64 of A-Z a-z 0-9 . _ -, no leading "
                 "dot or dash",
                 value);
    }
    snprintf(member, LD_SPAWN_NAME_SIZE, "%s", value);
}

/* Read a user or group, by name or number, as text. */
static void read_account(lua_State *L, const char *name, void *member) {
    char *out = member;
    size_t size = LD_SPAWN_ACCOUNT_SIZE;
    if (lua_type(L, -1) == LUA_TNUMBER) {
        snprintf(out, size, "%lld", (long long)lx_option_integer(L, name, 0, 0xFFFFFFFELL));
        return;
    }
    const char *value = lx_option_string(L, name);
    if (value[0] == '\0' || strlen(value) >= size || strchr(value, ':') != NULL) {
        lx_error(L, "option '%s': '%s' is not the name of a %s", name, value, name);
    }
    snprintf(out, size, "%s", value);
}

/* Read one resource limit from the key and the value at the top. */
static void read_one_rlimit(lua_State *L, const char *name, struct ld_spawn *spawn) {
    int resource;
    struct rlimit limit;
    if (lua_type(L, -2) != LUA_TSTRING ||
        !ld_parse_rlimit_name(lua_tostring(L, -2), lua_rawlen(L, -2), &resource)) {
        lx_error(L, "option '%s': '%s' is not a resource (nofile, core, as, nproc, ...)", name,
                 lua_type(L, -2) == LUA_TSTRING ? lua_tostring(L, -2) : luaL_typename(L, -2));
    }
    lua_pushvalue(L, -1); /* to be converted, not the table's own value */
    if (lx_is_whole(L, -1)) {
        lua_pushinteger(L, lua_tointeger(L, -1));
        lua_replace(L, -2);
    }
    const char *text =
        lua_isinteger(L, -1) || lua_type(L, -1) == LUA_TSTRING ? lua_tostring(L, -1) : "";
    if (!ld_parse_rlimit_value(text, &limit)) {
        lx_error(L, "option '%s': %s: a number, or SOFT:HARD as text expected", name,
                 lua_tostring(L, -3));
    }
    lua_pop(L, 1);
    for (size_t i = 0; i < spawn->rlimit_count; i++) {
        if (spawn->rlimits[i].resource == resource) {
            lx_error(L, "option '%s': '%s' is there twice, in another case", name,
                     lua_tostring(L, -2));
        }
    }
    LD_ASSERT(spawn->rlimit_count < LD_SPAWN_RLIMITS_MAX);
    spawn->rlimits[spawn->rlimit_count].resource = resource;
    spawn->rlimits[spawn->rlimit_count++].limit = limit;
}

/* Read the resource limits. */
static void read_rlimit(lua_State *L, const char *name, void *member) {
    lx_option_table(L, name);
    lua_pushnil(L);
    while (lua_next(L, -2) != 0) {
        read_one_rlimit(L, name, member);
        lua_pop(L, 1);
    }
}

/* Read the further descriptors. */
static void read_fds(lua_State *L, const char *name, void *member) {
    struct ld_spawn_request *request = member;
    lx_option_table(L, name);
    lua_pushnil(L);
    while (lua_next(L, -2) != 0) {
        if (!lua_isinteger(L, -2) || lua_tointeger(L, -2) < 3 || lua_tointeger(L, -2) > FD_MAX) {
            lx_error(L, "option '%s': a descriptor of the child is a number from 3 to %d", name,
                     FD_MAX);
        }
        if (request->config.spawn.fd_count == LD_COUNT(request->fds)) {
            lx_error(L, "option '%s': more than %d descriptors", name, (int)LD_COUNT(request->fds));
        }
        struct ld_spawn_fd *fd = &request->fds[request->config.spawn.fd_count++];
        fd->child = (int)lua_tointeger(L, -2);
        fd->parent = read_fd(L, name);
        lua_pop(L, 1);
    }
    request->config.spawn.fds = request->fds;
}

#define AT(member) .offset = offsetof(struct ld_spawn_request, member)

/* env and the callbacks are only checked here; they are read from the table where they are used. */
const struct lx_row ld_api_spawn_options_rows[] = {
    {"name", LX_CUSTOM, AT(name), .read = read_name},
    {"cwd", LX_STRING, AT(config.spawn.cwd)},
    {"env", LX_TABLE, .offset = 0},
    {"clear_env", LX_BOOLEAN, AT(clear_env)},
    {"stdin", LX_CUSTOM, .read = read_stdin},
    {"stdout", LX_CUSTOM, .read = read_stdout},
    {"stderr", LX_CUSTOM, .read = read_stderr},
    {"on_exit", LX_FUNCTION, .offset = 0},
    {"timeout", LX_MS, AT(config.timeout_ms), .min = 1},
    {"kill_after", LX_MS, AT(config.kill_after_ms)},
    {"detach", LX_BOOLEAN, AT(config.spawn.session)},
    {"user", LX_CUSTOM, AT(user), .read = read_account},
    {"group", LX_CUSTOM, AT(group), .read = read_account},
    {"umask", LX_MODE, AT(config.spawn.mask)},
    {"nice", LX_INTEGER, AT(config.spawn.nice), .min = -40, .max = 40},
    {"rlimit", LX_CUSTOM, AT(config.spawn), .read = read_rlimit},
    {"fds", LX_CUSTOM, .read = read_fds},
    {"keep", LX_BOOLEAN, AT(keep)},
    {.name = NULL},
};

/* Read the options of a spawn. */
void ld_api_spawn_options_read(lua_State *L, int index, bool marked, enum ld_ready_kind ready,
                               struct ld_spawn_request *request) {
    static uint64_t marks; /* of all children so far */
    struct ld_spawn *spawn = &request->config.spawn;
    *request = (struct ld_spawn_request){.marked = marked, .mark = marked ? ++marks : 0};
    request->config.kill_after_ms = LD_KILL_AFTER_MS;
    request->config.ready_kind = ready;
    int rc = ready == LD_READY_BY_NOTIFY
                 ? ld_child_ready_make_address(request->config.ready_address)
                 : 0;
    if (rc < 0) {
        lx_error(L, "spawn: no random bytes for the address of a socket: %s", strerror(-rc));
    }
    request->config.streams[1].kind = LD_STREAM_LOG;
    request->config.streams[2].kind = LD_STREAM_LOG;
    spawn->mask = -1;
    spawn->identity =
        (struct ld_spawn_identity){.uid = (uid_t)-1, .gid = (gid_t)-1, .group_count = -1};
    index = lua_absindex(L, index);
    luaL_checkstack(L, 20, "spawn");
    lx_read_options(L, index, ld_api_spawn_options_rows, request, "spawn");
    if (request->keep && request->name[0] == '\0') {
        lx_error(L, "option 'keep': it needs a name, by which the next generation asks for it");
    }
    ld_api_spawn_request_find_account(L, request);
    ld_api_spawn_request_set_command(L, index, request);
}
