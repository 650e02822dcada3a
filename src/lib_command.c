/* What a spawn executes: words, environment, and all that tells one command from another. */
#include <ctype.h>
#include <errno.h>
#include <lauxlib.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "lib_spawn.h"
#include "luax.h"
#include "parse.h"
#include "process.h"

extern char **environ;

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

/* The integer key at the top of the stack; raises for one below 1. */
static lua_Integer check_place(lua_State *L) {
    lua_Integer key = lua_tointeger(L, -1);
    if (key < 1) {
        lx_error(L, "spawn: %s is no place for a word of the command", luaL_tolstring(L, -1, NULL));
    }
    return key;
}

/* The number of a command's words: the highest integer key of the table at INDEX, which need not be
 * its length if a word is missing; raises for a key below 1 or out of reach. */
static size_t count_words(lua_State *L, int index) {
    lua_Integer highest = 0;
    lua_Integer count = 0;
    lua_pushnil(L);
    while (lua_next(L, index) != 0) {
        lua_pop(L, 1);
        if (lua_isinteger(L, -1)) {
            lua_Integer key = check_place(L);
            highest = key > highest ? key : highest;
            count++;
        }
    }
    for (lua_Integer i = 1; highest > count && i <= count + 1; i++) {
        bool missing = lua_rawgeti(L, index, i) == LUA_TNIL;
        lua_pop(L, 1);
        if (missing) {
            lx_error(L, "spawn: word %d of the command: string expected, got nil", (int)i);
        }
    }
    return (size_t)count;
}

/* Push the vector of a command's words: the integer keys of the table at INDEX. */
static char *const *push_words(lua_State *L, int index, int anchors) {
    size_t count = count_words(L, index);
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
    if (lua_type(L, -2) != LUA_TSTRING || lua_rawlen(L, -2) == 0 ||
        strcspn(lua_tostring(L, -2), "=") != lua_rawlen(L, -2)) {
        lx_error(L, "option 'env': a variable's name must be a string without '=' and zero bytes");
    }
    if (type != LUA_TSTRING && type != LUA_TNUMBER) {
        lx_error(L, "option 'env': %s: string expected, got %s", lua_tostring(L, -2),
                 luaL_typename(L, -1));
    }
    if (type == LUA_TSTRING && strlen(lua_tostring(L, -1)) != lua_rawlen(L, -1)) {
        lx_error(L, "option 'env': %s: it has a zero byte in it", lua_tostring(L, -2));
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
    if (env == 0 && !request->clear_env && !request->config.spawn.session) {
        return environ; /* as it is */
    }
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
    const char *base = slash != NULL && slash[1] != '\0' ? slash + 1 : command;
    memcpy(request->name, base, strnlen(base, LD_NAME_MAX)); /* the rest is zero */
    for (char *at = request->name; *at != '\0'; at++) {
        bool allowed = isalnum((unsigned char)*at) || *at == '_' ||
                       (at > request->name && (*at == '.' || *at == '-'));
        if (!allowed) {
            *at = '_';
        }
    }
}

/* Set words, environment and name from the table at INDEX. */
void ld_spawn_request_set_command(lua_State *L, int index, struct ld_spawn_request *request) {
    struct ld_spawn *spawn = &request->config.spawn;
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

/* Find the user and the group that were asked for. */
int ld_spawn_request_find_user(struct ld_spawn_request *request, struct ld_user *user,
                               struct ld_text *why) {
    struct ld_spawn_identity *identity = &request->config.spawn.identity;
    *user = (struct ld_user){0};
    if (request->user[0] != '\0') {
        struct ld_text spec = {0};
        const char *colon = request->group[0] != '\0' ? ":" : "";
        ld_text_format(&spec, "%s%s%s", request->user, colon, request->group);
        int rc = ld_user_find(user, ld_text_string(&spec), why);
        ld_text_fini(&spec);
        *identity = (struct ld_spawn_identity){.uid = user->uid,
                                               .gid = user->gid,
                                               .groups = user->groups,
                                               .group_count = user->group_count};
        return rc;
    }
    if (request->group[0] != '\0' && ld_user_find_group(request->group, &identity->gid) < 0) {
        ld_text_format(why, "there is no group \"%s\"", request->group);
        return -ENOENT;
    }
    return 0;
}

/* Order strings. */
static int compare_strings(const void *left, const void *right) {
    return strcmp(*(const char *const *)left, *(const char *const *)right);
}

/* Add the strings of a vector, each with its end. */
static void add_vector(struct ld_text *text, char *const *vector) {
    for (; *vector != NULL; vector++) {
        ld_text_format(text, "%zu:%s,", strlen(*vector), *vector);
    }
    ld_text_putc(text, ';');
}

/* Add the variables of an environment, in an order that does not depend on a table's. */
static void add_environment(struct ld_text *text, char *const *envp) {
    size_t count = 0;
    while (envp[count] != NULL) {
        count++;
    }
    char **sorted = calloc(count + 1, sizeof *sorted);
    if (sorted == NULL) {
        text->failed = true;
        return;
    }
    memcpy(sorted, envp, count * sizeof *sorted);
    qsort(sorted, count, sizeof *sorted, compare_strings);
    add_vector(text, sorted);
    free(sorted);
}

/* Add what tells one command from another. Whether a pipe of ours goes to the log or to a callback
 * is nothing of the child's. */
void ld_spawn_request_identify(const struct ld_spawn_request *request, struct ld_text *identity) {
    const struct ld_spawn *spawn = &request->config.spawn;
    add_vector(identity, spawn->argv);
    add_environment(identity, spawn->envp);
    ld_text_format(identity, "%s;%s;%s;%d;%d", spawn->cwd != NULL ? spawn->cwd : "", request->user,
                   request->group, spawn->mask, spawn->nice);
    for (int i = 0; i < 3; i++) {
        enum ld_stream_kind kind = request->config.streams[i].kind;
        ld_text_format(identity, ";%d", (int)(kind == LD_STREAM_LOG ? LD_STREAM_PIPE : kind));
    }
}
