/* The methods of a child. */
#include <errno.h>
#include <lauxlib.h>
#include <signal.h>
#include <string.h>

#include "api/child.h"
#include "posix/forked.h"
#include "script/luax.h"

/* The half of a box, for an action; raises if the script has given the child up. */
static struct ld_child_half *check_open(lua_State *L, const struct ld_child_box *box,
                                        const char *method) {
    if (ld_forked()) {
        lx_error(L, "child:%s: %s", method, ld_forked_words);
    }
    if (box->half == NULL && !box->finished) {
        lx_error(L, "child:%s: this child is closed", method);
    }
    return box->half;
}

/* child:running() -> boolean */
static int m_running(lua_State *L) {
    const struct ld_child_box *box = ld_api_child_check_box(L);
    struct ld_child_facts facts = {.running = false};
    if (box->half != NULL) {
        ld_child_describe(box->half->child, &facts);
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
    take_out(&((struct ld_child_half *)task->waits_on)->waiters, task);
}

/* Return from wait. */
static int wait_resumed(lua_State *L, int status, lua_KContext context) {
    (void)status;
    (void)context;
    ld_task_check_cancelled(L);
    ld_api_child_push_exit(L, ld_api_child_check_box(L));
    return 1;
}

/* child:wait() -> exit */
static int m_wait(lua_State *L) {
    const struct ld_child_box *box = ld_api_child_check_box(L);
    struct ld_child_half *half = check_open(L, box, "wait");
    lua_settop(L, 1);
    if (half == NULL) {
        ld_api_child_push_exit(L, box);
        return 1;
    }
    struct ld_task *task = ld_task_check(L, "child:wait");
    put_last(&half->waiters, task);
    task->waits_on = half;
    return ld_task_suspend(L, "wait", abandon_wait, wait_resumed);
}

/* child:kill([signal]) -> true | nil, error, code */
static int m_kill(lua_State *L) {
    const struct ld_child_box *box = ld_api_child_check_box(L);
    int signo = lua_isnoneornil(L, 2) ? SIGTERM : lx_check_signal(L, 2, true);
    struct ld_child_half *half = check_open(L, box, "kill");
    int rc = half != NULL ? ld_child_kill(half->child, signo) : -ESRCH;
    if (rc < 0) {
        return lx_fail(L, rc, "child %s (pid %d)", box->name, (int)box->pid);
    }
    lua_pushboolean(L, 1);
    return 1;
}

/* Return the result of what was written. */
static int push_written(lua_State *L, const struct ld_child_box *box, int rc) {
    if (rc < 0) {
        return lx_fail(L, rc, "stdin of child %s (pid %d)", box->name, (int)box->pid);
    }
    lua_pushboolean(L, 1);
    return 1;
}

/* The box in the first argument, for writing; raises if it has no pipe, or no more. */
static struct ld_child_box *check_writable(lua_State *L, const char *method) {
    struct ld_child_box *box = ld_api_child_check_box(L);
    if (!box->has_stdin) {
        lx_error(L, "child:%s: this child's stdin is no pipe (spawn it with stdin = \"pipe\")",
                 method);
    }
    return box;
}

/* child:write(data) -> true | nil, error, code */
static int m_write(lua_State *L) {
    const struct ld_child_box *box = check_writable(L, "write");
    size_t size;
    const char *bytes = luaL_checklstring(L, 2, &size);
    if (box->stdin_closed) {
        lx_error(L, "child:write: its stdin was closed by child:close_stdin()");
    }
    struct ld_child_half *half = check_open(L, box, "write");
    return push_written(L, box, half != NULL ? ld_child_write(half->child, bytes, size) : -EPIPE);
}

/* Flush no more. */
static void abandon_flush(struct ld_task *task) {
    take_out(&((struct ld_child_half *)task->waits_on)->flushers, task);
}

/* How the writing to a child stands: 1 for some to be written, 0 for none, or a negative errno. */
static int writing_state(const struct ld_child_box *box) {
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
    const struct ld_child_box *box = ld_api_child_check_box(L);
    return push_written(L, box, writing_state(box));
}

/* child:flush() -> true | nil, error, code */
static int m_flush(lua_State *L) {
    const struct ld_child_box *box = check_writable(L, "flush");
    struct ld_child_half *half = check_open(L, box, "flush");
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

/* child:close_stdin(). What is another generation's still is closed when it is ours. */
static int m_close_stdin(lua_State *L) {
    struct ld_child_box *box = check_writable(L, "close_stdin");
    box->stdin_closed = true;
    if (box->half != NULL && !box->half->claims) {
        ld_child_close_stdin(box->half->child);
    }
    return 0;
}

/* Hold both outputs back, or let them come. What another generation still reads is left alone. */
static void set_paused(lua_State *L, void (*set)(struct ld_child *, int, unsigned)) {
    const struct ld_child_box *box = ld_api_child_check_box(L);
    for (int stream = 1; stream <= 2; stream++) {
        if (box->half != NULL && !box->half->claims) { /* the first may have been the end of it */
            set(box->half->child, stream, LD_HOLD_PAUSE);
        }
    }
}

/* child:pause() */
static int m_pause(lua_State *L) {
    set_paused(L, ld_child_hold);
    return 0;
}

/* child:resume() */
static int m_resume(lua_State *L) {
    set_paused(L, ld_child_unhold);
    return 0;
}

/* child.pid, child.name, child.adopted, and the methods (in the upvalue). */
static int mt_index(lua_State *L) {
    const struct ld_child_box *box = ld_api_child_check_box(L);
    const char *key = lua_type(L, 2) == LUA_TSTRING ? lua_tostring(L, 2) : "";
    if (strcmp(key, "pid") == 0) {
        lua_pushinteger(L, box->pid);
    } else if (strcmp(key, "name") == 0) {
        lua_pushstring(L, box->name);
    } else if (strcmp(key, "adopted") == 0) {
        lua_pushboolean(L, box->adopted);
    } else {
        lua_pushvalue(L, 2);
        lua_rawget(L, lua_upvalueindex(1));
    }
    return 1;
}

/* A child as text. */
static int mt_tostring(lua_State *L) {
    const struct ld_child_box *box = ld_api_child_check_box(L);
    lua_pushfstring(L, "child %s (pid %d, %s)", box->name, (int)box->pid,
                    box->half != NULL ? "running" : "ended");
    return 1;
}

static const luaL_Reg methods[] = {
    {"running", m_running}, {"wait", m_wait},     {"kill", m_kill},
    {"write", m_write},     {"flush", m_flush},   {"close_stdin", m_close_stdin},
    {"pause", m_pause},     {"resume", m_resume}, {NULL, NULL},
};

/* Push the metatable of children with its methods. */
void ld_api_child_set_methods(lua_State *L) {
    lx_new_type(L, LD_CHILD_TYPE, methods);
    lua_pushcfunction(L, mt_tostring);
    lua_setfield(L, -2, "__tostring");
    lua_getfield(L, -1, "__index");
    lua_pushcclosure(L, mt_index, 1);
    lua_setfield(L, -2, "__index");
}
