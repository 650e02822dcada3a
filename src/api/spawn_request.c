/* What a spawn executes: words, environment, and all that tells one command from another. */
#include <ctype.h>
#include <inttypes.h>
#include <lauxlib.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "api/spawn_request.h"
#include "base/parse.h"
#include "posix/family.h"
#include "script/luax.h"

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
        lx_error(L, "spawn: %s is not a place for a word of the command",
                 luaL_tolstring(L, -1, NULL));
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

/* What a change of user sets: HOME, USER and LOGNAME. */
#define ACCOUNT_VARIABLES 3
#define OWN_VARIABLES     4 /* at most, of add_own and add_listen_pid */
static const char *const account_names[ACCOUNT_VARIABLES] = {"HOME", "USER", "LOGNAME"};

/* Whether a change of user sets the variable of "KEY=VALUE". */
static bool is_of_account(const struct ld_spawn_request *request, const char *variable) {
    for (size_t i = 0; request->account != NULL && i < ACCOUNT_VARIABLES; i++) {
        size_t length = strlen(account_names[i]);
        if (strncmp(variable, account_names[i], length) == 0 && variable[length] == '=') {
            return true;
        }
    }
    return false;
}

/* Add what a change of user sets, except what the table at ENV says; a user without an entry in the
 * user database has no name. */
static size_t add_account(lua_State *L, const struct ld_user *account, int env, int anchors,
                          const char **vector) {
    const char *home = account->home != NULL ? account->home : "/";
    const char *const values[ACCOUNT_VARIABLES] = {home, account->name, account->name};
    size_t used = 0;
    for (size_t i = 0; i < ACCOUNT_VARIABLES; i++) {
        if (values[i] == NULL) {
            continue;
        }
        lua_pushfstring(L, "%s=%s", account_names[i], values[i]);
        bool overridden = is_overridden(L, env, lua_tostring(L, -1));
        vector[used] = anchor(L, anchors);
        used += !overridden;
    }
    vector[used] = NULL;
    return used;
}

/* Add the variables by which lunad recognizes a child later, and by which it says that it is ready. */
static size_t add_own(lua_State *L, const struct ld_spawn_request *request, int anchors,
                      const char **vector) {
    size_t used = 0;
    if (request->config.spawn.session) {
        vector[used++] = LD_DETACHED_VARIABLE "=1";
    }
    if (request->marked) {
        char mark[LD_SPAWN_MARK_SIZE];
        ld_api_spawn_request_mark(mark, request->mark);
        lua_pushstring(L, mark);
        vector[used++] = anchor(L, anchors);
    }
    if (request->config.ready_kind == LD_READY_BY_NOTIFY) {
        lua_pushfstring(L, LD_READY_VARIABLE "=%s", request->config.ready_address);
        vector[used++] = anchor(L, anchors);
    }
    return used;
}

/* Add LISTEN_PID if the table at ENV passes sockets by LISTEN_FDS alone: only the child knows its pid. */
static size_t add_listen_pid(lua_State *L, struct ld_spawn_request *request, int env, int anchors,
                             const char **vector) {
    static const char name[] = "LISTEN_PID=";
    if (!is_overridden(L, env, "LISTEN_FDS=") || is_overridden(L, env, name)) {
        return 0;
    }
    char *variable = lua_newuserdatauv(L, sizeof name + LD_SPAWN_PID_SIZE, 0);
    lua_rawseti(L, anchors, (lua_Integer)lua_rawlen(L, anchors) + 1);
    memcpy(variable, name, sizeof name);
    request->config.spawn.own_pid = variable + sizeof name - 1;
    vector[0] = variable;
    return 1;
}

/* Push the vector of the child's environment; ENV is the index of the table, or 0. */
static char *const *push_environment(lua_State *L, struct ld_spawn_request *request, int env,
                                     int anchors) {
    size_t used = 0;
    bool inherited = env == 0 && !request->clear_env && request->account == NULL;
    if (inherited && !request->config.spawn.session && !request->marked) {
        return environ; /* unchanged */
    }
    size_t most = count_environ() + count_pairs(L, env) + ACCOUNT_VARIABLES + OWN_VARIABLES;
    const char **vector = push_vector(L, most);
    for (size_t i = 0; !request->clear_env && environ[i] != NULL; i++) {
        if (!is_overridden(L, env, environ[i]) && !is_of_account(request, environ[i])) {
            vector[used++] = environ[i];
        }
    }
    if (request->account != NULL) {
        used += add_account(L, request->account, env, anchors, vector + used);
    }
    used += add_own(L, request, anchors, vector + used);
    used += add_listen_pid(L, request, env, anchors, vector + used);
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
void ld_api_spawn_request_set_command(lua_State *L, int index, struct ld_spawn_request *request) {
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

/* Free the user in the argument. */
static int free_account(lua_State *L) {
    ld_user_fini(lua_touserdata(L, 1));
    return 0;
}

/* Push an empty user, which is freed with the value. */
static struct ld_user *push_account(lua_State *L) {
    struct ld_user *user = lua_newuserdatauv(L, sizeof *user, 0);
    *user = (struct ld_user){0};
    if (luaL_newmetatable(L, "lunad.account")) {
        lua_pushcfunction(L, free_account);
        lua_setfield(L, -2, "__gc");
    }
    lua_setmetatable(L, -2);
    return user;
}

/* Find the user and the group that were asked for. */
void ld_api_spawn_request_find_account(lua_State *L, struct ld_spawn_request *request) {
    struct ld_spawn_identity *identity = &request->config.spawn.identity;
    if (request->user[0] == '\0') {
        if (request->group[0] != '\0') {
            request->account_error = ld_user_find_group(request->group, &identity->gid);
        }
        return;
    }
    struct ld_user *user = push_account(L);
    struct ld_text spec = {0};
    struct ld_text why = {0};
    ld_text_format(&spec, "%s%s%s", request->user, request->group[0] != '\0' ? ":" : "",
                   request->group);
    request->account_error = ld_user_find(user, ld_text_string(&spec), &why);
    ld_text_fini(&spec);
    ld_text_fini(&why);
    if (request->account_error == 0) {
        request->account = user;
        *identity = (struct ld_spawn_identity){.uid = user->uid,
                                               .gid = user->gid,
                                               .groups = user->groups,
                                               .group_count = user->group_count};
    }
}

/* Write the mark of a child. */
void ld_api_spawn_request_mark(char text[LD_SPAWN_MARK_SIZE], uint64_t mark) {
    snprintf(text, LD_SPAWN_MARK_SIZE, LD_CHILD_VARIABLE "=%d-%016" PRIx64, (int)getpid(), mark);
}

/* Order strings. */
static int compare_strings(const void *left, const void *right) {
    return strcmp(*(const char *const *)left, *(const char *const *)right);
}

/* Add the strings of a vector, each with its end. */
static void add_vector(struct ld_text *text, char *const *vector) {
    for (; *vector != NULL; vector++) {
        size_t size = strlen(*vector);
        ld_text_add_number(text, size);
        ld_text_putc(text, ':');
        ld_text_add(text, *vector, size);
        ld_text_putc(text, ',');
    }
    ld_text_putc(text, ';');
}

/* Add the variables of an environment, in an order that does not depend on a table's, but not the
 * mark and the address of the socket for READY=1, which two children never share. */
static void add_environment(struct ld_text *text, char *const *envp) {
    static const char mark[] = LD_CHILD_VARIABLE "=";
    static const char address[] = LD_READY_VARIABLE "=@lunad-";
    size_t count = 0;
    size_t used = 0;
    while (envp[count] != NULL) {
        count++;
    }
    char **sorted = calloc(count + 1, sizeof *sorted);
    if (sorted == NULL) {
        text->failed = true;
        return;
    }
    for (size_t i = 0; i < count; i++) {
        if (strncmp(envp[i], mark, sizeof mark - 1) != 0 &&
            strncmp(envp[i], address, sizeof address - 1) != 0) {
            sorted[used++] = envp[i];
        }
    }
    qsort(sorted, used, sizeof *sorted, compare_strings);
    add_vector(text, sorted);
    free(sorted);
}

/* Add what tells one command from another. The log and a callback are both a pipe to the child. */
void ld_api_spawn_request_identify(const struct ld_spawn_request *request,
                                   struct ld_text *identity) {
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
