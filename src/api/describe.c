#include "api/describe.h"

#include <ctype.h>
#include <fcntl.h>
#include <lauxlib.h>
#include <netdb.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "api/child_box.h"
#include "api/embedded.h"
#include "base/file.h"
#include "base/time.h"
#include "script/luax.h"

#define FILE_MOST   ((off_t)256 << 10) /* each name is looked up from its beginning */
#define LOADS_MOST  8                  /* in one report */
#define LEVELS_MOST 40
#define WORD_MOST   80

/* Free the text. */
void ld_api_describe_fini(struct ld_describe *describe) {
    ld_text_fini(&describe->text);
}

/* Read a file that has not changed since the generation was loaded. */
static void read_file(struct ld_describe *describe, const char *path) {
    struct stat status;
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    if (fd < 0) {
        return;
    }
    if (fstat(fd, &status) == 0 && S_ISREG(status.st_mode) && status.st_size <= FILE_MOST) {
        int64_t changed = (int64_t)status.st_mtim.tv_sec * LD_TIME_SECOND + status.st_mtim.tv_nsec;
        if (changed < describe->script->loaded_at) {
            ld_file_read(fd, &describe->text);
        }
    }
    close(fd);
}

/* Whether a source is lunad's own. */
static bool is_own(const char *source) {
    return strncmp(source, "=" LX_OWN_CHUNK, strlen("=" LX_OWN_CHUNK)) == 0;
}

/* Add the text of a file of lunad's own. */
static void add_embedded(struct ld_describe *describe, const char *name) {
    for (const struct ld_embedded *chunk = ld_embedded; chunk->name != NULL; chunk++) {
        if (strcmp(chunk->name, name) == 0) {
            ld_text_add(&describe->text, chunk->text, chunk->size);
        }
    }
}

/* Have the text of a source. */
static void load(struct ld_describe *describe, const char *source) {
    const struct ld_source *given = describe->script->setup->source;
    if (describe->source == source) {
        return;
    }
    describe->source = source;
    ld_text_clear(&describe->text);
    if (++describe->loads > LOADS_MOST) {
        return;
    }
    if (source[0] == '@') {
        read_file(describe, source + 1);
    } else if (is_own(source)) {
        add_embedded(describe, source + strlen("=" LX_OWN_CHUNK));
    } else if (given->path == NULL && given->title != NULL && strcmp(source, given->title) == 0) {
        ld_text_add(&describe->text, given->text, given->size);
    }
}

/* Find a line of a text; its length, or 0. */
static size_t find_line(const struct ld_text *text, int number, const char **line) {
    const char *at = ld_text_string(text);
    const char *end = at + text->size;
    for (int i = 1; i < number && at != NULL && at < end; i++) {
        at = memchr(at, '\n', (size_t)(end - at));
        at = at != NULL ? at + 1 : NULL;
    }
    if (at == NULL || at >= end) {
        return 0;
    }
    const char *newline = memchr(at, '\n', (size_t)(end - at));
    *line = at;
    return (size_t)((newline != NULL ? newline : end) - at);
}

/* Whether a byte can be in a name. */
static bool is_letter(char byte) {
    return (isalnum)((unsigned char)byte) != 0 || byte == '_';
}

/* Whether a byte can be in a name of several parts. */
static bool is_part(char byte) {
    return is_letter(byte) || byte == '.' || byte == ':';
}

/* Find "function" as a word in a line; NULL if it is not there once. */
static const char *find_word(const char *line) {
    const char *found = NULL;
    for (const char *at = line; (at = strstr(at, "function")) != NULL; at += 8) {
        bool is_word = (at == line || !is_letter(at[-1])) && !is_letter(at[8]);
        if (is_word && found != NULL) {
            return NULL;
        }
        found = is_word ? at : found;
    }
    return found;
}

/* Find the name in the line on which a function begins: "function NAME(", or "NAME = function". */
static void find_name(const char *line, char name[LD_DESCRIBE_NAME]) {
    const char *word = find_word(line);
    if (word == NULL) {
        return;
    }
    const char *from = word + 8 + strspn(word + 8, " \t");
    const char *to = from;
    while (is_part(*to)) {
        to++;
    }
    if (to == from) {
        to = word;
        while (to > line && (to[-1] == ' ' || to[-1] == '\t')) {
            to--;
        }
        if (to == line || to[-1] != '=') {
            return;
        }
        to--;
        while (to > line && (to[-1] == ' ' || to[-1] == '\t')) {
            to--;
        }
        from = to;
        while (from > line && is_part(from[-1])) {
            from--;
        }
    }
    snprintf(name, LD_DESCRIBE_NAME, "%.*s", (int)(to - from), from);
}

/* Find the name of a function. */
void ld_api_describe_function(struct ld_describe *describe, lua_State *L,
                              char name[LD_DESCRIBE_NAME]) {
    lua_Debug ar;
    char line[400];
    const char *at = NULL;
    name[0] = '\0';
    if (!lua_isfunction(L, -1) || lua_iscfunction(L, -1)) {
        return;
    }
    lua_pushvalue(L, -1);
    lua_getinfo(L, ">S", &ar);
    if (ar.linedefined <= 0) {
        return;
    }
    load(describe, ar.source);
    size_t size = find_line(&describe->text, ar.linedefined, &at);
    if (size > 0 && size < sizeof line) {
        snprintf(line, sizeof line, "%.*s", (int)size, at);
        find_name(line, name);
    }
}

/* Whether a call is in the script's own Lua. */
static bool is_scripts(const lua_Debug *ar) {
    return *ar->what != 'C' && !is_own(ar->source);
}

/* Find the text that names a file, the end of a long one. */
const char *ld_api_describe_file(const lua_Debug *ar, size_t *size) {
    bool is_file = ar->source[0] == '@' || ar->source[0] == '=';
    const char *file = is_file ? ar->source + 1 : ar->short_src;
    size_t length = is_file ? ar->srclen - 1 : strlen(file);
    *size = length > LD_GROUP_FILE ? LD_GROUP_FILE + 1 : length;
    return file + length - *size;
}

/* Find where a task is, and what it runs. */
void ld_api_describe_task(lua_State *L, lua_State *co, struct ld_group_key *key) {
    lua_Debug ar;
    lua_Debug outermost;
    bool is_found = false;
    for (int level = 0; level < LEVELS_MOST && lua_getstack(co, level, &ar); level++) {
        lua_getinfo(co, "Sl", &ar);
        if (key->line == 0 && ar.currentline > 0 && !is_own(ar.source)) {
            key->file = ld_api_describe_file(&ar, &key->size);
            key->line = ar.currentline;
        }
        if (is_scripts(&ar)) {
            outermost = ar;
            is_found = true;
        }
    }
    if (!is_found || !lua_checkstack(co, 1)) {
        lua_pushnil(L);
        return;
    }
    lua_getinfo(co, "f", &outermost);
    lua_xmove(co, L, 1);
    key->root = ld_api_describe_file(&outermost, &key->root_size);
    key->root_line = outermost.linedefined;
}

/* Find the function of lunad that the script has called; false if there is none. */
static bool find_call(lua_State *co, lua_Debug *call) {
    lua_Debug ar;
    bool found = false;
    for (int level = 0; level < LEVELS_MOST && lua_getstack(co, level, &ar); level++) {
        lua_getinfo(co, "Sn", &ar);
        if (is_scripts(&ar)) {
            break;
        }
        found = true;
        *call = ar;
    }
    return found;
}

/* Add the address of the other end of a descriptor. */
static void add_peer(struct ld_text *text, int fd) {
    struct sockaddr_storage address = {.ss_family = AF_UNIX};
    socklen_t size = sizeof address;
    char host[NI_MAXHOST];
    char port[NI_MAXSERV];
    if (getpeername(fd, (struct sockaddr *)&address, &size) == 0 && address.ss_family != AF_UNIX &&
        getnameinfo((struct sockaddr *)&address, size, host, sizeof host, port, sizeof port,
                    NI_NUMERICHOST | NI_NUMERICSERV) == 0) {
        ld_text_format(text, address.ss_family == AF_INET6 ? " of [%s]:%s" : " of %s:%s", host,
                       port);
    }
}

/* Add the other end of the luv handle at the top. */
static void add_handle(lua_State *L, struct ld_text *text) {
    if (luaL_getmetafield(L, -1, "__index") == LUA_TTABLE) {
        lua_getfield(L, -1, "fileno");
        lua_pushvalue(L, -3);
        if (lua_iscfunction(L, -2) && lua_pcall(L, 1, 1, 0) == LUA_OK && lua_isinteger(L, -1)) {
            add_peer(text, (int)lua_tointeger(L, -1));
        }
    }
}

/* Add a string, or the last part of a command's path. */
static void add_word(struct ld_text *text, const char *between, const char *word, bool is_path) {
    const char *slash = is_path ? strrchr(word, '/') : NULL;
    ld_text_format(text, "%s%.*s", between, WORD_MOST, slash != NULL ? slash + 1 : word);
}

/* Get a field of the table at the top that is a string; NULL without one. It is pushed. */
static const char *raw_string(lua_State *L, const char *key) {
    lua_pushstring(L, key);
    lua_rawget(L, -2);
    return lua_type(L, -1) == LUA_TSTRING ? lua_tostring(L, -1) : NULL;
}

/* Add what the table at the top tells: a command, a URL, a stream. */
static void add_table(lua_State *L, struct ld_text *text) {
    int top = lua_gettop(L);
    if (lua_rawgeti(L, top, 1) == LUA_TSTRING) {
        add_word(text, " ", lua_tostring(L, -1), true);
        return;
    }
    lua_settop(L, top);
    const char *url = raw_string(L, "url");
    if (url != NULL) {
        add_word(text, " ", url, false);
        return;
    }
    lua_settop(L, top);
    const char *address = raw_string(L, "address");
    if (address != NULL) {
        add_word(text, " of ", address, false);
        return;
    }
    lua_settop(L, top);
    lua_pushliteral(L, "handle");
    if (lua_rawget(L, top) == LUA_TUSERDATA) {
        add_handle(L, text);
    }
}

/* Add the first argument of a call, at the top, if it tells anything. */
static void add_argument(lua_State *L, struct ld_text *text) {
    const struct ld_child_box *child = luaL_testudata(L, -1, LD_CHILD_TYPE);
    if (child != NULL) {
        add_word(text, " for ", child->name, false);
    } else if (lua_type(L, -1) == LUA_TSTRING) {
        add_word(text, " ", lua_tostring(L, -1), false);
    } else if (lua_istable(L, -1)) {
        add_table(L, text);
    }
}

/* Add the name of the call: how the script has called it (an iterator: the method that returns it), or, where a
 * tail call has replaced that, the first word of the name of the function, or the name of its file. */
static void add_call(lua_State *L, struct ld_describe *describe, lua_State *co, lua_Debug *call,
                     struct ld_text *text) {
    char name[LD_DESCRIBE_NAME] = "";
    if (call->name != NULL && strcmp(call->namewhat, "for iterator") == 0) {
        ld_text_puts(text, strstr(call->source, "channel") != NULL ? "each" : "lines");
        return;
    }
    if (call->name != NULL) {
        ld_text_puts(text, call->name);
        return;
    }
    lua_getinfo(co, "f", call);
    lua_xmove(co, L, 1);
    ld_api_describe_function(describe, L, name);
    const char *word = name[0] != '\0' ? name : strrchr(call->source, '/');
    word = word == NULL ? "?" : *word == '/' ? word + 1 : word;
    word += strcspn(word, ":") < strlen(word) ? strcspn(word, ":") + 1 : 0;
    ld_text_format(text, "%.*s", (int)strcspn(word, "_."), word);
}

/* Add what a task waits for. */
void ld_api_describe_wait(lua_State *L, struct ld_describe *describe, struct ld_task *task,
                          struct ld_text *text) {
    lua_Debug call = {.name = NULL, .what = "C"};
    int top = lua_gettop(L);
    lua_State *co = task->co;
    const char *state = task->waits_for != NULL ? task->waits_for : "running";
    luaL_checkstack(L, 10, NULL);
    if (task->waits_for == NULL || !find_call(co, &call) || !lua_checkstack(co, 2) ||
        (call.name == NULL && *call.what == 'C')) {
        ld_text_puts(text, state);
        return;
    }
    add_call(L, describe, co, &call, text);
    if (lua_getlocal(co, &call, 1) != NULL) {
        lua_xmove(co, L, 1);
        add_argument(L, text);
    }
    lua_settop(L, top);
}
