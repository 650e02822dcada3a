#include "script/script.h"

#include <errno.h>
#include <lauxlib.h>
#include <lualib.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/time.h"
#include "posix/forked.h"
#include "script/guard.h"
#include "script/handle.h"
#include "script/luax.h"
#include "script/task.h"

#define LAST_WORDS_SECONDS 2 /* for all that tasks do when they are cancelled at the end */

static size_t pending; /* scripts that are closed but for requests in flight */

/* Lua's allocator: the C library's, and a count of what the state has. */
static void *allocate(void *arg, void *block, size_t old_size, size_t new_size) {
    struct ld_script *script = arg;
    size_t before = block != NULL ? old_size : 0;
    void *result = NULL;
    if (script->setup->alloc != NULL) {
        result = script->setup->alloc(script->setup->alloc_arg, block, old_size, new_size);
    } else if (new_size == 0) {
        free(block);
    } else {
        result = realloc(block, new_size);
    }
    if (result != NULL || new_size == 0) {
        script->heap += new_size - before;
    }
    return result;
}

/* Warnings of Lua scripts go to the log, whole. */
static void on_warning(void *arg, const char *message, int to_be_continued) {
    static struct ld_text text;
    const struct ld_script *script = arg;
    if (text.size == 0 && !to_be_continued && message[0] == '@') {
        return; /* a control message: all warnings are on */
    }
    ld_text_puts(&text, message);
    if (to_be_continued) {
        return;
    }
    struct ld_log_event event = {.level = LD_LOG_WARN,
                                 .source = script->setup->name,
                                 .message = ld_text_string(&text),
                                 .size = text.size};
    ld_log_event(&event);
    ld_text_fini(&text);
}

/* End a copy of the process that a finalizer has made, outside of any task. */
static void leave_if_forked(const struct ld_script *script) {
    if (ld_forked() && script->current == NULL) {
        ld_forked_leave(0);
    }
}

/* Call a C function protected. */
int ld_state_protect(struct ld_script *script, lua_CFunction function, void *arg,
                     struct ld_text *why) {
    lua_State *L = script->L;
    lua_pushcfunction(L, function);
    lua_pushlightuserdata(L, arg);
    int status = lua_pcall(L, 1, 0, 0);
    leave_if_forked(script);
    if (status == LUA_OK) {
        return 0;
    }
    if (why != NULL) {
        const char *message = lua_tostring(L, -1);
        ld_text_puts(why, message != NULL ? message : "an error without a message");
    }
    lua_pop(L, 1);
    return -1;
}

/* Make the shelf, empty. */
static void make_shelf(lua_State *L, struct ld_script *script) {
    static const char key; /* of it in the registry, which keeps it */
    script->shelf = lua_newthread(L);
    lua_rawsetp(L, LUA_REGISTRYINDEX, &key);
    lua_settop(script->shelf, LD_SHELF_END - 1);
}

/* Put the value at the top on the shelf. */
void ld_state_shelve(lua_State *L, enum ld_shelf place) {
    lua_State *shelf = ld_state_script(L)->shelf;
    lua_xmove(L, shelf, 1);
    lua_replace(shelf, (int)place);
}

/* Push what lies on the shelf. */
void ld_state_push_shelved(lua_State *L, enum ld_shelf place) {
    lua_State *shelf = ld_state_script(L)->shelf;
    lua_pushvalue(shelf, (int)place);
    lua_xmove(shelf, L, 1);
}

/* Open Lua's libraries and lunad's. Runs protected. */
static int open_libraries(lua_State *L) {
    struct ld_script *script = ld_state_script(L);
    luaL_openlibs(L);
    make_shelf(L, script);
    lua_pushcfunction(L, script->setup->open_libraries);
    lua_call(L, 0, 0);
    return 0;
}

/* Make the Lua state of a script; false when memory ran out. */
static bool make_state(struct ld_script *script) {
    script->root = calloc(1, sizeof *script->root);
    script->L = script->root != NULL ? lua_newstate(allocate, script) : NULL;
    if (script->L == NULL) {
        return false;
    }
    script->root->script = script;
    script->root->co = script->L;
    *(struct ld_task **)lua_getextraspace(script->L) = script->root;
    lua_setwarnf(script->L, on_warning, script);
    return true;
}

/* Make a generation. */
int ld_script_new(struct ld_script **out, const struct ld_setup *setup, unsigned generation,
                  struct ld_text *why) {
    struct ld_script *script = calloc(1, sizeof *script);
    if (script == NULL) {
        ld_text_puts(why, strerror(ENOMEM));
        return -ENOMEM;
    }
    script->setup = setup;
    script->generation = generation;
    script->on_error = LUA_NOREF;
    if (!make_state(script) || ld_state_protect(script, open_libraries, NULL, why) < 0) {
        if (ld_text_is_empty(why)) {
            ld_text_puts(why, strerror(ENOMEM));
        }
        ld_script_close(script);
        return -ENOMEM;
    }
    *out = script;
    return 0;
}

/* Compile the source of a script; the function stays on the main stack until the start. */
int ld_script_load(struct ld_script *script, struct ld_text *why) {
    return ld_source_load(script->L, script->setup->source, why);
}

/* Push the chunk and its arguments. */
static int push_chunk(lua_State *co, void *arg) {
    struct ld_script *script = arg;
    const struct ld_setup *setup = script->setup;
    int count = 0;
    lua_xmove(script->L, co, 1);
    for (char *const *word = setup->words + setup->script + 1; *word != NULL; word++) {
        luaL_checkstack(co, 2, "too many arguments");
        lua_pushstring(co, *word);
        count++;
    }
    return count;
}

/* Note the end of the chunk. */
static bool on_chunk_end(struct ld_task *task, enum ld_outcome outcome, int results) {
    (void)results;
    task->script->chunk_done = true;
    task->script->chunk_failed = outcome != LD_OUTCOME_OK;
    return false;
}

/* Run the chunk until it gives control back. */
void ld_script_start(struct ld_script *script) {
    struct ld_task *task = ld_task_take_or_report(script, "the script");
    if (task == NULL) {
        script->chunk_done = true;
        script->chunk_failed = true;
    } else {
        task->on_end = on_chunk_end;
        ld_task_start_with(task, push_chunk, script);
    }
    script->gave_control = true;
}

/* Whether the script has become ready. */
bool ld_script_is_ready(const struct ld_script *script) {
    return script->gave_control && ld_text_is_empty(&script->first_error) &&
           !script->chunk_failed && (script->said_ready || !script->setup->wait_ready);
}

/* Whether anything of the script is left. */
bool ld_script_is_alive(const struct ld_script *script) {
    return !script->chunk_done || !LIST_EMPTY(&script->tasks) || script->keepers > 0 ||
           ld_timers_armed(script->timers) > 0 ||
           (script->guest != NULL && ld_guest_is_alive(script->guest));
}

/* Whether luv has a descriptor. */
static bool is_taken(void *arg, int fd) {
    const struct ld_script *script = arg;
    return script->guest != NULL && ld_guest_has_fd(script->guest, fd);
}

/* Let no client come to a script any more. */
void ld_script_deafen(struct ld_script *script) {
    if (script->guest != NULL) {
        ld_guest_close_listeners(script->guest);
    }
    if (script->setup->listeners != NULL) {
        ld_listeners_deafen(script->setup->listeners, script, is_taken, script);
    }
}

/* How many scripts are closed but for requests in flight. */
size_t ld_script_pending(void) {
    return pending;
}

/* Close the state of a script that has nothing in flight. */
static void finish(struct ld_script *script) {
    if (script->L != NULL) {
        lua_close(script->L);
        leave_if_forked(script);
    }
    if (script->guest != NULL) {
        ld_guest_close(script->guest);
    }
    free(script->root);
    ld_text_fini(&script->last_error);
    ld_text_fini(&script->first_error);
    ld_text_fini(&script->status_text);
    free(script);
}

/* Close the state of a script whose last request is done. */
static void on_guest_end(void *arg) {
    pending--;
    finish(arg);
}

/* End the tasks of a script, which may have last words. */
static void end_tasks(struct ld_script *script) {
    struct ld_guard_state before;
    ld_guard_save(&before);
    ld_guard_start(script, NULL, LAST_WORDS_SECONDS, "the end of the script's tasks");
    ld_task_end_all(script);
    ld_guard_restore(&before);
}

/* Give up everything that could call into a script. */
static void disconnect(struct ld_script *script) {
    ld_handle_drop_all(script);
    if (script->setup->listeners != NULL) {
        ld_listeners_close_issued(script->setup->listeners, script, is_taken, script);
    }
    if (script->timers != NULL) {
        ld_timers_close(script->timers);
        script->timers = NULL;
    }
    if (script->clock != NULL) {
        ld_wall_clock_close(script->clock);
        script->clock = NULL;
    }
    if (script->guest != NULL) {
        ld_guest_close_handles(script->guest);
    }
}

/* Close a script. */
void ld_script_close(struct ld_script *script) {
    script->retired = true;
    script->closing = true;
    if (script->L != NULL) {
        end_tasks(script);
    }
    disconnect(script);
    script->is_closed = true;
    if (script->guest != NULL && ld_guest_is_alive(script->guest)) {
        pending++;
        ld_guest_on_end(script->guest, on_guest_end, script);
    } else {
        finish(script);
    }
}

const char ld_state_over[] = "this generation of the script is over";

/* Raise unless the script may start something new. */
void ld_state_check_active(lua_State *L) {
    const struct ld_script *script = ld_state_script(L);
    if (ld_forked()) {
        lx_error(L, "%s", ld_forked_words);
    }
    if (script->retired || script->closing) {
        lx_error(L, "%s: it cannot start anything new", ld_state_over);
    }
}

/* Raise unless the script is not to end. */
void ld_state_check_current(lua_State *L, const char *what) {
    ld_state_check_active(L);
    if (ld_state_script(L)->stage == LD_STAGE_REPLACED) {
        lx_error(L, "%s: %s, another one has taken its place", what, ld_state_over);
    }
}

/* An error to show to the script. */
struct report {
    struct ld_script *script;
    const struct ld_text *trace;
    size_t message_size;
};

/* Push the function that sees errors, the message and the traceback. */
static int push_report(lua_State *co, void *arg) {
    const struct report *report = arg;
    lua_rawgeti(co, LUA_REGISTRYINDEX, report->script->on_error);
    lua_pushlstring(co, ld_text_string(report->trace), report->message_size);
    lua_pushlstring(co, ld_text_string(report->trace), report->trace->size);
    return 2;
}

static const char on_error_function[] = "the on_error function";

/* Show an error to the script, but not an error of the function that sees errors. */
static void show_error(struct report *report) {
    struct ld_script *script = report->script;
    if (script->on_error == LUA_NOREF || script->reporting || script->closing) {
        return;
    }
    struct ld_task *task = ld_task_take(script, on_error_function);
    if (task != NULL) {
        script->reporting = true; /* or what fails inside would be shown to it inside itself */
        ld_task_start_with(task, push_report, report);
        script->reporting = false;
    }
}

/* Replace TEXT. */
static void set_text(struct ld_text *text, const char *bytes, size_t size) {
    ld_text_clear(text);
    ld_text_add(text, bytes, size);
}

/* Log an uncaught error. */
void ld_task_report(struct ld_script *script, const char *what, const struct ld_text *trace,
                    size_t message_size) {
    static char message[] = "not enough memory";
    static const struct ld_text no_memory = {.data = message, .size = sizeof message - 1};
    if (trace->size == 0 && trace->failed) {
        trace = &no_memory;
        message_size = no_memory.size;
    }
    if (script->setup->daemon || script->stage != LD_STAGE_NEW ||
        !ld_text_is_empty(&script->first_error)) { /* else the host tells why it does not go on */
        ld_log_with(LD_LOG_ERROR, trace, "uncaught error in %s: ", what);
    }
    script->error_count++;
    if (script->closing && script->stage == LD_STAGE_REPLACED &&
        script->setup->late_errors != NULL) {
        (*script->setup->late_errors)++;
    }
    script->last_error_time = (double)ld_time_real() / LD_TIME_SECOND;
    set_text(&script->last_error, ld_text_string(trace), message_size);
    if (ld_text_is_empty(&script->first_error)) {
        set_text(&script->first_error, ld_text_string(trace), trace->size);
    }
    if (what != on_error_function) {
        show_error(&(struct report){script, trace, message_size});
    }
}
