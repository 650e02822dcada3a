/* Reload as a transaction: the new generation is made beside the old one, and takes its place only
 * when it is ready; until then the old one keeps running as if nothing had happened. */
#include <errno.h>
#include <lua.h>

#include "api/keep.h"
#include "api/life.h"
#include "api/module.h"
#include "api/parcel.h"
#include "base/json.h"
#include "base/log.h"
#include "base/time.h"
#include "engine/clock.h"
#include "host/internal.h"
#include "host/workers.h"
#include "posix/notify.h"
#include "posix/reserve.h"
#include "script/guard.h"
#include "script/task.h"

#define SOON_NS            5000000 /* for a timer that is to fire in a moment */
#define MOMENT_MS          20
#define HELD_SLACK_SECONDS 2.0 /* that a word may take, beside the time of two starts */

/* Ask for a reload. Requests during a reload are joined into the next one. */
void ld_reload_ask(struct ld_host *host, struct ld_waiter *waiter) {
    struct ld_reload *reload = &host->reload;
    reload->asked = true;
    if (waiter != NULL) {
        waiter->next = reload->later_waiters;
        reload->later_waiters = waiter;
    }
}

/* Ask for a trial. */
void ld_reload_ask_trial(struct ld_host *host, struct ld_waiter *waiter) {
    waiter->next = host->reload.trial_waiters;
    host->reload.trial_waiters = waiter;
}

/* Ask for a reload that is held. */
void ld_reload_ask_held(struct ld_host *host, struct ld_waiter *waiter) {
    struct ld_reload *reload = &host->reload;
    if (reload->later_holder != NULL) {
        waiter->done(waiter,
                     json_pack("{s:b, s:s}", "ok", 0, "error", "another reload waits to be held"));
        return;
    }
    reload->later_holder = waiter;
    waiter->next = reload->later_waiters;
    reload->later_waiters = waiter;
}

/* Give the word for the reload that is held. */
bool ld_reload_commit(struct ld_host *host, const struct ld_waiter *waiter) {
    struct ld_reload *reload = &host->reload;
    bool is_held = reload->phase == LD_RELOAD_HELD && reload->holder == waiter;
    if (is_held) {
        reload->go = true;
        ld_alarm_wake_at(host, 0);
    }
    return is_held;
}

/* Whether a reload was asked for. */
bool ld_reload_is_asked(const struct ld_host *host) {
    return host->reload.asked || host->reload.later_holder != NULL;
}

/* Take a waiter out of a list. */
static void take_out(struct ld_waiter **list, const struct ld_waiter *waiter) {
    while (*list != NULL && *list != waiter) {
        list = &(*list)->next;
    }
    if (*list != NULL) {
        *list = waiter->next;
    }
}

/* Forget a waiter. */
void ld_reload_forget(struct ld_host *host, struct ld_waiter *waiter) {
    take_out(&host->reload.waiters, waiter);
    take_out(&host->reload.later_waiters, waiter);
    take_out(&host->reload.trial_waiters, waiter);
    if (host->reload.later_holder == waiter) {
        host->reload.later_holder = NULL;
    }
    if (host->reload.holder == waiter) {
        host->reload.holder = NULL;
        ld_text_puts(&host->reload.why, "the client that was to commit it has gone");
        ld_alarm_wake_at(host, 0);
    }
}

/* Tell all waiters in a list how the reload ended. */
static void tell(struct ld_waiter **list, json_t *answer) {
    struct ld_waiter *waiter;
    while ((waiter = *list) != NULL) {
        *list = waiter->next;
        waiter->done(waiter, json_incref(answer));
    }
    json_decref(answer);
}

/* Note that no reload is under way any more; how long it took, in milliseconds. */
static double end_phase(struct ld_host *host) {
    host->reload.phase = LD_RELOAD_NONE;
    host->reload.holder = NULL;
    ld_sentry_note_state(host->sentry, ld_snapshot_state(host));
    return (double)(uv_hrtime() - host->reload.started) / 1e6;
}

/* Note how a reload ended. */
static void note_end(struct ld_host *host, bool ok) {
    struct ld_reload *reload = &host->reload;
    reload->last_ms = end_phase(host);
    reload->last_ok = ok;
    reload->last_time = (double)ld_time_real() / LD_TIME_SECOND;
    reload->ok += ok;
    reload->failed += !ok;
    ld_text_clear(&reload->last_error);
    ld_text_append(&reload->last_error, &reload->why);
    ld_notify_send("READY=1");
}

/* Note that a reload was refused before it began. */
void ld_reload_note_refused(struct ld_host *host) {
    struct ld_reload *reload = &host->reload;
    reload->failed++;
    reload->last_ok = false;
    reload->last_time = (double)ld_time_real() / LD_TIME_SECOND;
    reload->last_ms = 0;
    ld_text_clear(&reload->last_error);
    ld_text_puts(&reload->last_error, "a C function held the loop, and could not be interrupted");
}

/* Close what the new generation had made. */
static void close_next(struct ld_host *host) {
    struct ld_script *next = host->reload.next;
    struct ld_task *asking = host->reload.asking;
    ld_guard_stop();
    host->reload.next = NULL;
    host->reload.asking = NULL;
    if (asking != NULL) {
        ld_task_cancel(asking); /* its state is not wanted */
    }
    if (next != NULL) {
        ld_master_abandon(host);
        ld_reserve_lend();
        ld_api_module_discard(next);
        ld_reserve_take_back();
        ld_script_close(next);
        ld_listeners_abort(host->listeners);
    }
    ld_api_parcel_give_back(host->script);
}

/* Forget what the last reload had loaded. */
static void forget_refused(struct ld_reload *reload) {
    ld_memory_drop(reload->refused);
    reload->refused = NULL;
}

/* Refuse the reload for the reason in reload->why. */
static void refuse(struct ld_host *host) {
    struct ld_reload *reload = &host->reload;
    if (!reload->is_trial) {
        forget_refused(reload);
        reload->refused = reload->next != NULL && reload->next->memory != NULL
                              ? ld_memory_hold(reload->next->memory)
                              : NULL;
    }
    close_next(host);
    if (reload->is_trial) {
        end_phase(host);
        ld_log_with(LD_LOG_WARN, &reload->why,
                    "reload checked: it would be refused, generation %u keeps running: ",
                    host->script->generation);
    } else {
        ld_log_with(host->worker.is_said_by_master ? LD_LOG_DEBUG : LD_LOG_ERROR, &reload->why,
                    "reload refused, generation %u keeps running: ", host->script->generation);
        host->worker.is_said_by_master = false;
        note_end(host, false);
    }
    tell(&reload->waiters, json_pack("{s:b, s:o}", "ok", 0, "error",
                                     ld_json_text(ld_text_string(&reload->why), reload->why.size)));
}

/* Give up the reload under way. */
void ld_reload_abandon(struct ld_host *host) {
    struct ld_reload *reload = &host->reload;
    bool under_way = reload->phase != LD_RELOAD_NONE;
    reload->asked = false;
    reload->phase = LD_RELOAD_NONE;
    reload->holder = reload->later_holder = NULL;
    close_next(host);
    static const char message[] = "the daemon is stopping";
    forget_refused(reload);
    if (under_way) {
        ld_log(LD_LOG_INFO, "reload given up: %s", message);
    }
    tell(&reload->waiters, json_pack("{s:b, s:s}", "ok", 0, "error", message));
    tell(&reload->later_waiters, json_pack("{s:b, s:s}", "ok", 0, "error", message));
    tell(&reload->trial_waiters, json_pack("{s:b, s:s}", "ok", 0, "error", message));
}

/* Copy the first of the results on CO into the new generation, in the time that the on_reload
 * function has left. */
static void take_state(struct ld_host *host, lua_State *co, int results) {
    struct ld_reload *reload = &host->reload;
    double timeout = host->service->options->start_timeout;
    uint64_t deadline = reload->asked_at + (uint64_t)(timeout * 1e9);
    struct ld_text why = {0};
    if (results == 0) {
        return;
    }
    lua_settop(co, lua_gettop(co) - (results - 1));
    int rc = ld_api_life_set_state(reload->next, co, deadline, &why);
    if (rc == -ETIME) {
        ld_text_format(&reload->why,
                       "its state is too large: on_reload and the copying took longer than %.10g s",
                       timeout);
    } else if (rc < 0) {
        ld_text_format(&reload->why, "its state cannot be handed on: %s", ld_text_string(&why));
    }
    ld_text_fini(&why);
}

/* Take over the old generation's state, or note why there is none. */
static bool on_state(struct ld_task *task, enum ld_outcome outcome, int results) {
    struct ld_host *host = task->owner;
    struct ld_reload *reload = &host->reload;
    if (reload->asking != task) {
        return outcome == LD_OUTCOME_FAILED; /* too late: it was given up */
    }
    ld_guard_stop();
    reload->asking = NULL;
    reload->answered = true;
    if (outcome == LD_OUTCOME_OK) {
        ld_saving_hold(host, task->co, results);
        take_state(host, task->co, results);
    } else if (outcome == LD_OUTCOME_FAILED) {
        ld_text_puts(&reload->why, "its on_reload function failed: ");
        ld_text_append(&reload->why, task->trace);
    } else {
        ld_text_puts(&reload->why, "its on_reload function was cancelled");
    }
    return true;
}

/* Take the request that is served now: a reload, or if none was asked for a trial. */
static void take_request(struct ld_reload *reload) {
    bool is_asked = reload->asked || reload->later_holder != NULL;
    struct ld_waiter **waiters = is_asked ? &reload->later_waiters : &reload->trial_waiters;
    reload->is_trial = !is_asked;
    reload->asked = false;
    reload->holder = reload->later_holder;
    reload->later_holder = NULL;
    reload->go = false;
    reload->waiters = *waiters;
    *waiters = NULL;
}

/* Begin: compile, and ask the old generation for its state. */
static void begin(struct ld_host *host) {
    struct ld_reload *reload = &host->reload;
    double timeout = host->service->options->start_timeout;
    take_request(reload);
    ld_master_begin(host);
    reload->started = uv_hrtime();
    reload->phase = LD_RELOAD_ASKING;
    ld_sentry_note_state(host->sentry, ld_snapshot_state(host));
    reload->answered = false;
    ld_text_clear(&reload->why);
    if (!reload->is_trial) {
        ld_notify_reloading();
    }
    ld_api_parcel_begin(host->script);
    ld_reserve_lend();
    bool loaded = ld_script_new(&reload->next, &host->setup, host->script->generation + 1,
                                &reload->why) == 0 &&
                  ld_script_load(reload->next, &reload->why) == 0;
    ld_reserve_take_back();
    if (!loaded) {
        reload->answered = true;
        return;
    }
    reload->deadline = ld_alarm_deadline(host, timeout);
    reload->asked_at = uv_hrtime();
    if (ld_api_life_take_on_reload(host->script, &reload->asking) < 0) {
        ld_text_puts(&reload->why, "its on_reload function cannot be called: not enough memory");
    }
    if (reload->asking == NULL) {
        reload->answered = true;
        return;
    }
    reload->asking->owner = host;
    reload->asking->on_end = on_state;
    ld_guard_start(host->script, reload->asking, timeout, "the on_reload function");
    ld_task_start(reload->asking, 0);
}

/* Hand on what the old generation keeps by name, or note why that fails. */
static void hand_on_kept(struct ld_host *host) {
    struct ld_reload *reload = &host->reload;
    double timeout = host->service->options->start_timeout;
    struct ld_text why = {0};
    int rc = ld_api_keep_hand_on(host->script, reload->next,
                                 uv_hrtime() + (uint64_t)(timeout * 1e9), &why);
    if (rc == -ETIME) {
        ld_text_format(&reload->why,
                       "what it keeps is too large: the copying took longer than %.10g s", timeout);
    } else if (rc < 0) {
        ld_text_format(&reload->why, "what it keeps cannot be handed on: %s", ld_text_string(&why));
    }
    ld_text_fini(&why);
}

/* Run the new generation beside the old one. */
static void load(struct ld_host *host) {
    struct ld_reload *reload = &host->reload;
    double timeout = host->service->options->start_timeout;
    reload->phase = LD_RELOAD_LOADING;
    reload->shown_by = 0;
    reload->deadline = ld_alarm_deadline(host, timeout);
    ld_guard_start(reload->next, NULL, timeout, "the script");
    ld_reserve_lend(); /* not longer, or the old generation would use up what is free */
    ld_script_start(reload->next);
    ld_reserve_take_back();
}

/* Let the new generation be the service. */
static void commit(struct ld_host *host) {
    struct ld_reload *reload = &host->reload;
    struct ld_script *old = host->script;
    ld_guard_stop();
    ld_api_parcel_offer_last(old);
    host->script = reload->next;
    ld_script_serve(host->script);
    ld_recycle_begin(&host->recycle, ld_alarm_deadline(host, 0));
    ld_stage_move(&old->stage, LD_STAGE_REPLACED);
    if (host->script->status_text.size == 0) { /* it has said nothing: what was said stands */
        ld_text_append(&host->script->status_text, &old->status_text);
    }
    ld_api_parcel_commit(old, host->script);
    ld_api_module_take_over(host->script);
    ld_master_commit(host);
    ld_worker_tell_memory(host);
    ld_listeners_commit(host->listeners);
    ld_listeners_unmute(host->listeners, host->script);
    reload->next = NULL;
    forget_refused(reload);
    note_end(host, true);
    ld_log(LD_LOG_INFO, "reloaded: generation %u in %.1f ms", host->script->generation,
           reload->last_ms);
    ld_saving_commit(host, old);
    ld_retired_begin(host,
                     old); /* before the waiters are told: its own listeners are closed then */
    tell(&reload->waiters, json_pack("{s:b, s:i, s:f}", "ok", 1, "generation",
                                     (int)host->script->generation, "ms", reload->last_ms));
}

/* Discard a new generation that could be the service: this was a trial. */
static void pass_trial(struct ld_host *host) {
    struct ld_reload *reload = &host->reload;
    close_next(host);
    double ms = end_phase(host);
    ld_log(LD_LOG_INFO,
           "reload checked: the new code was ready after %.1f ms, generation %u keeps running", ms,
           host->script->generation);
    tell(&reload->waiters, json_pack("{s:b, s:b, s:i, s:f}", "ok", 1, "check", 1, "generation",
                                     (int)host->script->generation, "ms", ms));
}

/* Note why the new generation cannot become the service; false if it can, or may yet. */
static bool has_failed(struct ld_host *host) {
    struct ld_reload *reload = &host->reload;
    const struct ld_script *next = reload->next;
    bool late = uv_now(&host->loop) >= reload->deadline;
    if (!ld_text_is_empty(&reload->why)) {
        return true;
    }
    if (!ld_text_is_empty(&next->errors.first)) {
        ld_text_append(&reload->why, &next->errors.first);
    } else if ((next->wants & (LD_WANT_STOP | LD_WANT_EXIT)) != 0) {
        ld_text_puts(&reload->why, "the script asked to stop before it was ready");
    } else if (!ld_script_is_alive(next) &&
               !host->service->is_console) { /* as the service it would end at once */
        ld_text_puts(&reload->why, ld_script_is_ready(next)
                                       ? "the new script has nothing to wait for: no timer, signal "
                                         "handler, child, task or socket"
                                       : "the script ended before it called lunad.ready()");
    } else if (late && !ld_script_is_ready(next)) {
        ld_text_format(&reload->why, "the script was not ready after %.10g s",
                       host->service->options->start_timeout);
    }
    return !ld_text_is_empty(&reload->why);
}

/* Check whether the old generation has given its state. */
static void step_asking(struct ld_host *host) {
    struct ld_reload *reload = &host->reload;
    if (!reload->answered && uv_now(&host->loop) >= reload->deadline) {
        ld_text_format(&reload->why, "its on_reload function took longer than %.10g s",
                       host->service->options->start_timeout);
    }
    bool asks_to_stop = (host->script->wants & (LD_WANT_STOP | LD_WANT_EXIT)) != 0;
    if (ld_text_is_empty(&reload->why) && reload->answered && !asks_to_stop) {
        hand_on_kept(host);
    }
    if (!ld_text_is_empty(&reload->why)) {
        refuse(host);
    } else if (asks_to_stop) {
        return; /* which comes first */
    } else if (reload->answered) {
        load(host);
    } else {
        ld_alarm_wake_at(host, reload->deadline);
    }
}

/* Whether only timers that fire once, and now, are left of a script: after them it is clear whether
 * there is something to wait for. */
static bool is_about_to_end(const struct ld_script *script) {
    uint64_t soon = ld_clock_now() + SOON_NS;
    ld_timer timer = ld_script_is_busy(script) ? 0 : ld_timers_next(script->timers, 0);
    bool only_soon = timer != 0;
    for (; timer != 0 && only_soon; timer = ld_timers_next(script->timers, timer)) {
        const struct ld_timer_info *info = ld_timers_info(script->timers, timer);
        only_soon = info->interval == 0 && !info->by_clock && info->due <= soon;
    }
    return only_soon;
}

/* Hold the new generation, which is ready, until the holder gives its word. */
static void hold(struct ld_host *host) {
    struct ld_reload *reload = &host->reload;
    double start_timeout = host->service->options->start_timeout;
    double ms = (double)(uv_hrtime() - reload->started) / 1e6;
    ld_guard_stop();
    reload->phase = LD_RELOAD_HELD;
    reload->deadline = ld_alarm_deadline(host, 2 * start_timeout + HELD_SLACK_SECONDS);
    bool told = reload->holder->tell(
        reload->holder, json_pack("{s:b, s:b, s:i, s:f}", "ok", 1, "held", 1, "generation",
                                  (int)reload->next->generation, "ms", ms));
    if (!told && ld_text_is_empty(&reload->why)) {
        ld_text_puts(&reload->why, "the client that was to commit it does not read");
    }
}

/* Check whether the word for the generation that is held has come. */
static void step_held(struct ld_host *host) {
    struct ld_reload *reload = &host->reload;
    if (!reload->go && uv_now(&host->loop) >= reload->deadline) {
        ld_text_puts(&reload->why, "it was ready, but no commit came in time");
    }
    if (has_failed(host)) {
        refuse(host);
    } else if (reload->go) {
        commit(host);
    } else {
        ld_alarm_wake_at(host, reload->deadline);
    }
}

/* Check whether the new generation has become ready. One that may be over in a moment has that moment,
 * but not longer: a timer that keeps arming itself is a service too. */
static void step_loading(struct ld_host *host) {
    struct ld_reload *reload = &host->reload;
    if (has_failed(host)) {
        refuse(host);
    } else if (ld_script_is_ready(reload->next)) {
        uint64_t now = uv_now(&host->loop);
        reload->shown_by = reload->shown_by != 0 ? reload->shown_by : now + MOMENT_MS;
        if (now < reload->shown_by && is_about_to_end(reload->next)) {
            ld_alarm_wake_at(host, reload->shown_by);
            return;
        }
        if (reload->is_trial) {
            pass_trial(host);
        } else if (reload->holder != NULL) {
            hold(host);
        } else {
            commit(host);
        }
    } else {
        ld_alarm_wake_at(host, host->reload.deadline);
    }
}

/* Continue a reload, or begin one. */
void ld_reload_step(struct ld_host *host) {
    bool is_asked = ld_reload_is_asked(host) || host->reload.trial_waiters != NULL;
    if (host->state == LD_HOST_RUNNING && host->reload.phase == LD_RELOAD_NONE && is_asked) {
        begin(host);
    }
    if (host->reload.phase == LD_RELOAD_ASKING) {
        step_asking(host);
    }
    if (host->reload.phase == LD_RELOAD_LOADING) {
        step_loading(host);
    }
    if (host->reload.phase == LD_RELOAD_HELD) {
        step_held(host);
    }
}
