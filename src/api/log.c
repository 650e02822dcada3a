/* lunad.log, and print. */
#include <lauxlib.h>
#include <stdlib.h>
#include <string.h>

#include "api/module.h"
#include "base/log.h"
#include "script/caller.h"
#include "script/interrupt.h"
#include "script/luax.h"
#include "script/script.h"

#define FIELDS_MAX 64

/* The name of a field at INDEX, as a C string that the stack keeps. */
static const char *read_key(lua_State *L, int index) {
    size_t size;
    const char *key = lua_tolstring(L, index, &size);
    if (strlen(key) < size) {
        luaL_Buffer clean;
        luaL_buffinit(L, &clean);
        for (size_t i = 0; i < size; i++) {
            luaL_addstring(&clean, key[i] != '\0' ? (char[]){key[i], '\0'} : "\\x00");
        }
        luaL_pushresult(&clean);
        lua_replace(L, index);
        key = lua_tostring(L, index);
    }
    return key;
}

/* Read one field from its key at INDEX and its value after that; a value without a plain form is
 * replaced by its text. */
static void read_field(lua_State *L, int index, struct ld_log_field *field) {
    int value = index + 1;
    field->key = read_key(L, index);
    switch (lua_type(L, value)) {
    case LUA_TBOOLEAN:
        field->type = LD_FIELD_BOOLEAN;
        field->value.boolean = lua_toboolean(L, value);
        break;
    case LUA_TNUMBER:
        if (lua_isinteger(L, value)) {
            field->type = LD_FIELD_INTEGER;
            field->value.integer = lua_tointeger(L, value);
        } else {
            field->type = LD_FIELD_NUMBER;
            field->value.number = lua_tonumber(L, value);
        }
        break;
    default:
        field->type = LD_FIELD_TEXT;
        lx_push_text(L, value);
        lua_replace(L, value);
        field->value.text.data = lua_tolstring(L, value, &field->value.text.size);
        break;
    }
}

/* Order fields by name. */
static int compare_fields(const void *left, const void *right) {
    return strcmp(((const struct ld_log_field *)left)->key,
                  ((const struct ld_log_field *)right)->key);
}

/* Push the keys and values of the table at index 2; how many fields they are. */
static int push_fields(lua_State *L) {
    int count = 0;
    luaL_checkstack(L, 2 * FIELDS_MAX + 8, "log");
    lua_pushnil(L);
    while (lua_next(L, 2) != 0) {
        if (lua_type(L, -2) != LUA_TSTRING) {
            lx_error(L, "log: a field's name must be a string, not a %s", luaL_typename(L, -2));
        }
        if (count++ == FIELDS_MAX) {
            lx_error(L, "log: more than %d fields", FIELDS_MAX);
        }
        lua_pushvalue(L, -2);
    }
    return count;
}

/* Read the fields of the table at index 2, sorted by name; their number. All are on the stack before
 * the first __tostring is called, which may change the table. */
static size_t read_fields(lua_State *L, struct ld_log_field *fields) {
    int first = lua_gettop(L) + 1;
    int count = push_fields(L);
    for (int i = 0; i < count; i++) {
        read_field(L, first + 2 * i, &fields[i]);
    }
    qsort(fields, (size_t)count, sizeof *fields, compare_fields);
    return (size_t)count;
}

/* Log the arguments: message [, fields]. */
static int log_at(lua_State *L, enum ld_log_level level) {
    struct ld_log_field fields[FIELDS_MAX];
    const struct ld_setup *setup = ld_state_script(L)->setup;
    const char *source = setup->channels != NULL ? "lunad" : setup->name; /* a master's is ours */
    struct ld_log_event event = {.level = level, .source = source};
    event.message = luaL_checklstring(L, 1, &event.size);
    if (!lua_isnoneornil(L, 2)) {
        luaL_checktype(L, 2, LUA_TTABLE);
        event.field_count = read_fields(L, fields);
        event.fields = fields;
    }
    ld_log_put(&event);
    return 0;
}

/* log.debug(message [, fields]) */
static int l_debug(lua_State *L) {
    return log_at(L, LD_LOG_DEBUG);
}

/* log.info(message [, fields]) */
static int l_info(lua_State *L) {
    return log_at(L, LD_LOG_INFO);
}

/* log.warn(message [, fields]) */
static int l_warn(lua_State *L) {
    return log_at(L, LD_LOG_WARN);
}

/* log.error(message [, fields]) */
static int l_error(lua_State *L) {
    return log_at(L, LD_LOG_ERROR);
}

/* print(...): to the client that the code runs for, or to the log in a daemon, to stdout in the foreground. */
static int l_print(lua_State *L) {
    const struct ld_script *script = ld_state_script(L);
    const struct ld_setup *setup = script->setup;
    struct ld_caller *caller = ld_interrupt_caller(script);
    int count = lua_gettop(L);
    luaL_Buffer buffer;
    for (int i = 1; i <= count; i++) { /* as Lua's print: what __tostring raises is raised */
        luaL_tolstring(L, i, NULL);
        lua_replace(L, i);
    }
    luaL_buffinit(L, &buffer);
    for (int i = 1; i <= count; i++) {
        if (i > 1) {
            luaL_addchar(&buffer, '\t');
        }
        lua_pushvalue(L, i);
        luaL_addvalue(&buffer);
    }
    luaL_pushresult(&buffer);
    size_t size;
    const char *text = lua_tolstring(L, -1, &size);
    if (caller != NULL && caller->print(caller, text, size)) {
        return 0;
    }
    if (setup->daemon) {
        struct ld_log_event event = {
            .level = LD_LOG_INFO, .source = setup->name, .message = text, .size = size};
        ld_log_put(&event);
    } else {
        fwrite(text, 1, size, stdout);
        putc('\n', stdout);
        fflush(stdout);
    }
    return 0;
}

static const luaL_Reg levels[] = {
    {"debug", l_debug}, {"info", l_info}, {"warn", l_warn}, {"error", l_error}, {NULL, NULL},
};

/* Open this part. */
static int set_up(lua_State *L) {
    luaL_newlib(L, levels);
    lua_setfield(L, 1, "log");
    lua_pushcfunction(L, l_print);
    lua_setglobal(L, "print");
    return 0;
}

const struct ld_part ld_api_log_part = {
    .name = "log",
    .open = set_up,
};
