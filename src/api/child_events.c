/* The events of a child: output, input written, end. */
#include "api/child_events.h"

#include <lauxlib.h>
#include <stdlib.h>

#include "api/child_box.h"
#include "script/luax.h"

/* What an output callback is called with. */
struct output {
    const struct ld_child_half *half;
    int stream;
    const char *bytes;
    size_t size;
};

/* Push an output callback and its argument. */
static int push_output(lua_State *co, void *arg) {
    const struct output *output = arg;
    ld_api_child_box_push(co, output->half);
    lua_getiuservalue(co, -1, output->stream == 1 ? LD_CHILD_ON_STDOUT : LD_CHILD_ON_STDERR);
    if (output->bytes != NULL) {
        lua_pushlstring(co, output->bytes, output->size);
    } else {
        lua_pushnil(co);
    }
    lua_remove(co, 1);
    return 1;
}

/* Read the stream again after its callback. That may finish the child, and free the half. */
static bool on_output_end(struct ld_task *task, enum ld_outcome outcome, int results) {
    struct ld_child_half *half = task->owner;
    int stream = half->calling[0] == task ? 1 : 2;
    (void)outcome;
    (void)results;
    half->calling[stream - 1] = NULL;
    if (half->child != NULL && half->held[stream - 1]) {
        half->held[stream - 1] = false;
        ld_child_unhold(half->child, stream, LD_HOLD_BUSY);
    }
    return false;
}

/* Stop reading a stream until its callback is done. */
static void hold(struct ld_child_half *half, int stream) {
    half->held[stream - 1] = true;
    ld_child_hold(half->child, stream, LD_HOLD_BUSY);
}

/* Call an output callback. The stream is held while the callback is suspended. For the end of a stream
 * it is held from the start of the call, because unholding it may finish the child. */
static void on_output(void *owner, int stream, const char *bytes, size_t size) {
    struct ld_child_half *half = owner;
    struct output output = {.half = half, .stream = stream, .bytes = bytes, .size = size};
    struct ld_task *task = ld_task_take_or_report(
        half->handle.script, stream == 1 ? "a stdout callback" : "a stderr callback");
    if (task == NULL) {
        return; /* the chunk is lost */
    }
    task->owner = half;
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

/* Wake the tasks that wait until everything is written. When one of them writes again, the others keep
 * waiting. */
static void on_drained(void *owner) {
    struct ld_child_half *half = owner;
    while (!TAILQ_EMPTY(&half->flushers) &&
           (ld_child_write_error(half->child) < 0 || ld_child_unwritten(half->child) == 0)) {
        ld_task_wake(TAILQ_FIRST(&half->flushers));
    }
}

/* Push the on_exit function, how the child ended, and the child. */
static int push_on_exit(lua_State *co, void *arg) {
    const struct ld_child_half *half = arg;
    ld_api_child_box_push(co, half);
    lua_getiuservalue(co, 1, LD_CHILD_ON_EXIT);
    ld_api_child_box_push_exit(co, half->box);
    lua_pushvalue(co, 1);
    lua_remove(co, 1);
    return 2;
}

/* Copy the facts of a child into its box, before the child is released. */
static void keep_facts(struct ld_child_half *half) {
    struct ld_child_facts facts;
    struct ld_child_box *box = half->box;
    ld_child_describe(half->child, &facts);
    box->exit = facts.exit;
    box->seconds = facts.seconds;
    box->timed_out = facts.timed_out;
    box->finished = true;
    box->half = NULL;
}

/* Handle the end of a child. The box stays pinned until its callback has it. */
static void on_finished(void *owner) {
    struct ld_child_half *half = owner;
    struct ld_script *script = half->handle.script;
    lua_State *L = script->L;
    keep_facts(half);
    script->commands -= half->command;
    if (!half->claims) {
        ld_child_release(half->child);
    }
    half->child = NULL;
    ld_task_wake_all(&half->flushers);
    ld_task_wake_all(&half->waiters);
    ld_api_child_box_push(L, half);
    bool has_callback = lua_getiuservalue(L, -1, LD_CHILD_ON_EXIT) != LUA_TNIL;
    lua_pop(L, 2);
    struct ld_task *task = has_callback && !ld_stage_is_closing(script->stage)
                               ? ld_task_take_or_report(script, "an on_exit callback")
                               : NULL;
    if (task != NULL) {
        task->heap_user = LD_HEAP_HOST; /* no second call tells of the end */
        ld_task_start_with(task, push_on_exit, half);
    }
    ld_api_child_box_unpin(L, half);
    ld_handle_detach(&half->handle);
    free(half);
}

/* A line of output that may say that a child is ready. */
struct line {
    const struct ld_child_half *half;
    const char *bytes; /* NULL: it has said so otherwise */
    size_t size;
};

/* Push the function that is told, and the line or nil. */
static int push_line(lua_State *co, void *arg) {
    const struct line *line = arg;
    ld_api_child_box_push(co, line->half);
    lua_getiuservalue(co, -1, LD_CHILD_ON_READY);
    if (line->bytes != NULL) {
        lua_pushlstring(co, line->bytes, line->size);
    } else {
        lua_pushnil(co);
    }
    lua_remove(co, 1);
    return 1;
}

/* Tell a supervisor of a line, or that a child is ready. */
static void tell(const struct ld_child_half *half, const char *bytes, size_t size) {
    struct ld_script *script = half->handle.script;
    struct line line = {.half = half, .bytes = bytes, .size = size};
    ld_api_child_box_push(script->L, half);
    bool is_asked = lua_getiuservalue(script->L, -1, LD_CHILD_ON_READY) != LUA_TNIL;
    lua_pop(script->L, 2);
    struct ld_task *task =
        is_asked ? ld_task_take_or_report(script, "the check whether a child is ready") : NULL;
    if (task != NULL) {
        task->heap_user = LD_HEAP_HOST; /* a second call may never come */
        ld_task_start_with(task, push_line, &line);
    }
}

/* Handle a line. */
static void on_line(void *owner, const char *bytes, size_t size) {
    tell(owner, bytes, size);
}

/* Handle that a child is ready. */
static void on_ready(void *owner) {
    tell(owner, NULL, 0);
}

const struct ld_child_ops ld_api_child_events = {on_output, on_drained, on_finished, on_line,
                                                 on_ready};
