/* lunad.worker and lunad.workers; and for the chunk of a master what it keeps its workers by. */
#include "api/workers.h"

#include <errno.h>
#include <lauxlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "api/core.h"
#include "api/module.h"
#include "engine/shares.h"
#include "engine/workers.h"
#include "posix/process.h"
#include "script/luax.h"
#include "script/task.h"

static const char handler_key; /* of the function of core.on_worker in the registry */

/* The channels of a master. */
static struct ld_workers *channels_of(lua_State *L) {
    return ld_state_script(L)->setup->channels;
}

/* Check the number of a worker. */
static int check_worker(lua_State *L, int arg) {
    lua_Integer worker = luaL_checkinteger(L, arg);
    luaL_argcheck(L, worker >= 1 && worker <= ld_workers_most(channels_of(L)), arg,
                  "no such worker");
    return (int)worker;
}

/* connect_worker(worker) -> the descriptor that it is started with, which the caller closes | nil, error, code */
static int l_connect_worker(lua_State *L) {
    int worker = check_worker(L, 1);
    int fd = ld_workers_connect(channels_of(L), worker);
    if (fd < 0) {
        return lx_fail(L, fd, "the channel of worker %d", worker);
    }
    lua_pushinteger(L, fd);
    return 1;
}

/* close_end(fd): close what connect_worker gave. */
static int l_close_end(lua_State *L) {
    close((int)luaL_checkinteger(L, 1));
    return 0;
}

/* is_connected(worker) -> boolean */
static int l_is_connected(lua_State *L) {
    lua_pushboolean(L, ld_workers_is_connected(channels_of(L), check_worker(L, 1)));
    return 1;
}

/* disconnect_worker(worker): its process has ended, or was not started. */
static int l_disconnect_worker(lua_State *L) {
    int worker = check_worker(L, 1);
    ld_workers_drain(channels_of(L), worker);
    ld_workers_disconnect(channels_of(L), worker);
    return 0;
}

/* forget_worker(worker): no process follows it. */
static int l_forget_worker(lua_State *L) {
    ld_workers_forget(channels_of(L), check_worker(L, 1));
    return 0;
}

/* tell_worker(worker, word [, text [, number]]) -> true | nil, error, code */
static int l_tell_worker(lua_State *L) {
    int worker = check_worker(L, 1);
    const char *word = luaL_checkstring(L, 2);
    const char *text = luaL_optstring(L, 3, "");
    lua_Integer number = luaL_optinteger(L, 4, 0);
    int rc = ld_workers_send(channels_of(L), worker, (unsigned long)number, word, text);
    if (rc < 0) {
        return lx_fail(L, rc, "worker %d", worker);
    }
    lua_pushboolean(L, 1);
    return 1;
}

/* limit_workers(last): no new client comes to the workers above it; 0: to all again. */
static int l_limit_workers(lua_State *L) {
    ld_shares_limit(ld_state_script(L)->setup->shares, (int)luaL_checkinteger(L, 1));
    return 0;
}

/* note_retirement(boolean): whether workers that are too many are to go, or go */
static int l_note_retirement(lua_State *L) {
    ld_shares_note_retirement(ld_state_script(L)->setup->shares, lua_toboolean(L, 1));
    return 0;
}

/* is_retiring() -> boolean: whether they do */
static int l_is_retiring(lua_State *L) {
    lua_pushboolean(L, ld_shares_is_retiring(ld_state_script(L)->setup->shares));
    return 1;
}

/* is_on_probation() -> boolean: whether this generation, the service, has yet to prove itself */
static int l_is_on_probation(lua_State *L) {
    lua_pushboolean(L, ld_state_script(L)->on_probation);
    return 1;
}

/* is_stopped(pid) -> boolean: whether a process is stopped by a signal at this moment */
static int l_is_stopped(lua_State *L) {
    lua_pushboolean(L, ld_process_is_stopped((pid_t)luaL_checkinteger(L, 1)));
    return 1;
}

/* count_waiting(worker) -> how many clients wait in its own queues */
static int l_count_waiting(lua_State *L) {
    lua_pushinteger(L, ld_shares_waiting(ld_state_script(L)->setup->shares, check_worker(L, 1)));
    return 1;
}

/* is_serving(worker) -> boolean */
static int l_is_serving(lua_State *L) {
    lua_pushboolean(L, ld_workers_is_serving(channels_of(L), check_worker(L, 1)));
    return 1;
}

/* is_service() -> boolean: whether this generation has become the service */
static int l_is_service(lua_State *L) {
    lua_pushboolean(L, !ld_stage_is_new(ld_state_script(L)->stage));
    return 1;
}

/* prepare_worker(worker, number) -> true | nil, error, code: have it make the next generation ready, and hold it. */
static int l_prepare_worker(lua_State *L) {
    int worker = check_worker(L, 1);
    lua_Integer number = luaL_checkinteger(L, 2);
    ld_workers_send(channels_of(L), worker, 0, "reload-due", ""); /* also for one that is stuck */
    int rc = ld_workers_send(channels_of(L), worker, (unsigned long)number, "prepare",
                             ld_state_script(L)->setup->prepare);
    if (rc < 0) {
        return lx_fail(L, rc, "worker %d", worker);
    }
    ld_workers_note_asked(channels_of(L), worker, true);
    lua_pushboolean(L, 1);
    return 1;
}

/* is_rollback() -> boolean: whether this generation goes back to the code before */
static int l_is_rollback(lua_State *L) {
    lua_pushboolean(L, *ld_state_script(L)->setup->is_rollback);
    return 1;
}

/* note_unproved(text): a worker has ended; if its code is on probation, it has failed that. */
static int l_note_unproved(lua_State *L) {
    struct ld_text *unproved = ld_state_script(L)->setup->unproved;
    ld_text_clear(unproved);
    ld_text_puts(unproved, luaL_checkstring(L, 1));
    return 0;
}

/* note_end(worker, how, seconds): its process has ended, after so many seconds, and another one is to follow. */
static int l_note_end(lua_State *L) {
    int worker = check_worker(L, 1);
    ld_workers_note_end(channels_of(L), worker, luaL_checkstring(L, 2), luaL_checknumber(L, 3));
    return 0;
}

/* start_from_disk(): workers that are started from now on, until the reload is over, are not made from a memory. */
static int l_start_from_disk(lua_State *L) {
    *ld_state_script(L)->setup->from_disk = true;
    return 0;
}

/* fail(text): this generation cannot be the service, for a reason that is not an error of its code. */
static int l_fail(lua_State *L) {
    size_t size;
    const char *text = luaL_checklstring(L, 1, &size);
    struct ld_errors *errors = &ld_state_script(L)->errors;
    if (ld_text_is_empty(&errors->first)) {
        ld_text_add(&errors->first, text, size);
    }
    return 0;
}

/* script_text() -> a descriptor that the script can be read from, which the caller closes, if it was given on stdin | nil */
static int l_script_text(lua_State *L) {
    const struct ld_text *text = ld_state_script(L)->setup->text;
    int fd = text != NULL ? memfd_create("lunad-script", MFD_CLOEXEC) : -1;
    if (fd < 0) {
        return 0;
    }
    if (write(fd, ld_text_string(text), text->size) != (ssize_t)text->size ||
        lseek(fd, 0, SEEK_SET) < 0) {
        close(fd);
        return luaL_error(L, "the script cannot be handed to a worker");
    }
    lua_pushinteger(L, fd);
    return 1;
}

/* worker_words() -> the words that a worker is started by, but for its name */
static int l_worker_words(lua_State *L) {
    char *const *words = ld_state_script(L)->setup->worker_words;
    lua_newtable(L);
    for (lua_Integer i = 0; words[i] != NULL; i++) {
        lua_pushstring(L, words[i]);
        lua_rawseti(L, -2, i + 1);
    }
    return 1;
}

/* on_worker(fn): fn(worker, word, text, number) is called for what a worker says. */
static int l_on_worker(lua_State *L) {
    lx_check_callable(L, 1);
    lua_settop(L, 1);
    lua_rawsetp(L, LUA_REGISTRYINDEX, &handler_key);
    return 0;
}

/* Push the handler and what it is called with. */
static int push_event(lua_State *co, void *arg) {
    const struct ld_api_workers_event *event = arg;
    lua_rawgetp(co, LUA_REGISTRYINDEX, &handler_key);
    lua_pushinteger(co, event->worker);
    lua_pushstring(co, event->word);
    lua_pushlstring(co, event->text, event->size);
    lua_pushinteger(co, (lua_Integer)event->number);
    return 4;
}

/* Tell a script. */
void ld_api_workers_tell(struct ld_script *script, const struct ld_api_workers_event *event) {
    bool any = lua_rawgetp(script->L, LUA_REGISTRYINDEX, &handler_key) != LUA_TNIL;
    lua_pop(script->L, 1);
    struct ld_task *task = any ? ld_task_take_or_report(script, "the handler of workers") : NULL;
    if (task != NULL) {
        ld_task_start_with(task, push_event, (void *)(size_t)event);
    }
}

static const luaL_Reg own[] = {
    {"connect_worker", l_connect_worker},
    {"close_end", l_close_end},
    {"is_connected", l_is_connected},
    {"disconnect_worker", l_disconnect_worker},
    {"forget_worker", l_forget_worker},
    {"tell_worker", l_tell_worker},
    {"limit_workers", l_limit_workers},
    {"note_retirement", l_note_retirement},
    {"is_retiring", l_is_retiring},
    {"is_on_probation", l_is_on_probation},
    {"is_stopped", l_is_stopped},
    {"count_waiting", l_count_waiting},
    {"is_serving", l_is_serving},
    {"prepare_worker", l_prepare_worker},
    {"is_rollback", l_is_rollback},
    {"note_unproved", l_note_unproved},
    {"note_end", l_note_end},
    {"is_service", l_is_service},
    {"start_from_disk", l_start_from_disk},
    {"fail", l_fail},
    {"script_text", l_script_text},
    {"worker_words", l_worker_words},
    {"on_worker", l_on_worker},
    {NULL, NULL},
};

/* Open this part. */
static int set_up(lua_State *L) {
    const struct ld_setup *setup = ld_state_script(L)->setup;
    lua_pushinteger(L, setup->worker > 0 ? setup->worker : 1);
    lua_setfield(L, 1, "worker");
    lua_pushinteger(L, setup->workers > 0 ? setup->workers : 1);
    lua_setfield(L, 1, "workers");
    if (setup->channels != NULL) {
        ld_api_core_push(L);
        luaL_setfuncs(L, own, 0);
        lua_pushboolean(L, 1);
        lua_setfield(L, -2, "is_master");
        lua_pushboolean(L, setup->takes_over);
        lua_setfield(L, -2, "takes_over");
        lua_pushinteger(L, setup->workers_now);
        lua_setfield(L, -2, "workers_now");
        lua_pushinteger(L, ld_workers_most(setup->channels));
        lua_setfield(L, -2, "MOST_WORKERS");
        lua_pop(L, 1);
    }
    return 0;
}

const struct ld_part ld_api_workers_part = {
    .name = "workers",
    .open = set_up,
};
