/* Tasks: coroutines that run a callback each and may suspend. They come from a pool: a call that
 * does not suspend costs no more than a protected one. */
#ifndef LD_SCRIPT_TASK_H
#define LD_SCRIPT_TASK_H

#include "script/state.h"

/* Take a task from the pool, its coroutine empty; NULL when memory ran out. */
struct ld_task *ld_task_take(struct ld_script *script, const char *what);

/* The same for a function that Lua code on L has called: raises when memory ran out. */
struct ld_task *ld_task_need(lua_State *L, const char *what);

/* The same for a callback of the script: if memory ran out, that is reported as an error of it. */
struct ld_task *ld_task_take_or_report(struct ld_script *script, const char *what);

/* Run it: the function and ARGS arguments are on its stack. It may end at once, and be freed. */
void ld_task_start(struct ld_task *task, int args);

/* Run it with what PUSH pushes, a function and its arguments (their number is returned); PUSH runs
 * inside the protected call and may raise. */
void ld_task_start_with(struct ld_task *task, int (*push)(lua_State *co, void *arg), void *arg);

/* For a C function that a task runs, and that makes one call after the other, each as if it had a task of its
 * own: to be called before each call, with the function at the top of the task's stack, and after it. False:
 * no other call can be made on this task, so the function is to return. A call that suspends or fails takes
 * the task with it. */
void ld_task_begin_call(struct ld_task *task, bool is_first);
bool ld_task_end_call(struct ld_task *task);

/* Give a task back that was not started. */
void ld_task_drop(struct ld_task *task);

/* Have the value at the top of L, which is popped, be kept in the place of the coroutine of a task: it must
 * keep that, until the coroutine itself is given back in the same way, before the task ends. Push what is
 * kept: at first the coroutine. Neither raises. */
void ld_task_anchor(const struct ld_task *task, lua_State *L);
void ld_task_push_anchor(const struct ld_task *task, lua_State *L);

/* Name a task, for reports, by a copy of NAME (NULL: by none); without memory it has no name. */
void ld_task_set_name(struct ld_task *task, const char *name);

/* Free the pool. */
void ld_task_drain_pool(struct ld_script *script);

/* The task that runs on L; NULL on a coroutine that is not a task's. */
struct ld_task *ld_task_of(lua_State *L);

/* Whether L belongs to the host, which alone resumes it: a task that has not ended, or the main
 * coroutine. */
bool ld_task_is_hosts(lua_State *L);

/* A walk over the tasks that are or were suspended, the latest first, between whose steps they may come and go: one
 * that is there all the time is met once, one that comes is not. Begin; the next, NULL at the end; and end, which
 * must come before the script is closed. */
void ld_task_cursor_begin(struct ld_task_cursor *cursor, struct ld_script *script);
struct ld_task *ld_task_cursor_next(struct ld_task_cursor *cursor);
void ld_task_cursor_end(struct ld_task_cursor *cursor);

/* Note that the script sees L. If it is a task's, no other task will run on it. */
void ld_task_note_known(lua_State *L);

/* To be called as `return ld_task_suspend(…)`: suspend the task of L until it is woken; then
 * RESUMED continues with the stack as it is now. Raises on a coroutine that is not a task, or where a C
 * function is in between, or if the task is cancelled. */
int ld_task_suspend(lua_State *L, const char *waits_for, void (*abandon)(struct ld_task *),
                    lua_KFunction resumed);

/* The same, in QUEUE: it is woken through that. */
int ld_task_wait(lua_State *L, struct ld_task_queue *queue, const char *waits_for,
                 lua_KFunction resumed);

/* Raise if the task of L cannot suspend: to be asked before anything is begun. */
struct ld_task *ld_task_check(lua_State *L, const char *function);

/* To be called first in RESUMED: raises if the task was cancelled. */
void ld_task_check_cancelled(lua_State *L);

/* Resume a suspended task, and take it out of its queue: now, or when the current call into the script
 * is over, or in the next turn of the loop if those that were woken before it take long. */
void ld_task_wake(struct ld_task *task);

/* Wake all tasks of a queue, in their order. */
void ld_task_wake_all(struct ld_task_queue *queue);

/* Empty a queue that nothing will wake: its tasks stay suspended until they are cancelled. */
void ld_task_strand(struct ld_task_queue *queue);

/* Resume woken tasks for which the last turn of the loop had no time left; true if some are still
 * left. Not from inside a call. */
bool ld_task_resume_left(struct ld_script *script);

/* Log an uncaught error, count it, and show it to the script's on_error function. An empty trace that
 * failed for lack of memory becomes an error that says so. */
void ld_task_report(struct ld_script *script, const struct ld_error *error);

/* Cancel: an error is raised where the task is suspended, or when it next suspends. */
void ld_task_cancel(struct ld_task *task);

/* End every task of a script by cancelling it, and free the pool. */
void ld_task_end_all(struct ld_script *script);

#endif
