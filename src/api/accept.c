/* Clients of a listening socket, for lunad's own Lua: a task waits for one, and none is taken from the queue
 * before there is a place for it. Only the service accepts: what comes while a generation loads, or after it
 * was replaced, is left to the other one. */
#include <errno.h>
#include <lauxlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "api/module.h"
#include "engine/listener.h"
#include "engine/readiness.h"
#include "script/luax.h"
#include "script/task.h"

/* One call, on the stack of its task. */
struct ld_accept {
    struct ld_ready_wait wait;
    struct ld_task *task;
    LIST_ENTRY(ld_accept) link; /* of the script's, while it waits */
};

/* Stop waiting. */
static void end(struct ld_script *script, struct ld_accept *accept) {
    ld_readiness_forget(script->setup->readiness, &accept->wait);
    LIST_REMOVE(accept, link);
}

/* Forget a task that is cancelled. */
static void abandon(struct ld_task *task) {
    end(task->script, task->awaited);
}

/* Resume the task: a client has come, or the socket was closed. */
static void on_ready(struct ld_ready_wait *wait, int events) {
    (void)events;
    ld_task_wake(LD_CONTAINER_OF(wait, struct ld_accept, wait)->task);
}

/* Take a client; a descriptor or a negative errno, -EAGAIN if none is there. One that has gone while it was
 * in the queue is none. */
static int take(int fd) {
    for (;;) {
        int client = accept4(fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
        bool is_gone = client < 0 && (errno == ECONNABORTED || errno == EINTR || errno == EPROTO);
        if (!is_gone) {
            return client < 0 ? -errno : client;
        }
    }
}

static int resumed(lua_State *L, int status, lua_KContext context);

/* Take a client, or wait for one; the call is at the top of the stack. */
static int take_or_wait(lua_State *L, struct ld_accept *accept) {
    struct ld_script *script = ld_state_script(L);
    if (script->stage >= LD_STAGE_REPLACED) {
        return 0;
    }
    bool is_new = ld_stage_is_new(script->stage);
    int client = is_new ? -EAGAIN : take(accept->wait.fd);
    if (client == -EAGAIN && !is_new) {
        int rc = ld_readiness_wait(script->setup->readiness, &accept->wait);
        client = rc < 0 ? rc : client;
    }
    if (client >= 0) {
        lua_pushinteger(L, client);
        return 1;
    }
    if (client != -EAGAIN) {
        return lx_fail(L, client, "accepting a client");
    }
    LIST_INSERT_HEAD(&script->accepts, accept, link);
    accept->task->awaited = accept;
    return ld_task_suspend(L, "accept", abandon, resumed);
}

/* Go on when there may be a client. */
static int resumed(lua_State *L, int status, lua_KContext context) {
    struct ld_accept *accept = lua_touserdata(L, -1);
    (void)status;
    (void)context;
    end(ld_state_script(L), accept);
    ld_task_check_cancelled(L);
    return take_or_wait(L, accept);
}

/* accept(fd) -> the descriptor of a client | nil, error, code | nothing, once the generation is not the
 * service any more */
static int l_accept(lua_State *L) {
    int fd = (int)luaL_checkinteger(L, 1);
    struct ld_accept *accept = lua_newuserdatauv(L, sizeof *accept, 0);
    *accept = (struct ld_accept){.wait = {.on_ready = on_ready, .fd = fd, .events = UV_READABLE}};
    accept->task = ld_task_check(L, "accept");
    return take_or_wait(L, accept);
}

/* Whether the generation is the service, or was. For lunad's own Lua: is_service(). */
static int l_is_service(lua_State *L) {
    lua_pushboolean(L, !ld_stage_is_new(ld_state_script(L)->stage));
    return 1;
}

/* Return from await_service. */
static int has_taken_over(lua_State *L, int status, lua_KContext context) {
    (void)status;
    (void)context;
    end(ld_state_script(L), lua_touserdata(L, -1));
    ld_task_check_cancelled(L);
    return 0;
}

/* await_service(): suspend until the generation is the service; raises if the caller cannot. */
static int l_await_service(lua_State *L) {
    struct ld_script *script = ld_state_script(L);
    struct ld_task *task = ld_task_check(L, "accept");
    if (!ld_stage_is_new(script->stage)) {
        return 0;
    }
    struct ld_accept *accept = lua_newuserdatauv(L, sizeof *accept, 0);
    *accept = (struct ld_accept){.wait = {.on_ready = on_ready, .fd = -1}, .task = task};
    LIST_INSERT_HEAD(&script->accepts, accept, link);
    task->awaited = accept;
    return ld_task_suspend(L, "accept", abandon, has_taken_over);
}

/* close_listener(fd): close what lunad.listen gave. */
static int l_close_listener(lua_State *L) {
    const struct ld_setup *setup = ld_state_script(L)->setup;
    ld_listeners_close_one(setup->listeners, (int)luaL_checkinteger(L, 1), ld_state_script(L));
    return 0;
}

/* close_client(fd): close what accept gave, when nothing else has got it. */
static int l_close_client(lua_State *L) {
    close((int)luaL_checkinteger(L, 1));
    return 0;
}

/* Have all calls of a script look again. One that continues at once may wait again. */
static void wake_all(struct ld_script *script) {
    LIST_HEAD(, ld_accept) waiting = LIST_HEAD_INITIALIZER(waiting);
    struct ld_accept *accept;
    while ((accept = LIST_FIRST(&script->accepts)) != NULL) {
        LIST_REMOVE(accept, link);
        LIST_INSERT_HEAD(&waiting, accept, link);
    }
    while ((accept = LIST_FIRST(&waiting)) != NULL) {
        LIST_REMOVE(accept, link);
        LIST_INSERT_HEAD(&script->accepts, accept, link);
        ld_task_wake(accept->task);
    }
}

/* Begin to accept clients. */
static void take_over(struct ld_script *script) {
    wake_all(script);
}

/* Leave the clients to the next generation. */
static void retire(struct ld_script *old, struct ld_script *next) {
    (void)next;
    wake_all(old);
}

static const luaL_Reg own[] = {
    {"accept", l_accept},
    {"is_service", l_is_service},
    {"await_service", l_await_service},
    {"close_client", l_close_client},
    {"close_listener", l_close_listener},
    {NULL, NULL},
};

const struct ld_part ld_api_accept_part = {
    .name = "accept",
    .own = own,
    .take_over = take_over,
    .retire = retire,
};
