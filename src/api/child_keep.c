/* Children that live through a reload. A new generation claims the running child that it would
 * start; when it becomes the service, the child's output goes to it: what the old generation had
 * been given and not used up, an unfinished line, comes first. */
#include <lauxlib.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

#include "api/child.h"
#include "api/module.h"
#include "api/spawn_options.h"
#include "base/json.h"
#include "base/parse.h"
#include "posix/process.h"
#include "script/luax.h"

/* An unfinished line that is being moved. */
struct partial {
    const struct ld_child_half *half;
    int stream;
    struct ld_text text;
};

/* Whether CHILD runs under NAME and is kept. */
static bool is_kept_as(const struct ld_child *child, const char *name) {
    struct ld_child_facts facts;
    ld_child_describe(child, &facts);
    return facts.keep && facts.running && strcmp(facts.name, name) == 0;
}

/* Find the child to claim. */
struct ld_child *ld_api_child_find_kept(lua_State *L, const char *name, const char *identity) {
    const struct ld_script *script = ld_state_script(L);
    struct ld_child *found = NULL;
    struct ld_child *child = NULL;
    while ((child = ld_children_next(script->setup->children, child)) != NULL) {
        const struct ld_child_half *owner = ld_child_owner(child);
        const struct ld_child_half *claimant = ld_child_claimant(child);
        if (owner == NULL || !is_kept_as(child, name)) {
            continue;
        }
        bool is_ours = owner->handle.script == script ||
                       (claimant != NULL && claimant->handle.script == script);
        if (is_ours) {
            lx_error(L, "option 'keep': the name '%s' is in use by another child", name);
        }
        if (owner->handle.script->stage == LD_STAGE_SERVICE && claimant == NULL &&
            strcmp(ld_child_identity(child), identity) == 0) {
            found = child;
        }
    }
    return script->stage == LD_STAGE_NEW ? found : NULL;
}

/* Take what a by_line callback holds back. Runs protected. */
static int take_partial(lua_State *L) {
    struct partial *partial = lua_touserdata(L, 1);
    size_t size;
    ld_api_module_push_core(L);
    if (lua_getfield(L, -1, "take_partial") == LUA_TNIL) {
        return 0; /* nobody has used by_line */
    }
    ld_api_child_push_box(L, partial->half);
    lua_getiuservalue(L, -1, partial->stream == 1 ? LD_CHILD_ON_STDOUT : LD_CHILD_ON_STDERR);
    lua_replace(L, -2);
    lua_call(L, 1, 1);
    const char *bytes = lua_tolstring(L, -1, &size);
    ld_text_add(&partial->text, bytes, size);
    return 0;
}

/* Take the unfinished line of a stream from the old owner. */
static void take_line(struct ld_child *child, struct partial *partial) {
    if (partial->half->to_log[partial->stream - 1]) {
        ld_child_take_line(child, partial->stream, &partial->text);
    } else {
        ld_state_protect(partial->half->handle.script, take_partial, partial, NULL);
    }
}

/* Let tasks wait on for what will not come by this half any more: they are cancelled with their
 * script. */
static void strand(struct ld_task *list) {
    while (list != NULL) {
        struct ld_task *task = list;
        list = task->next_waiter;
        task->next_waiter = NULL;
        task->abandon = NULL;
    }
}

/* Close the box of the old owner. */
static void close_half(struct ld_child_half *half) {
    strand(half->waiters);
    strand(half->flushers);
    for (int i = 0; i < 2; i++) {
        if (half->calling[i] != NULL) {
            half->calling[i]->on_end = NULL;
        }
    }
    half->box->half = NULL;
    half->handle.script->commands -= half->command;
    ld_api_child_unpin(half->handle.script->L, half);
    ld_handle_detach(&half->handle);
    free(half);
}

/* Give a claim up. */
int ld_api_child_drop_claim(lua_State *L) {
    const struct ld_child_box *box = ld_api_child_check_box(L);
    bool claims = box->half != NULL && box->half->claims;
    if (claims) {
        ld_child_claim(box->half->child, NULL);
        close_half(box->half);
    }
    lua_pushboolean(L, claims);
    return 1;
}

/* Make the claimant of CHILD its owner. */
static void change_hands(struct ld_child *child, struct ld_child_half *claimant) {
    struct ld_child_half *old = ld_child_owner(child);
    struct partial partials[2] = {{.half = old, .stream = 1}, {.half = old, .stream = 2}};
    for (int i = 0; i < 2; i++) {
        take_line(child, &partials[i]);
    }
    close_half(old);
    claimant->claims = false;
    ld_child_hand_over(child, claimant->to_log);
    if (claimant->box->stdin_closed) {
        ld_child_close_stdin(child);
    }
    for (int i = 0; i < 2; i++) {
        if (partials[i].text.size > 0) {
            ld_child_put_output(child, i + 1, partials[i].text.data, partials[i].text.size);
        }
        ld_text_fini(&partials[i].text);
    }
    ld_child_settle(child);
}

/* Make good what the script has claimed. */
void ld_api_child_take_over(struct ld_script *script) {
    struct ld_child *child = NULL;
    struct ld_child *next = ld_children_next(script->setup->children, NULL);
    while ((child = next) != NULL) {
        struct ld_child_half *claimant = ld_child_claimant(child);
        next = ld_children_next(script->setup->children, child);
        if (claimant != NULL && claimant->handle.script == script) {
            change_hands(child, claimant);
        }
    }
}

/* Kill the children of a script: with one look for all that came of them, however many there are. */
void ld_api_child_kill_all(struct ld_script *script) {
    struct ld_pids roots = {0};
    struct ld_child *child = NULL;
    while ((child = ld_children_next(script->setup->children, child)) != NULL) {
        const struct ld_child_half *owner = ld_child_owner(child);
        struct ld_child_facts facts;
        ld_child_describe(child, &facts);
        if (owner != NULL && owner->handle.script == script && facts.running && !facts.detached) {
            ld_pids_add(&roots, facts.pid); /* without memory: it ends as any child of a script */
        }
    }
    if (roots.count > 0) {
        ld_process_end_families(&roots);
    }
    ld_pids_fini(&roots);
}

/* Call EACH for every running child of a script that ends with it. */
static void each_child(struct ld_script *script,
                       void (*each)(const struct ld_child_half *half, void *arg), void *arg) {
    struct ld_child *child = NULL;
    while ((child = ld_children_next(script->setup->children, child)) != NULL) {
        const struct ld_child_half *owner = ld_child_owner(child);
        struct ld_child_facts facts;
        ld_child_describe(child, &facts);
        if (owner != NULL && owner->handle.script == script && facts.running && !facts.detached) {
            each(owner, arg);
        }
    }
}

/* End a child that the script had before it was replaced, but no command. */
static void end_early(const struct ld_child_half *half, void *arg) {
    (void)arg;
    if (!half->late && !half->command) {
        ld_child_end(half->child);
    }
}

/* End what a script that has been replaced had started before. */
void ld_api_child_retire(struct ld_script *script) {
    each_child(script, end_early, NULL);
}

/* Name a child that has not been told to end. */
static void name_one(const struct ld_child_half *half, void *arg) {
    if (half->late || half->command) {
        ld_text_format(arg, "%s%s %s (pid %d)", ld_text_is_empty(arg) ? "" : ", ",
                       half->command ? "command" : "child", half->box->name, (int)half->box->pid);
    }
}

/* Name what of a script that has been replaced still runs. */
void ld_api_child_name_unfinished(struct ld_script *script, struct ld_text *text) {
    each_child(script, name_one, text);
}

/* Take those out of a list whose end another part of this process waits for. */
static void forget_known(const struct ld_setup *setup, struct ld_pids *pids) {
    size_t kept = 0;
    for (size_t i = 0; i < pids->count; i++) {
        pid_t pid = pids->list[i];
        if (ld_reaper_find(setup->reaper, pid) == NULL && !ld_guest_has_child(pid)) {
            pids->list[kept++] = pid;
        }
    }
    pids->count = kept;
}

/* Ask processes to end, and all that descends from them. What was stopped goes on to see the signal. */
static void ask_to_end(const struct ld_pids *roots) {
    for (size_t i = 0; i < roots->count; i++) {
        struct ld_pids family = {0};
        ld_process_family(roots->list[i], &family);
        ld_pids_add(&family, roots->list[i]);
        for (size_t j = 0; j < family.count; j++) {
            ld_process_kill(family.list[j], SIGTERM);
            ld_process_kill(family.list[j], SIGCONT);
        }
        ld_pids_fini(&family);
    }
}

/* Find, and end, what a child has left behind. */
int ld_child_strays(lua_State *L) {
    static const char *const words[] = {"", "TERM", "KILL", NULL};
    char mark[LD_SPAWN_MARK_SIZE];
    const struct ld_child_box *box = ld_api_child_check_box(L);
    int how = luaL_checkoption(L, 2, "", words);
    struct ld_pids strays = {0};
    if (box->finished && box->mark != 0) {
        ld_spawn_mark(mark, box->mark);
        ld_process_strays(&(struct ld_gone){.pid = box->pid, .started = box->start, .mark = mark},
                          &strays);
        forget_known(ld_state_script(L)->setup, &strays);
    }
    if (how == 1) {
        ask_to_end(&strays);
    } else if (how == 2 && strays.count > 0) {
        ld_process_end_families(&strays);
    }
    lua_pushinteger(L, (lua_Integer)strays.count);
    ld_pids_fini(&strays);
    return 1;
}

/* The JSON of how a child ended. */
static json_t *report_exit(const struct ld_exit *exit) {
    return exit->signaled
               ? json_pack("{s:b, s:s}", "ok", 0, "signal", ld_parse_signal_name(exit->status))
               : json_pack("{s:b, s:i}", "ok", exit->status == 0, "code", exit->status);
}

/* The report of one child. */
static json_t *report_child(const struct ld_child *child) {
    struct ld_child_facts facts;
    ld_child_describe(child, &facts);
    return json_pack("{s:s, s:i, s:o, s:s, s:f, s:i, s:b, s:o}", "name", facts.name, "pid",
                     (int)facts.pid, "command", ld_json_string(facts.command), "state",
                     facts.running ? "running" : "exited", "seconds", facts.seconds, "restarts",
                     (int)facts.restarts, "keep", facts.keep, "last_exit",
                     facts.has_last ? report_exit(&facts.last) : json_null());
}

/* Push a member of the table at the top, as text. */
static const char *member(lua_State *L, const char *name) {
    lua_getfield(L, -1, name);
    const char *text = luaL_tolstring(L, -1, NULL);
    lua_remove(L, -2);
    lua_insert(L, -2);
    return text;
}

/* Add one that waits to be started anew, in the table at the top. */
static void report_waiting_one(lua_State *L, json_t *list) {
    lua_getfield(L, -1, "last");
    const struct ld_child_box *last = luaL_testudata(L, -1, LD_CHILD_TYPE);
    lua_pop(L, 1);
    lua_getfield(L, -1, "restarts");
    lua_getfield(L, -2, "keep");
    int restarts = (int)lua_tointeger(L, -2);
    int keep = lua_toboolean(L, -1);
    lua_pop(L, 2);
    const char *name = member(L, "name");
    json_array_append_new(list, json_pack("{s:s, s:n, s:o, s:s, s:f, s:i, s:b, s:o}", "name", name,
                                          "pid", "command", ld_json_string(member(L, "command")),
                                          "state", "waiting", "seconds", 0.0, "restarts", restarts,
                                          "keep", keep, "last_exit",
                                          last != NULL ? report_exit(&last->exit) : json_null()));
    lua_pop(L, 3);
}

/* Add what waits to be started anew to the list in the argument. Runs protected. */
static int report_waiting(lua_State *L) {
    json_t *list = lua_touserdata(L, 1);
    ld_api_module_push_core(L);
    if (lua_getfield(L, -1, "waiting") == LUA_TNIL) {
        return 0; /* nobody has used supervise */
    }
    lua_call(L, 0, 1);
    int waiting = lua_gettop(L);
    for (lua_Integer i = 1; lua_rawgeti(L, waiting, i) == LUA_TTABLE; i++) {
        report_waiting_one(L, list);
    }
    return 0;
}

/* The children, for the status report. */
json_t *ld_api_child_report(struct ld_script *script) {
    json_t *list = json_array();
    struct ld_child *child = NULL;
    while ((child = ld_children_next(script->setup->children, child)) != NULL) {
        json_array_append_new(list, report_child(child));
    }
    ld_state_protect(script, report_waiting, list, NULL);
    return list;
}
