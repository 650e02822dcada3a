/* lunad.task and the methods of a task. */
#include <errno.h>
#include <lauxlib.h>
#include <string.h>

#include "api/describe.h"
#include "api/module.h"
#include "api/name.h"
#include "api/survey.h"
#include "api/task.h"
#include "api/timer_box.h"
#include "base/json.h"
#include "base/time.h"
#include "posix/forked.h"
#include "script/luax.h"
#include "script/task.h"

#define TASK_TYPE "lunad.task"
#define NAMES_MAX 100 /* of tasks, in one message */

/* What a script holds. Its user value is the coroutine as long as the task runs, then a table of the results,
 * or the error. */
struct box {
    struct ld_task *task; /* NULL: it has ended */
    struct ld_task_queue waiters;
    enum ld_outcome outcome;
    int results;
};

/* How a task has ended. */
struct ending {
    struct ld_task *task;
    enum ld_outcome outcome;
    int results;
};

/* Keep the box at the top alive in the place of its task's coroutine, which the box keeps. */
static void pin_box(lua_State *L, struct ld_task *task) {
    ld_task_push_anchor(task, L);
    lua_setiuservalue(L, -2, 1);
    lua_pushvalue(L, -1);
    ld_task_anchor(task, L);
}

/* Push the box of a task, and keep the coroutine in its place. */
static void unpin_box(lua_State *L, struct ld_task *task) {
    ld_task_push_anchor(task, L);
    lua_getiuservalue(L, -1, 1);
    ld_task_anchor(task, L);
}

/* Keep the results or the error of a task in its box. Runs protected. */
static int keep_results(lua_State *L) {
    const struct ending *ending = lua_touserdata(L, 1);
    lua_State *co = ending->task->co;
    if (ending->outcome == LD_OUTCOME_OK) {
        lua_createtable(L, ending->results, 0);
        for (int i = 1; i <= ending->results; i++) {
            lua_pushvalue(co, i - ending->results - 1);
            lua_xmove(co, L, 1);
            lua_rawseti(L, -2, i);
        }
    } else {
        lua_pushvalue(co, -1);
        lua_xmove(co, L, 1);
    }
    unpin_box(L, ending->task);
    lua_insert(L, -2);
    lua_setiuservalue(L, -2, 1);
    return 0;
}

/* Keep nothing, or "not enough memory" in the place of results that cannot be kept. That string always
 * exists, so nothing is allocated. */
static void keep_none(lua_State *L, struct ld_task *task, bool has_failed) {
    unpin_box(L, task);
    if (has_failed) {
        lua_pushliteral(L, "not enough memory");
    } else {
        lua_pushnil(L);
    }
    lua_setiuservalue(L, -2, 1);
    lua_pop(L, 1);
}

/* Handle the end of a task: tasks that wait for it get its error, else it is reported. */
static bool on_task_end(struct ld_task *task, enum ld_outcome outcome, int results) {
    struct box *box = task->owner;
    struct ending ending = {.task = task, .outcome = outcome, .results = results};
    bool has_waiters = !TAILQ_EMPTY(&box->waiters);
    lua_State *L = task->script->L;
    box->outcome = outcome;
    box->results = results;
    ld_task_push_anchor(task, L); /* the box, which nothing else may keep from now on */
    if (outcome == LD_OUTCOME_OK && results == 0) {
        keep_none(L, task, false);
    } else if (ld_state_protect(task->script, keep_results, &ending, NULL) < 0) {
        box->outcome = LD_OUTCOME_FAILED;
        keep_none(L, task, true);
    }
    box->task = NULL;
    ld_task_wake_all(&box->waiters);
    lua_pop(L, 1);
    return has_waiters;
}

/* task(fn, ...) -> task */
static int l_task(lua_State *L) {
    struct ld_script *script = ld_state_script(L);
    ld_state_check_active(L);
    lx_check_callable(L, 1);
    int args = lua_gettop(L) - 1;
    struct box *box = lua_newuserdatauv(L, sizeof *box, 1);
    *box = (struct box){0};
    TAILQ_INIT(&box->waiters);
    ld_state_push_shelved(L, LD_SHELF_TASK_TYPE);
    lua_setmetatable(L, -2);
    struct ld_task *task = ld_task_need(L, "a task");
    if (!lua_checkstack(task->co, args + 1)) { /* which is its, and does not raise */
        ld_task_drop(task);
        lx_error(L, "not enough memory");
    } /* nothing may raise until it is started */
    pin_box(L, task);
    lua_insert(L, 1);
    lua_xmove(L, task->co, args + 1);
    box->task = task;
    task->is_late = script->stage == LD_STAGE_REPLACED;
    task->owner = box;
    task->on_end = on_task_end;
    ld_task_start(task, args);
    return 1;
}

/* Raise if the caller cannot suspend. For lunad's own Lua: check_task(function). */
static int l_check_task(lua_State *L) {
    ld_task_check(L, luaL_checkstring(L, 1));
    return 0;
}

/* Whether the caller can suspend. For lunad's own Lua: can_suspend(). */
static int l_can_suspend(lua_State *L) {
    lua_pushboolean(L, ld_task_of(L) != NULL && lua_isyieldable(L) &&
                           !ld_stage_is_closing(ld_state_script(L)->stage) && !ld_forked_is_copy());
    return 1;
}

/* Where the caller is, in the script's code: for lunad's own Lua, in a message handler. */
static int l_where(lua_State *L) {
    char where[LD_ERROR_WHERE];
    lx_find_place(L, where, sizeof where);
    lua_pushstring(L, where);
    return 1;
}

/* Report an uncaught error. For lunad's own Lua: report(what, message, traceback, where). */
static int l_report(lua_State *L) {
    struct ld_text trace = {0};
    struct ld_error error = {
        .what = luaL_checkstring(L, 1), .where = luaL_optstring(L, 4, "?"), .trace = &trace};
    const char *traceback = luaL_optstring(L, 3, "stack traceback: none, as memory ran out");
    lx_push_message(L, 2);
    ld_text_puts(&trace, lua_tostring(L, -1));
    ld_heap_explain(ld_state_script(L), &trace, lua_tostring(L, -1));
    error.message_size = trace.size;
    ld_text_format(&trace, "\n%s", traceback);
    ld_task_report(ld_state_script(L), &error);
    ld_text_fini(&trace);
    return 0;
}

/* Let the task of the caller, all of which is lunad's own, allocate as lunad itself: it continues where the
 * script has used up its memory. For lunad's own Lua: use_reserve(). */
static int l_use_reserve(lua_State *L) {
    struct ld_task *task = ld_task_of(L);
    if (task != NULL) {
        task->heap_user = LD_HEAP_HOST;
    }
    return 0;
}

/* Let the task of the caller, which has allocated as lunad itself, allocate as the script. For lunad's own
 * Lua: end_reserve(). */
static int l_end_reserve(lua_State *L) {
    struct ld_task *task = ld_task_of(L);
    if (task != NULL && task->heap_user == LD_HEAP_HOST) {
        task->heap_user = LD_HEAP_SCRIPT;
    }
    return 0;
}

/* Push what wait returns: the results, or nil and the error. */
static int push_results(lua_State *L, const struct box *box) {
    lua_getiuservalue(L, 1, 1);
    if (box->outcome != LD_OUTCOME_OK) {
        lua_pushnil(L);
        lua_insert(L, -2);
        return 2;
    }
    if (box->results == 0) {
        return 0;
    }
    int table = lua_gettop(L);
    luaL_checkstack(L, box->results, "too many results");
    for (int i = 1; i <= box->results; i++) {
        lua_rawgeti(L, table, i);
    }
    return box->results;
}

/* The box in the first argument. */
static struct box *check_box(lua_State *L) {
    return luaL_checkudata(L, 1, TASK_TYPE);
}

/* Stop the timer of a wait, whose number is at index 2, if it has not fired. */
static void stop_timer(lua_State *L) {
    ld_api_timer_box_end_wake(ld_state_script(L), (ld_timer)lua_tointeger(L, 2));
}

/* Return from wait. */
static int wait_resumed(lua_State *L, int status, lua_KContext context) {
    (void)status;
    (void)context;
    stop_timer(L);
    ld_task_check_cancelled(L);
    struct box *box = check_box(L);
    return box->task == NULL ? push_results(L, box)
                             : lx_fail(L, -ETIMEDOUT, "the task has not ended");
}

/* task:wait([timeout]) -> results | nil, error [, code] */
static int m_wait(lua_State *L) {
    struct box *box = check_box(L);
    bool is_timed = !lua_isnoneornil(L, 2);
    uint64_t ns = is_timed ? lx_check_seconds(L, 2, false) : 0;
    lua_settop(L, 1);
    if (box->task == NULL) {
        return push_results(L, box);
    }
    struct ld_task *task = ld_task_check(L, "task:wait");
    if (task == box->task) {
        lx_error(L, "task:wait: a task cannot wait for itself");
    }
    lua_pushinteger(L, is_timed ? (lua_Integer)ld_api_timer_box_wake(L, task, ns) : 0);
    return ld_task_wait(L, &box->waiters, "wait", wait_resumed);
}

/* task:cancel() */
static int m_cancel(lua_State *L) {
    struct box *box = check_box(L);
    if (box->task != NULL) {
        ld_task_cancel(box->task);
    }
    return 0;
}

/* task:running() -> boolean */
static int m_running(lua_State *L) {
    lua_pushboolean(L, check_box(L)->task != NULL);
    return 1;
}

/* task:name(text) -> task; task:name() -> text | nil */
static int m_name(lua_State *L) {
    const struct box *box = check_box(L);
    if (lua_isnone(L, 2)) {
        return ld_api_name_push(L, 1);
    }
    const char *name = ld_api_name_set(L, 1);
    if (box->task != NULL) {
        ld_task_set_name(box->task, name);
    }
    lua_settop(L, 1);
    return 1;
}

/* A task as text. */
static int mt_tostring(lua_State *L) {
    lua_pushfstring(L, "task (%s)", check_box(L)->task != NULL ? "running" : "ended");
    return 1;
}

/* Whether a task, which is at the place of KEY, is one of lunad's own that accepts clients: nothing of the script runs in
 * it, and its socket is reported. */
static bool is_own(const struct ld_task *task, const struct ld_group_key *key) {
    return task->heap_user == LD_HEAP_HOST && key->line == 0;
}

/* What a task waits for. */
static const char *state_of(const struct ld_task *task) {
    return task->waits_for != NULL ? task->waits_for : "running";
}

/* Make the JSON of a task that is at WHERE; both references are taken over. */
static json_t *report_task(lua_State *L, struct ld_survey *survey, struct ld_task *task,
                           json_t *where, json_t *name) {
    const char *state = state_of(task);
    bool sleeps = strcmp(state, "sleep") == 0;
    const struct ld_timer_info *info =
        sleeps ? ld_timers_info(survey->script->timers, task->timer) : NULL;
    uint64_t now = ld_time_monotonic();
    ld_text_clear(&survey->words);
    ld_api_describe_wait(L, &survey->describe, task, &survey->words);
    return json_pack(
        "{s:o, s:s, s:s, s:o, s:f, s:o, s:o}", "where", where, "state", state, "what", task->what,
        "waits", ld_json_text(ld_text_string(&survey->words), survey->words.size), "seconds",
        task->waits_for != NULL && now > task->since ? (double)(now - task->since) / 1e9 : 0.0,
        "due",
        info != NULL ? json_real(info->due > now ? (double)(info->due - now) / 1e9 : 0.0)
                     : json_null(),
        "name", name);
}

/* Count a task, and tell it if that is wanted. The function that it began with is pushed. */
static void survey_task(lua_State *L, struct ld_survey *survey, struct ld_task *task) {
    struct ld_group_key key = {.file = "?", .size = 1, .kind = state_of(task), .name = task->name};
    ld_api_describe_task(L, task->co, &key);
    if (is_own(task, &key)) {
        survey->own++;
        return;
    }
    const struct ld_group *group = ld_api_survey_count(survey, L, &key);
    if (ld_api_survey_wants(survey)) {
        json_t *name = ld_api_survey_name(survey, L, group, task->name);
        ld_api_survey_tell(survey, report_task(L, survey, task, ld_api_groups_place(&key), name));
    }
}

/* Go on with a survey of the tasks, the latest first. Runs protected. */
static int survey_tasks(lua_State *L) {
    struct ld_survey *survey = lua_touserdata(L, 1);
    while (ld_api_survey_goes_on(survey)) {
        struct ld_task *task = ld_task_cursor_next(&survey->task);
        survey->is_over = task == NULL;
        if (task != NULL) {
            survey_task(L, survey, task);
            lua_settop(L, 1);
        }
    }
    return 0;
}

/* How many tasks there are. */
static size_t count_tasks(const struct ld_script *script) {
    return script->tasks.suspended_count;
}

/* What a report is made into. */
struct report {
    const struct ld_script *script;
    struct ld_text *text;
};

/* Add the traceback of every task. Runs protected. */
static int trace_all(lua_State *L) {
    const struct report *report = lua_touserdata(L, 1);
    struct ld_task *task;
    LIST_FOREACH(task, &report->script->tasks.suspended, link) {
        luaL_traceback(L, task->co, NULL, 0);
        ld_text_format(report->text, "\n%s, waiting in %s\n%s", task->what,
                       task->waits_for != NULL ? task->waits_for : "nothing", lua_tostring(L, -1));
        lua_pop(L, 1);
    }
    return 0;
}

/* Add the traceback of every suspended task. */
void ld_api_task_traceback(struct ld_script *script, struct ld_text *text) {
    struct report report = {.script = script, .text = text};
    ld_state_protect(script, trace_all, &report, NULL);
}

/* Add the place of each task that was begun late. Runs protected. */
static int name_late(lua_State *L) {
    const struct report *report = lua_touserdata(L, 1);
    const struct ld_task *task;
    size_t count = 0;
    LIST_FOREACH(task, &report->script->tasks.suspended, link) {
        if (task->is_late && count++ < NAMES_MAX) {
            lx_push_place(L, task->co);
            ld_text_format(report->text, "%stask at %s", ld_text_is_empty(report->text) ? "" : ", ",
                           lua_tostring(L, -1));
            lua_pop(L, 1);
        }
    }
    if (count > NAMES_MAX) {
        ld_text_format(report->text, " and %zu tasks more", count - NAMES_MAX);
    }
    return 0;
}

/* Name the tasks of a replaced script that it began after that, and that have not ended. */
static void name_unfinished(struct ld_script *script, struct ld_text *text) {
    struct report report = {.script = script, .text = text};
    ld_state_protect(script, name_late, &report, NULL);
}

static const luaL_Reg functions[] = {
    {"task", l_task},
    {NULL, NULL},
};

static const luaL_Reg own[] = {
    {"check_task", l_check_task},
    {"can_suspend", l_can_suspend},
    {"where", l_where},
    {"report", l_report},
    {"use_reserve", l_use_reserve},
    {"end_reserve", l_end_reserve},
    {NULL, NULL},
};

static const luaL_Reg methods[] = {
    {"wait", m_wait}, {"cancel", m_cancel}, {"running", m_running}, {"name", m_name}, {NULL, NULL},
};

/* Open this part. */
static int set_up(lua_State *L) {
    lx_new_type(L, TASK_TYPE, methods);
    lua_pushcfunction(L, mt_tostring);
    lua_setfield(L, -2, "__tostring");
    ld_state_shelve(L, LD_SHELF_TASK_TYPE);
    return 0;
}

const struct ld_part ld_api_task_part = {
    .name = "tasks",
    .functions = functions,
    .own = own,
    .open = set_up,
    .name_unfinished = name_unfinished,
    .count = count_tasks,
    .survey = survey_tasks,
};
