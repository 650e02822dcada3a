/* lunad.spawn, and what becomes of a child. */
#include <lauxlib.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

#include "handle.h"
#include "lib.h"
#include "lib_child.h"
#include "lib_parts.h"
#include "lib_spawn.h"
#include "luax.h"
#include "parse.h"
#include "task.h"

/* The user values of a box. */
enum { ON_STDOUT = 1, ON_STDERR, ON_EXIT, USER_VALUES = ON_EXIT };

static const char boxes_key; /* of the table from halves to boxes in the registry */

/* What an output callback is called with. */
struct output {
    const struct ld_child_half *half;
    int stream;
    const char *bytes;
    size_t size;
};

/* Push the box of a half. */
static void push_box(lua_State *L, const struct ld_child_half *half) {
    lua_rawgetp(L, LUA_REGISTRYINDEX, &boxes_key);
    lua_rawgetp(L, -1, half);
    lua_remove(L, -2);
}

/* Unpin the box of a half. Does not raise: the key is there. */
static void unpin(lua_State *L, const struct ld_child_half *half) {
    lua_rawgetp(L, LUA_REGISTRYINDEX, &boxes_key);
    lua_pushnil(L);
    lua_rawsetp(L, -2, half);
    lua_pop(L, 1);
}

/* Push the table that says how a child ended. */
void ld_child_push_exit(lua_State *L, const struct ld_child_box *box) {
    lua_createtable(L, 0, 5);
    lua_pushboolean(L, !box->exit.signaled && box->exit.status == 0);
    lua_setfield(L, -2, "ok");
    if (box->exit.signaled) {
        lua_pushstring(L, ld_signal_name(box->exit.status));
        lua_setfield(L, -2, "signal");
    } else {
        lua_pushinteger(L, box->exit.status);
        lua_setfield(L, -2, "code");
    }
    lua_pushboolean(L, box->exit.core);
    lua_setfield(L, -2, "core");
    lua_pushnumber(L, box->seconds);
    lua_setfield(L, -2, "seconds");
    lua_pushboolean(L, box->timed_out);
    lua_setfield(L, -2, "timed_out");
}

/* Push an output callback and its argument. */
static int push_output(lua_State *co, void *arg) {
    const struct output *output = arg;
    push_box(co, output->half);
    lua_getiuservalue(co, -1, output->stream == 1 ? ON_STDOUT : ON_STDERR);
    if (output->bytes != NULL) {
        lua_pushlstring(co, output->bytes, output->size);
    } else {
        lua_pushnil(co);
    }
    lua_remove(co, 1);
    return 1;
}

/* Read the stream again when its callback is done. That may finish the child, and free the half. */
static bool on_output_end(struct ld_task *task, enum ld_outcome outcome, int results) {
    struct ld_child_half *half = task->owner;
    int stream = (int)task->number;
    (void)outcome;
    (void)results;
    half->calling[stream - 1] = false;
    if (half->child != NULL && half->held[stream - 1]) {
        half->held[stream - 1] = false;
        ld_child_unhold(half->child, stream, LD_HOLD_BUSY);
    }
    return false;
}

/* Read no more from a stream until its callback is done. */
static void hold(struct ld_child_half *half, int stream) {
    half->held[stream - 1] = true;
    ld_child_hold(half->child, stream, LD_HOLD_BUSY);
}

/* Call an output callback. The stream is held while the callback is suspended; at its end from the
 * beginning, because the end of that call may be the end of the child. */
static void on_output(void *owner, int stream, const char *bytes, size_t size) {
    struct ld_child_half *half = owner;
    struct output output = {.half = half, .stream = stream, .bytes = bytes, .size = size};
    struct ld_task *task =
        ld_task_take(half->handle.script, stream == 1 ? "a stdout callback" : "a stderr callback");
    if (task == NULL) {
        return; /* no memory: the chunk is lost */
    }
    task->owner = half;
    task->number = (uint64_t)stream;
    task->on_end = on_output_end;
    half->calling[stream - 1] = true;
    if (bytes == NULL) {
        hold(half, stream);
        ld_task_start_with(task, push_output, &output);
        return;
    }
    ld_task_start_with(task, push_output, &output);
    if (half->calling[stream - 1]) {
        hold(half, stream);
    }
}

/* Wake all tasks of a list. */
static void wake_all(struct ld_task **list) {
    struct ld_task *task;
    while ((task = *list) != NULL) {
        *list = task->next_waiter;
        task->next_waiter = NULL;
        ld_task_wake(task);
    }
}

/* Wake those who wait until everything is written. */
static void on_drained(void *owner) {
    wake_all(&((struct ld_child_half *)owner)->flushers);
}

/* Push the on_exit function, how the child ended, and the child. */
static int push_on_exit(lua_State *co, void *arg) {
    const struct ld_child_half *half = arg;
    push_box(co, half);
    lua_getiuservalue(co, 1, ON_EXIT);
    ld_child_push_exit(co, half->box);
    lua_pushvalue(co, 1);
    lua_remove(co, 1);
    return 2;
}

/* Keep the facts of a child that is about to go. */
static void keep_facts(struct ld_child_half *half) {
    struct ld_child_facts facts;
    struct ld_child_box *box = half->box;
    ld_child_facts(half->child, &facts);
    box->exit = facts.exit;
    box->seconds = facts.seconds;
    box->timed_out = facts.timed_out;
    box->finished = true;
    box->half = NULL;
}

/* Handle the end of a child. The box stays pinned until its callback has been given it. */
static void on_finished(void *owner) {
    struct ld_child_half *half = owner;
    struct ld_script *script = half->handle.script;
    lua_State *L = script->L;
    keep_facts(half);
    ld_child_release(half->child);
    half->child = NULL;
    wake_all(&half->flushers);
    wake_all(&half->waiters);
    push_box(L, half);
    bool has_callback = lua_getiuservalue(L, -1, ON_EXIT) != LUA_TNIL;
    lua_pop(L, 2);
    struct ld_task *task = has_callback ? ld_task_take(script, "an on_exit callback") : NULL;
    if (task != NULL) {
        ld_task_start_with(task, push_on_exit, half);
    }
    unpin(L, half);
    ld_handle_detach(&half->handle);
    free(half);
}

static const struct ld_child_ops ops = {on_output, on_drained, on_finished};

/* Give a running child up when its script is closed. It ends, unless it was meant to stay. */
static void drop(struct ld_handle *handle) {
    struct ld_child_half *half = LD_CONTAINER_OF(handle, struct ld_child_half, handle);
    struct ld_child_facts facts;
    half->box->half = NULL;
    ld_child_facts(half->child, &facts);
    if (!facts.detached) {
        ld_child_end(half->child, LD_KILL_AFTER_MS);
    }
    ld_child_release(half->child);
    free(half);
}

/* Set a callback from an option of the table at index 1, if it is a function. */
static void keep_callback(lua_State *L, int box, int slot, const char *option) {
    lua_getfield(L, 1, option);
    if (lx_is_callable(L, -1)) {
        lua_setiuservalue(L, box, slot);
    } else {
        lua_pop(L, 1);
    }
}

/* Push a new box, pinned to a half of its own; raises with nothing made. */
static struct ld_child_half *push_pinned_box(lua_State *L) {
    struct ld_child_box *box = lua_newuserdatauv(L, sizeof *box, USER_VALUES);
    *box = (struct ld_child_box){0};
    luaL_setmetatable(L, LD_CHILD_TYPE);
    int index = lua_gettop(L);
    keep_callback(L, index, ON_STDOUT, "stdout");
    keep_callback(L, index, ON_STDERR, "stderr");
    keep_callback(L, index, ON_EXIT, "on_exit");
    struct ld_child_half *half = calloc(1, sizeof *half);
    if (half == NULL) {
        lx_error(L, "not enough memory");
    }
    half->box = box;
    lua_rawgetp(L, LUA_REGISTRYINDEX, &boxes_key);
    lua_pushlightuserdata(L, half);
    lua_pushvalue(L, index);
    box->half = half; /* from here on mt_gc frees it */
    lua_rawset(L, -3);
    lua_pop(L, 1);
    return half;
}

/* The words of a failure: what the step was about. */
static const char *describe(lua_State *L, const struct ld_spawn_request *request,
                            const char *step) {
    if (strcmp(step, "exec") == 0) {
        return request->config.spawn.argv[0];
    }
    if (strcmp(step, "chdir") == 0) {
        return lua_pushfstring(L, "chdir %s (for %s)", request->config.spawn.cwd,
                               request->config.spawn.argv[0]);
    }
    return lua_pushfstring(L, "%s (for %s)", step, request->config.spawn.argv[0]);
}

/* spawn(options) -> child | nil, error, code */
static int l_spawn(lua_State *L) {
    struct ld_script *script = ld_script_of(L);
    struct ld_spawn_request request;
    const char *step;
    ld_script_check_active(L);
    luaL_checktype(L, 1, LUA_TTABLE);
    lua_settop(L, 1);
    ld_spawn_request_read(L, 1, &request);
    struct ld_child_half *half = push_pinned_box(L);
    struct ld_child_box *box = half->box;
    request.config.ops = &ops;
    request.config.owner = half;
    int rc = ld_child_start(script->env->children, &request.config, &half->child, &step);
    if (rc < 0) {
        unpin(L, half);
        box->half = NULL;
        free(half);
        return lx_fail(L, rc, "%s", describe(L, &request, step));
    }
    struct ld_child_facts facts;
    ld_child_facts(half->child, &facts);
    box->pid = facts.pid;
    box->has_stdin = request.config.streams[0].kind == LD_STREAM_PIPE;
    snprintf(box->name, sizeof box->name, "%s", request.name);
    ld_handle_attach(&half->handle, script, drop);
    return 1;
}

/* The box in the first argument. */
struct ld_child_box *ld_child_check_box(lua_State *L) {
    return luaL_checkudata(L, 1, LD_CHILD_TYPE);
}

/* End a child that runs: SIGTERM, and SIGKILL after a while. For lunad's own Lua. */
static int l_end_child(lua_State *L) {
    const struct ld_child_box *box = ld_child_check_box(L);
    if (box->half != NULL) {
        ld_child_end(box->half->child, LD_KILL_AFTER_MS);
    }
    return 0;
}

/* Free a half that was made and not used: spawning was cut short for want of memory. */
static int mt_gc(lua_State *L) {
    struct ld_child_box *box = ld_child_check_box(L);
    if (box->half != NULL && box->half->handle.script == NULL) {
        free(box->half);
        box->half = NULL;
    }
    return 0;
}

/* The report of one child. */
static json_t *report_child(const struct ld_child *child) {
    struct ld_child_facts facts;
    ld_child_facts(child, &facts);
    return json_pack("{s:s, s:i, s:s, s:s, s:f, s:i, s:b, s:n}", "name", facts.name, "pid",
                     (int)facts.pid, "command", facts.command, "state",
                     facts.running ? "running" : "exited", "seconds", facts.seconds, "restarts", 0,
                     "keep", 0, "last_exit");
}

/* The children, for the status report. */
json_t *ld_lib_child_report(struct ld_script *script) {
    json_t *list = json_array();
    struct ld_child *child = NULL;
    while ((child = ld_children_next(script->env->children, child)) != NULL) {
        json_array_append_new(list, report_child(child));
    }
    return list;
}

static const luaL_Reg functions[] = {
    {"spawn", l_spawn},
    {"end_child", l_end_child},
    {NULL, NULL},
};

/* Open this part. */
int luaopen_lunad_child(lua_State *L) {
    lua_newtable(L);
    lua_rawsetp(L, LUA_REGISTRYINDEX, &boxes_key);
    ld_child_set_methods(L);
    lua_pushcfunction(L, mt_gc);
    lua_setfield(L, -2, "__gc");
    lua_settop(L, 1);
    luaL_setfuncs(L, functions, 0);
    return 0;
}
