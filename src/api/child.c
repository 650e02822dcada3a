/* lunad.spawn and the methods of a child. */
#include <errno.h>
#include <lauxlib.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

#include "api/child_box.h"
#include "api/child_end.h"
#include "api/child_events.h"
#include "api/child_keep.h"
#include "api/child_report.h"
#include "api/module.h"
#include "api/spawn_options.h"
#include "engine/exec_fault.h"
#include "posix/fds.h"
#include "posix/forked.h"
#include "script/luax.h"

/* Give a running child up when its script is closed. It is ended, unless it is detached or belongs to
 * another generation. */
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

/* Push a new box, pinned to a half of its own; raises with nothing made. Argument 3 is called when the
 * child is ready, and with lines that may say so. */
static struct ld_child_half *push_pinned_box(lua_State *L) {
    struct ld_child_box *box = lua_newuserdatauv(L, sizeof *box, LD_CHILD_ON_READY);
    *box = (struct ld_child_box){0};
    luaL_setmetatable(L, LD_CHILD_TYPE);
    int index = lua_gettop(L);
    keep_callback(L, index, LD_CHILD_ON_STDOUT, "stdout");
    keep_callback(L, index, LD_CHILD_ON_STDERR, "stderr");
    keep_callback(L, index, LD_CHILD_ON_EXIT, "on_exit");
    lua_pushvalue(L, 3);
    lua_setiuservalue(L, index, LD_CHILD_ON_READY);
    struct ld_child_half *half = calloc(1, sizeof *half);
    if (half == NULL) {
        lx_error(L, "not enough memory");
    }
    half->box = box;
    TAILQ_INIT(&half->waiters);
    TAILQ_INIT(&half->flushers);
    ld_api_child_box_pin(L, index, half);
    return half;
}

/* Fill in the facts that a box has from the start. */
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

/* Whether a request passes a descriptor of the host, which would outlive it with the child. */
static bool passes_hosts_fd(const struct ld_spawn_request *request) {
    bool found = false;
    for (int i = 0; i < 3; i++) {
        found |= request->config.streams[i].kind == LD_STREAM_FD &&
                 ld_fds_owner(request->config.streams[i].fd) == LD_FD_HOST;
    }
    for (size_t i = 0; i < request->config.spawn.fd_count; i++) {
        found |= ld_fds_owner(request->fds[i].parent) == LD_FD_HOST;
    }
    return found;
}

/* Start the child of a request for the half; 0, or a negative errno with the step that failed. */
static int start(lua_State *L, struct ld_child_half *half, struct ld_spawn_request *request,
                 const char **step) {
    *step = "user";
    request->config.ops = &ld_api_child_events;
    request->config.owner = half;
    request->config.mark = request->mark;
    if (request->account_error < 0) {
        return request->account_error;
    }
    if (passes_hosts_fd(request)) {
        *step = "a descriptor that is lunad's own";
        return -EBADF;
    }
    return ld_child_start(ld_state_script(L)->setup->children, &request->config, &half->child,
                          step);
}

/* Free a half that has no child, and its pin. */
static void free_unused(lua_State *L, struct ld_child_half *half) {
    half->box->half = NULL;
    ld_api_child_box_unpin(L, half);
    free(half);
}

/* Push the identity of a request that is to be kept. */
static const char *push_identity(lua_State *L, const struct ld_spawn_request *request) {
    struct ld_text text = {0};
    ld_api_spawn_request_identify(request, &text);
    return push_and_free(L, &text);
}

/* Start a child by the table at index 1; index 3 is for push_pinned_box. */
static int spawn(lua_State *L, bool marked, enum ld_ready_kind ready) {
    struct ld_spawn_request request;
    struct ld_child *kept = NULL;
    ld_state_check_active(L);
    luaL_checktype(L, 1, LUA_TTABLE);
    ld_api_spawn_options_read(L, 1, marked, ready, &request);
    if (request.keep) {
        ld_state_check_current(L, "option 'keep'");
        request.config.identity = push_identity(L, &request);
        kept = ld_api_child_keep_find(L, &request);
    }
    struct ld_child_half *half = push_pinned_box(L);
    int box = lua_gettop(L);
    if (kept != NULL) {
        half->child = kept;
        half->claims = true;
        half->ready_kind = ready;
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
    lua_settop(L, 1);
    lua_settop(L, 3);
    return spawn(L, false, LD_READY_UNTOLD);
}

/* Spawn a child whose descendants carry a mark, so that those it leaves behind can be found. With "line"
 * tell(line) is called for each line of its output until note_ready says that it is ready, with "notify"
 * tell() once it has said so by sd_notify. For lunad's own Lua: spawn_marked(options [, how, tell]). */
static int l_spawn_marked(lua_State *L) {
    static const char *const words[] = {"", "line", "notify", NULL};
    static const enum ld_ready_kind kinds[] = {LD_READY_UNTOLD, LD_READY_BY_LINE,
                                               LD_READY_BY_NOTIFY};
    lua_settop(L, 3);
    return spawn(L, true, kinds[luaL_checkoption(L, 2, "", words)]);
}

/* End a child that runs: SIGTERM, and SIGKILL after a while. For lunad's own Lua. */
static int l_end_child(lua_State *L) {
    const struct ld_child_box *box = ld_api_child_box_check(L);
    if (box->half != NULL && !ld_forked_is_copy()) {
        ld_child_end(box->half->child);
    }
    return 0;
}

/* Note that a child is the command of lunad.exec, which may finish when its script has been replaced.
 * For lunad's own Lua: note_command(child). */
static int l_note_command(lua_State *L) {
    const struct ld_child_box *box = ld_api_child_box_check(L);
    if (box->half != NULL && !box->half->command) {
        box->half->command = true;
        ld_state_script(L)->commands++;
    }
    return 0;
}

/* Note how often a child was restarted, and how it ended last time. For lunad's own Lua:
 * note_child(child, restarts [, ended]). */
static int l_note_child(lua_State *L) {
    const struct ld_child_box *box = ld_api_child_box_check(L);
    const struct ld_child_box *ended =
        lua_isnoneornil(L, 3) ? NULL : luaL_checkudata(L, 3, LD_CHILD_TYPE);
    if (box->half != NULL && !box->half->claims) { /* a claimed child keeps its history */
        ld_child_note(box->half->child, (unsigned)luaL_checkinteger(L, 2),
                      ended != NULL ? &ended->exit : NULL);
    }
    return 0;
}

/* Note whether a child is ready. For lunad's own Lua: note_ready(child, is_ready). */
static int l_note_ready(lua_State *L) {
    const struct ld_child_box *box = ld_api_child_box_check(L);
    bool is_ready = lua_toboolean(L, 2);
    if (box->half != NULL && box->half->claims) { /* for when it is this generation's */
        box->half->ready = is_ready ? LD_READY_NOW : LD_READY_NOT_YET;
    } else if (box->half != NULL) {
        ld_child_note_ready(box->half->child, is_ready);
    }
    return 0;
}

/* Whether a child is ready, as noted by this or an earlier generation. For lunad's own Lua. */
static int l_is_ready(lua_State *L) {
    const struct ld_child_box *box = ld_api_child_box_check(L);
    struct ld_child_facts facts = {.ready = LD_READY_UNKNOWN};
    if (box->half != NULL) {
        ld_child_describe(box->half->child, &facts);
    }
    lua_pushboolean(L, facts.ready == LD_READY_NOW);
    return 1;
}

/* Whether a child is another generation's until this one is ready. For lunad's own Lua. */
static int l_is_claimed(lua_State *L) {
    const struct ld_child_box *box = ld_api_child_box_check(L);
    lua_pushboolean(L, box->half != NULL && box->half->claims);
    return 1;
}

/* Give a claim up, so that the old generation keeps the child; true if there was a claim. For lunad's
 * own Lua: drop_claim(child). */
static int l_drop_claim(lua_State *L) {
    const struct ld_child_box *box = ld_api_child_box_check(L);
    lua_pushboolean(L, box->half != NULL && ld_api_child_keep_drop_claim(box->half));
    return 1;
}

/* Count the processes that a supervised child has left behind at its end, detached ones excepted. With
 * "TERM" they are asked to end, with "KILL" they are killed, and all that descends from them. For
 * lunad's own Lua: strays(child [, signal]) -> count. */
static int l_strays(lua_State *L) {
    static const char *const words[] = {"", "TERM", "KILL", NULL};
    const struct ld_child_box *box = ld_api_child_box_check(L);
    int how = luaL_checkoption(L, 2, "", words);
    struct ld_script *script = ld_state_script(L);
    lua_pushinteger(L, (lua_Integer)ld_api_child_end_strays(script, box, (enum ld_strays)how));
    return 1;
}

/* Free a half that was made and not used, because spawning failed for lack of memory. */
static int mt_gc(lua_State *L) {
    struct ld_child_box *box = ld_api_child_box_check(L);
    if (box->half != NULL && box->half->handle.script == NULL) {
        free(box->half);
        box->half = NULL;
    }
    return 0;
}

/* The half of a box, for an action; raises if the script has given the child up. */
static struct ld_child_half *check_open(lua_State *L, const struct ld_child_box *box,
                                        const char *method) {
    if (ld_forked_is_copy()) {
        lx_error(L, "child:%s: %s", method, ld_forked_words);
    }
    if (box->half == NULL && !box->finished) {
        lx_error(L, "child:%s: this child is closed", method);
    }
    return box->half;
}

/* child:running() -> boolean */
static int m_running(lua_State *L) {
    const struct ld_child_box *box = ld_api_child_box_check(L);
    struct ld_child_facts facts = {.running = false};
    if (box->half != NULL) {
        ld_child_describe(box->half->child, &facts);
    }
    lua_pushboolean(L, facts.running);
    return 1;
}

/* Return from wait. */
static int wait_resumed(lua_State *L, int status, lua_KContext context) {
    (void)status;
    (void)context;
    ld_task_check_cancelled(L);
    ld_api_child_box_push_exit(L, ld_api_child_box_check(L));
    return 1;
}

/* child:wait() -> exit */
static int m_wait(lua_State *L) {
    const struct ld_child_box *box = ld_api_child_box_check(L);
    struct ld_child_half *half = check_open(L, box, "wait");
    lua_settop(L, 1);
    if (half == NULL) {
        ld_api_child_box_push_exit(L, box);
        return 1;
    }
    ld_task_check(L, "child:wait");
    return ld_task_wait(L, &half->waiters, "wait", wait_resumed);
}

/* child:kill([signal]) -> true | nil, error, code */
static int m_kill(lua_State *L) {
    const struct ld_child_box *box = ld_api_child_box_check(L);
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

/* The box in the first argument, for writing; raises if its stdin is not a pipe. */
static struct ld_child_box *check_writable(lua_State *L, const char *method) {
    struct ld_child_box *box = ld_api_child_box_check(L);
    if (!box->has_stdin) {
        lx_error(L, "child:%s: this child's stdin is not a pipe (spawn it with stdin = \"pipe\")",
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

/* The state of the writing to a child: 1 if bytes are unwritten, 0 if none are, or a negative errno. */
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
    const struct ld_child_box *box = ld_api_child_box_check(L);
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
    ld_task_check(L, "child:flush");
    return ld_task_wait(L, &half->flushers, "flush", flush_resumed);
}

/* child:close_stdin(). The stdin of a claimed child is closed when this generation takes it over. */
static int m_close_stdin(lua_State *L) {
    struct ld_child_box *box = check_writable(L, "close_stdin");
    box->stdin_closed = true;
    if (box->half != NULL && !box->half->claims) {
        ld_child_close_stdin(box->half->child);
    }
    return 0;
}

/* Pause or resume both outputs, but not those that another generation still reads. */
static void set_paused(lua_State *L, void (*set)(struct ld_child *, int, unsigned)) {
    const struct ld_child_box *box = ld_api_child_box_check(L);
    for (int stream = 1; stream <= 2; stream++) {
        if (box->half != NULL && !box->half->claims) { /* the first may have finished the child */
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
    const struct ld_child_box *box = ld_api_child_box_check(L);
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
    const struct ld_child_box *box = ld_api_child_box_check(L);
    lua_pushfstring(L, "child %s (pid %d, %s)", box->name, (int)box->pid,
                    box->half != NULL ? "running" : "ended");
    return 1;
}

static const luaL_Reg functions[] = {
    {"spawn", l_spawn},
    {NULL, NULL},
};

/* Whether lunad.spawn has this option: is_spawn_option(name). */
static int l_is_spawn_option(lua_State *L) {
    const char *name = luaL_checkstring(L, 1);
    const struct lx_row *row = ld_api_spawn_options_rows;
    while (row->name != NULL && strcmp(row->name, name) != 0) {
        row++;
    }
    lua_pushboolean(L, row->name != NULL);
    return 1;
}

static const luaL_Reg own[] = {
    {"is_spawn_option", l_is_spawn_option},
    {"spawn_marked", l_spawn_marked},
    {"strays", l_strays},
    {"end_child", l_end_child},
    {"note_child", l_note_child},
    {"note_command", l_note_command},
    {"note_ready", l_note_ready},
    {"is_ready", l_is_ready},
    {"is_claimed", l_is_claimed},
    {"drop_claim", l_drop_claim},
    {NULL, NULL},
};

static const luaL_Reg methods[] = {
    {"running", m_running}, {"wait", m_wait},     {"kill", m_kill},
    {"write", m_write},     {"flush", m_flush},   {"close_stdin", m_close_stdin},
    {"pause", m_pause},     {"resume", m_resume}, {NULL, NULL},
};

/* Make the type of children. */
static int set_up(lua_State *L) {
    ld_api_child_box_open(L);
    lx_new_type(L, LD_CHILD_TYPE, methods);
    lua_pushcfunction(L, mt_gc);
    lua_setfield(L, -2, "__gc");
    lua_pushcfunction(L, mt_tostring);
    lua_setfield(L, -2, "__tostring");
    lua_getfield(L, -1, "__index");
    lua_pushcclosure(L, mt_index, 1);
    lua_setfield(L, -2, "__index");
    return 0;
}

const struct ld_part ld_api_child_part = {
    .name = "children",
    .functions = functions,
    .own = own,
    .open = set_up,
    .take_over = ld_api_child_keep_take_over,
    .retire = ld_api_child_end_retire,
    .discard = ld_api_child_end_discard,
    .name_unfinished = ld_api_child_end_name_unfinished,
    .count = ld_api_child_report_count,
    .survey = ld_api_child_report_survey,
};
