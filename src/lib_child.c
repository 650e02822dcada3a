/* lunad.spawn, and what becomes of a child. */
#include <lauxlib.h>
#include <stdlib.h>
#include <string.h>

#include "lib.h"
#include "lib_child.h"
#include "lib_parts.h"
#include "lib_spawn.h"
#include "luax.h"
#include "parse.h"
#include "process.h"

static const char boxes_key; /* of the table from halves to boxes in the registry */

/* What an output callback is called with. */
struct output {
    const struct ld_child_half *half;
    int stream;
    const char *bytes;
    size_t size;
};

/* Push the box of a half. */
void ld_child_push_box(lua_State *L, const struct ld_child_half *half) {
    lua_rawgetp(L, LUA_REGISTRYINDEX, &boxes_key);
    lua_rawgetp(L, -1, half);
    lua_remove(L, -2);
}

/* Unpin the box of a half: the key is there, so nothing is allocated. */
void ld_child_unpin(lua_State *L, const struct ld_child_half *half) {
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
    ld_child_push_box(co, output->half);
    lua_getiuservalue(co, -1, output->stream == 1 ? LD_CHILD_ON_STDOUT : LD_CHILD_ON_STDERR);
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
    half->calling[stream - 1] = NULL;
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
    struct ld_task *task = ld_task_take_or_report(
        half->handle.script, stream == 1 ? "a stdout callback" : "a stderr callback");
    if (task == NULL) {
        return; /* the chunk is lost */
    }
    task->owner = half;
    task->number = (uint64_t)stream;
    task->on_end = on_output_end;
    half->calling[stream - 1] = task;
    if (bytes == NULL) {
        hold(half, stream);
        ld_task_start_with(task, push_output, &output);
        return;
    }
    ld_task_start_with(task, push_output, &output);
    if (half->calling[stream - 1] != NULL) {
        hold(half, stream);
    }
}

/* Wake the first task of a list. */
static void wake_first(struct ld_task **list) {
    struct ld_task *task = *list;
    *list = task->next_waiter;
    task->next_waiter = NULL;
    ld_task_wake(task);
}

/* Wake all tasks of a list. */
static void wake_all(struct ld_task **list) {
    while (*list != NULL) {
        wake_first(list);
    }
}

/* Wake those who wait until everything is written. When one of them writes again, that is true no
 * more: the others, and itself if it flushes, wait for the next time. */
static void on_drained(void *owner) {
    struct ld_child_half *half = owner;
    while (half->flushers != NULL &&
           (ld_child_write_error(half->child) < 0 || ld_child_unwritten(half->child) == 0)) {
        wake_first(&half->flushers);
    }
}

/* Push the on_exit function, how the child ended, and the child. */
static int push_on_exit(lua_State *co, void *arg) {
    const struct ld_child_half *half = arg;
    ld_child_push_box(co, half);
    lua_getiuservalue(co, 1, LD_CHILD_ON_EXIT);
    ld_child_push_exit(co, half->box);
    lua_pushvalue(co, 1);
    lua_remove(co, 1);
    return 2;
}

/* Move the facts of a child that is about to go into its box. */
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
    if (!half->claims) {
        ld_child_release(half->child);
    }
    half->child = NULL;
    wake_all(&half->flushers);
    wake_all(&half->waiters);
    ld_child_push_box(L, half);
    bool has_callback = lua_getiuservalue(L, -1, LD_CHILD_ON_EXIT) != LUA_TNIL;
    lua_pop(L, 2);
    struct ld_task *task =
        has_callback ? ld_task_take_or_report(script, "an on_exit callback") : NULL;
    if (task != NULL) {
        ld_task_start_with(task, push_on_exit, half);
    }
    ld_child_unpin(L, half);
    ld_handle_detach(&half->handle);
    free(half);
}

static const struct ld_child_ops ops = {on_output, on_drained, on_finished};

/* Give a running child up when its script is closed. It ends, unless it was meant to stay, or is
 * another generation's. */
static void drop(struct ld_handle *handle, const struct ld_script *script) {
    struct ld_child_half *half = LD_CONTAINER_OF(handle, struct ld_child_half, handle);
    half->box->half = NULL;
    if (half->claims) {
        ld_child_claim(half->child, NULL);
    } else {
        struct ld_child_facts facts;
        ld_child_facts(half->child, &facts);
        if (!facts.detached && facts.running && script->stage == LD_STAGE_NEW) {
            ld_process_end_family(facts.pid); /* it never was: nothing came of it */
        }
        if (!facts.detached) {
            ld_child_end(half->child);
        }
        ld_child_release(half->child);
    }
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
    struct ld_child_box *box = lua_newuserdatauv(L, sizeof *box, LD_CHILD_ON_EXIT);
    *box = (struct ld_child_box){0};
    luaL_setmetatable(L, LD_CHILD_TYPE);
    int index = lua_gettop(L);
    keep_callback(L, index, LD_CHILD_ON_STDOUT, "stdout");
    keep_callback(L, index, LD_CHILD_ON_STDERR, "stderr");
    keep_callback(L, index, LD_CHILD_ON_EXIT, "on_exit");
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

/* Fill in what a box knows from the beginning. */
static void fill_box(struct ld_child_half *half, const struct ld_spawn_request *request) {
    struct ld_child_box *box = half->box;
    struct ld_child_facts facts;
    ld_child_facts(half->child, &facts);
    box->pid = facts.pid;
    box->adopted = half->claims;
    box->has_stdin = request->config.streams[0].kind == LD_STREAM_PIPE;
    snprintf(box->name, sizeof box->name, "%s", request->name);
    for (int i = 0; i < 2; i++) {
        half->to_log[i] = request->config.streams[i + 1].kind == LD_STREAM_LOG;
    }
}

/* Push the triple for a step of spawning that failed. */
static int push_failure(lua_State *L, const struct ld_spawn_request *request, int code,
                        const char *step) {
    const char *command = request->config.spawn.argv[0];
    if (strcmp(step, "exec") == 0) {
        return lx_fail(L, code, "%s", command);
    }
    const char *detail = strcmp(step, "chdir") == 0    ? request->config.spawn.cwd
                         : strcmp(step, "setuid") == 0 ? request->user
                                                       : "";
    return lx_fail(L, code, "%s%s%s (for %s)", step, detail[0] != '\0' ? " " : "", detail, command);
}

/* Start the child of a request for the half; the triple on failure. 0, or what to return. */
static int start(lua_State *L, struct ld_child_half *half, struct ld_spawn_request *request) {
    struct ld_text why = {0};
    struct ld_user user;
    const char *step = "user";
    request->config.ops = &ops;
    request->config.owner = half;
    int rc = ld_spawn_request_find_user(request, &user, &why);
    if (rc == 0) {
        rc = ld_child_start(ld_script_of(L)->env->children, &request->config, &half->child, &step);
    }
    ld_user_fini(&user);
    ld_text_fini(&why);
    if (rc == 0) {
        return 0;
    }
    half->box->half = NULL;
    ld_child_unpin(L, half);
    free(half);
    if (strcmp(step, "user") == 0) {
        return lx_fail(L, rc, "there is no user or group %s%s%s (for %s)", request->user,
                       request->group[0] != '\0' ? ":" : "", request->group,
                       request->config.spawn.argv[0]);
    }
    return push_failure(L, request, rc, step);
}

/* Push the text in the argument. Runs protected: the text is freed whatever happens. */
static int push_text(lua_State *L) {
    const struct ld_text *text = lua_touserdata(L, 1);
    lua_pushlstring(L, ld_text_string(text), text->size);
    return 1;
}

/* Push the identity of a request that is to be kept. */
static const char *push_identity(lua_State *L, const struct ld_spawn_request *request) {
    struct ld_text text = {0};
    ld_spawn_request_identify(request, &text);
    bool failed = text.failed;
    lua_pushcfunction(L, push_text);
    lua_pushlightuserdata(L, &text);
    failed = lua_pcall(L, 1, 1, 0) != LUA_OK || failed;
    ld_text_fini(&text);
    if (failed) {
        lx_error(L, "not enough memory");
    }
    return lua_tostring(L, -1);
}

/* spawn(options) -> child | nil, error, code */
static int l_spawn(lua_State *L) {
    struct ld_spawn_request request;
    struct ld_child *kept = NULL;
    ld_script_check_active(L);
    luaL_checktype(L, 1, LUA_TTABLE);
    lua_settop(L, 1);
    ld_spawn_request_read(L, 1, &request);
    if (request.keep) {
        request.config.identity = push_identity(L, &request);
        kept = ld_child_find_kept(L, request.name, request.config.identity);
    }
    struct ld_child_half *half = push_pinned_box(L);
    int box = lua_gettop(L);
    if (kept != NULL) {
        half->child = kept;
        half->claims = true;
        ld_child_claim(kept, half);
    } else {
        int results = start(L, half, &request);
        if (results > 0) {
            return results;
        }
    }
    fill_box(half, &request);
    ld_handle_attach(&half->handle, ld_script_of(L), drop);
    lua_settop(L, box);
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
        ld_child_end(box->half->child);
    }
    return 0;
}

/* Note how often a child was started anew, and how it ended last time. For lunad's own Lua:
 * note_child(child, restarts [, ended]). */
static int l_note_child(lua_State *L) {
    const struct ld_child_box *box = ld_child_check_box(L);
    const struct ld_child_box *ended =
        lua_isnoneornil(L, 3) ? NULL : luaL_checkudata(L, 3, LD_CHILD_TYPE);
    if (box->half != NULL && !box->half->claims) { /* what is another's has its history */
        ld_child_note(box->half->child, (unsigned)luaL_checkinteger(L, 2),
                      ended != NULL ? &ended->exit : NULL);
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

static const luaL_Reg functions[] = {
    {"spawn", l_spawn},
    {"end_child", l_end_child},
    {"note_child", l_note_child},
    {"drop_claim", ld_child_drop_claim},
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
