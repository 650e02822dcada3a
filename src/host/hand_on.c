/* What the old generation hands on to the new one at a reload: the state that its on_reload function returns, and
 * what lunad.keep has. While new code may still be undone, a copy of what the good code has handed on is kept. */
#include <errno.h>
#include <lauxlib.h>
#include <string.h>

#include "api/keep.h"
#include "api/life.h"
#include "host/internal.h"
#include "script/guard.h"
#include "script/task.h"
#include "script/transfer.h"

/* Where the copy is, on the stack of its Lua state. */
enum { KEPT_STATE = 1, KEPT_VALUES };

/* Make room for a copy: a Lua state without libraries, in which nothing runs. */
static int make_room(struct ld_host *host) {
    ld_probation_forget_copy(host);
    host->probation.copy = luaL_newstate();
    if (host->probation.copy == NULL) {
        return -ENOMEM;
    }
    lua_pushnil(host->probation.copy);
    return 0;
}

/* Whether the copy has a state that an on_reload function returned. */
static bool has_state(const struct ld_host *host) {
    return host->probation.copy != NULL && !lua_isnil(host->probation.copy, KEPT_STATE);
}

/* Whether what is handed on now is what the good code would get again. */
static bool is_to_be_kept(const struct ld_host *host) {
    return ld_probation_seconds(host) > 0 && host->probation.phase == LD_PROBATION_NONE;
}

/* Say why WHAT was not handed on, after RC of the copying. */
static void explain(struct ld_host *host, int rc, const char *what, const struct ld_text *why) {
    struct ld_reload *reload = &host->reload;
    if (rc == -ETIME) {
        ld_text_format(&reload->why, "%s is too large: %s took longer than %.10g s", what,
                       strcmp(what, "its state") == 0 ? "on_reload and the copying" : "the copying",
                       host->service->options->start_timeout);
    } else if (rc < 0) {
        ld_text_format(&reload->why, "%s cannot be handed on: %s", what, ld_text_string(why));
    }
}

/* Give the new generation the state of the copy; 0 or what ld_transfer_value returns. */
static int restore_state(struct ld_host *host, uint64_t deadline, struct ld_text *why) {
    lua_State *copy = host->probation.copy;
    if (!has_state(host)) {
        return 0;
    }
    lua_pushvalue(copy, KEPT_STATE);
    int rc = ld_api_life_set_state(host->reload.next, copy, deadline, why);
    lua_pop(copy, 1);
    return rc;
}

/* When the copying must be done. */
static uint64_t find_deadline(const struct ld_host *host, uint64_t since) {
    return since + (uint64_t)(host->service->options->start_timeout * 1e9);
}

/* Go back with what the good code has handed on, instead of what the failed code has. */
void ld_hand_on_take_copy(struct ld_host *host) {
    struct ld_text why = {0};
    host->probation.from_copy = true;
    host->reload.answered = true;
    int rc = restore_state(host, find_deadline(host, uv_hrtime()), &why);
    explain(host, rc, "its state", &why);
    ld_text_fini(&why);
}

/* Copy the state at the top of FROM, for the time of the probation. */
static int keep_state(struct ld_host *host, lua_State *from, uint64_t deadline,
                      struct ld_text *why) {
    int rc = ld_transfer_value(from, host->probation.copy, deadline, "state", why);
    if (rc == 0) {
        lua_replace(host->probation.copy, KEPT_STATE);
    }
    return rc;
}

/* Copy the first of the results on CO into the new generation, in the time that the on_reload
 * function has left. */
static int take_state(struct ld_host *host, lua_State *co, int results, struct ld_text *why) {
    uint64_t deadline = find_deadline(host, host->reload.asked_at);
    if (results == 0) {
        return 0;
    }
    lua_settop(co, lua_gettop(co) - (results - 1));
    int rc = ld_api_life_set_state(host->reload.next, co, deadline, why);
    return rc == 0 && is_to_be_kept(host) ? keep_state(host, co, deadline, why) : rc;
}

/* Go on without the state of the code that has failed; WHY is logged. */
static void do_without(struct ld_host *host, const struct ld_text *why) {
    ld_probation_log_fallback(host, why);
    ld_hand_on_take_copy(host);
}

/* Take the state of the code that has failed, or the copy, if it has none to give. */
static void take_failed_state(struct ld_host *host, struct ld_task *task, enum ld_outcome outcome,
                              int results) {
    struct ld_text why = {0};
    bool gives = outcome == LD_OUTCOME_OK && results > 0 && !lua_isnil(task->co, -results);
    if (outcome == LD_OUTCOME_FAILED) {
        ld_text_puts(&why, "its on_reload function failed: ");
        ld_text_append(&why, task->trace);
    } else if (outcome != LD_OUTCOME_OK) {
        ld_text_puts(&why, "its on_reload function was cancelled");
    } else if (!gives && has_state(host)) {
        ld_text_puts(&why, "its on_reload function returned nothing");
    } else if (gives) {
        struct ld_text fault = {0};
        if (take_state(host, task->co, results, &fault) < 0) {
            ld_text_format(&why, "its state cannot be handed on: %s", ld_text_string(&fault));
        }
        ld_text_fini(&fault);
    }
    if (!ld_text_is_empty(&why)) {
        do_without(host, &why);
    }
    ld_text_fini(&why);
}

/* Take over the old generation's state, or note why there is none. */
static bool on_state(struct ld_task *task, enum ld_outcome outcome, int results) {
    struct ld_host *host = task->owner;
    struct ld_reload *reload = &host->reload;
    struct ld_text why = {0};
    if (reload->asking != task) {
        return outcome == LD_OUTCOME_FAILED; /* too late: it was given up */
    }
    ld_guard_stop();
    reload->asking = NULL;
    reload->answered = true;
    if (outcome == LD_OUTCOME_OK) {
        ld_saving_hold(host, task->co, results);
    }
    if (reload->is_rollback) {
        take_failed_state(host, task, outcome, results);
    } else if (outcome == LD_OUTCOME_OK) {
        int rc = take_state(host, task->co, results, &why);
        explain(host, rc, "its state", &why);
    } else if (outcome == LD_OUTCOME_FAILED) {
        ld_text_puts(&reload->why, "its on_reload function failed: ");
        ld_text_append(&reload->why, task->trace);
    } else {
        ld_text_puts(&reload->why, "its on_reload function was cancelled");
    }
    ld_text_fini(&why);
    return true;
}

/* Go on when the on_reload function cannot be asked: there is none, or no memory for it. */
static void do_unasked(struct ld_host *host, int rc) {
    struct ld_reload *reload = &host->reload;
    reload->answered = true;
    if (reload->is_rollback && has_state(host)) {
        struct ld_text why = {0};
        ld_text_puts(&why, "it has no on_reload function");
        do_without(host, &why);
        ld_text_fini(&why);
    } else if (rc < 0 && !reload->is_rollback) {
        ld_text_puts(&reload->why, "its on_reload function cannot be called: not enough memory");
    }
}

/* Ask the old generation for its state. */
void ld_hand_on_ask(struct ld_host *host) {
    struct ld_reload *reload = &host->reload;
    double timeout = host->service->options->start_timeout;
    reload->asked_at = uv_hrtime();
    if (is_to_be_kept(host) && make_room(host) < 0) {
        ld_text_puts(&reload->why, "its state cannot be kept: not enough memory");
        reload->answered = true;
        return;
    }
    int rc = ld_api_life_take_on_reload(host->script, reload->is_rollback, &reload->asking);
    if (reload->asking == NULL) {
        do_unasked(host, rc);
        return;
    }
    reload->asking->owner = host;
    reload->asking->on_end = on_state;
    ld_guard_start(host->script, reload->asking, timeout, "the on_reload function");
    ld_task_start(reload->asking, rc);
}

/* Stop waiting for the on_reload function of code that has failed. */
void ld_hand_on_give_up(struct ld_host *host) {
    struct ld_task *asking = host->reload.asking;
    struct ld_text why = {0};
    ld_guard_stop();
    host->reload.asking = NULL;
    if (asking != NULL) {
        ld_task_cancel(asking); /* its state is not wanted */
    }
    ld_text_format(&why, "its on_reload function took longer than %.10g s",
                   host->service->options->start_timeout);
    do_without(host, &why);
    ld_text_fini(&why);
}

/* Copy what the old generation keeps by name for the time of the probation. */
static int keep_values(struct ld_host *host, uint64_t deadline, struct ld_text *why) {
    int rc = ld_api_keep_copy(host->script, host->probation.copy, deadline, why);
    if (rc == 0 && lua_gettop(host->probation.copy) > KEPT_VALUES) {
        lua_replace(host->probation.copy, KEPT_VALUES);
    }
    return rc;
}

/* Hand on what is kept by name. */
void ld_hand_on_kept(struct ld_host *host) {
    struct ld_reload *reload = &host->reload;
    uint64_t deadline = find_deadline(host, uv_hrtime());
    struct ld_text why = {0};
    int rc;
    if (reload->is_rollback && host->probation.from_copy) {
        lua_settop(host->probation.copy, KEPT_VALUES);
        rc = ld_api_keep_set(reload->next, host->probation.copy, deadline, &why);
    } else {
        rc = ld_api_keep_hand_on(host->script, reload->next, deadline, &why);
        rc = rc == 0 && is_to_be_kept(host) ? keep_values(host, deadline, &why) : rc;
    }
    if (rc < 0 && reload->is_rollback && !host->probation.from_copy) {
        do_without(host, &why);
        ld_hand_on_kept(host);
    } else {
        explain(host, rc, "what it keeps", &why);
    }
    ld_text_fini(&why);
}
