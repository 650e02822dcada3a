/* require "luv": the system's luv, as a guest on a loop of its generation.
 *
 * The library is opened once and stays: opened anew for each Lua state it would use up the
 * process's thread-local storage keys. */
#include <lauxlib.h>

#include "lib_parts.h"
#include "luax.h"

#ifdef LUNAD_LUV

#include <dlfcn.h>
#include <luv/luv.h>

#include "guest.h"
#include "script.h"
#include "task.h"

/* What we need of the library; NULL until it is open. */
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

/* Open the library, as package.cpath finds it; raises if it cannot be had. */
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
    struct ld_script *script = ld_script_of(L);
    struct ld_task *task =
        script->closing ? NULL : ld_task_take_or_report(script, "a luv callback");
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

/* uv.run and others that would take the loop out of the host's hands. */
static int l_refuse(lua_State *L) {
    lx_error(L, "uv.%s: lunad runs the loop: just return from the script, and its callbacks come",
             lua_tostring(L, lua_upvalueindex(1)));
}

/* Open luv on the loop of this generation. The loader of the module. */
static int l_load(lua_State *L) {
    static const char *const refused[] = {"run", "stop", "loop_close"};
    struct ld_script *script = ld_script_of(L);
    if (luv.open == NULL) {
        open_library(L);
    }
    if (script->guest == NULL) {
        int rc = ld_guest_open(&script->guest, script->env->loop);
        if (rc < 0) {
            return luaL_error(L, "luv: %s", uv_strerror(rc));
        }
    }
    luv.set_loop(script->L, ld_guest_loop(script->guest));
    luv.set_callback(script->L, on_callback);
    lua_pushcfunction(L, luv.open);
    lua_call(L, 0, 1);
    for (size_t i = 0; i < LD_COUNT(refused); i++) {
        lua_pushstring(L, refused[i]);
        lua_pushcclosure(L, l_refuse, 1);
        lua_setfield(L, -2, refused[i]);
    }
    return 1;
}

#else

/* Say that there is none. The loader of the module: luv must not be loaded on a loop of its own, which
 * nobody would run. */
static int l_load(lua_State *L) {
    lx_error(L, "module 'luv': lunad was built without luv (LUNAD_LUV=OFF)");
}

#endif

/* Open this part: `require "luv"` finds it before any file. */
int luaopen_lunad_luv(lua_State *L) {
    luaL_getsubtable(L, LUA_REGISTRYINDEX, LUA_PRELOAD_TABLE);
    lua_pushcfunction(L, l_load);
    lua_setfield(L, -2, "luv");
    return 0;
}
