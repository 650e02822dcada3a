/* Reload as a transaction: the new generation is made beside the old one, and takes its place only
 * when it is ready; until then the old one keeps running as if nothing had happened. */
#include <errno.h>
#include <lua.h>

#include "api/module.h"
#include "api/parcel.h"
#include "base/json.h"
#include "base/log.h"
#include "base/time.h"
#include "engine/clock.h"
#include "host/internal.h"
#include "host/waiters.h"
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
    reload->later_keeps_code = false;
    if (waiter != NULL) {
        ld_waiters_add(&reload->later_waiters, waiter);
    }
}

/* Ask for a new generation of the same code. */
void ld_reload_ask_again(struct ld_host *host) {
    struct ld_reload *reload = &host->reload;
    if (!ld_reload_is_asked(host)) {
        reload->asked = true;
        reload->later_keeps_code = host->script->recall != NULL || host->service->worker > 0;
    }
}

/* Note for how long the code of the next reload is on probation: the longest that is asked for counts. */
void ld_reload_note_probation(struct ld_host *host, double seconds) {
    struct ld_reload *reload = &host->reload;
    reload->later_probation = reload->later_probation > seconds ? reload->later_probation : seconds;
}

/* Ask for a trial. */
void ld_reload_ask_trial(struct ld_host *host, struct ld_waiter *waiter) {
    ld_waiters_add(&host->reload.trial_waiters, waiter);
}

/* Ask for a reload that is held. */
bool ld_reload_ask_held(struct ld_host *host, struct ld_waiter *waiter) {
    struct ld_reload *reload = &host->reload;
    if (reload->later_holder != NULL) {
        return false;
    }
    reload->later_holder = waiter;
    reload->later_keeps_code = false;
    ld_waiters_add(&reload->later_waiters, waiter);
    return true;
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
    return host->reload.asked || host->reload.later_holder != NULL ||
           host->probation.phase == LD_PROBATION_BACK;
}

/* Forget a waiter. */
void ld_reload_forget(struct ld_host *host, struct ld_waiter *waiter) {
    ld_waiters_remove(&host->reload.waiters, waiter);
    ld_waiters_remove(&host->reload.later_waiters, waiter);
    ld_waiters_remove(&host->reload.trial_waiters, waiter);
    ld_waiters_remove(&host->probation.waiters, waiter);
    if (host->reload.later_holder == waiter) {
        host->reload.later_holder = NULL;
    }
    if (host->reload.holder == waiter) {
        host->reload.holder = NULL;
        ld_text_puts(&host->reload.why, "the client that was to commit it has gone");
        ld_alarm_wake_at(host, 0);
    }
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
    reload->rolled_back += reload->is_rollback;
    reload->last_time = (double)ld_time_real() / LD_TIME_SECOND;
    reload->ends++;
    reload->ok += ok && ld_probation_seconds(host) == 0;
    reload->failed += !ok;
    ld_text_clear(&reload->last_error);
    ld_text_append(&reload->last_error, &reload->why);
    ld_notify_send("READY=1");
}

/* Note that a reload was refused before it began. */
void ld_reload_note_refused(struct ld_host *host) {
    struct ld_reload *reload = &host->reload;
    reload->ends++;
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
        ld_script_close_in_slices(next);
        ld_alarm_wake_at(host, 0);
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
    if (host->probation.phase == LD_PROBATION_NONE) {
        ld_probation_forget_copy(host); /* nothing would go back to it */
    }
    if (!reload->is_trial && !reload->is_rollback) {
        forget_refused(reload);
        reload->refused = reload->next != NULL && reload->next->memory != NULL
                              ? ld_memory_hold(reload->next->memory)
                              : NULL;
    }
    close_next(host);
    if (reload->is_rollback) {
        end_phase(host);
        ld_notify_send("READY=1");
        ld_probation_fail_back(host, &reload->why);
        return;
    }
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
    ld_waiters_tell(&reload->waiters,
                    json_pack("{s:b, s:o}", "ok", 0, "error",
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
    ld_probation_abandon(host);
    static const char message[] = "the daemon is stopping";
    forget_refused(reload);
    if (under_way) {
        ld_log(LD_LOG_INFO, "reload given up: %s", message);
    }
    ld_waiters_tell(&reload->waiters, json_pack("{s:b, s:s}", "ok", 0, "error", message));
    ld_waiters_tell(&reload->later_waiters, json_pack("{s:b, s:s}", "ok", 0, "error", message));
    ld_waiters_tell(&reload->trial_waiters, json_pack("{s:b, s:s}", "ok", 0, "error", message));
}

/* Take the request that is served now: the way back to good code, a reload, or if none was asked for a trial. */
static void take_request(struct ld_host *host) {
    struct ld_reload *reload = &host->reload;
    reload->is_rollback = ld_probation_is_back(host);
    if (reload->is_rollback) {
        reload->is_trial = false;
        return;
    }
    bool is_asked = reload->asked || reload->later_holder != NULL;
    struct ld_waiter **waiters = is_asked ? &reload->later_waiters : &reload->trial_waiters;
    reload->is_trial = !is_asked;
    reload->asked = false;
    reload->holder = reload->later_holder;
    reload->later_holder = NULL;
    reload->go = false;
    reload->probation = reload->later_probation;
    reload->later_probation = -1;
    reload->keeps_code = reload->later_keeps_code;
    reload->later_keeps_code = false;
    reload->waiters = *waiters;
    *waiters = NULL;
}

/* Make the new generation, and compile it; false with the reason noted if that fails. */
static bool make_next(struct ld_host *host) {
    struct ld_reload *reload = &host->reload;
    struct ld_memory *memory = reload->is_rollback  ? host->probation.good
                               : reload->keeps_code ? host->script->memory
                                                    : NULL;
    int rc = ld_script_new(&reload->next, &host->setup, host->script->generation + 1, &reload->why);
    if (rc == 0 && memory != NULL) {
        ld_script_recall(reload->next, memory);
    }
    return rc == 0 && ld_script_load(reload->next, &reload->why) == 0;
}

/* Begin: compile, and ask the old generation for its state. */
static void begin(struct ld_host *host) {
    struct ld_reload *reload = &host->reload;
    double timeout = host->service->options->start_timeout;
    take_request(host);
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
    bool loaded = make_next(host);
    ld_reserve_take_back();
    if (!loaded) {
        reload->answered = true;
        return;
    }
    reload->deadline = ld_alarm_deadline(host, timeout);
    if (reload->is_rollback && (host->probation.from_copy || host->script->exited)) {
        ld_hand_on_take_copy(host);
    } else {
        ld_hand_on_ask(host);
    }
}

/* Run the new generation beside the old one. */
static void load(struct ld_host *host) {
    struct ld_reload *reload = &host->reload;
    double timeout = host->service->options->start_timeout;
    reload->phase = LD_RELOAD_LOADING;
    reload->shown_by = 0;
    reload->deadline = ld_alarm_deadline(host, timeout);
    ld_in_force_step(host);
    ld_guard_start(reload->next, NULL, timeout, "the script");
    ld_reserve_lend(); /* not longer, or the old generation would use up what is free */
    ld_script_start(reload->next);
    ld_reserve_take_back();
}

/* How long connections that were handed on are held: as long as the old generation may take to finish, or until the
 * code that did not take them has proved itself, or was undone. */
static uint64_t find_hold_ms(const struct ld_host *host) {
    const struct ld_options *options = host->service->options;
    double probation = ld_probation_seconds(host);
    double held = probation > 0 ? probation + 2 * options->start_timeout : 0;
    return (uint64_t)((held > options->stop_timeout ? held : options->stop_timeout) * 1e3);
}

/* Make NEXT the service in the place of OLD. What it did not ask for of children and sockets is held if it has yet
 * to prove itself. */
static void swap(struct ld_host *host, struct ld_script *old, bool is_unproved) {
    struct ld_script *next = host->reload.next;
    ld_inquiry_leave(host);
    host->script = next;
    host->reload.next = NULL;
    host->setup.holds_kept = is_unproved;
    ld_script_serve(next);
    ld_recycle_begin(&host->recycle, ld_alarm_deadline(host, 0));
    ld_stage_move(&old->stage, LD_STAGE_REPLACED);
    if (next->status_text.size == 0) { /* it has said nothing: what was said stands */
        ld_text_append(&next->status_text, &old->status_text);
    }
    ld_parcels_hold_for(host->parcels, find_hold_ms(host));
    ld_api_parcel_commit(old, next);
    ld_api_module_take_over(next);
    ld_master_commit(host);
    if (!is_unproved) { /* else when it has passed */
        ld_worker_tell_memory(host);
    }
    ld_listeners_commit(host->listeners, is_unproved);
    ld_listeners_unmute(host->listeners, next);
}

/* Tell the holder that its reload is committed: the answer comes when the probation is over. */
static void tell_committed(const struct ld_host *host, struct ld_waiter *holder) {
    if (holder != NULL) {
        holder->tell(holder, json_pack("{s:b, s:b, s:i, s:f, s:f}", "ok", 1, "committed", 1,
                                       "generation", (int)host->script->generation, "ms",
                                       host->reload.last_ms, "probation", host->probation.seconds));
    }
}

/* Let the new generation be the service. */
static void commit(struct ld_host *host) {
    struct ld_reload *reload = &host->reload;
    struct ld_script *old = host->script;
    struct ld_waiter *holder = reload->holder;
    bool is_unproved = ld_probation_seconds(host) > 0;
    ld_guard_stop();
    ld_api_parcel_offer_last(old);
    swap(host, old, is_unproved);
    if (reload->keeps_code) {
        ld_memory_fill(host->script->memory, host->script->recall);
    } else {
        forget_refused(reload);
        host->code = 0;
    }
    note_end(host, true);
    ld_log(LD_LOG_INFO, "reloaded: generation %u in %.1f ms", host->script->generation,
           reload->last_ms);
    if (!is_unproved || host->probation.phase == LD_PROBATION_NONE) { /* else OLD is unproved too */
        ld_saving_commit(host, old);
    }
    if (is_unproved) {
        ld_probation_begin(host, old);
    }
    ld_retired_begin(host,
                     old); /* before the waiters are told: its own listeners are closed then */
    if (is_unproved) {
        tell_committed(host, holder);
        return;
    }
    ld_probation_skip(host);
    ld_in_force_step(host); /* a crash after the answer finds the new code */
    int down = ld_master_count_down(host);
    ld_waiters_tell(&reload->waiters,
                    json_pack("{s:b, s:i, s:f, s:o*}", "ok", 1, "generation",
                              (int)host->script->generation, "ms", reload->last_ms, "untried",
                              down > 0 ? json_integer(down) : NULL));
}

/* Let good code be the service again. What the disk has is as refused. */
static void go_back(struct ld_host *host) {
    struct ld_reload *reload = &host->reload;
    struct ld_script *old = host->script;
    ld_guard_stop();
    ld_api_parcel_offer_last(old);
    swap(host, old, false);
    forget_refused(reload);
    reload->refused = ld_memory_hold(old->memory);
    ld_memory_fill(host->script->memory, host->script->recall);
    host->code = host->probation.good_generation;
    ld_text_clear(&reload->why);
    ld_probation_add_verdict(host, &reload->why);
    note_end(host, false);
    ld_log_with(LD_LOG_WARN, &reload->why, "%s", "");
    if (!host->probation.from_copy) { /* else the file has it already */
        ld_saving_commit(host, old);
    }
    ld_retired_begin(host, old);
    ld_probation_end_back(host, &reload->why);
}

/* Discard a new generation that could be the service: this was a trial. */
static void pass_trial(struct ld_host *host) {
    struct ld_reload *reload = &host->reload;
    close_next(host);
    double ms = end_phase(host);
    ld_log(LD_LOG_INFO,
           "reload checked: the new code was ready after %.1f ms, generation %u keeps running", ms,
           host->script->generation);
    ld_waiters_tell(&reload->waiters,
                    json_pack("{s:b, s:b, s:i, s:f}", "ok", 1, "check", 1, "generation",
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
    bool late = !reload->answered && uv_now(&host->loop) >= reload->deadline;
    if (late && reload->is_rollback) {
        ld_hand_on_give_up(host);
    } else if (late) {
        ld_text_format(&reload->why, "its on_reload function took longer than %.10g s",
                       host->service->options->start_timeout);
    }
    bool asks_to_stop =
        (host->script->wants & (LD_WANT_STOP | LD_WANT_EXIT)) != 0 && !reload->is_rollback;
    if (ld_text_is_empty(&reload->why) && reload->answered && !asks_to_stop) {
        ld_hand_on_kept(host);
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
        only_soon = !info->repeats && !info->by_clock && info->due <= soon;
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
        } else if (reload->is_rollback) {
            go_back(host);
        } else if (reload->holder != NULL) {
            hold(host);
        } else {
            commit(host);
        }
    } else {
        ld_alarm_wake_at(host, host->reload.deadline);
    }
}

/* Put the reload under way off: the code that runs has failed its probation, and is undone first. */
static void put_off(struct ld_host *host) {
    struct ld_reload *reload = &host->reload;
    struct ld_waiter *holder = reload->holder;
    static const char message[] =
        "the code that runs has failed its probation, and is undone first";
    if (reload->is_trial) {
        ld_waiters_move(&reload->trial_waiters, &reload->waiters);
    } else {
        if (holder != NULL) {
            ld_waiters_remove(&reload->waiters, holder);
        }
        reload->asked = reload->asked || holder == NULL || reload->waiters != NULL;
        ld_reload_note_probation(host, reload->probation);
        ld_waiters_move(&reload->later_waiters, &reload->waiters);
        ld_log(LD_LOG_INFO, "reload put off: %s", message);
    }
    close_next(host);
    end_phase(host);
    if (holder != NULL) {
        holder->done(holder, json_pack("{s:b, s:s}", "ok", 0, "error", message));
    }
}

/* Continue a reload, or begin one. */
void ld_reload_step(struct ld_host *host) {
    if (host->reload.phase != LD_RELOAD_NONE && !host->reload.is_rollback &&
        ld_probation_is_back(host)) {
        put_off(host);
    }
    bool is_asked = ld_reload_is_asked(host) || host->reload.trial_waiters != NULL;
    if (host->state == LD_HOST_RUNNING && host->upgrade.phase <= LD_UPGRADE_ASKED &&
        host->reload.phase == LD_RELOAD_NONE && is_asked) {
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
