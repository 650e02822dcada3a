/* The chunk is the function of a task. Its results go to a second task, which makes them readable: what
 * that calls of the script (__tostring) may be endless too. */
#include "api/eval.h"

#include <lauxlib.h>
#include <string.h>

#include "api/core.h"
#include "base/json.h"
#include "script/lua_json.h"
#include "script/luax.h"
#include "script/task.h"

#define TRACE_MOST  ((size_t)1 << 20)
#define CHUNK_NAME  "=eval"
#define SHOW_SPARED 8 /* places on the stack that are needed beside the values */

static const char not_enough[] = "not enough memory";

/* A chunk as lua_load reads it: in two pieces. */
struct pieces {
    const char *text[2];
    size_t size[2];
    int next;
};

/* Read the next piece. */
static const char *read_piece(lua_State *L, void *arg, size_t *size) {
    struct pieces *pieces = arg;
    (void)L;
    while (pieces->next < 2) {
        int at = pieces->next++;
        if (pieces->size[at] > 0) { /* an empty one would be the end */
            *size = pieces->size[at];
            return pieces->text[at];
        }
    }
    *size = 0;
    return NULL;
}

/* Push the chunk as a function after BEFORE, or an error message; a status of Lua. */
static int load(lua_State *L, const struct ld_eval *eval, const char *before) {
    struct pieces pieces = {.text = {before, eval->chunk}, .size = {strlen(before), eval->size}};
    if (eval->size >= 2 && memcmp(eval->chunk, "#!", 2) == 0) { /* for a shell */
        const char *end = memchr(eval->chunk, '\n', eval->size);
        size_t skipped = end != NULL ? (size_t)(end - eval->chunk) : eval->size;
        pieces.text[1] += skipped;
        pieces.size[1] -= skipped;
    }
    return lua_load(L, read_piece, &pieces, CHUNK_NAME, "t");
}

/* Whether a message of the compiler says that the chunk may be the beginning of one that is right. */
static bool is_incomplete(const char *message, size_t size) {
    static const char end[] = "near <eof>";
    return size >= sizeof end - 1 && strcmp(message + size - (sizeof end - 1), end) == 0;
}

/* Push a file of lunad's own Lua, run. */
static void push_own(lua_State *L, const char *name) {
    ld_api_core_push(L);
    lua_getfield(L, -1, "load");
    lua_pushstring(L, name);
    lua_call(L, 1, 1);
    lua_remove(L, -2);
}

/* Push what completes the beginning of a line, and its argument. */
static int push_completion(lua_State *co, const struct ld_eval *eval) {
    push_own(co, "complete.lua");
    lua_pushlstring(co, eval->chunk, eval->size);
    return 1;
}

/* Push the chunk and its argument: it has `lunad` as a local variable. Raises if it does not compile. */
static int push_chunk(lua_State *co, void *arg) {
    struct ld_eval *eval = arg;
    if (eval->completes) {
        return push_completion(co, eval);
    }
    int status = load(co, eval, "local lunad = ...; return ");
    if (status == LUA_ERRSYNTAX) {
        lua_pop(co, 1);
        status = load(co, eval, "local lunad = ...; ");
    }
    if (status == LUA_ERRSYNTAX) {
        size_t size;
        const char *message = lua_tolstring(co, -1, &size);
        ld_text_add(&eval->why, message, size);
        eval->is_incomplete = is_incomplete(message, size);
    }
    if (status != LUA_OK) {
        lua_error(co);
    }
    luaL_getsubtable(co, LUA_REGISTRYINDEX, LUA_LOADED_TABLE);
    lua_getfield(co, -1, "lunad");
    lua_remove(co, -2);
    return 1;
}

/* Return an empty list. */
static int l_nothing(lua_State *L) {
    lua_newtable(L);
    return 1;
}

/* Push the function of lunad's own Lua, or one that returns an empty list if there is none yet. */
static int push_report(lua_State *co, void *arg) {
    const struct ld_eval *eval = arg;
    ld_api_core_push(co);
    lua_pushstring(co, eval->own);
    lua_rawget(co, -2);
    lua_remove(co, -2);
    if (!lua_isfunction(co, -1)) {
        lua_pushcfunction(co, l_nothing);
    }
    return 0;
}

/* Tell the owner how it ended. */
static void finish(struct ld_eval *eval, json_t *answer) {
    ld_text_fini(&eval->why);
    eval->done(eval, answer);
}

/* Make an error answer; NULL without memory. */
static json_t *make_failure(const struct ld_eval *eval, const char *message, size_t size) {
    json_t *answer =
        json_pack("{s:b, s:o}", "ok", 0, "error", ld_json_cut(message, size, TRACE_MOST));
    if (eval->is_incomplete) {
        json_object_set_new(answer, "incomplete", json_true());
    }
    return answer;
}

/* Tell the owner of an error. */
static void fail(struct ld_eval *eval, const char *message) {
    finish(eval, make_failure(eval, message, strlen(message)));
}

/* Tell the owner that it ended well, unless a task that it had begun was interrupted for it; the reference to
 * its VALUES is taken over. */
static void succeed(struct ld_eval *eval, json_t *values) {
    if (eval->caller.was_interrupted) {
        json_decref(values);
        fail(eval, eval->caller.reason);
    } else {
        json_t *answer = json_pack("{s:b, s:o}", "ok", 1, "values", values);
        finish(eval, answer != NULL ? answer : make_failure(eval, not_enough, strlen(not_enough)));
    }
}

/* Tell the owner of an error of TASK, or that it was ended. One that called os.exit has done what it was
 * asked for. */
static void finish_failed(struct ld_eval *eval, const struct ld_task *task,
                          enum ld_outcome outcome) {
    if (!ld_text_is_empty(&eval->why)) {
        finish(eval, make_failure(eval, ld_text_string(&eval->why), eval->why.size));
    } else if (outcome == LD_OUTCOME_FAILED) {
        finish(eval, task->trace->size > 0
                         ? make_failure(eval, task->trace->data, task->trace->size)
                         : make_failure(eval, not_enough, strlen(not_enough)));
    } else {
        finish(eval, task->script->exited ? json_pack("{s:b, s:[]}", "ok", 1, "values") : NULL);
    }
}

/* Take the list of texts at the top of CO; NULL without memory. */
static json_t *take_texts(lua_State *co) {
    json_t *texts = json_array();
    size_t count = lua_istable(co, -1) ? lua_rawlen(co, -1) : 0;
    for (size_t i = 1; i <= count; i++) {
        size_t size;
        bool is_string = lua_rawgeti(co, -1, (lua_Integer)i) == LUA_TSTRING;
        const char *text = is_string ? lua_tolstring(co, -1, &size) : NULL;
        json_array_append_new(texts, text != NULL ? ld_json_text(text, size) : json_null());
        lua_pop(co, 1);
    }
    if (json_array_size(texts) == count) {
        return texts;
    }
    json_decref(texts);
    return NULL;
}

/* Handle the end of the task that shows the results. */
static bool on_shown(struct ld_task *task, enum ld_outcome outcome, int results) {
    struct ld_eval *eval = task->owner;
    (void)results;
    task->caller = NULL;
    eval->task = NULL;
    if (outcome == LD_OUTCOME_OK) {
        succeed(eval, take_texts(task->co));
    } else {
        finish_failed(eval, task, outcome);
    }
    return true;
}

/* Return what show has returned after it was suspended. */
static int shown(lua_State *L, int status, lua_KContext context) {
    (void)L;
    (void)status;
    (void)context;
    return 1;
}

/* show(...) of lunad's own Lua. */
static int show(lua_State *L) {
    push_own(L, "show.lua");
    lua_insert(L, 1);
    lua_callk(L, lua_gettop(L) - 1, 1, 0, shown);
    return shown(L, LUA_OK, 0);
}

/* Have a task, with an end of its own, run for the client. */
static struct ld_task *take_task(struct ld_eval *eval, struct ld_script *script,
                                 bool (*on_end)(struct ld_task *, enum ld_outcome, int)) {
    struct ld_task *task = ld_task_take(script, "an eval");
    if (task != NULL) {
        task->owner = eval;
        task->on_end = on_end;
        task->caller = &eval->caller;
        eval->task = task;
    }
    return task;
}

/* Show the results of the chunk, which are on the top of TASK. */
static void show_results(struct ld_eval *eval, const struct ld_task *task, int results) {
    static const char too_many[] = "too many results";
    struct ld_task *shower = take_task(eval, task->script, on_shown);
    if (shower == NULL) {
        fail(eval, not_enough);
    } else if (!lua_checkstack(shower->co, results + SHOW_SPARED)) {
        eval->task = NULL;
        ld_task_drop(shower);
        fail(eval, too_many);
    } else {
        lua_pushcfunction(shower->co, show);
        lua_xmove(task->co, shower->co, results);
        ld_task_start(shower, results);
    }
}

/* Handle the end of the chunk. */
static bool on_end(struct ld_task *task, enum ld_outcome outcome, int results) {
    struct ld_eval *eval = task->owner;
    task->caller = NULL;
    eval->task = NULL;
    if (outcome != LD_OUTCOME_OK) {
        finish_failed(eval, task, outcome);
    } else if (eval->own != NULL) {
        succeed(eval, results == 1 ? lx_to_json(task->co, -1) : json_array());
    } else if (results == 0) {
        succeed(eval, json_array());
    } else {
        show_results(eval, task, results);
    }
    return true;
}

/* Begin. */
void ld_eval_begin(struct ld_eval *eval, struct ld_script *script) {
    struct ld_task *task = take_task(eval, script, on_end);
    if (task == NULL) {
        fail(eval, not_enough);
    } else {
        ld_task_start_with(task, eval->own != NULL ? push_report : push_chunk, eval);
    }
}

/* Cancel. */
void ld_eval_cancel(struct ld_eval *eval) {
    if (eval->task != NULL) {
        ld_task_cancel(eval->task);
    }
}

/* Add the place. */
void ld_eval_add_place(const struct ld_eval *eval, struct ld_text *text) {
    char where[LD_ERROR_WHERE] = "?";
    if (eval->task != NULL) {
        const char *waits_for = eval->task->waits_for;
        lx_find_place(eval->task->co, where, sizeof where);
        ld_text_format(text, "in %s at %s", waits_for != NULL ? waits_for : "Lua", where);
    }
}
