#include "script/task.h"

#include <lauxlib.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/base.h"
#include "base/log.h"
#include "base/time.h"
#include "engine/turn.h"
#include "posix/forked.h"
#include "script/caller.h"
#include "script/hint.h"
#include "script/interrupt.h"
#include "script/laps.h"
#include "script/luax.h"

#define IDLE_MAX 64 /* coroutines kept for the next callbacks */

static const char cancelled_error[] = "cancelled";
static const char on_error_function[] = "the on_error function";

/* What a task starts with, on the C stack until its function runs. */
struct beginning {
    int (*push)(lua_State *co, void *arg);
    void *arg;
};

/* The task that a coroutine belongs to, whether it is the task's own or not. */
static struct ld_task *nearest_task(lua_State *L) {
    return *(struct ld_task **)lua_getextraspace(L);
}

/* The task that runs on L. */
struct ld_task *ld_task_of(lua_State *L) {
    struct ld_task *task = nearest_task(L);
    return task->co == L && task != &task->script->tasks.root ? task : NULL;
}

/* Whether a coroutine belongs to the host. */
bool ld_task_is_hosts(lua_State *L) {
    return nearest_task(L)->co == L;
}

/* Note that the script sees a coroutine. */
void ld_task_note_known(lua_State *L) {
    if (ld_task_is_hosts(L)) {
        nearest_task(L)->is_known = true;
    }
}

/* Anchor the value at the top of L, which is popped, at an index of its own. Raises when memory runs out. */
static uint32_t take_anchor(lua_State *L, struct ld_tasks *tasks) {
    uint32_t anchor = tasks->free_anchor;
    ld_state_push_shelved(L, LD_SHELF_ANCHORS);
    if (anchor != 0) {
        lua_rawgeti(L, -1, anchor);
        tasks->free_anchor = (uint32_t)lua_tointeger(L, -1);
        lua_pop(L, 1);
    } else {
        anchor = tasks->anchors + 1;
    }
    lua_insert(L, -2);
    lua_rawseti(L, -2, anchor);
    lua_pop(L, 1);
    tasks->anchors = anchor > tasks->anchors ? anchor : tasks->anchors;
    return anchor;
}

/* Have an index keep nothing. It exists, so nothing is allocated. */
static void drop_anchor(struct ld_script *script, uint32_t anchor) {
    lua_pushinteger(script->shelf, script->tasks.free_anchor);
    lua_rawseti(script->shelf, LD_SHELF_ANCHORS, anchor);
    script->tasks.free_anchor = anchor;
}

/* Have the value at the top of L keep the coroutine of a task. The key exists, so nothing is allocated. */
void ld_task_anchor(const struct ld_task *task, lua_State *L) {
    lua_xmove(L, task->script->shelf, 1);
    lua_rawseti(task->script->shelf, LD_SHELF_ANCHORS, task->anchor);
}

/* Push what keeps the coroutine of a task. */
void ld_task_push_anchor(const struct ld_task *task, lua_State *L) {
    lua_rawgeti(task->script->shelf, LD_SHELF_ANCHORS, task->anchor);
    lua_xmove(task->script->shelf, L, 1);
}

/* Put a task with a coroutine of its own into the pool. Raises when memory runs out. */
static void make_task(lua_State *L) {
    struct ld_script *script = ld_state_script(L);
    lua_State *co = lua_newthread(L);
    lua_sethook(co, NULL, 0, 0); /* it would inherit the hook of L */
    uint32_t anchor = take_anchor(L, &script->tasks);
    struct ld_task *task = ld_arena_allocate(&script->heap.arena, NULL, 0, sizeof *task);
    if (task == NULL) {
        drop_anchor(script, anchor);
        lx_error(L, "not enough memory");
    }
    *task = (struct ld_task){.script = script, .co = co, .anchor = anchor};
    *(struct ld_task **)lua_getextraspace(co) = task;
    LIST_INSERT_HEAD(&script->tasks.idle, task, link);
    script->tasks.idle_count++;
}

/* The same as a function. */
static int l_make_task(lua_State *L) {
    make_task(L);
    return 0;
}

/* Take the first task of the pool. */
static struct ld_task *take_first(struct ld_script *script, const char *what) {
    struct ld_task *task = LIST_FIRST(&script->tasks.idle);
    LIST_REMOVE(task, link);
    script->tasks.idle_count--;
    task->what = what;
    return task;
}

/* Take a task from the pool. */
struct ld_task *ld_task_take(struct ld_script *script, const char *what) {
    if (LIST_EMPTY(&script->tasks.idle) &&
        ld_state_protect_as_is(script, l_make_task, NULL, NULL) < 0) {
        return NULL;
    }
    return take_first(script, what);
}

/* Take a task from the pool, or raise. */
struct ld_task *ld_task_need(lua_State *L, const char *what) {
    struct ld_script *script = ld_state_script(L);
    if (LIST_EMPTY(&script->tasks.idle)) {
        make_task(L);
    }
    return take_first(script, what);
}

/* Free a task, and let its coroutine be collected unless the script holds it: to the script it is an
 * ordinary one that has ended. */
static void free_task(struct ld_task *task) {
    *(struct ld_task **)lua_getextraspace(task->co) = &task->script->tasks.root;
    drop_anchor(task->script, task->anchor);
    ld_arena_allocate(&task->script->heap.arena, task, sizeof *task, 0);
}

static bool hook_was_called;

/* Note that hooks are called. */
static void note_call(lua_State *L, lua_Debug *ar) {
    (void)L;
    (void)ar;
    hook_was_called = true;
}

/* Be called as a trial. */
static int do_nothing(lua_State *L) {
    (void)L;
    return 0;
}

/* Whether Lua calls hooks on an empty coroutine: after an error in a hook it does not. */
static bool calls_hooks(lua_State *co) {
    hook_was_called = false;
    lua_sethook(co, note_call, LUA_MASKCALL, 0);
    lua_pushcfunction(co, do_nothing);
    lua_pcall(co, 0, 0, 0);
    lua_sethook(co, NULL, 0, 0);
    lua_settop(co, 0);
    return hook_was_called;
}

/* Name a task; without memory it has no name. */
void ld_task_set_name(struct ld_task *task, const char *name) {
    free(task->name);
    task->name = name != NULL ? strdup(name) : NULL;
}

/* Put a task that has ended back into the pool. Its coroutine runs the next task only if nothing of
 * this one can be found there: the script does not know it, and it can be interrupted. */
void ld_task_drop(struct ld_task *task) {
    struct ld_script *script = task->script;
    lua_settop(task->co, 0);
    lua_sethook(task->co, NULL, 0, 0);
    bool is_used_up = task->is_known || script->tasks.idle_count >= IDLE_MAX ||
                      (task->has_failed && !calls_hooks(task->co));
    LD_ASSERT(!task->is_listed && task->queue == NULL);
    task->state = LD_TASK_IDLE; /* the rest was set when it was needed */
    task->cancelled = false;
    task->was_cancelled = false;
    task->is_late = false;
    task->has_failed = false;
    task->heap_user = LD_HEAP_SCRIPT;
    task->on_end = NULL;
    task->caller = NULL;
    ld_task_set_name(task, NULL);
    if (is_used_up) {
        free_task(task);
        return;
    }
    LIST_INSERT_HEAD(&script->tasks.idle, task, link);
    script->tasks.idle_count++;
}

/* Free the pool. */
void ld_task_drain_pool(struct ld_script *script) {
    struct ld_task *task;
    while ((task = LIST_FIRST(&script->tasks.idle)) != NULL) {
        LIST_REMOVE(task, link);
        free_task(task);
    }
    script->tasks.idle_count = 0;
}

/* An error to show to the script. */
struct report {
    struct ld_script *script;
    const struct ld_error *error;
};

/* Push the on_error function, the message and the traceback. */
static int push_report(lua_State *co, void *arg) {
    const struct report *report = arg;
    lua_rawgeti(co, LUA_REGISTRYINDEX, report->script->errors.handler);
    const struct ld_error *error = report->error;
    lua_pushlstring(co, ld_text_string(error->trace), error->message_size);
    lua_pushlstring(co, ld_text_string(error->trace), error->trace->size);
    return 2;
}

/* Show an error to the script, but not an error of the on_error function. */
static void show_error(struct report *report) {
    struct ld_script *script = report->script;
    if (script->errors.handler == LUA_NOREF || script->errors.is_handling ||
        ld_stage_is_closing(script->stage)) {
        return;
    }
    struct ld_task *task = ld_task_take(script, on_error_function);
    if (task != NULL) {
        task->heap_user = LD_HEAP_HOST;
        script->errors.is_handling =
            true; /* or what fails inside would be shown to it inside itself */
        ld_task_start_with(task, push_report, report);
        script->errors.is_handling = false;
    }
}

/* Log an uncaught error, and show it to the script. */
void ld_task_report(struct ld_script *script, const struct ld_error *error) {
    static char message[] = "not enough memory";
    static const struct ld_text no_memory = {.data = message, .size = sizeof message - 1};
    struct ld_error known = *error;
    if (known.trace->size == 0 && known.trace->failed) {
        known.trace = &no_memory;
        known.message_size = no_memory.size;
    }
    ld_errors_note(&script->errors, &known);
    if (known.what != on_error_function) {
        show_error(&(struct report){script, &known});
    }
}

/* Take a task from the pool, or report that memory ran out. */
struct ld_task *ld_task_take_or_report(struct ld_script *script, const char *what) {
    static const struct ld_text trace = {.failed = true};
    struct ld_task *task = ld_task_take(script, what);
    if (task == NULL) {
        ld_task_report(script, &(struct ld_error){.what = what, .where = "?", .trace = &trace});
    }
    return task;
}

/* List a task, unless it was suspended before. */
static void link_task(struct ld_task *task) {
    if (!task->is_listed) {
        LIST_INSERT_HEAD(&task->script->tasks.suspended, task, link);
        task->script->tasks.suspended_count++;
        task->is_listed = true;
    }
}

/* Begin a walk. */
void ld_task_cursor_begin(struct ld_task_cursor *cursor, struct ld_script *script) {
    cursor->next = LIST_FIRST(&script->tasks.suspended);
    LIST_INSERT_HEAD(&script->tasks.cursors, cursor, link);
}

/* The next task of a walk. */
struct ld_task *ld_task_cursor_next(struct ld_task_cursor *cursor) {
    struct ld_task *task = cursor->next;
    cursor->next = task != NULL ? LIST_NEXT(task, link) : NULL;
    return task;
}

/* End a walk. */
void ld_task_cursor_end(struct ld_task_cursor *cursor) {
    LIST_REMOVE(cursor, link);
}

/* Have no walk come to a task. */
static void skip_task(const struct ld_task *task) {
    struct ld_task_cursor *cursor;
    LIST_FOREACH(cursor, &task->script->tasks.cursors, link) {
        cursor->next = cursor->next == task ? LIST_NEXT(task, link) : cursor->next;
    }
}

/* Take a task out of the list, if it is there. */
static void unlink_task(struct ld_task *task) {
    if (task->is_listed) {
        skip_task(task);
        LIST_REMOVE(task, link);
        task->script->tasks.suspended_count--;
        task->is_listed = false;
    }
}

/* The error of a task, made readable. */
struct explanation {
    struct ld_task *task;
    struct ld_text trace; /* the message and the traceback */
    size_t message_size;
    char where[LD_ERROR_WHERE]; /* the error came from */
};

/* Explain an error: the message, whatever the error object is, and the traceback. Runs protected. */
static int explain(lua_State *L) {
    static const char bottom[] = "\n\t[C]: in ?"; /* our own first functions */
    const size_t bottom_size = sizeof bottom - 1;
    struct explanation *explanation = lua_touserdata(L, 1);
    lua_State *co = explanation->task->co;
    size_t size;
    lua_pushvalue(co, -1);
    lua_xmove(co, L, 1);
    lx_push_message(L, -1);
    const char *message = lua_tolstring(L, -1, &size);
    ld_hint_add_message(L, co, &explanation->trace, message, size);
    ld_heap_explain(explanation->task->script, &explanation->trace, message);
    explanation->message_size = explanation->trace.size;
    luaL_traceback(L, co, NULL, 0);
    const char *trace = lua_tolstring(L, -1, &size);
    while (size > bottom_size && memcmp(trace + size - bottom_size, bottom, bottom_size) == 0) {
        size -= bottom_size;
    }
    ld_text_putc(&explanation->trace, '\n');
    ld_text_add(&explanation->trace, trace, size);
    lx_push_cause(L, 2, trace);
    if (lua_isstring(L, -1)) {
        ld_text_format(&explanation->trace, "\n%s", lua_tostring(L, -1));
    }
    return 0;
}

/* Explain an error without memory for more. */
static void explain_barely(struct explanation *explanation) {
    lua_State *co = explanation->task->co;
    bool is_string = lua_type(co, -1) == LUA_TSTRING;
    ld_text_clear(&explanation->trace);
    const char *message = is_string ? lua_tostring(co, -1) : "not enough memory";
    ld_text_puts(&explanation->trace, message);
    ld_heap_explain(explanation->task->script, &explanation->trace, message);
    explanation->message_size = explanation->trace.size;
}

/* Whether nothing of a script begins any more. */
static bool is_ended(const struct ld_script *script) {
    return script->exited || script->halted || ld_stage_is_closing(script->stage);
}

/* Whether a task was ended before it began, because its script had ended. */
static bool never_began(const struct ld_task *task) {
    lua_Debug ar;
    return is_ended(task->script) && !lua_getstack(task->co, 0, &ar);
}

/* Whether a task ended because it was cancelled, or by os.exit, or because it was resumed while its
 * script ends: the end of what it waited for woke it, which is not an error. */
static bool ended_by_will(const struct ld_task *task) {
    if (task->script->exited) {
        return true;
    }
    const char *error = lua_type(task->co, -1) == LUA_TSTRING ? lua_tostring(task->co, -1) : "";
    return (task->was_cancelled && strcmp(error, cancelled_error) == 0) ||
           (ld_stage_is_ending(task->script->stage) && strstr(error, ld_state_over) != NULL);
}

/* Close the variables of a coroutine that failed, or was interrupted; its error, or an error of theirs,
 * stays on the top. */
static void close_variables(struct ld_task *task) {
    lua_State *L = task->script->L;
    bool was_interrupted = lua_status(task->co) == LUA_YIELD;
    if (was_interrupted) { /* to Lua there is no error: it is only a value on the stack */
        lua_xmove(task->co, L, 1);
        task->is_known = true; /* Lua 5.4.4 may keep the handler of an xpcall: use it no more */
    }
    lua_resetthread(task->co);
    if (was_interrupted && lua_gettop(task->co) == 0) {
        lua_xmove(L, task->co, 1);
    } else if (was_interrupted) {
        lua_pop(L, 1);
    }
}

/* The same as a part of the task, which can be interrupted once more. */
static void reset_coroutine(struct ld_task *task) {
    struct ld_script *script = task->script;
    struct ld_task *outer = script->tasks.current;
    script->tasks.current = task;
    struct ld_level level;
    ld_interrupt_enter(script, &level, task->co);
    close_variables(task);
    ld_interrupt_leave(script, &level);
    script->tasks.current = outer;
    ld_interrupt_go_on(script, task->co);
}

/* How a task ended that has an error on its top; one that is a failure is explained, once. */
static enum ld_outcome judge(struct explanation *explanation) {
    struct ld_task *task = explanation->task;
    if (ended_by_will(task)) {
        return LD_OUTCOME_CANCELLED;
    }
    lx_find_place(task->co, explanation->where, sizeof explanation->where);
    enum ld_heap_user before = ld_heap_lend(task->script, LD_HEAP_EXEMPT);
    if (ld_state_protect(task->script, explain, explanation, NULL) < 0) {
        explain_barely(explanation);
    }
    ld_heap_restore(task->script, before);
    return LD_OUTCOME_FAILED;
}

/* Whether a task was interrupted inside of a call for a client, who is told: that is no error of the script. */
static bool is_told(const struct ld_task *task) {
    const struct ld_script *script = task->script;
    struct ld_caller *caller = ld_interrupt_caller(script);
    if (caller == NULL || !script->interruption.is_under_way) {
        return false;
    }
    caller->was_interrupted = true;
    return true;
}

/* Handle the end of a task by an error. Closing the variables of one that was cancelled may fail. */
static void end_failed(struct ld_task *task) {
    struct explanation explanation = {.task = task};
    bool began = !never_began(task);
    enum ld_outcome outcome = began ? judge(&explanation) : LD_OUTCOME_CANCELLED;
    reset_coroutine(task);
    if (began && outcome == LD_OUTCOME_CANCELLED) {
        outcome = judge(&explanation);
    }
    task->has_failed = true;
    task->trace = &explanation.trace;
    bool handled = task->on_end != NULL && task->on_end(task, outcome, 1);
    task->trace = NULL;
    if (outcome == LD_OUTCOME_FAILED && !handled && !is_told(task)) {
        ld_task_report(task->script, &(struct ld_error){.what = task->what,
                                                        .where = explanation.where,
                                                        .trace = &explanation.trace,
                                                        .message_size = explanation.message_size});
    }
    ld_text_fini(&explanation.trace);
}

/* Handle the end of a task. */
static void end_task(struct ld_task *task, int status, int results) {
    unlink_task(task);
    if (status != LUA_OK) {
        end_failed(task);
    } else if (task->on_end != NULL) {
        task->on_end(task, LD_OUTCOME_OK, results);
    }
    ld_task_drop(task);
}

/* Push a text on the coroutine of a task that does not run: an error could not be caught. */
static void push_text(struct ld_task *task, const char *text) {
    enum ld_heap_user before = ld_heap_lend(task->script, LD_HEAP_EXEMPT);
    lua_pushstring(task->co, text);
    ld_heap_restore(task->script, before);
}

/* Handle a yield that no function of lunad made: nothing would ever resume it. */
static void refuse_yield(struct ld_task *task) {
    lua_settop(task->co, 0);
    lua_resetthread(task->co);
    task->is_known = true; /* as in close_variables */
    if (lua_checkstack(task->co, 1)) {
        push_text(task, "a task yielded, and nothing would ever resume it");
    }
    end_task(task, LUA_ERRRUN, 1);
}

/* End a task that was interrupted in the middle of its Lua code. */
static void end_interrupted(struct ld_task *task, const char *reason) {
    if (lua_checkstack(task->co, 1)) {
        push_text(task, reason != NULL ? reason : "interrupted");
        end_task(task, LUA_ERRRUN, 1);
    } else {
        refuse_yield(task);
    }
}

/* Put the reason of an interruption in the place of the error that it has raised. */
static void give_reason(struct ld_task *task, const char *reason) {
    if (reason != NULL && lua_checkstack(task->co, 1)) {
        push_text(task, reason);
    }
}

/* End a copy of the process whose outermost call is over: what would follow belongs to the original. */
_Noreturn static void leave_copy(struct ld_task *task, int status) {
    struct ld_script *script = task->script;
    bool failed =
        status != LUA_OK && status != LUA_YIELD && !never_began(task) && !ended_by_will(task);
    script->tasks.current = task; /* what is called now is not outermost */
    if (failed) {
        struct explanation explanation = {.task = task};
        if (ld_state_protect(script, explain, &explanation, NULL) < 0) {
            explain_barely(&explanation);
        }
        ld_log_with(LD_LOG_ERROR, &explanation.trace,
                    "uncaught error in %s, in a copy made by fork (pid %d): ", task->what,
                    (int)getpid());
        reset_coroutine(task);
    }
    bool has_status = (script->wants & (LD_WANT_STOP | LD_WANT_EXIT)) != 0;
    ld_forked_leave(has_status ? script->exit_status : failed);
}

/* Resume a task until it is suspended or ends. */
static void resume(struct ld_task *task, int args) {
    struct ld_script *script = task->script;
    struct ld_task *outer = script->tasks.current;
    int results = 0;
    task->state = LD_TASK_RUNNING;
    task->waits_for = NULL;
    task->abandon = NULL;
    script->tasks.current = task;
    if (outer == NULL && script->guest != NULL) {
        ld_guest_refresh(script->guest);
    }
    struct ld_laps *laps = script->setup->laps;
    if (outer == NULL && ld_laps_wants(laps)) {
        ld_laps_begin(laps, task->co);
    }
    struct ld_level level;
    lua_State *before = ld_interrupt_enter(script, &level, task->co);
    int status = lua_resume(task->co, before, args, &results);
    ld_interrupt_leave(script, &level);
    if (outer == NULL && ld_laps_measures(laps)) { /* not what began: see ld_task_end_call */
        ld_laps_end(laps, task->what);
    }
    script->tasks.current = outer;
    const char *reason = script->interruption.reason;
    bool is_interrupted = ld_interrupt_go_on(script, task->co);
    if (outer == NULL && ld_forked_is_copy()) {
        leave_copy(task, status);
    }
    if (status != LUA_YIELD) {
        if (status != LUA_OK && is_interrupted) {
            give_reason(task, reason);
        }
        end_task(task, status, results);
    } else if (task->waits_for == NULL && is_interrupted) {
        end_interrupted(task, reason);
    } else if (task->waits_for == NULL) {
        refuse_yield(task);
    } else {
        task->state = LD_TASK_SUSPENDED;
    }
}

/* Whether nothing of a script runs any more, except what its closing cancels. */
static bool is_over(const struct ld_script *script) {
    return (script->exited || script->halted) && !ld_stage_is_closing(script->stage);
}

/* Put a task at the end of a queue. */
static void join_queue(struct ld_task *task, struct ld_task_queue *queue) {
    task->queue = queue;
    TAILQ_INSERT_TAIL(queue, task, place);
}

/* Take a task out of the queue that it is in, if it is in one. */
static void leave_queue(struct ld_task *task) {
    if (task->queue != NULL) {
        TAILQ_REMOVE(task->queue, task, place);
        task->queue = NULL;
    }
}

/* Resume the tasks that were woken during a call, after the outermost one, as long as a turn of the loop
 * may take. Those that they wake come after them, not inside: the C stack does not grow with the chain. */
static void resume_woken(struct ld_script *script) {
    struct ld_task *task;
    if (script->tasks.is_waking || TAILQ_EMPTY(&script->tasks.woken)) {
        return;
    }
    uint64_t end = ld_time_coarse() + LD_TURN_NS;
    script->tasks.is_waking = true;
    while (!is_over(script) && script->tasks.current == NULL &&
           (task = TAILQ_FIRST(&script->tasks.woken)) != NULL) {
        leave_queue(task);
        resume(task, 0);
        if (ld_time_coarse() >= end) {
            break;
        }
    }
    script->tasks.is_waking = false;
}

/* Resume those that were left. */
bool ld_task_resume_left(struct ld_script *script) {
    resume_woken(script);
    return !TAILQ_EMPTY(&script->tasks.woken) && !is_over(script);
}

/* Run a task. */
void ld_task_start(struct ld_task *task, int args) {
    struct ld_script *script = task->script;
    if (is_ended(script)) {
        lua_settop(task->co, 0);
        push_text(task, cancelled_error);
        end_task(task, LUA_ERRRUN, 1);
        return;
    }
    resume(task, args);
    resume_woken(script);
}

/* Return what the function returned after it had been suspended. */
static int begun_resumed(lua_State *L, int status, lua_KContext context) {
    (void)status;
    (void)context;
    return lua_gettop(L);
}

/* Leave a function of the script only what the script may have: what lunad lent was for the arguments. */
static void stop_lending(lua_State *L) {
    struct ld_task *task = nearest_task(L);
    if (task->heap_user == LD_HEAP_HOST && task->what != on_error_function && !lx_is_own(L, 1)) {
        task->heap_user = LD_HEAP_SCRIPT;
    }
}

/* Note what is called, at INDEX, if that is measured. */
static void name_lap(lua_State *L, int index) {
    struct ld_laps *laps = nearest_task(L)->script->setup->laps;
    if (ld_laps_measures(laps)) {
        ld_laps_name(laps, L, index);
    }
}

/* Push what a task starts with, and call it. The first function of a task. */
static int begin(lua_State *L) {
    const struct beginning *beginning = lua_touserdata(L, 1);
    lua_settop(L, 0);
    int args = beginning->push(L, beginning->arg);
    stop_lending(L);
    name_lap(L, 1);
    lua_callk(L, args, LUA_MULTRET, 0, begun_resumed);
    return lua_gettop(L);
}

/* Run a task with what PUSH pushes. */
void ld_task_start_with(struct ld_task *task, int (*push)(lua_State *co, void *arg), void *arg) {
    struct beginning beginning = {.push = push, .arg = arg};
    lua_pushcfunction(task->co, begin);
    lua_pushlightuserdata(task->co, &beginning);
    ld_task_start(task, 1);
}

/* Begin a call. */
void ld_task_begin_call(struct ld_task *task, bool is_first) {
    const struct ld_script *script = task->script;
    struct ld_laps *laps = script->setup->laps;
    if (!is_first && script->guest != NULL) {
        ld_guest_refresh(script->guest);
    }
    if (!is_first && ld_laps_wants(laps)) {
        ld_laps_begin_unnamed(laps);
    }
    if (ld_laps_measures(laps)) {
        ld_laps_name(laps, task->co, lua_gettop(task->co));
    }
}

/* Whether nothing of a call that a task has made is left in it. A hook is removed, or it would see more than
 * its call; but not that of an interruption. */
static bool is_clean(const struct ld_task *task) {
    bool has_hook = lua_gethook(task->co) != NULL;
    if (has_hook && !task->script->interruption.is_under_way) {
        lua_sethook(task->co, NULL, 0, 0);
    }
    return !has_hook && !task->is_known && !task->is_listed && !task->cancelled &&
           !task->was_cancelled;
}

/* End a call. It is counted before it is asked whether there is an interruption: one that is meant for this
 * call comes to light here, or not at all. */
bool ld_task_end_call(struct ld_task *task) {
    struct ld_script *script = task->script;
    struct ld_laps *laps = script->setup->laps;
    ld_interrupt_count_call();
    if (ld_laps_measures(laps)) {
        ld_laps_end(laps, task->what);
    }
    task->heap_user = LD_HEAP_SCRIPT;
    if (task->name != NULL) {
        ld_task_set_name(task, NULL);
    }
    return is_clean(task) && TAILQ_EMPTY(&script->tasks.woken) && script->wants == 0 &&
           !is_ended(script) && !script->interruption.is_under_way && !ld_forked_is_copy();
}

/* Raise if the task of L was cancelled: once, where it is suspended or next suspends. */
void ld_task_check_cancelled(lua_State *L) {
    struct ld_task *task = nearest_task(L);
    if (task->cancelled) {
        task->cancelled = false;
        task->was_cancelled = true;
        lua_pushstring(L, cancelled_error);
        lua_error(L);
    }
}

/* Raise if L cannot suspend. */
struct ld_task *ld_task_check(lua_State *L, const char *function) {
    struct ld_task *task = ld_task_of(L);
    if (task == NULL) {
        lx_error(L, "%s: it cannot suspend here: this coroutine is not a task (use lunad.task)",
                 function);
    }
    if (ld_stage_is_closing(
            task->script->stage)) { /* it has caught that it was cancelled, and would again */
        task->was_cancelled = true;
        task->script->interruption.reason = cancelled_error;
        ld_interrupt(task->script);
        lx_error(L, "%s: %s", function, ld_state_over);
    }
    if (ld_forked_is_copy()) {
        lx_error(L, "%s: %s", function, ld_forked_words);
    }
    if (!lua_isyieldable(L)) {
        lx_error(L, "%s: it cannot suspend here: a C function is waiting for this call", function);
    }
    ld_task_check_cancelled(L);
    return task;
}

/* Suspend the task of L. */
int ld_task_suspend(lua_State *L, const char *waits_for, void (*abandon)(struct ld_task *),
                    lua_KFunction resumed) {
    struct ld_task *task = ld_task_of(L);
    LD_ASSERT(task != NULL);
    link_task(task);
    task->waits_for = waits_for;
    task->abandon = abandon;
    task->since = ld_time_coarse();
    return lua_yieldk(L, 0, (lua_KContext)lua_gettop(L), resumed);
}

/* Suspend the task of L in a queue. */
int ld_task_wait(lua_State *L, struct ld_task_queue *queue, const char *waits_for,
                 lua_KFunction resumed) {
    join_queue(ld_task_of(L), queue);
    return ld_task_suspend(L, waits_for, NULL, resumed);
}

/* Resume a suspended task. */
void ld_task_wake(struct ld_task *task) {
    struct ld_script *script = task->script;
    if (task->queue != &script->tasks.woken) {
        leave_queue(task);
        join_queue(task, &script->tasks.woken);
    }
    resume_woken(script);
}

/* Wake all tasks of a queue. */
void ld_task_wake_all(struct ld_task_queue *queue) {
    struct ld_task *task;
    while ((task = TAILQ_FIRST(queue)) != NULL) {
        ld_task_wake(task);
    }
}

/* Empty a queue without waking its tasks. */
void ld_task_strand(struct ld_task_queue *queue) {
    struct ld_task *task;
    while ((task = TAILQ_FIRST(queue)) != NULL) {
        leave_queue(task);
    }
}

/* Cancel a task. */
void ld_task_cancel(struct ld_task *task) {
    task->cancelled = true;
    if (task->state != LD_TASK_SUSPENDED) {
        return; /* it runs, further out: the error comes when it suspends */
    }
    if (task->queue != NULL) {
        leave_queue(task);
    } else if (task->abandon != NULL) {
        task->abandon(task);
    }
    struct ld_script *script = task->script;
    resume(task, 0);
    resume_woken(script);
}

/* End every task of a script. Each ends, because nothing can suspend in a script that is closing. All
 * are marked first, so that none is resumed because another one ended. */
void ld_task_end_all(struct ld_script *script) {
    struct ld_task *task;
    LIST_FOREACH(task, &script->tasks.suspended, link) {
        task->cancelled = true;
    }
    while ((task = LIST_FIRST(&script->tasks.suspended)) != NULL) {
        ld_task_cancel(task); /* NOLINT(clang-analyzer-unix.Malloc): an ended task is not listed */
    }
    ld_task_drain_pool(script);
}
