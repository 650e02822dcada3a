/* lunad.signal, lunad.kill and the method of a handle. */
#include <errno.h>
#include <lauxlib.h>
#include <signal.h>
#include <string.h>
#include <strings.h>

#include "api/module.h"
#include "api/signal.h"
#include "base/parse.h"
#include "engine/signals.h"
#include "script/luax.h"
#include "script/task.h"

#define HANDLE_TYPE "lunad.signal"

/* What a script holds. Its user values are the function, and the name of the signal that it is given. */
struct box {
    int signo;
    bool active;
    uint64_t number; /* of registration */
};

static uint64_t registrations; /* of all scripts, so far */

/* Push the list of handles for a signal, or nil. */
static void push_list(lua_State *L, int signo) {
    ld_state_push_shelved(L, LD_SHELF_SIGNALS);
    lua_rawgeti(L, -1, signo);
    lua_remove(L, -2);
}

/* Raise for a signal that scripts cannot handle. */
static void check_catchable(lua_State *L, int signo) {
    switch (signo) {
    case SIGCHLD:
        lx_error(L, "signal: CHLD is lunad's own: use on_exit of lunad.spawn");
    case SIGKILL:
    case SIGSTOP:
        lx_error(L, "signal: %s cannot be caught", ld_parse_signal_name(signo));
    case SIGSEGV:
    case SIGBUS:
    case SIGFPE:
    case SIGILL:
        lx_error(L, "signal: %s means a crash: no handler could continue after it",
                 ld_parse_signal_name(signo));
    case SIGSTKFLT:
    case 32:
    case 33:
        lx_error(L, "signal: %d is in use by lunad itself", signo);
    default:
        break;
    }
}

/* Add the handle at the top to the list of its signal. */
static void add_to_list(lua_State *L, int signo) {
    push_list(L, signo);
    if (lua_isnil(L, -1)) {
        lua_pop(L, 1);
        lua_newtable(L);
        ld_state_push_shelved(L, LD_SHELF_SIGNALS);
        lua_pushvalue(L, -2);
        lua_rawseti(L, -2, signo);
        lua_pop(L, 1);
    }
    lua_pushvalue(L, -2);
    lua_rawseti(L, -2, (lua_Integer)lua_rawlen(L, -2) + 1);
    lua_pop(L, 1);
}

/* Push the name that a handler is given: the one in argument 1, for some signals have two, without SIG
 * and in capitals; for a number the usual one. */
static void push_name(lua_State *L, int signo) {
    char name[16];
    size_t size = 0;
    if (lua_type(L, 1) != LUA_TSTRING || lua_isnumber(L, 1)) {
        lua_pushstring(L, ld_parse_signal_name(signo));
        return;
    }
    const char *given = lua_tostring(L, 1);
    given += strncasecmp(given, "SIG", 3) == 0 ? 3 : 0;
    for (; given[size] != '\0' && size < sizeof name; size++) {
        bool is_small = given[size] >= 'a' && given[size] <= 'z';
        name[size] = (char)(given[size] - (is_small ? 'a' - 'A' : 0));
    }
    lua_pushlstring(L, name, size);
}

/* signal(name, fn) -> handle */
static int l_signal(lua_State *L) {
    struct ld_script *script = ld_state_script(L);
    ld_state_check_current(L, "signal");
    int signo = lx_check_signal(L, 1, false);
    check_catchable(L, signo);
    lx_check_callable(L, 2);
    struct box *box = lua_newuserdatauv(L, sizeof *box, 2);
    *box = (struct box){.signo = signo};
    luaL_setmetatable(L, HANDLE_TYPE);
    lua_pushvalue(L, 2);
    lua_setiuservalue(L, -2, 1);
    push_name(L, signo);
    lua_setiuservalue(L, -2, 2);
    add_to_list(L, signo);
    int rc = ld_signals_catch(signo);
    if (rc < 0) {
        return lx_fail(L, rc, "signal %d", signo);
    }
    box->active = true;
    box->number = ++registrations;
    script->signals[signo].handlers++;
    script->keepers++;
    return 1;
}

/* Release the signal of a handle. */
static void release(struct ld_script *script, struct box *box) {
    if (box->active) {
        box->active = false;
        script->signals[box->signo].handlers--;
        script->keepers--;
        ld_signals_release(box->signo);
    }
}

/* Remove the handle at index 1 from its list; the order of the others stays. */
static void remove_from_list(lua_State *L, int signo) {
    push_list(L, signo);
    int list = lua_gettop(L);
    lua_Integer count = (lua_Integer)lua_rawlen(L, list);
    lua_Integer kept = 0;
    for (lua_Integer i = 1; i <= count; i++) {
        lua_rawgeti(L, list, i);
        if (lua_rawequal(L, -1, 1)) {
            lua_pop(L, 1);
        } else {
            lua_rawseti(L, list, ++kept);
        }
    }
    lua_pushnil(L);
    lua_rawseti(L, list, count);
    lua_pop(L, 1);
}

/* handle:stop() */
static int m_stop(lua_State *L) {
    struct box *box = luaL_checkudata(L, 1, HANDLE_TYPE);
    if (box->active) {
        release(ld_state_script(L), box);
        remove_from_list(L, box->signo);
    }
    return 0;
}

/* Release the signal when the state is closed: until then the list holds an active handle. */
static int mt_gc(lua_State *L) {
    release(ld_state_script(L), luaL_checkudata(L, 1, HANDLE_TYPE));
    return 0;
}

/* kill(pid, name) -> true | nil, error, code */
static int l_kill(lua_State *L) {
    lua_Integer pid = luaL_checkinteger(L, 1);
    int signo = lx_check_signal(L, 2, true);
    luaL_argcheck(L, pid == (pid_t)pid, 1, "no such process id");
    if (kill((pid_t)pid, signo) < 0) {
        return lx_fail(L, -errno, "kill %d", (int)pid);
    }
    lua_pushboolean(L, 1);
    return 1;
}

/* Push the first handle of the list at the top of the shelf that was registered after *NUMBER and up
 * to LAST, and set *NUMBER; false if there is none. */
static bool push_next(lua_State *shelf, uint64_t *number, uint64_t last) {
    lua_Integer count = (lua_Integer)lua_rawlen(shelf, -1);
    for (lua_Integer i = 1; i <= count; i++) {
        lua_rawgeti(shelf, -1, i);
        const struct box *box = lua_touserdata(shelf, -1);
        if (box->number > *number && box->number <= last) {
            *number = box->number;
            return true;
        }
        lua_pop(shelf, 1);
    }
    return false;
}

/* Call the function of the handle at the top of the shelf, which is popped, with its name. Only taking a task allocates. */
static void call_handler(struct ld_script *script) {
    lua_State *shelf = script->shelf;
    struct ld_task *task = ld_task_take_or_report(script, "a signal handler");
    if (task != NULL) {
        lua_getiuservalue(shelf, -1, 1);
        lua_getiuservalue(shelf, -2, 2);
        lua_xmove(shelf, task->co, 2);
    }
    lua_pop(shelf, 1);
    if (task != NULL) {
        ld_task_start(task, 1);
    }
}

/* Deliver a signal. Handlers may stop any of them, and add others, which wait for the next delivery. */
bool ld_api_signal_deliver(struct ld_script *script, int signo) {
    if (script->signals[signo].handlers == 0) {
        return false;
    }
    script->signals[signo].count++;
    uint64_t last = registrations;
    uint64_t number = 0;
    unsigned left = script->signals[signo].handlers; /* those that others stop are not found */
    lua_rawgeti(script->shelf, LD_SHELF_SIGNALS, signo);
    while (left-- > 0 && push_next(script->shelf, &number, last)) {
        call_handler(script);
    }
    lua_pop(script->shelf, 1);
    return true;
}

/* Release what the handles of one signal hold. */
static void drop_list(struct ld_script *script, int signo) {
    lua_State *L = script->L;
    push_list(L, signo);
    lua_Integer count = (lua_Integer)lua_rawlen(L, -1);
    for (lua_Integer i = 1; i <= count; i++) {
        lua_rawgeti(L, -1, i);
        release(script, lua_touserdata(L, -1));
        lua_pop(L, 1);
    }
    lua_pop(L, 1);
}

/* Drop all handlers. */
static void drop_all(struct ld_script *script, struct ld_script *next) {
    (void)next;
    for (int signo = 1; signo < 65; signo++) {
        if (script->signals[signo].handlers > 0) {
            drop_list(script, signo);
        }
    }
}

/* The signals that have handlers, for the status report. */
static json_t *report_signals(struct ld_script *script, size_t *total) {
    json_t *list = json_array();
    for (int signo = 1; signo < 65; signo++) {
        if (script->signals[signo].handlers > 0) {
            json_t *item = json_pack("{s:s, s:I}", "name", ld_parse_signal_name(signo), "count",
                                     (json_int_t)script->signals[signo].count);
            json_array_append_new(list, item);
            *total += 1;
        }
    }
    return list;
}

static const luaL_Reg functions[] = {
    {"signal", l_signal},
    {"kill", l_kill},
    {NULL, NULL},
};

static const luaL_Reg methods[] = {
    {"stop", m_stop},
    {NULL, NULL},
};

/* Open this part. */
static int set_up(lua_State *L) {
    lua_newtable(L);
    ld_state_shelve(L, LD_SHELF_SIGNALS);
    lx_new_type(L, HANDLE_TYPE, methods);
    lua_pushcfunction(L, mt_gc);
    lua_setfield(L, -2, "__gc");
    return 0;
}

const struct ld_part ld_api_signal_part = {
    .name = "signals",
    .functions = functions,
    .open = set_up,
    .retire = drop_all,
    .report = report_signals,
};
