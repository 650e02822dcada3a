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

/* Add a message about a module that was not found; false if it is none. */
static bool add_missing(struct ld_text *text, const char *message, size_t size) {
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

/* Suggest a field of the module at the top of L for one that was called and is not there. */
static void suggest(lua_State *L, lua_State *co, struct ld_text *text, const char *message) {
    char word[LD_LIKELY_MAX] = "";
    struct ld_likely likely = {.word = word};
    const char *field = after(message, "attempt to call a nil value (field '");
    size_t size = field != NULL ? strcspn(field, "'\n") : sizeof word;
    if (size >= sizeof word || strcmp(field + size, "')") != 0 || !has_module(L, co)) {
        return;
    }
    memcpy(word, field, size);
    lua_pushnil(L);
    while (lua_next(L, -2) != 0) {
        lua_pop(L, 1);
        if (lua_type(L, -1) == LUA_TSTRING) {
            ld_likely_try(&likely, lua_tostring(L, -1)); /* the module keeps the string */
        }
    }
    if (likely.best != NULL && strcmp(likely.best, word) != 0) {
        ld_text_format(text, "; did you mean lunad.%s?", likely.best);
    }
}

/* Add a message. */
void ld_hint_add_message(lua_State *L, lua_State *co, struct ld_text *text, const char *message,
                         size_t size) {
    if (strlen(message) == size && add_missing(text, message, size)) {
        return;
    }
    ld_text_add(text, message, size);
    if (strstr(message, "attempt to call a nil value") != NULL && push_module(L)) {
        suggest(L, co, text, message);
        lua_pop(L, 1);
    }
}
