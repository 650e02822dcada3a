/* lunad.log, and print. */
#include <lauxlib.h>
#include <stdlib.h>
#include <string.h>

#include "lib_parts.h"
#include "log.h"
#include "luax.h"
#include "script.h"

#define FIELDS_MAX 64

/* Read one field from the key and the value at the top of the stack; what has no plain form is
 * converted, and the text is left on the stack below the key. */
static void read_field(lua_State *L, struct ld_log_field *field) {
    if (lua_type(L, -2) != LUA_TSTRING) {
        lx_error(L, "log: a field's name must be a string, not a %s", luaL_typename(L, -2));
    }
    field->key = lua_tostring(L, -2);
    switch (lua_type(L, -1)) {
    case LUA_TBOOLEAN:
        field->type = LD_FIELD_BOOLEAN;
        field->value.boolean = lua_toboolean(L, -1);
        break;
    case LUA_TNUMBER:
        if (lua_isinteger(L, -1)) {
            field->type = LD_FIELD_INTEGER;
            field->value.integer = lua_tointeger(L, -1);
        } else {
            field->type = LD_FIELD_NUMBER;
            field->value.number = lua_tonumber(L, -1);
        }
        break;
    default:
        field->type = LD_FIELD_TEXT;
        field->value.text.data = luaL_tolstring(L, -1, &field->value.text.size);
        lua_insert(L, -3); /* below the key: it must live as long as the field */
        break;
    }
}

/* Order fields by name. */
static int compare_fields(const void *left, const void *right) {
    return strcmp(((const struct ld_log_field *)left)->key,
                  ((const struct ld_log_field *)right)->key);
}

/* Read the fields of the table at index 2, sorted by name; their number. */
static size_t read_fields(lua_State *L, struct ld_log_field *fields) {
    size_t count = 0;
    luaL_checkstack(L, FIELDS_MAX + 4, "log");
    lua_pushnil(L);
    while (lua_next(L, 2) != 0) {
        if (count == FIELDS_MAX) {
            lx_error(L, "log: more than %d fields", FIELDS_MAX);
        }
        read_field(L, &fields[count++]);
        lua_pop(L, 1);
    }
    qsort(fields, count, sizeof *fields, compare_fields);
    return count;
}

/* Log the arguments: message [, fields]. */
static int log_at(lua_State *L, enum ld_log_level level) {
    struct ld_log_field fields[FIELDS_MAX];
    struct ld_log_event event = {.level = level, .source = ld_script_of(L)->env->name};
    event.message = luaL_checklstring(L, 1, &event.size);
    if (!lua_isnoneornil(L, 2)) {
        luaL_checktype(L, 2, LUA_TTABLE);
        event.field_count = read_fields(L, fields);
        event.fields = fields;
    }
    ld_log_event(&event);
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

/* print(...): to the log in a daemon, to stdout in the foreground. */
static int l_print(lua_State *L) {
    const struct ld_env *env = ld_script_of(L)->env;
    int count = lua_gettop(L);
    luaL_Buffer buffer;
    for (int i = 1; i <= count; i++) {
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
    if (env->daemon) {
        struct ld_log_event event = {
            .level = LD_LOG_INFO, .source = env->name, .message = text, .size = size};
        ld_log_event(&event);
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
int luaopen_lunad_log(lua_State *L) {
    luaL_newlib(L, levels);
    lua_setfield(L, 1, "log");
    lua_pushcfunction(L, l_print);
    lua_setglobal(L, "print");
    return 0;
}
