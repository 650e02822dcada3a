#include "cli/config.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <lauxlib.h>
#include <lualib.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "api/core.h"
#include "base/parse.h"
#include "base/say.h"
#include "base/time.h"
#include "posix/paths.h"
#include "script/source.h"

#define MEMORY_MAX  ((size_t)64 << 20) /* bytes that a config may use */
#define SECONDS_MAX 5.0                /* that it may run */
#define LOOK_COUNT  100000             /* instructions between looks at the clock */

/* The state that a config runs in. */
struct state {
    size_t used; /* bytes */
    double deadline;
};

/* Allocate for Lua, within the limit. */
static void *allocate(void *arg, void *block, size_t old, size_t size) {
    struct state *state = arg;
    size_t before = block != NULL ? old : 0;
    if (size == 0) {
        free(block);
        state->used -= before;
        return NULL;
    }
    if (size > before && state->used - before + size > MEMORY_MAX) {
        return NULL;
    }
    void *grown = realloc(block, size);
    if (grown != NULL) {
        state->used = state->used - before + size;
    }
    return grown;
}

/* End a config that runs for too long. */
static void on_count(lua_State *L, lua_Debug *debug) {
    void *arg;
    (void)debug;
    lua_getallocf(L, &arg);
    if (ld_time_seconds() > ((const struct state *)arg)->deadline) {
        luaL_where(L, 0);
        lua_pushfstring(L, "%sit ran for more than %d s", lua_tostring(L, -1), (int)SECONDS_MAX);
        lua_error(L);
    }
}

/* Compile a config: load(path, environment) -> function | nil, reason. */
static int l_load(lua_State *L) {
    struct ld_text why = {0};
    const struct ld_source source = {.path = luaL_checkstring(L, 1), .as_root = geteuid() == 0};
    if (ld_source_load(L, &source, &why) == 0) {
        lua_pushvalue(L, 2);
        lua_setupvalue(L, -2, 1);
        return 1;
    }
    lua_pushnil(L);
    lua_pushstring(L, ld_text_string(&why));
    ld_text_fini(&why);
    return 2;
}

/* Whether an option takes a value: accepts(name, text) -> boolean. */
static int l_accepts(lua_State *L) {
    lua_pushboolean(L, ld_options_accept(luaL_checkstring(L, 1), luaL_checkstring(L, 2)));
    return 1;
}

/* Whether a text can be a daemon's name: is_name(text) -> boolean. */
static int l_is_name(lua_State *L) {
    lua_pushboolean(L, ld_parse_is_name(luaL_checkstring(L, 1)));
    return 1;
}

/* The name that a script implies: script_name(path) -> text. */
static int l_script_name(lua_State *L) {
    char *name = ld_paths_script_name(luaL_checkstring(L, 1));
    lua_pushstring(L, name);
    free(name);
    return 1;
}

/* Push a table of the options that a config may have, by the name that they have there. */
static void push_options(lua_State *L) {
    struct ld_option_facts facts;
    lua_newtable(L);
    for (size_t i = 0; ld_options_describe(i, &facts); i++) {
        if (facts.name != NULL) {
            luaL_gsub(L, facts.name, "-", "_");
            lua_newtable(L);
            lua_pushstring(L, facts.name);
            lua_setfield(L, -2, "name");
            lua_pushstring(L, facts.wants);
            lua_setfield(L, -2, "wants");
            lua_pushboolean(L, facts.wants == NULL);
            lua_setfield(L, -2, "is_flag");
            lua_pushboolean(L, facts.takes_number);
            lua_setfield(L, -2, "takes_number");
            lua_pushboolean(L, facts.is_path);
            lua_setfield(L, -2, "is_path");
            lua_settable(L, -3);
        }
    }
}

/* Select the configs of a folder. */
static int is_config(const struct dirent *entry) {
    size_t length = strlen(entry->d_name);
    return entry->d_name[0] != '.' && length > 4 && strcmp(entry->d_name + length - 4, ".lua") == 0;
}

/* Push the list of the configs in the folder PATH. Raises if there is none. */
static void push_files(lua_State *L, const char *path) {
    struct dirent **entries = NULL;
    int count = scandir(path, &entries, is_config, alphasort);
    int code = errno;
    lua_newtable(L);
    for (int i = 0; i < count; i++) {
        lua_pushfstring(L, "%s/%s", path, entries[i]->d_name);
        lua_rawseti(L, -2, i + 1);
        free(entries[i]);
    }
    free(entries);
    if (count <= 0) {
        luaL_error(L, "%s: %s", path,
                   count < 0 ? strerror(code) : "no config (a file NAME.lua) is in this folder");
    }
}

/* Check the folder PATH: its files are run with our rights. Raises for one that others may write to. */
static void check_folder(lua_State *L, const char *path) {
    struct stat facts;
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    const char *writers = NULL;
    if (fd >= 0 && geteuid() == 0 && fstat(fd, &facts) == 0) {
        writers = ld_source_other_writers(fd, &facts);
    }
    if (fd >= 0) {
        close(fd);
    }
    if (writers != NULL) {
        luaL_error(L, "%s: %s", path, writers);
    }
}

/* Push the list of the configs at PATH, a file or a folder; whether it is a folder. Raises if there are none. */
static bool push_configs(lua_State *L, const char *path) {
    struct stat facts;
    if (stat(path, &facts) < 0) {
        luaL_error(L, "%s: %s", path, errno == ENOENT ? "there is no such file" : strerror(errno));
    }
    if (S_ISDIR(facts.st_mode)) {
        check_folder(L, path);
        push_files(L, path);
        return true;
    }
    if (!S_ISREG(facts.st_mode)) {
        luaL_error(L, "%s: it is neither a file nor a folder", path);
    }
    lua_newtable(L);
    lua_pushstring(L, path);
    lua_rawseti(L, -2, 1);
    return false;
}

/* Push the table of facts for config.lua. */
static void push_facts(lua_State *L, const char *path) {
    static const luaL_Reg functions[] = {{"load", l_load},
                                         {"accepts", l_accepts},
                                         {"is_name", l_is_name},
                                         {"script_name", l_script_name},
                                         {NULL, NULL}};
    luaL_newlib(L, functions);
    push_options(L);
    lua_setfield(L, -2, "options");
    bool is_folder = push_configs(L, path);
    lua_setfield(L, -2, "files");
    lua_pushboolean(L, is_folder);
    lua_setfield(L, -2, "is_folder");
}

/* Run config.lua for the path in the argument. Runs protected. */
static int run_configs(lua_State *L) {
    const char *path = lua_touserdata(L, 1);
    luaL_openlibs(L);
    ld_api_core_load(L, "config.lua");
    push_facts(L, path);
    lua_sethook(L, on_count, LUA_MASKCOUNT, LOOK_COUNT);
    lua_call(L, 1, 2);
    lua_sethook(L, NULL, 0, 0);
    return 2;
}

/* Copy a string of the table at the top; NULL if it has none. */
static char *copy_field(lua_State *L, const char *field) {
    lua_getfield(L, -1, field);
    const char *string = lua_tostring(L, -1);
    char *copy = string != NULL ? strdup(string) : NULL;
    lua_pop(L, 1);
    return copy;
}

/* Copy a list of strings of the table at the top. */
static char **copy_list(lua_State *L, const char *field) {
    lua_getfield(L, -1, field);
    size_t count = (size_t)lua_rawlen(L, -1);
    char **list = calloc(count + 1, sizeof *list);
    for (size_t i = 0; list != NULL && i < count; i++) {
        lua_rawgeti(L, -1, (lua_Integer)i + 1);
        list[i] = strdup(lua_tostring(L, -1));
        lua_pop(L, 1);
    }
    lua_pop(L, 1);
    return list;
}

/* Copy the services that config.lua has returned; false without memory. */
static bool copy_services(struct ld_config *config, lua_State *L) {
    config->is_set = lua_toboolean(L, 2);
    config->count = (size_t)lua_rawlen(L, 1);
    config->services = calloc(config->count, sizeof *config->services);
    config->chosen = calloc(config->count, sizeof(void *));
    for (size_t i = 0; config->services != NULL && i < config->count; i++) {
        lua_rawgeti(L, 1, (lua_Integer)i + 1);
        config->services[i] = (struct ld_config_service){.name = copy_field(L, "name"),
                                                         .script = copy_field(L, "script"),
                                                         .run_dir = copy_field(L, "run_dir"),
                                                         .file = copy_field(L, "file"),
                                                         .words = copy_list(L, "words"),
                                                         .args = copy_list(L, "args"),
                                                         .after = copy_list(L, "after")};
        lua_pop(L, 1);
    }
    return config->services != NULL && config->chosen != NULL;
}

/* Complain of the error at the top; the exit status. */
static int complain(lua_State *L, const char *verb) {
    int status = 1;
    if (lua_istable(L, -1)) {
        lua_getfield(L, -1, "status");
        status = (int)lua_tointeger(L, -1);
        lua_getfield(L, -2, "message");
    }
    const char *message = lua_tostring(L, -1);
    ld_say_error("%s: --config: %s", verb, message != NULL ? message : "it failed");
    return status;
}

/* Run a config. */
int ld_config_load(struct ld_config *config, const char *path, const char *verb) {
    struct state state = {.deadline = ld_time_seconds() + SECONDS_MAX};
    char *file = ld_paths_absolute(path);
    lua_State *L = file != NULL ? lua_newstate(allocate, &state) : NULL;
    int status = 0;
    *config = (struct ld_config){0};
    if (L == NULL) {
        ld_say_error("%s: --config: %s: %s", verb, path, ld_paths_why_not());
        free(file);
        return 1;
    }
    lua_pushcfunction(L, run_configs);
    lua_pushlightuserdata(L, file);
    if (lua_pcall(L, 1, 2, 0) != LUA_OK) {
        status = complain(L, verb);
    } else if (!copy_services(config, L)) {
        ld_say_error("%s: not enough memory", verb);
        status = 1;
    }
    lua_close(L);
    free(file);
    return status;
}

/* Free a list. */
static void free_list(char **list) {
    for (char **at = list; at != NULL && *at != NULL; at++) {
        free(*at);
    }
    free(list);
}

/* Free what a config describes. */
void ld_config_fini(struct ld_config *config) {
    for (size_t i = 0; config->services != NULL && i < config->count; i++) {
        struct ld_config_service *service = &config->services[i];
        free(service->name);
        free(service->script);
        free(service->run_dir);
        free(service->file);
        free_list(service->words);
        free_list(service->args);
        free_list(service->after);
    }
    free(config->services);
    free(config->chosen);
    *config = (struct ld_config){0};
}

/* Add the names of all services. */
static void add_names(struct ld_text *text, const struct ld_config *config) {
    for (size_t i = 0; i < config->count; i++) {
        const char *name = config->services[i].name;
        ld_text_format(text, "%s%s", i > 0 ? ", " : "", name != NULL ? name : "one without a name");
    }
}

/* Complain that NAME is no service, or (NULL) that one must be named; 2. */
static int blame_names(const struct ld_config *config, const struct ld_call *call,
                       const char *name) {
    struct ld_text names = {0};
    add_names(&names, config);
    if (name != NULL) {
        ld_say_error("%s: %s: it describes no service \"%s\" (%s)", call->argv[0],
                     call->options->config, name, ld_text_string(&names));
    } else {
        ld_say_error("%s: %s: name its services (%s), or give --all", call->argv[0],
                     call->options->config, ld_text_string(&names));
    }
    ld_text_fini(&names);
    return 2;
}

/* Whether the operands of a call have NAME. */
static bool is_named(const struct ld_call *call, const char *name) {
    char **at = call->argv + call->operand;
    while (*at != NULL && (name == NULL || strcmp(*at, name) != 0)) {
        at++;
    }
    return *at != NULL;
}

/* Whether a config describes a service NAME. */
static bool describes(const struct ld_config *config, const char *name) {
    for (size_t i = 0; i < config->count; i++) {
        const char *own = config->services[i].name;
        if (own != NULL && strcmp(own, name) == 0) {
            return true;
        }
    }
    return false;
}

/* Choose services. */
int ld_config_choose(struct ld_config *config, const struct ld_call *call, bool implied) {
    char **operands = call->argv + call->operand;
    bool takes_all = operands[0] == NULL;
    if (takes_all && !call->options->all && !implied && config->count > 1) {
        return blame_names(config, call, NULL);
    }
    for (char **at = operands; *at != NULL; at++) {
        if (!describes(config, *at)) {
            return blame_names(config, call, *at);
        }
    }
    for (size_t i = 0; i < config->count; i++) {
        const struct ld_config_service *service = &config->services[i];
        if (service->name == NULL) {
            ld_say_error("%s: %s says neither name nor script", call->argv[0], service->file);
            return 2;
        }
        if (takes_all || is_named(call, service->name)) {
            config->chosen[config->chosen_count++] = service;
        }
    }
    return 0;
}

/* Find the run directory of a service. */
const char *ld_config_run_dir(const struct ld_config_service *service, const struct ld_call *call) {
    return call->options->run_dir != NULL ? call->options->run_dir : service->run_dir;
}
