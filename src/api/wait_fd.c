/* lunad.wait_fd: a task waits until a descriptor is ready. */
#include <errno.h>
#include <lauxlib.h>
#include <poll.h>
#include <string.h>

#include "api/module.h"
#include "api/timer_box.h"
#include "engine/readiness.h"
#include "posix/fds.h"
#include "script/luax.h"
#include "script/task.h"

/* What is waited for, on the stack of the task. */
struct waiter {
    struct ld_ready_wait wait;
    struct ld_task *task;
    ld_timer timer; /* of the timeout, or 0 */
    int result;     /* events or a negative errno; 0: the time is up */
};

/* Resume the task. */
static void on_ready(struct ld_ready_wait *wait, int events) {
    struct waiter *waiter = LD_CONTAINER_OF(wait, struct waiter, wait);
    waiter->result = events;
    ld_task_wake(waiter->task);
}

/* The events that argument 2 names. */
static int check_events(lua_State *L) {
    const char *mode = luaL_checkstring(L, 2);
    int events = strcmp(mode, "r") == 0    ? UV_READABLE
                 : strcmp(mode, "w") == 0  ? UV_WRITABLE
                 : strcmp(mode, "rw") == 0 ? UV_READABLE | UV_WRITABLE
                                           : 0;
    luaL_argcheck(L, events != 0, 2, "\"r\", \"w\" or \"rw\" expected");
    return events;
}

/* The descriptor in argument 1. */
static int check_fd(lua_State *L) {
    lua_Integer fd = luaL_checkinteger(L, 1);
    luaL_argcheck(L, fd >= 0 && fd <= INT_MAX, 1, "a descriptor expected");
    return (int)fd;
}

/* Push what has come: "r", "w" or "rw", or nil and an error. */
static int push_result(lua_State *L, int fd, int result) {
    if (result <= 0) {
        int code = result == 0 ? -ETIMEDOUT : result;
        return lx_fail(L, code, result == -EBADF ? "descriptor %d was closed" : "descriptor %d",
                       fd);
    }
    lua_pushstring(L, result == UV_READABLE ? "r" : result == UV_WRITABLE ? "w" : "rw");
    return 1;
}

/* Take back what was to wake the task. */
static void end(struct ld_script *script, struct waiter *waiter) {
    ld_readiness_forget(script->setup->readiness, &waiter->wait);
    ld_api_timer_box_end_wake(script, waiter->timer);
    waiter->timer = 0;
}

/* Forget a task that is cancelled. */
static void abandon(struct ld_task *task) {
    end(task->script, task->awaited);
}

/* What a descriptor is ready for of EVENTS now; 0 if nothing. A time that is up may have been seen first,
 * because it is 0 or the loop was busy. */
static int ready_now(const struct ld_ready_wait *wait) {
    struct pollfd now = {.fd = wait->fd};
    now.events |= (wait->events & UV_READABLE) != 0 ? POLLIN | POLLPRI | POLLRDHUP : 0;
    now.events |= (wait->events & UV_WRITABLE) != 0 ? POLLOUT : 0;
    if (poll(&now, 1, 0) <= 0) {
        return 0;
    }
    if ((now.revents & POLLNVAL) != 0) {
        return -EBADF;
    }
    int ready = (now.revents & (POLLIN | POLLPRI | POLLRDHUP)) != 0 ? UV_READABLE : 0;
    ready |= (now.revents & POLLOUT) != 0 ? UV_WRITABLE : 0;
    return (now.revents & (POLLERR | POLLHUP)) != 0 ? wait->events : ready;
}

/* Return from wait_fd. */
static int resumed(lua_State *L, int status, lua_KContext context) {
    struct waiter *waiter = lua_touserdata(L, -1);
    (void)status;
    (void)context;
    end(ld_state_script(L), waiter);
    ld_task_check_cancelled(L);
    if (waiter->result == 0) {
        waiter->result = ready_now(&waiter->wait);
    }
    return push_result(L, waiter->wait.fd, waiter->result);
}

/* wait_fd(fd, mode [, timeout]) -> "r" | "w" | "rw" | nil, error, code */
static int l_wait_fd(lua_State *L) {
    struct ld_script *script = ld_state_script(L);
    int fd = check_fd(L);
    int events = check_events(L);
    bool is_timed = !lua_isnoneornil(L, 3);
    uint64_t ns = is_timed ? lx_check_seconds(L, 3, false) : 0;
    struct ld_task *task = ld_task_check(L, "wait_fd");
    if (ld_fds_owner(fd) == LD_FD_HOST) {
        return lx_fail(L, -EBADF, "descriptor %d is not the script's", fd);
    }
    struct waiter *waiter = lua_newuserdatauv(L, sizeof *waiter, 0);
    *waiter = (struct waiter){.wait = {.on_ready = on_ready, .fd = fd, .events = events}};
    waiter->task = task;
    task->awaited = waiter;
    waiter->timer = is_timed ? ld_api_timer_box_wake(L, task, ns) : 0;
    int rc = ld_readiness_wait(script->setup->readiness, &waiter->wait);
    if (rc != 0) {
        end(script, waiter);
        return rc == 1 ? push_result(L, fd, events) : lx_fail(L, rc, "descriptor %d", fd);
    }
    return ld_task_suspend(L, "wait_fd", abandon, resumed);
}

/* For lunad's own Lua: end_waits(fd) ends all waits of tasks for a descriptor that is about to be closed. */
static int l_end_waits(lua_State *L) {
    int fd = check_fd(L);
    ld_readiness_end(ld_state_script(L)->setup->readiness, fd);
    return 0;
}

/* Find what descriptors are ready for, as select(2) sees it: any number of them, and without waiting. For
 * lunad's own Lua: poll_now({fd, mode, fd, mode, ...}) -> {"r" | "w" | "rw" | "closed" | false, ...},
 * count of those that are not false. */
static int l_poll_now(lua_State *L) {
    luaL_checktype(L, 1, LUA_TTABLE);
    lua_Integer pairs = (lua_Integer)lua_rawlen(L, 1) / 2;
    int ready = 0;
    lua_settop(L, 1);
    lua_createtable(L, (int)pairs, 0);
    for (lua_Integer i = 1; i <= pairs; i++) {
        lua_rawgeti(L, 1, 2 * i - 1);
        lua_rawgeti(L, 1, 2 * i);
        struct ld_ready_wait wait = {.fd = (int)lua_tointeger(L, 3)};
        const char *mode = luaL_checkstring(L, 4);
        wait.events |= strchr(mode, 'r') != NULL ? UV_READABLE : 0;
        wait.events |= strchr(mode, 'w') != NULL ? UV_WRITABLE : 0;
        int events = ready_now(&wait);
        lua_settop(L, 2);
        if (events == 0) {
            lua_pushboolean(L, 0);
        } else {
            lua_pushstring(L, events < 0              ? "closed"
                              : events == UV_READABLE ? "r"
                              : events == UV_WRITABLE ? "w"
                                                      : "rw");
            ready++;
        }
        lua_rawseti(L, 2, i);
    }
    lua_pushinteger(L, ready);
    return 2;
}

static const luaL_Reg functions[] = {
    {"wait_fd", l_wait_fd},
    {NULL, NULL},
};

static const luaL_Reg own[] = {
    {"end_waits", l_end_waits},
    {"poll_now", l_poll_now},
    {NULL, NULL},
};

const struct ld_part ld_api_wait_fd_part = {
    .name = "wait_fd",
    .functions = functions,
    .own = own,
};
