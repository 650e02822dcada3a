#include "script/hint.h"

#include <lauxlib.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "base/likely.h"
#include "base/log.h"

#define FOLDERS_MOST 12 /* that are named */

/* Find WORDS in bytes that end with a NUL. */
static const char *after(const char *text, const char *words) {
    const char *found = strstr(text, words);
    return found != NULL ? found + strlen(words) : NULL;
}

/* A part of a message. */
struct part {
    const char *at;
    size_t size;
};

/* Add a folder to a list, once; false if there is no room. */
static bool add_folder(struct part folders[FOLDERS_MOST], size_t *count, struct part folder) {
    for (size_t i = 0; i < *count; i++) {
        if (folders[i].size == folder.size && memcmp(folders[i].at, folder.at, folder.size) == 0) {
            return true;
        }
    }
    if (*count == FOLDERS_MOST) {
        return false;
    }
    folders[(*count)++] = folder;
    return true;
}

/* The folder in which a module with NAME was looked for as FILE: without the name, and what makes it a file. */
static struct part folder_of(struct part file, struct part name) {
    size_t best = 0;
    for (size_t i = 0; i + name.size < file.size; i++) {
        bool is_same = file.at[i] == '/';
        for (size_t j = 0; is_same && j < name.size; j++) {
            char letter = file.at[i + 1 + j];
            is_same = letter == name.at[j] || (name.at[j] == '.' && letter == '/');
        }
        best = is_same ? i : best;
    }
    for (size_t i = file.size; best == 0 && i-- > 1;) {
        best = file.at[i] == '/' ? i : 0;
    }
    return (struct part){file.at, best};
}

/* Add the message that the module NAME was not found, whose search follows; what follows that is returned. */
static const char *add_search(struct ld_text *text, struct part name, const char *search) {
    struct part folders[FOLDERS_MOST];
    size_t count = 0;
    bool is_whole = true;
    while (strncmp(search, "\n\tno f", 6) ==
           0) { /* "no field package.preload[...]", "no file '...'" */
        size_t size = strcspn(search + 1, "\n");
        static const char file[] = "\n\tno file '";
        if (strncmp(search, file, sizeof file - 1) == 0 && size + 1 > sizeof file) {
            const struct part path = {search + sizeof file - 1, size - sizeof file + 1};
            is_whole = add_folder(folders, &count, folder_of(path, name)) && is_whole;
        }
        search += 1 + size;
    }
    ld_text_puts(text, count > 0 ? " in " : "");
    for (size_t i = 0; i < count; i++) {
        ld_text_puts(text, i > 0 ? ", " : "");
        ld_text_add(text, folders[i].at, folders[i].size);
    }
    ld_text_puts(text, is_whole ? "" : ", ...");
    ld_text_puts(text, " (--log-level debug lists all files)");
    return search;
}

/* Find in the table at the top, which keeps it, the key that is most like a word. */
static void try_keys(lua_State *L, struct ld_likely *likely) {
    lua_pushnil(L);
    while (lua_next(L, -2) != 0) {
        lua_pop(L, 1);
        if (lua_type(L, -1) == LUA_TSTRING) {
            ld_likely_try(likely, lua_tostring(L, -1));
        }
    }
}

/* Suggest a module of lunad for one with a NAME that begins as theirs do. */
static void suggest_module(lua_State *L, struct ld_text *text, struct part name) {
    static const char begin[] = "lunad.";
    char word[LD_LIKELY_MAX] = "";
    struct ld_likely likely = {.word = word};
    if (name.size < sizeof begin || name.size >= sizeof word ||
        memcmp(name.at, begin, sizeof begin - 1) != 0) {
        return;
    }
    memcpy(word, name.at, name.size);
    luaL_getsubtable(L, LUA_REGISTRYINDEX, LUA_PRELOAD_TABLE);
    try_keys(L, &likely);
    if (likely.best != NULL && strncmp(likely.best, begin, sizeof begin - 1) == 0) {
        ld_text_format(text, "; did you mean '%s'?", likely.best);
    }
    lua_pop(L, 1);
}

/* Add a message about a module that was not found; false if it is none. */
static bool add_missing(lua_State *L, struct ld_text *text, const char *message, size_t size) {
    static const char middle[] = "' not found:\n\tno field ";
    const char *name = after(message, "module '");
    const char *end = name != NULL ? strstr(name, middle) : NULL;
    if (end == NULL || ld_log_level() == LD_LOG_DEBUG || memchr(name, '\n', (size_t)(end - name))) {
        return false;
    }
    const struct part module = {name, (size_t)(end - name)};
    const char *search = strchr(end, '\n');
    ld_text_add(text, message, (size_t)(end - message) + strlen("' not found"));
    const char *rest = add_search(text, module, search);
    suggest_module(L, text, module);
    ld_text_add(text, rest, size - (size_t)(rest - message));
    return true;
}

/* Push the module `lunad`; false, and nothing is pushed, if it was not loaded. */
static bool push_module(lua_State *L) {
    luaL_getsubtable(L, LUA_REGISTRYINDEX, LUA_LOADED_TABLE);
    lua_pushliteral(L, "lunad");
    bool is_table = lua_rawget(L, -2) == LUA_TTABLE;
    lua_remove(L, -2);
    if (!is_table) {
        lua_pop(L, 1);
    }
    return is_table;
}

/* Whether the value at the top of CO, which is popped, is the module at the top of L. */
static bool is_module(lua_State *L, lua_State *co) {
    bool is_same = lua_topointer(co, -1) == lua_topointer(L, -1);
    lua_pop(co, 1);
    return is_same;
}

/* Whether the function that failed in CO has the module at the top of L in a variable. */
static bool has_module(lua_State *L, lua_State *co) {
    lua_Debug ar;
    bool is_found = false;
    if (!lua_getstack(co, 0, &ar) || !lua_checkstack(co, 4) || !lua_getinfo(co, "f", &ar)) {
        return false;
    }
    for (int i = 1; !is_found && lua_getupvalue(co, -1, i) != NULL; i++) {
        is_found = is_module(L, co);
    }
    lua_pop(co, 1);
    for (int i = 1; !is_found && lua_getlocal(co, &ar, i) != NULL; i++) {
        is_found = is_module(L, co);
    }
    if (!is_found) {
        lua_pushglobaltable(co);
        lua_pushliteral(co, "lunad");
        lua_rawget(co, -2);
        is_found = is_module(L, co);
        lua_pop(co, 1);
    }
    return is_found;
}

/* Suggest the field of the module at the top of L, or of a table in it, that is most like WORD, which was called and is
 * not there. */
static void suggest_field(lua_State *L, struct ld_text *text, const char *word) {
    static const char *const tables[] = {"log", "metrics"};
    struct ld_likely likely = {.word = word};
    const char *table = NULL;
    try_keys(L, &likely);
    for (size_t i = 0; i < sizeof tables / sizeof tables[0]; i++) {
        const char *best = likely.best;
        lua_pushstring(L, tables[i]);
        if (lua_rawget(L, -2) == LUA_TTABLE) {
            try_keys(L, &likely);
        }
        lua_pop(L, 1);
        table = likely.best != best ? tables[i] : table;
    }
    if (likely.best != NULL && (table != NULL || strcmp(likely.best, word) != 0)) {
        ld_text_format(text, "; did you mean lunad.%s%s%s?", table != NULL ? table : "",
                       table != NULL ? "." : "", likely.best);
    }
}

/* Say what to add for a variable or a field that is the name of a module of lunad, and is nil. */
static void suggest_require(struct ld_text *text, const char *word) {
    static const char *const modules[][2] = {
        {"lunad", "lunad"},         {"net", "lunad.net"}, {"http", "lunad.http"},
        {"socket", "lunad.socket"}, {"uv", "luv"},        {"luv", "luv"},
    };
    for (size_t i = 0; i < sizeof modules / sizeof modules[0]; i++) {
        if (strcmp(word, modules[i][0]) == 0) {
            ld_text_format(text, "; add: local %s = require \"%s\"", word, modules[i][1]);
        }
    }
}

/* Copy the name at the end of a message that ends with "WORDSNAME')"; false if it does not. */
static bool get_name(const char *message, const char *words, char name[LD_LIKELY_MAX]) {
    const char *at = after(message, words);
    size_t size = at != NULL ? strcspn(at, "'\n") : LD_LIKELY_MAX;
    if (size >= LD_LIKELY_MAX || strcmp(at + size, "')") != 0) {
        return false;
    }
    memcpy(name, at, size);
    name[size] = '\0';
    return true;
}

/* Whether the module at the top of L has a function of this name. */
static bool has_function(lua_State *L, const char *name) {
    lua_pushstring(L, name);
    bool is_function = lua_rawget(L, -2) == LUA_TFUNCTION;
    lua_pop(L, 1);
    return is_function;
}

/* Suggest what was meant by a function of the module at the top of L, or by a module that was not required. */
static void suggest_call(lua_State *L, lua_State *co, struct ld_text *text, const char *message) {
    char name[LD_LIKELY_MAX];
    if (get_name(message, "attempt to call a nil value (field '", name)) {
        if (has_module(L, co)) {
            suggest_field(L, text, name);
        }
    } else if (get_name(message, "attempt to call a nil value (global '", name)) {
        if (has_function(L, name)) {
            ld_text_format(text, "; did you mean lunad.%s?", name);
        }
    } else if (get_name(message, "attempt to call a table value (field '", name)) {
        if (strcmp(name, "log") == 0 && has_module(L, co)) {
            ld_text_puts(text, "; did you mean lunad.log.info?");
        }
    } else if (get_name(message, "attempt to index a nil value (field '", name) &&
               has_module(L, co)) {
        suggest_require(text, name);
    }
}

/* Add a message. */
void ld_hint_add_message(lua_State *L, lua_State *co, struct ld_text *text, const char *message,
                         size_t size) {
    char name[LD_LIKELY_MAX];
    if (strlen(message) == size && add_missing(L, text, message, size)) {
        return;
    }
    ld_text_add(text, message, size);
    if (strstr(message, "attempt to ") == NULL) {
        return;
    }
    if (get_name(message, "attempt to index a nil value (global '", name)) {
        suggest_require(text, name);
    } else if (push_module(L)) {
        suggest_call(L, co, text, message);
        lua_pop(L, 1);
    }
}
