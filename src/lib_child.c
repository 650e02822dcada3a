/* lunad.spawn and the methods of a child.
 *
 * The box is what a script holds; the half is what the child engine knows. While the child runs the
 * box is pinned in the registry; when it has finished, the half goes and the box keeps the facts. */
#include <errno.h>
#include <lauxlib.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

#include "handle.h"
#include "lib.h"
#include "lib_parts.h"
#include "lib_spawn.h"
#include "luax.h"
#include "parse.h"
#include "task.h"

#define CHILD_TYPE "lunad.child"

/* The user values of a box. */
enum { ON_STDOUT = 1, ON_STDERR, ON_EXIT, USER_VALUES = ON_EXIT };

static const char boxes_key; /* of the table from halves to boxes in the registry */

struct half {
    struct ld_handle handle;
    struct ld_child *child;
    struct box *box;
    struct ld_task *waiters;  /* for the end */
    struct ld_task *flushers; /* for the writing */
    bool calling[2];          /* an output callback is not done yet */
    bool held[2];             /* and its stream is held for it */
};

struct box {
    struct half *half; /* NULL: it has finished, or the script is closed */
    bool finished;
    bool stdin_closed; /* by the script */
    bool has_stdin;
    bool timed_out;
    double seconds;
    struct ld_exit exit;
    pid_t pid;
    char name[80];
};

/* What an output callback is called with. */
struct output {
    const struct half *half;
    int stream;
    const char *bytes;
    size_t size;
};

/* Push the box of a half. */
static void push_box(lua_State *L, const struct half *half) {
    lua_rawgetp(L, LUA_REGISTRYINDEX, &boxes_key);
    lua_rawgetp(L, -1, half);
    lua_remove(L, -2);
}

/* Unpin the box of a half. Does not raise: the key is there. */
static void unpin(lua_State *L, const struct half *half) {
    lua_rawgetp(L, LUA_REGISTRYINDEX, &boxes_key);
    lua_pushnil(L);
    lua_rawsetp(L, -2, half);
    lua_pop(L, 1);
}

/* Push the table that says how a child ended. */
static void push_exit(lua_State *L, const struct box *box) {
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
    struct half *half = task->owner;
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
static void hold(struct half *half, int stream) {
    half->held[stream - 1] = true;
    ld_child_hold(half->child, stream, LD_HOLD_BUSY);
}

/* Call an output callback. The stream is held while the callback is suspended; at its end from the
 * beginning, because the end of that call may be the end of the child. */
static void on_output(void *owner, int stream, const char *bytes, size_t size) {
    struct half *half = owner;
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
    wake_all(&((struct half *)owner)->flushers);
}

/* Push the on_exit function, how the child ended, and the child. */
static int push_on_exit(lua_State *co, void *arg) {
    const struct half *half = arg;
    push_box(co, half);
    lua_getiuservalue(co, 1, ON_EXIT);
    push_exit(co, half->box);
    lua_pushvalue(co, 1);
    lua_remove(co, 1);
    return 2;
}

/* Keep the facts of a child that is about to go. */
static void keep_facts(struct half *half) {
    struct ld_child_facts facts;
    struct box *box = half->box;
    ld_child_facts(half->child, &facts);
    box->exit = facts.exit;
    box->seconds = facts.seconds;
    box->timed_out = facts.timed_out;
    box->finished = true;
    box->half = NULL;
}

/* Handle the end of a child. The box stays pinned until its callback has been given it. */
static void on_finished(void *owner) {
    struct half *half = owner;
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
    struct half *half = LD_CONTAINER_OF(handle, struct half, handle);
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
static struct half *push_pinned_box(lua_State *L) {
    struct box *box = lua_newuserdatauv(L, sizeof *box, USER_VALUES);
    *box = (struct box){0};
    luaL_setmetatable(L, CHILD_TYPE);
    int index = lua_gettop(L);
    keep_callback(L, index, ON_STDOUT, "stdout");
    keep_callback(L, index, ON_STDERR, "stderr");
    keep_callback(L, index, ON_EXIT, "on_exit");
    struct half *half = calloc(1, sizeof *half);
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
    struct half *half = push_pinned_box(L);
    struct box *box = half->box;
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
static struct box *check_box(lua_State *L) {
    return luaL_checkudata(L, 1, CHILD_TYPE);
}

/* The half of a box, for an action; raises if the script has given the child up. */
static struct half *check_open(lua_State *L, const struct box *box, const char *method) {
    if (box->half == NULL && !box->finished) {
        lx_error(L, "child:%s: this child is closed", method);
    }
    return box->half;
}

/* child:running() -> boolean */
static int m_running(lua_State *L) {
    const struct box *box = check_box(L);
    struct ld_child_facts facts = {.running = false};
    if (box->half != NULL) {
        ld_child_facts(box->half->child, &facts);
    }
    lua_pushboolean(L, facts.running);
    return 1;
}

/* Take a task out of a list. */
static void take_out(struct ld_task **list, struct ld_task *task) {
    while (*list != task) {
        list = &(*list)->next_waiter;
    }
    *list = task->next_waiter;
    task->next_waiter = NULL;
}

/* Put a task at the end of a list. */
static void put_last(struct ld_task **list, struct ld_task *task) {
    while (*list != NULL) {
        list = &(*list)->next_waiter;
    }
    *list = task;
}

/* Wait no more for the end. */
static void abandon_wait(struct ld_task *task) {
    take_out(&((struct half *)task->waits_on)->waiters, task);
}

/* Return from wait. */
static int wait_resumed(lua_State *L, int status, lua_KContext context) {
    (void)status;
    (void)context;
    ld_task_check_cancelled(L);
    push_exit(L, check_box(L));
    return 1;
}

/* child:wait() -> exit */
static int m_wait(lua_State *L) {
    const struct box *box = check_box(L);
    struct half *half = check_open(L, box, "wait");
    lua_settop(L, 1);
    if (half == NULL) {
        push_exit(L, box);
        return 1;
    }
    struct ld_task *task = ld_task_check(L, "child:wait");
    put_last(&half->waiters, task);
    task->waits_on = half;
    return ld_task_suspend(L, "wait", abandon_wait, wait_resumed);
}

/* child:kill([signal]) -> true | nil, error, code */
static int m_kill(lua_State *L) {
    const struct box *box = check_box(L);
    int signo = lua_isnoneornil(L, 2) ? SIGTERM : lx_check_signal(L, 2, true);
    struct half *half = check_open(L, box, "kill");
    int rc = half != NULL ? ld_child_kill(half->child, signo) : -ESRCH;
    if (rc < 0) {
        return lx_fail(L, rc, "child %s (pid %d)", box->name, (int)box->pid);
    }
    lua_pushboolean(L, 1);
    return 1;
}

/* Return the result of what was written. */
static int push_written(lua_State *L, const struct box *box, int rc) {
    if (rc < 0) {
        return lx_fail(L, rc, "stdin of child %s (pid %d)", box->name, (int)box->pid);
    }
    lua_pushboolean(L, 1);
    return 1;
}

/* The box in the first argument, for writing; raises if it has no pipe, or no more. */
static struct box *check_writable(lua_State *L, const char *method) {
    struct box *box = check_box(L);
    if (!box->has_stdin) {
        lx_error(L, "child:%s: this child's stdin is no pipe (spawn it with stdin = \"pipe\")",
                 method);
    }
    return box;
}

/* child:write(data) -> true | nil, error, code */
static int m_write(lua_State *L) {
    const struct box *box = check_writable(L, "write");
    size_t size;
    const char *bytes = luaL_checklstring(L, 2, &size);
    if (box->stdin_closed) {
        lx_error(L, "child:write: its stdin was closed by child:close_stdin()");
    }
    struct half *half = check_open(L, box, "write");
    return push_written(L, box,
                        half != NULL ? ld_child_write(half->child, bytes, size) : -EPIPE);
}

/* Flush no more. */
static void abandon_flush(struct ld_task *task) {
    take_out(&((struct half *)task->waits_on)->flushers, task);
}

/* How the writing to a child stands: 1 for some to be written, 0 for none, or a negative errno. */
static int writing_state(const struct box *box) {
    if (box->half == NULL) {
        return -EPIPE;
    }
    int rc = ld_child_write_error(box->half->child);
    return rc < 0 ? rc : ld_child_unwritten(box->half->child) > 0;
}

/* Return from flush. */
static int flush_resumed(lua_State *L, int status, lua_KContext context) {
    (void)status;
    (void)context;
    ld_task_check_cancelled(L);
    const struct box *box = check_box(L);
    return push_written(L, box, writing_state(box));
}

/* child:flush() -> true | nil, error, code */
static int m_flush(lua_State *L) {
    const struct box *box = check_writable(L, "flush");
    struct half *half = check_open(L, box, "flush");
    lua_settop(L, 1);
    if (half == NULL && box->stdin_closed) {
        lua_pushboolean(L, 1);
        return 1;
    }
    int rc = writing_state(box);
    if (rc <= 0) {
        return push_written(L, box, rc);
    }
    struct ld_task *task = ld_task_check(L, "child:flush");
    put_last(&half->flushers, task);
    task->waits_on = half;
    return ld_task_suspend(L, "flush", abandon_flush, flush_resumed);
}

/* child:close_stdin() */
static int m_close_stdin(lua_State *L) {
    struct box *box = check_writable(L, "close_stdin");
    box->stdin_closed = true;
    if (box->half != NULL) {
        ld_child_close_stdin(box->half->child);
    }
    return 0;
}

/* child:pause() */
static int m_pause(lua_State *L) {
    const struct box *box = check_box(L);
    if (box->half != NULL) {
        ld_child_hold(box->half->child, 1, LD_HOLD_PAUSE);
        ld_child_hold(box->half->child, 2, LD_HOLD_PAUSE);
    }
    return 0;
}

/* child:resume() */
static int m_resume(lua_State *L) {
    const struct box *box = check_box(L);
    if (box->half != NULL) {
        ld_child_unhold(box->half->child, 1, LD_HOLD_PAUSE);
    }
    if (box->half != NULL) {
        ld_child_unhold(box->half->child, 2, LD_HOLD_PAUSE);
    }
    return 0;
}

/* End a child that runs: SIGTERM, and SIGKILL after a while. For lunad's own Lua. */
static int l_end_child(lua_State *L) {
    const struct box *box = check_box(L);
    if (box->half != NULL) {
        ld_child_end(box->half->child, LD_KILL_AFTER_MS);
    }
    return 0;
}

/* child.pid, child.name, child.adopted, and the methods (in the upvalue). */
static int mt_index(lua_State *L) {
    const struct box *box = check_box(L);
    const char *key = lua_type(L, 2) == LUA_TSTRING ? lua_tostring(L, 2) : "";
    if (strcmp(key, "pid") == 0) {
        lua_pushinteger(L, box->pid);
    } else if (strcmp(key, "name") == 0) {
        lua_pushstring(L, box->name);
    } else {
        lua_pushvalue(L, 2);
        lua_rawget(L, lua_upvalueindex(1));
    }
    return 1;
}

/* Free a half that was made and not used: spawning was cut short for want of memory. */
static int mt_gc(lua_State *L) {
    struct box *box = check_box(L);
    if (box->half != NULL && box->half->handle.script == NULL) {
        free(box->half);
        box->half = NULL;
    }
    return 0;
}

/* A child as text. */
static int mt_tostring(lua_State *L) {
    const struct box *box = check_box(L);
    lua_pushfstring(L, "child %s (pid %d, %s)", box->name, (int)box->pid,
                    box->half != NULL ? "running" : "ended");
    return 1;
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

static const luaL_Reg methods[] = {
    {"running", m_running}, {"wait", m_wait},   {"kill", m_kill},
    {"write", m_write},     {"flush", m_flush}, {"close_stdin", m_close_stdin},
    {"pause", m_pause},     {"resume", m_resume}, {NULL, NULL},
};

static const luaL_Reg metamethods[] = {
    {"__gc", mt_gc},
    {"__tostring", mt_tostring},
    {NULL, NULL},
};

/* Open this part. */
int luaopen_lunad_child(lua_State *L) {
    lua_newtable(L);
    lua_rawsetp(L, LUA_REGISTRYINDEX, &boxes_key);
    lx_new_type(L, CHILD_TYPE, methods);
    luaL_setfuncs(L, metamethods, 0);
    lua_getfield(L, -1, "__index");
    lua_pushcclosure(L, mt_index, 1);
    lua_setfield(L, -2, "__index");
    lua_settop(L, 1);
    luaL_setfuncs(L, functions, 0);
    return 0;
}
