/* require "luv": the system's luv, on a guest loop of its own for each generation.
 *
 * The library is opened once and never closed: each time it is opened it uses up one of the process's
 * thread-local storage keys. */
#include <lauxlib.h>
#include <string.h>

#include "api/module.h"
#include "script/luax.h"

#ifdef LUNAD_LUV

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <luv/luv.h>
#include <unistd.h>

#include "engine/guest.h"
#include "engine/listener.h"
#include "engine/parcels.h"
#include "posix/fds.h"
#include "posix/reserve.h"
#include "script/script.h"
#include "script/task.h"

#define GUARDED_MAX 300

/* The library's functions that we call; NULL until it is open. */
static struct {
    lua_CFunction open;
    void (*set_loop)(lua_State *L, uv_loop_t *loop);
    void (*set_callback)(lua_State *L, luv_CFpcall call);
} luv;

/* Find a function of the library. */
static void *find_symbol(lua_State *L, void *library, const char *name) {
    void *symbol = dlsym(library, name);
    if (symbol == NULL) {
        luaL_error(L, "luv: %s", dlerror());
    }
    return symbol;
}

/* Open the library that package.cpath finds; raises if it cannot be opened. */
static void open_library(lua_State *L) {
    lua_getglobal(L, "package");
    lua_getfield(L, -1, "searchpath");
    lua_pushliteral(L, "luv");
    lua_getfield(L, -3, "cpath");
    lua_call(L, 2, 2);
    const char *path = lua_tostring(L, -2);
    if (path == NULL) {
        luaL_error(L, "module 'luv' not found (Debian: lua-luv):%s", lua_tostring(L, -1));
    }
    void *library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    if (library == NULL) {
        luaL_error(L, "luv: %s", dlerror());
    }
    *(void **)&luv.set_loop = find_symbol(L, library, "luv_set_loop");
    *(void **)&luv.set_callback = find_symbol(L, library, "luv_set_callback");
    *(void **)&luv.open = find_symbol(L, library, "luaopen_luv");
    lua_pop(L, 3);
}

/* Call what luv has put on the stack, as a task like every other callback. */
static int on_callback(lua_State *L, int args, int results, int flags) {
    struct ld_script *script = ld_state_script(L);
    struct ld_task *task = ld_stage_is_closing(script->stage)
                               ? NULL
                               : ld_task_take_or_report(script, "a luv callback");
    (void)results; /* luv wants none */
    (void)flags;
    if (task == NULL || !lua_checkstack(task->co, args + 1)) {
        lua_pop(L, args + 1); /* the generation is over, or there is no memory */
        if (task != NULL) {
            ld_task_drop(task);
        }
        return 0;
    }
    lua_xmove(L, task->co, args + 1);
    ld_task_start(task, args);
    return 0;
}

/* Refuse uv.run and others that would run or close the host's loop. */
static int l_refuse(lua_State *L) {
    lx_error(L, "uv.%s: lunad runs the loop: just return from the script, and its callbacks come",
             lua_tostring(L, lua_upvalueindex(1)));
}

/* Call the luv function in the first upvalue, unless its loop is closed: a finalizer would start
 * something there that outlives the state. */
static int call_open(lua_State *L) {
    if (ld_state_script(L)->stage == LD_STAGE_CLOSED) {
        lx_error(L, "uv.%s: %s", lua_tostring(L, lua_upvalueindex(2)), ld_state_over);
    }
    return lua_tocfunction(L, lua_upvalueindex(1))(L);
}

/* Whether the first argument is a handle that is being closed. */
static bool is_closing(lua_State *L) {
    if (lua_type(L, 1) != LUA_TUSERDATA || !lua_getmetatable(L, 1)) {
        return false;
    }
    luaL_getmetatable(L, "uv_handle"); /* luv's set of the metatables of handles */
    lua_insert(L, -2);
    bool is_handle = lua_istable(L, -2) && lua_rawget(L, -2) != LUA_TNIL;
    lua_pop(L, 2);
    return is_handle && uv_is_closing(*(uv_handle_t **)lua_touserdata(L, 1));
}

/* The same for a function that starts something with a handle: libuv would do it on a closing handle
 * too, and abort later. */
static int call_live(lua_State *L) {
    if (is_closing(L)) {
        lx_error(L, "uv.%s: this handle is closing", lua_tostring(L, lua_upvalueindex(2)));
    }
    return call_open(L);
}

/* The place of a callback among the arguments, or 0: luv takes whatever can be called, and not only as the
 * last argument. */
static int find_callback(lua_State *L) {
    int at = lua_gettop(L);
    while (at > 0 && !lua_isfunction(L, at)) {
        if (luaL_getmetafield(L, at, "__call") != LUA_TNIL) {
            lua_pop(L, 1);
            break;
        }
        at--;
    }
    return at;
}

/* The same for a function that starts a request only if it is given a callback. */
static int call_sync(lua_State *L) {
    return find_callback(L) > 0 ? call_open(L) : lua_tocfunction(L, lua_upvalueindex(1))(L);
}

/* Push what luv returns for an error. */
static int fail(lua_State *L, int code) {
    lua_pushnil(L);
    lua_pushfstring(L, "%s: %s", uv_err_name(code), uv_strerror(code));
    lua_pushstring(L, uv_err_name(code));
    return 3;
}

/* Whether a descriptor is the host's. */
static bool is_hosts(const struct ld_script *script, int fd) {
    const struct ld_listeners *listeners = script->setup->listeners;
    struct ld_listener_facts facts;
    for (size_t i = 0; listeners != NULL && ld_listeners_describe(listeners, i, &facts); i++) {
        if (facts.fd == fd) {
            return true;
        }
    }
    const struct ld_parcels *parcels = script->setup->parcels;
    return ld_fds_owner(fd) == LD_FD_HOST || ld_reserve_has(fd) ||
           (parcels != NULL && ld_parcels_has_fd(parcels, fd)) ||
           ld_guest_find_fd(script->guest, fd) == LD_GUEST_FD_HOST;
}

/* Whether a descriptor was given to another generation: by lunad.listen, or by luv as a number. */
static bool is_of_other(const struct ld_script *script, int fd) {
    const struct ld_listeners *listeners = script->setup->listeners;
    const void *holder = ld_fds_holder(fd);
    if (holder == NULL && listeners != NULL) {
        holder = ld_listeners_owner(listeners, fd);
    }
    return holder != NULL && holder != script;
}

/* The descriptor in argument ARG, or -1 if it is left to luv: no descriptor, or a standard one, which
 * libuv does not close. */
static int fd_argument(lua_State *L, int arg) {
    lua_Integer fd = lua_isinteger(L, arg) ? lua_tointeger(L, arg) : -1;
    return fd > STDERR_FILENO && fd <= INT_MAX ? (int)fd : -1;
}

/* Call a luv function that takes over the descriptor in argument ARG. Two generations never own the same
 * number, or one would close what the other uses: a descriptor that another generation has, in a handle or
 * as a number, or that the process was started with, is duplicated. The host's own are refused. */
static int open_fd(lua_State *L, int arg) {
    const struct ld_script *script = ld_state_script(L);
    int fd = fd_argument(L, arg);
    if (fd < 0 || is_closing(L) || script->stage == LD_STAGE_CLOSED) {
        return call_live(L);
    }
    if (is_hosts(script, fd)) {
        return fail(L, UV_EBADF);
    }
    enum ld_guest_fd holder = ld_guest_find_fd(script->guest, fd);
    if (holder == LD_GUEST_FD_OWN) {
        return fail(L, UV_EEXIST);
    }
    if (holder != LD_GUEST_FD_OTHER && ld_fds_owner(fd) != LD_FD_INHERITED &&
        !is_of_other(script, fd)) {
        ld_fds_forget(fd); /* the handle has it now */
        return call_live(L);
    }
    int copy = fcntl(fd, F_DUPFD_CLOEXEC, STDERR_FILENO + 1);
    if (copy < 0) {
        return fail(L, -errno);
    }
    lua_pushinteger(L, copy);
    lua_replace(L, arg);
    int results = call_live(L);
    if (lua_isnil(L, -results)) {
        close(copy);
    }
    return results;
}

/* tcp:open(fd), pipe:open(fd), udp:open(fd) */
static int call_open_fd(lua_State *L) {
    return open_fd(L, 2);
}

/* Call luv's own open with a new descriptor, which no other handle can have: open_new(handle, fd). The
 * descriptor is closed if that fails. */
static int l_open_new(lua_State *L) {
    int fd = (int)luaL_checkinteger(L, 2);
    luaL_getmetafield(L, 1, "__index");
    lua_getfield(L, -1, "open");
    if (lua_getupvalue(L, -1, 1) == NULL) {
        return luaL_error(L, "luv: 'open' has no guard");
    }
    lua_insert(L, 1);
    lua_settop(L, 3);
    lua_call(L, 2, LUA_MULTRET);
    if (lua_isnil(L, 1)) {
        close(fd);
    }
    return lua_gettop(L);
}

/* new_tty(fd, readable) */
static int call_new_tty(lua_State *L) {
    return open_fd(L, 1);
}

/* new_poll(fd) and new_socket_poll(fd), which do not own the descriptor. */
static int call_new_poll(lua_State *L) {
    int fd = fd_argument(L, 1);
    return fd >= 0 && is_hosts(ld_state_script(L), fd) ? fail(L, UV_EBADF) : call_open(L);
}

/* fs_close(fd [, callback]): refuses descriptors of the host, of handles, and of other generations. */
static int call_fs_close(lua_State *L) {
    const struct ld_script *script = ld_state_script(L);
    int fd = fd_argument(L, 1);
    bool is_std =
        lua_isinteger(L, 1) && fd < 0; /* else the next file opened would get that number */
    if (is_std || is_hosts(script, fd) || is_of_other(script, fd) ||
        ld_guest_find_fd(script->guest, fd) != LD_GUEST_FD_NONE) {
        lua_pushinteger(L, -1); /* luv refuses that itself */
        lua_replace(L, 1);
    } else {
        ld_fds_forget(fd);
    }
    return call_sync(L);
}

/* Note that the script was given the descriptor at INDEX, if that is one. */
static void note_given(lua_State *L, int index) {
    const struct ld_script *script = ld_state_script(L);
    if (lua_isinteger(L, index) && script->stage != LD_STAGE_CLOSED) {
        ld_fds_give((int)lua_tointeger(L, index), script);
    }
}

/* Return what a callback has returned. */
static int returned(lua_State *L, int status, lua_KContext context) {
    (void)status;
    (void)context;
    return lua_gettop(L);
}

/* Call the callback in the first upvalue with an error, or with a new descriptor. */
static int on_opened(lua_State *L) {
    note_given(L, 2);
    lua_pushvalue(L, lua_upvalueindex(1));
    lua_insert(L, 1);
    lua_callk(L, lua_gettop(L) - 1, LUA_MULTRET, 0, returned);
    return lua_gettop(L);
}

/* fs_open and fs_mkstemp, which return a descriptor, or pass it to a callback. */
static int call_fs_open(lua_State *L) {
    int callback = find_callback(L);
    if (callback > 0) {
        lua_pushvalue(L, callback);
        lua_pushcclosure(L, on_opened, 1);
        lua_replace(L, callback);
        return call_open(L);
    }
    int results = lua_tocfunction(L, lua_upvalueindex(1))(L);
    note_given(L, -results);
    return results;
}

/* pipe and socketpair, which return a table of descriptors. */
static int call_pair(lua_State *L) {
    int results = lua_tocfunction(L, lua_upvalueindex(1))(L);
    if (results == 1 && lua_istable(L, -1)) {
        lua_pushnil(L);
        while (lua_next(L, -2) != 0) {
            note_given(L, -1);
            lua_pop(L, 1);
        }
    }
    return results;
}

/* The guard for a luv function that gives away descriptors; NULL for any other. */
static lua_CFunction find_giving_guard(const char *name) {
    static const struct {
        const char *name;
        lua_CFunction guard;
    } rows[] = {
        {"fs_open", call_fs_open},
        {"fs_mkstemp", call_fs_open},
        {"pipe", call_pair},
        {"socketpair", call_pair},
    };
    for (size_t i = 0; i < LD_COUNT(rows); i++) {
        if (strcmp(name, rows[i].name) == 0) {
            return rows[i].guard;
        }
    }
    return NULL;
}

/* The guard for the luv function NAME; NULL if it needs none. */
static lua_CFunction find_guard(const char *name) {
    static const struct {
        const char *part;
        lua_CFunction guard;
    } rows[] = {
        {"_size", NULL}, /* these only read, or fail by themselves on a closed handle */
        {"get_", NULL},
        {"getpath", NULL},
        {"accepts", NULL},
        {"fs_write", call_sync},
        {"write", NULL},
        {"fs_open", call_sync}, /* and fs_opendir */
        {"tcp_open", call_open_fd},
        {"pipe_open", call_open_fd},
        {"udp_open", call_open_fd},
        {"new_tty", call_new_tty},
        {"new_poll", call_new_poll},
        {"new_socket_poll", call_new_poll},
        {"closedir", call_sync}, /* the descriptor of a directory is luv's own */
        {"fs_close", call_fs_close},
        {"new_fs_", call_open}, /* handles: they have no callback yet */
        {"fs_event_start", call_live},
        {"fs_poll_start", call_live},
        {"fs_", call_sync},
        {"addrinfo", call_sync},
        {"nameinfo", call_sync},
        {"random", call_sync},
        {"start", call_live},
        {"connect", call_live},
        {"open", call_open_fd},
        {"bind", call_live},
        {"listen", call_live},
        {"accept", call_live},
        {"again", call_live},
        {"set_mode", call_live},
        {"close_reset", call_live},
        {"new_", call_open},
        {"send", call_live},
        {"shutdown", call_live},
        {"queue", call_open},
        {"spawn", call_open},
        {"readdir", call_open},
    };
    lua_CFunction giving = find_giving_guard(name);
    for (size_t i = 0; giving == NULL && i < LD_COUNT(rows); i++) {
        if (strstr(name, rows[i].part) != NULL) {
            return rows[i].guard;
        }
    }
    return giving;
}

/* The functions that are guarded, in the order of types. Found once, because generations are made often. */
static struct {
    size_t count;
    struct guarded {
        size_t type; /* see types */
        const char *name;
        lua_CFunction guard;
    } list[GUARDED_MAX];
} guarded;

/* Where the functions are: in the module, and in the metatables of its objects. */
static const char *const types[] = {
    NULL,      "uv_async", "uv_check",   "uv_fs_event",  "uv_fs_poll", "uv_idle",
    "uv_pipe", "uv_poll",  "uv_signal",  "uv_tcp",       "uv_timer",   "uv_tty",
    "uv_udp",  "uv_dir",   "uv_prepare", "luv_work_ctx",
};

/* Push the table of functions of a type; the module is at index 1. */
static bool push_functions(lua_State *L, size_t type) {
    if (types[type] == NULL) {
        lua_pushvalue(L, 1);
        return true;
    }
    luaL_getmetatable(L, types[type]);
    return lua_istable(L, -1) && lua_getfield(L, -1, "__index") == LUA_TTABLE;
}

/* Note a function that is to be guarded. */
static void add_guarded(lua_State *L, size_t type, const char *name, lua_CFunction guard) {
    const char *copy = guarded.count < GUARDED_MAX ? strdup(name) : NULL;
    if (copy == NULL) {
        luaL_error(L, "luv: no memory for its functions");
    }
    guarded.list[guarded.count++] = (struct guarded){type, copy, guard};
}

/* Find what is to be guarded in the table at the top. */
static void find_guarded(lua_State *L, size_t type) {
    lua_pushnil(L);
    while (lua_next(L, -2) != 0) {
        lua_CFunction guard = lua_iscfunction(L, -1) && lua_type(L, -2) == LUA_TSTRING
                                  ? find_guard(lua_tostring(L, -2))
                                  : NULL;
        if (guard != NULL) {
            add_guarded(L, type, lua_tostring(L, -2), guard);
        }
        lua_pop(L, 1);
    }
}

/* Put guards before luv's functions, and the methods of its objects. The module is at index 1. */
static void guard_library(lua_State *L) {
    size_t at = 0;
    bool is_first = guarded.count == 0;
    for (size_t type = 0; type < LD_COUNT(types); type++) {
        if (push_functions(L, type) && is_first) {
            find_guarded(L, type);
        }
        for (; at < guarded.count && guarded.list[at].type == type; at++) {
            lua_pushstring(L, guarded.list[at].name);
            lua_pushvalue(L, -1);
            lua_rawget(L, -3);
            lua_pushvalue(L, -2);
            lua_pushcclosure(L, guarded.list[at].guard, 2);
            lua_rawset(L, -3); /* the key is there */
        }
        lua_settop(L, 1);
    }
}

/* Open luv on the loop of this generation. The loader of the module. */
static int l_load(lua_State *L) {
    static const char *const refused[] = {"run", "stop", "loop_close"};
    struct ld_script *script = ld_state_script(L);
    if (ld_stage_is_closing(script->stage)) {
        lx_error(L, "luv: %s", ld_state_over);
    }
    if (luv.open == NULL) {
        open_library(L);
    }
    if (script->guest == NULL) {
        int rc = ld_guest_open(&script->guest, script->setup->loop);
        if (rc < 0) {
            return luaL_error(L, "luv: %s", uv_strerror(rc));
        }
    }
    luv.set_loop(script->L, ld_guest_loop(script->guest));
    luv.set_callback(script->L, on_callback);
    lua_settop(L, 0);
    lua_pushcfunction(L, luv.open);
    lua_call(L, 0, 1);
    guard_library(L);
    for (size_t i = 0; i < LD_COUNT(refused); i++) {
        lua_pushstring(L, refused[i]);
        lua_pushcclosure(L, l_refuse, 1);
        lua_setfield(L, -2, refused[i]);
    }
    return 1;
}

#else

/* Refuse to load luv. The loader of the module: a luv from package.cpath would use a loop that never
 * runs. */
static int l_load(lua_State *L) {
    lx_error(L, "module 'luv': lunad was built without luv (LUNAD_LUV=OFF)");
}

#endif

/* Open this part: `require "luv"` finds it before any file. */
static int set_up(lua_State *L) {
    luaL_getsubtable(L, LUA_REGISTRYINDEX, LUA_PRELOAD_TABLE);
    lua_pushcfunction(L, l_load);
    lua_setfield(L, -2, "luv");
    return 0;
}

static const luaL_Reg own[] = {
#ifdef LUNAD_LUV
    {"open_new", l_open_new},
#endif
    {NULL, NULL},
};

const struct ld_part ld_api_luv_part = {
    .name = "luv",
    .own = own,
    .open = set_up,
};
