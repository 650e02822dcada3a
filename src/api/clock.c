/* The clock of specs, for lunad's own Lua (lua/lunad/test.lua): it stands still and is moved by hand. Times
 * are whole nanoseconds. */
#include <errno.h>
#include <lauxlib.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "api/core.h"
#include "api/module.h"
#include "engine/advance.h"
#include "engine/clock.h"
#include "engine/wall_clock.h"
#include "script/lua_json.h"
#include "script/luax.h"
#include "script/task.h"

#define HOLDS_TYPE "lunad.holds"

static const char *stopped_by; /* why the last advance ended too early, or NULL */

/* clock_now() -> the time, Unix time, whether the clock is frozen */
static int l_now(lua_State *L) {
    lua_pushinteger(L, (lua_Integer)ld_clock_now());
    lua_pushinteger(L, (lua_Integer)ld_clock_real());
    lua_pushboolean(L, ld_clock_is_frozen());
    return 3;
}

/* clock_next() -> when something is due next, or nil */
static int l_next(lua_State *L) {
    uint64_t due = ld_timers_first_due();
    if (due == LD_WHEEL_NEVER) {
        return 0;
    }
    lua_pushinteger(L, (lua_Integer)due);
    return 1;
}

/* clock_freeze(unix_time) */
static int l_freeze(lua_State *L) {
    ld_clock_freeze(luaL_checkinteger(L, 1));
    ld_wall_clock_note_set();
    ld_timers_follow_clock();
    return 0;
}

/* clock_release() */
static int l_release(lua_State *L) {
    (void)L;
    ld_clock_release();
    ld_wall_clock_note_set();
    ld_timers_follow_clock();
    return 0;
}

/* Forget the task that waits for the clock. */
static void abandon(struct ld_task *task) {
    (void)task;
    ld_advance_cancel();
}

/* Wake the task that waits for the clock. */
static void on_arrival(void *arg, const char *why) {
    stopped_by = why;
    ld_task_wake(arg);
}

/* Return from clock_advance. */
static int arrived(lua_State *L, int status, lua_KContext context) {
    (void)status;
    (void)context;
    ld_task_check_cancelled(L);
    lua_pushboolean(L, stopped_by == NULL);
    lua_pushstring(L, stopped_by);
    return 2;
}

/* clock_advance(target) -> true | false, why: suspends until the clock is there. */
static int l_advance(lua_State *L) {
    uint64_t target = (uint64_t)luaL_checkinteger(L, 1);
    struct ld_task *task = ld_task_check(L, "clock:advance");
    int rc = ld_advance_start(task->script->setup->loop, target, on_arrival, task);
    if (rc < 0) {
        lx_error(L, "clock:advance: %s",
                 rc == -EBUSY    ? "another task is moving the clock"
                 : rc == -EINVAL ? "the clock is not frozen"
                                 : strerror(-rc));
    }
    return ld_task_suspend(L, "clock:advance", abandon, arrived);
}

/* clock_hold(count): the clock waits as long as the sum is above 0. */
static int l_hold(lua_State *L) {
    int *sum = lua_touserdata(L, lua_upvalueindex(1));
    int count = (int)luaL_checkinteger(L, 1);
    *sum += count;
    ld_advance_hold(count);
    return 0;
}

/* Give up what a generation that ends has held. */
static int mt_gc(lua_State *L) {
    int *sum = lua_touserdata(L, 1);
    ld_advance_hold(-*sum);
    *sum = 0;
    return 0;
}

/* Push the JSON text that the light userdata at index 1 points to. Runs protected. */
static int push_json(lua_State *L) {
    lx_push_json(L, lua_touserdata(L, 1));
    return 1;
}

/* json_decode(text) -> value | nil if it is none */
static int l_json_decode(lua_State *L) {
    size_t size;
    const char *text = luaL_checklstring(L, 1, &size);
    json_t *value = json_loadb(text, size, JSON_DECODE_ANY | JSON_ALLOW_NUL, NULL);
    if (value == NULL) {
        return 0;
    }
    lua_pushcfunction(L, push_json);
    lua_pushlightuserdata(L, value);
    int status = lua_pcall(L, 1, 1, 0);
    json_decref(value);
    return status == LUA_OK ? 1 : lua_error(L);
}

/* json_string(text) -> it as JSON */
static int l_json_string(lua_State *L) {
    size_t size;
    const char *text = luaL_checklstring(L, 1, &size);
    luaL_Buffer buffer;
    luaL_buffinit(L, &buffer);
    luaL_addchar(&buffer, '"');
    for (size_t i = 0; i < size; i++) {
        unsigned char byte = (unsigned char)text[i];
        char escape[8];
        if (byte < ' ' || byte == '"' || byte == '\\' || byte == 127) {
            snprintf(escape, sizeof escape, "\\u%04x", byte);
            luaL_addstring(&buffer, escape);
        } else {
            luaL_addchar(&buffer, text[i]);
        }
    }
    luaL_addchar(&buffer, '"');
    luaL_pushresult(&buffer);
    return 1;
}

/* program() -> the path of this program */
static int l_program(lua_State *L) {
    char path[PATH_MAX];
    ssize_t size = readlink("/proc/self/exe", path, sizeof path);
    if (size <= 0 || size == (ssize_t)sizeof path) {
        return 0;
    }
    lua_pushlstring(L, path, (size_t)size);
    return 1;
}

static const luaL_Reg own[] = {
    {"clock_now", l_now},           {"clock_next", l_next},       {"clock_freeze", l_freeze},
    {"clock_release", l_release},   {"clock_advance", l_advance}, {"json_decode", l_json_decode},
    {"json_string", l_json_string}, {"program", l_program},       {NULL, NULL},
};

/* Give lunad's own Lua what only tests need: what runs before the script, and clock_hold. */
static int set_up(lua_State *L) {
    const char *spec = ld_state_script(L)->setup->spec;
    if (spec == NULL) {
        return 0;
    }
    ld_api_core_push(L);
    lua_pushstring(L, spec);
    lua_setfield(L, -2, "spec");
    int *sum = lua_newuserdatauv(L, sizeof *sum, 0);
    *sum = 0;
    luaL_newmetatable(L, HOLDS_TYPE);
    lua_pushcfunction(L, mt_gc);
    lua_setfield(L, -2, "__gc");
    lua_setmetatable(L, -2);
    lua_pushcclosure(L, l_hold, 1);
    lua_setfield(L, -2, "clock_hold");
    return 0;
}

const struct ld_part ld_api_clock_part = {
    .name = "clock",
    .own = own,
    .open = set_up,
};
