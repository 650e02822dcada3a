/* lunad.reload, stop, ready, status, stats, on_reload, on_stop, on_error, and os.exit. */
#include <errno.h>
#include <lauxlib.h>
#include <unistd.h>

#include "api/life.h"
#include "api/module.h"
#include "api/timer_box.h"
#include "base/log.h"
#include "base/version.h"
#include "engine/child.h"
#include "posix/forked.h"
#include "script/interrupt.h"
#include "script/lua_json.h"
#include "script/luax.h"
#include "script/pack.h"
#include "script/task.h"
#include "script/transfer.h"

static const char module_key;       /* of the module table in the registry */
static const char on_reload_key;    /* of the on_reload function */
static const char on_stop_key;      /* of the list of on_stop functions */
static const char reload_place_key; /* of the place where on_reload was called, as text */
static const char error_place_key;  /* the same of on_error */
static const char rollback_key;     /* of the argument of on_reload at a rollback */

/* reload() */
static int l_reload(lua_State *L) {
    ld_state_script(L)->wants |= LD_WANT_RELOAD;
    return 0;
}

/* The exit status in argument ARG; 0 if there is none. */
static int check_status(lua_State *L, int arg) {
    lua_Integer status = luaL_optinteger(L, arg, 0);
    luaL_argcheck(L, status >= 0 && status <= 255, arg, "an exit status from 0 to 255 expected");
    return (int)status;
}

/* stop([status]) */
static int l_stop(lua_State *L) {
    struct ld_script *script = ld_state_script(L);
    script->exit_status = check_status(L, 1);
    script->wants |= LD_WANT_STOP;
    return 0;
}

/* os.exit([status]): stop without waiting. None of the script's code runs after it. */
static int l_exit(lua_State *L) {
    struct ld_script *script = ld_state_script(L);
    if (lua_isboolean(L, 1)) {
        script->exit_status = lua_toboolean(L, 1) ? 0 : 1;
    } else {
        script->exit_status = (int)(luaL_optinteger(L, 1, 0) & 0xFF);
    }
    if (ld_forked_is_copy()) {
        ld_forked_leave(script->exit_status);
    }
    script->wants |= LD_WANT_EXIT;
    script->exited = true;
    script->interruption.reason = "os.exit";
    ld_interrupt(script);
    lua_pushliteral(L, "os.exit");
    return lua_error(L);
}

/* ready() */
static int l_ready(lua_State *L) {
    ld_state_script(L)->said_ready = true;
    return 0;
}

/* status(text) */
static int l_status(lua_State *L) {
    struct ld_script *script = ld_state_script(L);
    size_t size;
    const char *text = luaL_checklstring(L, 1, &size);
    ld_text_clear(&script->status_text);
    ld_text_add(&script->status_text, text, size);
    script->wants |= LD_WANT_STATUS;
    return 0;
}

/* Push the report in the argument. Runs protected: the report is freed whatever happens. */
static int push_report(lua_State *L) {
    lx_push_json(L, lua_touserdata(L, 1));
    return 1;
}

/* stats() -> table */
static int l_stats(lua_State *L) {
    const struct ld_setup *setup = ld_state_script(L)->setup;
    if (ld_stage_is_closing(ld_state_script(L)->stage)) {
        lx_error(L, "stats: %s", ld_state_over);
    }
    json_t *report = setup->snapshot(setup->host);
    if (report == NULL) {
        return luaL_error(L, "not enough memory");
    }
    lua_pushcfunction(L, push_report);
    lua_pushlightuserdata(L, report);
    int status = lua_pcall(L, 1, 1, 0);
    json_decref(report);
    return status == LUA_OK ? 1 : lua_error(L);
}

/* Why the script is about to end and must not restart anything: "stopping" or "replaced", or nil. For
 * lunad's own Lua. */
static int l_is_over(lua_State *L) {
    const struct ld_script *script = ld_state_script(L);
    lua_pushstring(L, ld_stage_is_ending(script->stage)    ? "stopping"
                      : script->stage == LD_STAGE_REPLACED ? "replaced"
                                                           : NULL);
    return 1;
}

/* Warn that the function in argument 1 takes the place of the one at the top, which is popped, unless
 * that is the same or nil. PLACE is the registry's key of where NAME was called before; where it is
 * called now is kept there. */
static void warn_of_replacing(lua_State *L, const char *name, const void *place) {
    bool replaces = !lua_isnil(L, -1) && !lua_rawequal(L, -1, 1);
    lua_pop(L, 1);
    lx_push_place(L, L);
    if (replaces) {
        lua_rawgetp(L, LUA_REGISTRYINDEX, place);
        ld_log(LD_LOG_WARN, "%s at %s replaces the function that %s at %s was given", name,
               lua_tostring(L, -2), name, lua_tostring(L, -1));
        lua_pop(L, 1);
    }
    lua_rawsetp(L, LUA_REGISTRYINDEX, place);
}

/* Note that a supervisor has given up. For lunad's own Lua. */
static int l_note_give_up(lua_State *L) {
    ld_state_script(L)->gave_up = true;
    return 0;
}

/* on_reload(fn) */
static int l_on_reload(lua_State *L) {
    lx_check_callable(L, 1);
    lua_settop(L, 1);
    lua_rawgetp(L, LUA_REGISTRYINDEX, &on_reload_key);
    warn_of_replacing(L, "lunad.on_reload", &reload_place_key);
    lua_rawsetp(L, LUA_REGISTRYINDEX, &on_reload_key);
    return 0;
}

/* on_error(fn) */
static int l_on_error(lua_State *L) {
    struct ld_script *script = ld_state_script(L);
    lx_check_callable(L, 1);
    lua_settop(L, 1);
    lua_rawgeti(L, LUA_REGISTRYINDEX, script->errors.handler);
    warn_of_replacing(L, "lunad.on_error", &error_place_key);
    int reference = luaL_ref(L, LUA_REGISTRYINDEX);
    luaL_unref(L, LUA_REGISTRYINDEX, script->errors.handler);
    script->errors.handler = reference;
    return 0;
}

/* on_stop(fn) */
static int l_on_stop(lua_State *L) {
    lx_check_callable(L, 1);
    lua_settop(L, 1);
    lua_rawgetp(L, LUA_REGISTRYINDEX, &on_stop_key);
    lua_insert(L, 1);
    lua_rawseti(L, 1, (lua_Integer)lua_rawlen(L, 1) + 1);
    return 0;
}

/* Take a task that calls the on_reload function. */
int ld_api_life_take_on_reload(struct ld_script *script, bool is_rollback, struct ld_task **task) {
    lua_State *L = script->L;
    bool any = lua_rawgetp(L, LUA_REGISTRYINDEX, &on_reload_key) != LUA_TNIL;
    *task = any ? ld_task_take(script, "the on_reload function") : NULL;
    if (*task == NULL) {
        lua_pop(L, 1);
        return any ? -ENOMEM : 0;
    }
    (*task)->heap_user = LD_HEAP_LAST;
    lua_xmove(L, (*task)->co, 1);
    if (is_rollback) {
        lua_rawgetp((*task)->co, LUA_REGISTRYINDEX, &rollback_key);
    }
    return is_rollback;
}

/* Set lunad.state to the value below the argument. Runs protected. */
static int set_state(lua_State *L) {
    lua_rawgetp(L, LUA_REGISTRYINDEX, &module_key);
    lua_insert(L, 1);
    lua_settop(L, 2);
    lua_setfield(L, 1, "state");
    return 0;
}

/* Set lunad.state to the value at the top, which is popped; 0, or -1 with the reason in WHY. */
static int take_state(lua_State *L, struct ld_text *why) {
    lua_pushcfunction(L, set_state);
    lua_insert(L, -2);
    if (lua_pcall(L, 1, 0, 0) == LUA_OK) {
        return 0;
    }
    ld_text_puts(why, lua_tostring(L, -1));
    lua_pop(L, 1);
    return -1;
}

/* Set lunad.state to a copy. */
int ld_api_life_set_state(struct ld_script *script, lua_State *from, uint64_t deadline,
                          struct ld_text *why) {
    int rc = ld_transfer_value(from, script->L, deadline, "state", why);
    return rc == 0 ? take_state(script->L, why) : rc;
}

/* Set lunad.state to what is packed. */
int ld_api_life_unpack_state(struct ld_script *script, const struct ld_text *packed,
                             struct ld_text *why) {
    int rc = ld_unpack_value(script->L, ld_text_string(packed), packed->size, why);
    return rc == 0 ? take_state(script->L, why) : rc;
}

/* Push the last on_stop function, which leaves the list, and the reason. */
static int push_on_stop(lua_State *co, void *arg) {
    const struct ld_script *script = arg;
    lua_rawgetp(co, LUA_REGISTRYINDEX, &on_stop_key);
    lua_Integer last = (lua_Integer)lua_rawlen(co, 1);
    lua_rawgeti(co, 1, last);
    lua_pushnil(co);
    lua_rawseti(co, 1, last);
    lua_remove(co, 1);
    lua_pushstring(co, script->on_stop.reason);
    return 1;
}

/* Note that the on_stop functions have run. After them no timer of a service that stops is called; what
 * a replaced generation has started since then goes on. */
static void end_on_stop(struct ld_script *script) {
    script->on_stop.done = true;
    if (script->stage != LD_STAGE_REPLACED) {
        ld_api_timer_box_drop_all(script);
        script->halted = !ld_children_are_awaited(script->setup->children);
    }
}

/* Run the next function, however this one ended. */
static bool on_stop_end(struct ld_task *task, enum ld_outcome outcome, int results) {
    (void)outcome;
    (void)results;
    if (!ld_stage_is_closing(task->script->stage)) {
        ld_api_life_run_on_stop(task->script, task->script->on_stop.reason);
    }
    return false;
}

/* Whether there are any. */
bool ld_api_life_has_on_stop(const struct ld_script *script) {
    lua_rawgetp(script->L, LUA_REGISTRYINDEX, &on_stop_key);
    bool any = lua_rawlen(script->L, -1) > 0;
    lua_pop(script->L, 1);
    return any;
}

/* Run the on_stop functions that are left. */
void ld_api_life_run_on_stop(struct ld_script *script, const char *reason) {
    lua_State *L = script->L;
    script->on_stop.reason = reason;
    lua_rawgetp(L, LUA_REGISTRYINDEX, &on_stop_key);
    bool any = lua_rawlen(L, -1) > 0;
    lua_pop(L, 1);
    struct ld_task *task = any ? ld_task_take_or_report(script, "an on_stop function") : NULL;
    if (task == NULL) {
        end_on_stop(script);
        return;
    }
    task->on_end = on_stop_end;
    task->heap_user = LD_HEAP_LAST;
    ld_task_start_with(task, push_on_stop, script);
}

/* Run the on_stop functions of a generation that has been replaced. */
static void retire(struct ld_script *old, struct ld_script *next) {
    (void)next;
    ld_api_life_run_on_stop(old, "reload");
}

static const luaL_Reg functions[] = {
    {"reload", l_reload},   {"stop", l_stop},         {"ready", l_ready},
    {"status", l_status},   {"stats", l_stats},       {"on_reload", l_on_reload},
    {"on_stop", l_on_stop}, {"on_error", l_on_error}, {NULL, NULL},
};

static const luaL_Reg own[] = {
    {"is_over", l_is_over},
    {"note_give_up", l_note_give_up},
    {NULL, NULL},
};

/* Set the values that are fixed for a generation. */
static void set_facts(lua_State *L) {
    const struct ld_script *script = ld_state_script(L);
    const struct ld_setup *setup = script->setup;
    lua_pushstring(L, ld_version_text);
    lua_setfield(L, 1, "version");
    lua_pushstring(L, setup->name);
    lua_setfield(L, 1, "name");
    lua_pushinteger(L, getpid());
    lua_setfield(L, 1, "pid");
    lua_pushstring(L, setup->place);
    lua_setfield(L, 1, "script");
    lua_pushstring(L, setup->daemon ? "daemon" : "foreground");
    lua_setfield(L, 1, "mode");
    lua_pushinteger(L, script->generation);
    lua_setfield(L, 1, "generation");
}

/* Set the global `arg` as lua does: the script at 0, the words before it below. */
static void set_arg(lua_State *L) {
    const struct ld_setup *setup = ld_state_script(L)->setup;
    lua_newtable(L);
    for (int i = 0; setup->words[i] != NULL; i++) {
        lua_pushstring(L, i == setup->script ? setup->place : setup->words[i]);
        lua_rawseti(L, -2, i - setup->script);
    }
    lua_setglobal(L, "arg");
}

/* Open this part. */
static int set_up(lua_State *L) {
    lua_pushvalue(L, 1);
    lua_rawsetp(L, LUA_REGISTRYINDEX, &module_key);
    lua_newtable(L);
    lua_rawsetp(L, LUA_REGISTRYINDEX, &on_stop_key);
    lua_pushliteral(L, "rollback"); /* now: where it is needed, nothing may raise */
    lua_rawsetp(L, LUA_REGISTRYINDEX, &rollback_key);
    set_facts(L);
    set_arg(L);
    lua_getglobal(L, "os");
    lua_pushcfunction(L, l_exit);
    lua_setfield(L, -2, "exit");
    return 0;
}

const struct ld_part ld_api_life_part = {
    .name = "life",
    .functions = functions,
    .own = own,
    .open = set_up,
    .retire = retire,
};
