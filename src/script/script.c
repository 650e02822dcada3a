#include "script/script.h"

#include <errno.h>
#include <lauxlib.h>
#include <stdlib.h>
#include <string.h>

#include "base/time.h"
#include "posix/fds.h"
#include "posix/reserve.h"
#include "script/guard.h"
#include "script/handle.h"
#include "script/slices.h"
#include "script/task.h"

#define LAST_WORDS_SECONDS 2 /* for what tasks do when they are cancelled, and for finalizers */

#define SLICE_NS       500000                /* of the end of a state */
#define LARGE          ((size_t)1024 * 1024) /* a state that is closed in slices */
#define IN_SLICES_MOST 3                     /* states, the oldest first */

static size_t pending; /* scripts that are closed but for requests in flight, or slices */
static TAILQ_HEAD(, ld_script) in_slices = TAILQ_HEAD_INITIALIZER(in_slices);
static size_t in_slices_count;

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
    script->errors.handler = LUA_NOREF;
    script->errors.generation = generation;
    script->errors.holds_first = !setup->daemon || generation > 1;
    script->memory = ld_memory_new(setup->texts, setup->written != NULL);
    int rc = script->memory != NULL ? ld_state_open(script, why) : -ENOMEM;
    if (rc < 0) {
        if (ld_text_is_empty(why)) {
            ld_text_puts(why, strerror(ENOMEM));
        }
        ld_script_close(script);
        return rc;
    }
    *out = script;
    return 0;
}

/* Make a generation from a memory. */
void ld_script_recall(struct ld_script *script, struct ld_memory *memory) {
    script->recall = ld_memory_hold(memory);
}

/* Find the text of the file that is the source, which is held; 0 or a negative errno. */
static int find_text(struct ld_script *script, struct ld_texts_item **found, struct ld_text *why) {
    const struct ld_source *source = script->setup->source;
    const struct ld_memory_file *file =
        script->recall != NULL ? ld_memory_find(script->recall, source->path) : NULL;
    struct ld_text text = {0};
    int rc = file != NULL ? 0 : ld_source_read(source, &text, why);
    if (rc == 0) {
        *found = file != NULL
                     ? ld_texts_hold_again(file->text)
                     : ld_texts_hold(script->setup->texts, ld_text_string(&text), text.size);
    }
    ld_text_fini(&text);
    return rc == 0 && *found == NULL ? -ENOMEM : rc;
}

/* Compile the file that is the source, and note it, also if it cannot be had. */
static int load_file(struct ld_script *script, struct ld_text *why) {
    const struct ld_source *source = script->setup->source;
    struct ld_texts_item *text = NULL;
    int rc = find_text(script, &text, why);
    enum ld_memory_kind kind = rc == 0 ? LD_MEMORY_TEXT : LD_MEMORY_MISSING;
    int noted = ld_memory_note(script->memory, kind, source->path, NULL, text);
    rc = rc == 0 ? noted : rc;
    if (rc == 0) {
        rc = ld_source_compile(script->L, source, text->data, text->size, why);
    }
    if (rc == -ENOMEM && ld_text_is_empty(why)) {
        ld_text_puts(why, strerror(ENOMEM));
    }
    ld_texts_drop(script->setup->texts, text);
    return rc;
}

/* Compile the source of a script; the function stays on the main stack until the start. */
int ld_script_load(struct ld_script *script, struct ld_text *why) {
    script->loaded_at = ld_time_real();
    bool is_file = script->setup->source->path != NULL;
    int rc =
        is_file ? load_file(script, why) : ld_source_load(script->L, script->setup->source, why);
    if (rc < 0) {
        ld_heap_explain(script, why, ld_text_string(why));
    }
    return rc;
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
    task->script->chunk = outcome == LD_OUTCOME_OK ? LD_CHUNK_RETURNED : LD_CHUNK_FAILED;
    return false;
}

/* Run the chunk until it gives control back. */
void ld_script_start(struct ld_script *script) {
    struct ld_task *task = ld_task_take_or_report(script, "the script");
    if (task == NULL) {
        script->chunk = LD_CHUNK_FAILED;
    } else {
        task->on_end = on_chunk_end;
        ld_task_start_with(task, push_chunk, script);
    }
    ld_stage_move(&script->stage, LD_STAGE_STARTED);
}

/* Whether the script has become ready. */
bool ld_script_is_ready(const struct ld_script *script) {
    return script->stage == LD_STAGE_STARTED && ld_text_is_empty(&script->errors.first) &&
           script->chunk != LD_CHUNK_FAILED && (script->said_ready || !script->setup->wait_ready);
}

/* Whether more than timers of the script is left. */
bool ld_script_is_busy(const struct ld_script *script) {
    return script->chunk == LD_CHUNK_RUNS || !LIST_EMPTY(&script->tasks.suspended) ||
           script->keepers > 0 || (script->guest != NULL && ld_guest_is_alive(script->guest));
}

/* Whether anything of the script is left. */
bool ld_script_is_alive(const struct ld_script *script) {
    return ld_script_is_busy(script) || ld_timers_armed(script->timers) > 0;
}

/* Make the script the service. */
void ld_script_serve(struct ld_script *script) {
    ld_stage_move(&script->stage, LD_STAGE_SERVICE);
    script->errors.holds_first = false;
    script->errors.tally = script->setup->tally;
}

/* Let the script start nothing new. */
void ld_script_restrain(struct ld_script *script) {
    ld_stage_move(&script->stage, LD_STAGE_STOPPING);
}

/* Whether luv has a descriptor. */
static bool is_taken(void *arg, int fd) {
    const struct ld_script *script = arg;
    return script->guest != NULL && ld_guest_has_fd(script->guest, fd);
}

/* Stop accepting clients. */
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

static const char last_words[] = "the end of the script's finalizers";

/* Close the state of a script, whose finalizers run. */
static void close_state(struct ld_script *script) {
    struct ld_guard_state before;
    ld_guard_save(&before);
    ld_guard_start(script, NULL, LAST_WORDS_SECONDS, last_words);
    ld_state_close(script);
    ld_guard_restore(&before);
}

/* Free a script whose state is closed. */
static void free_script(struct ld_script *script) {
    if (script->guest != NULL) {
        ld_guest_close(script->guest);
    }
    ld_errors_fini(&script->errors);
    ld_text_fini(&script->status_text);
    ld_memory_drop(script->recall);
    ld_memory_drop(script->memory);
    free(script);
}

/* Close the state of a script that has nothing in flight. */
static void finish(struct ld_script *script) {
    if (script->L != NULL) {
        close_state(script);
    } else {
        ld_state_close(script);
    }
    free_script(script);
}

/* Close the state of a script whose last request is done. */
static void on_guest_end(void *arg) {
    pending--;
    finish(arg);
}

/* Continue to close the state of a script. */
static void run_slice(struct ld_script *script, uint64_t until) {
    if (ld_slices_run(script->slices, until)) {
        TAILQ_REMOVE(&in_slices, script, in_slices);
        in_slices_count--;
        pending--;
        free_script(script);
    }
}

/* Close the state of a script. Runs in slices. */
static void close_large_state(void *arg) {
    ld_state_close(arg);
}

/* Close the state of a script that has nothing in flight, in slices if it is large. */
static void finish_in_slices(struct ld_script *script) {
    struct ld_guard_state before;
    script->slices = script->heap.size >= LARGE ? ld_slices_new(close_large_state, script) : NULL;
    if (script->slices == NULL) {
        finish(script);
        return;
    }
    TAILQ_INSERT_TAIL(&in_slices, script, in_slices);
    in_slices_count++;
    pending++;
    ld_guard_save(&before);
    ld_guard_start(script, NULL, LAST_WORDS_SECONDS, last_words);
    run_slice(script, ld_time_monotonic() + SLICE_NS);
    ld_guard_restore(&before);
    if (in_slices_count > IN_SLICES_MOST) {
        run_slice(TAILQ_FIRST(&in_slices), UINT64_MAX);
    }
}

/* The same for a script whose last request is done. */
static void on_guest_end_in_slices(void *arg) {
    pending--;
    finish_in_slices(arg);
}

/* Continue to close states. */
bool ld_script_close_some(uint64_t until) {
    do {
        if (!TAILQ_EMPTY(&in_slices)) {
            run_slice(TAILQ_FIRST(&in_slices), until);
        }
    } while (!TAILQ_EMPTY(&in_slices) && ld_time_monotonic() < until);
    return !TAILQ_EMPTY(&in_slices);
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
    ld_fds_forget_holder(script);
    if (script->setup->listeners != NULL) {
        ld_listeners_close_issued(script->setup->listeners, script, is_taken, script);
        ld_reserve_fill(); /* before another script takes the descriptors that are free now */
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

/* End what a script does, and close its state: now, or later if luv has requests in flight. */
static void close_script(struct ld_script *script, void (*finish_now)(struct ld_script *script),
                         void (*finish_later)(void *script)) {
    ld_stage_move(&script->stage, LD_STAGE_CLOSING);
    if (script->L != NULL) {
        end_tasks(script);
    }
    disconnect(script);
    ld_stage_move(&script->stage, LD_STAGE_CLOSED);
    if (script->guest != NULL && ld_guest_is_alive(script->guest)) {
        pending++;
        ld_guest_on_end(script->guest, finish_later, script);
    } else {
        finish_now(script);
    }
}

/* Close a script. */
void ld_script_close(struct ld_script *script) {
    close_script(script, finish, on_guest_end);
}

/* Close a script in slices. */
void ld_script_close_in_slices(struct ld_script *script) {
    close_script(script, finish_in_slices, on_guest_end_in_slices);
}
