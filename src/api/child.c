/* lunad.spawn. */
#include <lauxlib.h>
#include <stdlib.h>
#include <string.h>

#include "api/child.h"
#include "api/module.h"
#include "api/parts.h"
#include "api/spawn_options.h"
#include "engine/exec_fault.h"
#include "posix/forked.h"
#include "script/luax.h"

/* Give a running child up when its script is closed. It ends, unless it was meant to stay, or is
 * another generation's. */
static void drop(struct ld_handle *handle) {
    struct ld_child_half *half = LD_CONTAINER_OF(handle, struct ld_child_half, handle);
    half->box->half = NULL;
    if (half->claims) {
        ld_child_claim(half->child, NULL);
    } else {
        struct ld_child_facts facts;
        ld_child_describe(half->child, &facts);
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
    ld_api_child_pin(L, index, half);
    return half;
}

/* Fill in what a box knows from the beginning. */
static void fill_box(struct ld_child_half *half, const struct ld_spawn_request *request) {
    struct ld_child_box *box = half->box;
    struct ld_child_facts facts;
    ld_child_describe(half->child, &facts);
    box->pid = facts.pid;
    box->mark = facts.mark;
    box->start = facts.start;
    box->adopted = half->claims;
    box->has_stdin = request->config.streams[0].kind == LD_STREAM_PIPE;
    snprintf(box->name, sizeof box->name, "%s", request->name);
    for (int i = 0; i < 2; i++) {
        half->to_log[i] = request->config.streams[i + 1].kind == LD_STREAM_LOG;
    }
}

/* Push the text in the argument. Runs protected: the text is freed whatever happens. */
static int push_text(lua_State *L) {
    const struct ld_text *text = lua_touserdata(L, 1);
    lua_pushlstring(L, ld_text_string(text), text->size);
    return 1;
}

/* Push a text and free it; raises if memory has run out. */
static const char *push_and_free(lua_State *L, struct ld_text *text) {
    bool failed = text->failed;
    lua_pushcfunction(L, push_text);
    lua_pushlightuserdata(L, text);
    failed = lua_pcall(L, 1, 1, 0) != LUA_OK || failed;
    ld_text_fini(text);
    if (failed) {
        lx_error(L, "not enough memory");
    }
    return lua_tostring(L, -1);
}

/* Push the triple for an exec that failed. */
static int push_exec_failure(lua_State *L, const struct ld_spawn_request *request, int code) {
    struct ld_text fault = {0};
    ld_exec_fault_explain(&request->config.spawn, code, &fault);
    return lx_fail(L, code, "%s", push_and_free(L, &fault));
}

/* Push the triple for a step of spawning that failed. */
static int push_failure(lua_State *L, const struct ld_spawn_request *request, int code,
                        const char *step) {
    const char *command = request->config.spawn.argv[0];
    if (strcmp(step, "exec") == 0) {
        return push_exec_failure(L, request, code);
    }
    if (strcmp(step, "user") == 0) {
        return lx_fail(L, code, "there is no user or group %s%s%s (for %s)", request->user,
                       request->group[0] != '\0' ? ":" : "", request->group, command);
    }
    if (strcmp(step, "chdir") == 0) {
        return lx_fail(L, code, "cwd %s (for %s)", request->config.spawn.cwd, command);
    }
    const char *detail = strcmp(step, "setuid") == 0 ? request->user : "";
    return lx_fail(L, code, "%s%s%s (for %s)", step, detail[0] != '\0' ? " " : "", detail, command);
}

/* Start the child of a request for the half; 0, or a negative errno with the step that failed. */
static int start(lua_State *L, struct ld_child_half *half, struct ld_spawn_request *request,
                 const char **step) {
    *step = "user";
    request->config.ops = &ld_child_events;
    request->config.owner = half;
    request->config.mark = request->mark;
    if (request->account_error < 0) {
        return request->account_error;
    }
    return ld_child_start(ld_state_script(L)->setup->children, &request->config, &half->child,
                          step);
}

/* Free a half that has no child, and its pin. */
static void free_unused(lua_State *L, struct ld_child_half *half) {
    half->box->half = NULL;
    ld_api_child_unpin(L, half);
    free(half);
}

/* Push the identity of a request that is to be kept. */
static const char *push_identity(lua_State *L, const struct ld_spawn_request *request) {
    struct ld_text text = {0};
    ld_spawn_request_identify(request, &text);
    return push_and_free(L, &text);
}

/* Start a child by the table at index 1. */
static int spawn(lua_State *L, bool marked) {
    struct ld_spawn_request request;
    struct ld_child *kept = NULL;
    ld_state_check_active(L);
    luaL_checktype(L, 1, LUA_TTABLE);
    lua_settop(L, 1);
    ld_spawn_options_read(L, 1, marked, &request);
    if (request.keep) {
        ld_state_check_current(L, "option 'keep'");
        request.config.identity = push_identity(L, &request);
        kept = ld_api_child_find_kept(L, request.name, request.config.identity);
    }
    struct ld_child_half *half = push_pinned_box(L);
    int box = lua_gettop(L);
    if (kept != NULL) {
        half->child = kept;
        half->claims = true;
        ld_child_claim(kept, half);
    } else {
        const char *step;
        int rc = start(L, half, &request, &step);
        if (rc < 0) {
            free_unused(L, half);
            return push_failure(L, &request, rc, step);
        }
    }
    fill_box(half, &request);
    half->late = ld_state_script(L)->stage == LD_STAGE_REPLACED;
    ld_handle_attach(&half->handle, ld_state_script(L), drop);
    lua_settop(L, box);
    return 1;
}

/* spawn(options) -> child | nil, error, code */
static int l_spawn(lua_State *L) {
    return spawn(L, false);
}

/* The same, and what it leaves behind at its end can be found. For lunad's own Lua. */
static int l_spawn_marked(lua_State *L) {
    return spawn(L, true);
}

/* The box in the first argument. */
struct ld_child_box *ld_api_child_check_box(lua_State *L) {
    return luaL_checkudata(L, 1, LD_CHILD_TYPE);
}

/* End a child that runs: SIGTERM, and SIGKILL after a while. For lunad's own Lua. */
static int l_end_child(lua_State *L) {
    const struct ld_child_box *box = ld_api_child_check_box(L);
    if (box->half != NULL && !ld_forked()) {
        ld_child_end(box->half->child);
    }
    return 0;
}

/* Note that a child is the command of lunad.exec, which may finish when its script has been replaced.
 * For lunad's own Lua: note_command(child). */
static int l_note_command(lua_State *L) {
    const struct ld_child_box *box = ld_api_child_check_box(L);
    if (box->half != NULL && !box->half->command) {
        box->half->command = true;
        ld_state_script(L)->commands++;
    }
    return 0;
}

/* Note how often a child was started anew, and how it ended last time. For lunad's own Lua:
 * note_child(child, restarts [, ended]). */
static int l_note_child(lua_State *L) {
    const struct ld_child_box *box = ld_api_child_check_box(L);
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
    struct ld_child_box *box = ld_api_child_check_box(L);
    if (box->half != NULL && box->half->handle.script == NULL) {
        free(box->half);
        box->half = NULL;
    }
    return 0;
}

static const luaL_Reg functions[] = {
    {"spawn", l_spawn},
    {"spawn_marked", l_spawn_marked},
    {"strays", ld_child_strays},
    {"end_child", l_end_child},
    {"note_child", l_note_child},
    {"note_command", l_note_command},
    {"drop_claim", ld_api_child_drop_claim},
    {NULL, NULL},
};

/* Open this part. */
int luaopen_lunad_child(lua_State *L) {
    ld_api_child_make_boxes(L);
    ld_api_child_set_methods(L);
    lua_pushcfunction(L, mt_gc);
    lua_setfield(L, -2, "__gc");
    lua_settop(L, 1);
    luaL_setfuncs(L, functions, 0);
    return 0;
}
