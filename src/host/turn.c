/* One turn of the loop: each part of the host checks whether it can continue. */
#include "base/log.h"
#include "base/time.h"
#include "host/internal.h"
#include "host/workers.h"
#include "posix/forked.h"
#include "posix/notify.h"
#include "script/task.h"

#define BEHIND_MS 100 /* between tries to send to a slow service manager */

/* Tell the service manager the script's status text: when it changes, and when the manager begins to listen
 * to this process, if there is one then. */
static void tell_status(struct ld_host *host) {
    struct ld_script *script = host->script;
    bool again = host->service->manager_knows && script->status_text.size > 0;
    host->service->manager_knows = false;
    if (again || (script->wants & LD_WANT_STATUS) != 0) {
        struct ld_text line = {0};
        ld_text_add_escaped(&line, ld_text_string(&script->status_text), script->status_text.size,
                            false);
        ld_notify_send("STATUS=%s", ld_text_string(&line));
        ld_text_fini(&line);
        script->wants &= ~(unsigned)LD_WANT_STATUS;
    }
}

/* Whether what the script wants is not done: its code has failed its probation, or fails it by this. */
static bool is_overruled(struct ld_host *host) {
    const struct ld_script *script = host->script;
    char why[64];
    if (ld_probation_is_back(host)) {
        return true;
    }
    bool is_exit = (script->wants & LD_WANT_EXIT) != 0;
    bool is_end = is_exit || (script->wants & LD_WANT_STOP) != 0;
    snprintf(why, sizeof why, "it asked to %s with status %d", is_exit ? "exit" : "stop",
             script->exit_status);
    return is_end && script->exit_status != 0 && ld_probation_fail(host, why);
}

/* Do what the script wants. */
static void do_wants(struct ld_host *host) {
    struct ld_script *script = host->script;
    unsigned wants = script->wants;
    if (wants != 0 && is_overruled(host)) {
        script->wants = 0;
    } else if ((wants & LD_WANT_EXIT) != 0) {
        ld_stop_now(host, script->exit_status);
    } else if ((wants & LD_WANT_STOP) != 0) {
        if (host->state == LD_HOST_RUNNING && !host->service->is_console) {
            ld_log(LD_LOG_INFO, "stopping, as the script asked");
        }
        ld_stop_begin(host, "stop", script->exit_status);
    } else if ((wants & LD_WANT_RELOAD) != 0) {
        if (!ld_worker_ask_reload(host, false)) {
            ld_reload_ask(host, NULL);
        }
    }
    script->wants = 0;
}

/* Say why a script is over. */
static const char *nothing_left(const struct ld_script *script) {
    return script->chunk == LD_CHUNK_FAILED ? "the script has failed, and nothing of it is left"
           : script->gave_up ? "a supervisor has given up, and nothing of the script is left"
                             : "nothing of the script is left to wait for";
}

/* Stop after an error with --on-error exit, or when nothing is left to wait for. */
static void check_end(struct ld_host *host) {
    const struct ld_script *script = host->script;
    if (host->tally.count > host->seen_errors) {
        host->seen_errors = host->tally.count;
        if (host->service->options->on_error == LD_ON_ERROR_EXIT &&
            !ld_probation_fail(host, "an uncaught error, with --on-error exit")) {
            ld_log(LD_LOG_ERROR, "stopping after an uncaught error in %s at %s (--on-error exit)",
                   host->tally.last_what, host->tally.last_where);
            ld_stop_begin(host, "stop", 1);
            return;
        }
    }
    if (!ld_script_is_alive(script) && !host->service->is_console &&
        host->reload.phase == LD_RELOAD_NONE && !ld_reload_is_asked(host) &&
        !ld_probation_fail(host, nothing_left(script))) {
        bool failed = script->chunk == LD_CHUNK_FAILED || script->gave_up;
        ld_stop_finish(host, nothing_left(script), failed ? 1 : 0);
    }
}

/* Tell the log of errors that have repeated themselves. */
static void tell_errors(struct ld_host *host) {
    uint64_t now = ld_time_coarse();
    uint64_t next = ld_tally_flush(&host->tally, now);
    if (next != UINT64_MAX) {
        ld_alarm_wake_at(host, uv_now(&host->loop) + (next - now) / 1000000 + 1);
    }
}

/* Whether a part has something to do in the next turn. */
static bool is_due(const struct ld_host *host) {
    bool reload_due = host->state == LD_HOST_RUNNING && ld_reload_is_asked(host) &&
                      host->reload.phase == LD_RELOAD_NONE &&
                      host->upgrade.phase <= LD_UPGRADE_ASKED;
    return reload_due || (host->script != NULL && host->script->wants != 0);
}

/* Resume the woken tasks of all generations; true if some are left for the next turn. */
static bool resume_tasks(struct ld_host *host) {
    bool left = host->script != NULL && ld_task_resume_left(host->script);
    if (host->reload.next != NULL) {
        left |= ld_task_resume_left(host->reload.next);
    }
    for (struct ld_retired *at = host->retired; at != NULL; at = at->next) {
        left |= ld_task_resume_left(at->script);
    }
    return left;
}

/* Listen on the new control socket. */
static void take_socket(struct ld_host *host) {
    int rc = ld_control_listen(host->control, host->service->listener);
    host->service->listener = -1; /* the control closes it */
    if (rc < 0) {
        ld_log(LD_LOG_ERROR, "the new control socket: %s", uv_strerror(rc));
    }
}

/* Do what a thread has promised to clients while the loop was held. */
static void serve_lobby(struct ld_host *host) {
    ld_control_take_over(host->control);
    if (ld_lobby_wants_reopen(host->lobby)) {
        ld_actions_reopen_log(host);
    }
    if (ld_lobby_wants_stop(host->lobby) &&
        (host->state == LD_HOST_RUNNING || host->state == LD_HOST_STARTING)) {
        ld_actions_stop(host);
    }
    if (ld_sentry_has_refused(host->sentry)) {
        ld_reload_note_refused(host);
    }
}

/* Have nothing of the scripts called in the last turn, which may still serve what is due. */
static void halt_scripts(struct ld_host *host) {
    if (host->script != NULL) {
        host->script->halted = true;
    }
    for (struct ld_retired *at = host->retired; at != NULL; at = at->next) {
        at->script->halted = true;
    }
}

/* Continue what goes on beside a service that is another process by now. */
static void turn_remnant(struct ld_host *host) {
    bool left = resume_tasks(host);
    ld_remnant_step(host);
    uv_update_time(&host->loop);
    ld_guest_arm_all();
    if (left) {
        ld_alarm_wake_at(host, 0);
    }
}

/* Continue the start, and do what the script wants. */
static void follow_script(struct ld_host *host) {
    if (host->state == LD_HOST_STARTING) {
        ld_start_step(host);
    }
    if (host->script != NULL) {
        tell_status(host);
    }
    if (host->state != LD_HOST_STARTING && host->script != NULL) {
        do_wants(host);
    }
}

/* Do what a master has asked of this worker, or workers of this master. */
static void follow_family(struct ld_host *host) {
    if (ld_worker_orders_step(host)) {
        ld_host_signals_on_stop(host);
    }
    if (!ld_text_is_empty(&host->master.unproved)) {
        ld_probation_fail(host, ld_text_string(&host->master.unproved));
        ld_text_clear(&host->master.unproved);
    }
    ld_master_step(host);
    if (host->master.wants_reload) {
        host->master.wants_reload = false;
        ld_reload_ask(host, NULL);
    }
    if (host->service->has_new_files) {
        host->service->has_new_files = false;
        ld_master_tell_files(host);
    }
}

/* Continue what clients have asked for, and wait for. */
static void serve_clients(struct ld_host *host) {
    ld_evals_step(host);
    ld_profiling_step(host);
    ld_heap_copy_step(host);
    ld_inquiry_step(host);
}

/* Continue every part. The loop's time is from before the callbacks of this turn; unless it is updated,
 * libuv waits longer than it should, by the time that they took. */
void ld_turn_on_prepare(uv_prepare_t *prepare) {
    struct ld_host *host = LD_CONTAINER_OF(prepare, struct ld_host, turn);
    if (ld_forked_is_copy()) { /* it should have ended before */
        ld_forked_leave(0);
    }
    ld_laps_turn(&host->laps);
    if (host->is_remnant) {
        turn_remnant(host);
        return;
    }
    serve_lobby(host);
    bool left = resume_tasks(host);
    ld_mailing_step(host);
    follow_script(host);
    serve_clients(host);
    ld_retired_step(host);
    ld_recycling_step(host);
    follow_family(host);
    ld_saving_step(host);
    ld_probation_step(host);
    ld_reload_step(host);
    ld_upgrade_step(host);
    if (host->is_remnant) { /* this is the other process */
        turn_remnant(host);
        return;
    }
    ld_in_force_step(host);
    ld_watching_step(host);
    left |= ld_mailing_settle(host);
    if (host->service->listener >= 0) {
        take_socket(host);
    }
    if (host->state == LD_HOST_RUNNING) {
        check_end(host);
    }
    ld_actions_watch_terminal(host);
    tell_errors(host);
    ld_log_watch_step(host);
    if (ld_notify_is_behind()) {
        ld_alarm_wake_at(host, uv_now(&host->loop) + BEHIND_MS);
    }
    if (host->state == LD_HOST_STOPPING) {
        ld_stop_step(host);
    }
    ld_sentry_note_state(host->sentry, ld_snapshot_state(host));
    uv_update_time(&host->loop);
    ld_guest_arm_all();
    if (host->state == LD_HOST_ENDED) {
        halt_scripts(host);
        uv_stop(&host->loop);
    } else if (left || is_due(host)) {
        ld_alarm_wake_at(host, 0);
    }
}
