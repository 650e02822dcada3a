/* Generations that have been replaced: timers, handlers and listeners end at once; on_stop
 * functions, clients and commands have --stop-timeout to finish. */
#include <stdlib.h>

#include "api/module.h"
#include "base/log.h"
#include "base/time.h"
#include "host/internal.h"

#define LOOK_MS  20     /* between looks at a generation with many clients */
#define SLICE_NS 500000 /* of a turn, to free what a generation had */

static const char finished[] = "as it has finished";

/* Log what a generation has not finished; WHY says why it is closed now. */
static void log_unfinished(struct ld_script *script, const char *why) {
    struct ld_text names = {0};
    if (!script->on_stop.done) {
        ld_text_puts(&names, "on_stop functions");
    }
    if (script->guest != NULL) {
        ld_guest_name_connected(script->guest, &names);
    }
    ld_api_module_name_unfinished(script, &names);
    if (!ld_text_is_empty(&names)) {
        ld_log_with(LD_LOG_WARN, &names,
                    "generation %u is closed %s, and with it: ", script->generation, why);
    }
    ld_text_fini(&names);
}

/* Close a generation that has been replaced. */
static void close_replaced(struct ld_script *script, const char *why) {
    log_unfinished(script, why);
    ld_script_close_in_slices(script);
}

/* Whether a generation that has been replaced has something to finish: on_stop functions, clients that
 * are connected, commands. After os.exit it has not. */
static bool is_unfinished(const struct ld_script *script) {
    bool is_busy = !script->on_stop.done || script->commands > 0 ||
                   !LIST_EMPTY(&script->connections) ||
                   (script->guest != NULL && ld_guest_is_connected(script->guest));
    return is_busy && !script->exited;
}

/* Begin to end a generation that has been replaced. */
void ld_retired_begin(struct ld_host *host, struct ld_script *script) {
    struct ld_retired *retired = calloc(1, sizeof *retired);
    ld_api_module_retire(script, host->script);
    ld_alarm_wake_at(host, 0); /* for its end in slices */
    if (retired == NULL || !is_unfinished(script)) {
        close_replaced(script, retired == NULL ? "without delay, as memory is short" : finished);
        free(retired);
        return;
    }
    retired->script = script;
    retired->deadline = ld_alarm_deadline(host, host->service->options->stop_timeout);
    retired->next = host->retired;
    host->retired = retired;
}

/* Log that requests of a generation that has been replaced are ignored. */
static void ignore_wants(struct ld_script *script) {
    if ((script->wants & (LD_WANT_STOP | LD_WANT_RELOAD)) != 0) {
        ld_log(LD_LOG_WARN, "generation %u has been replaced: its lunad.%s() is not heeded",
               script->generation, (script->wants & LD_WANT_STOP) != 0 ? "stop" : "reload");
    }
    script->wants = 0;
}

/* See to it that a generation is looked at again: in each turn of the loop, or if that would take long, now
 * and then. */
static void wait_for(struct ld_host *host, struct ld_retired *retired, bool has_looked) {
    const struct ld_guest *guest = retired->script->guest;
    if (has_looked && guest != NULL && ld_guest_is_large(guest)) {
        retired->look_at = uv_now(&host->loop) + LOOK_MS;
    }
    bool is_before = retired->look_at > uv_now(&host->loop) && retired->look_at < retired->deadline;
    ld_alarm_wake_at(host, is_before ? retired->look_at : retired->deadline);
}

/* Close generations that have finished, or whose time is over. */
void ld_retired_step(struct ld_host *host) {
    struct ld_retired **place = &host->retired;
    if (ld_script_close_some(ld_time_monotonic() + SLICE_NS)) {
        ld_alarm_wake_at(host, 0);
    }
    while (*place != NULL) {
        struct ld_retired *retired = *place;
        bool late = uv_now(&host->loop) >= retired->deadline;
        bool looks = late || uv_now(&host->loop) >= retired->look_at;
        ignore_wants(retired->script);
        if (looks && (late || !is_unfinished(retired->script))) {
            *place = retired->next;
            close_replaced(retired->script, retired->script->exited ? "by its os.exit"
                                            : late ? "as its --stop-timeout is over"
                                                   : finished);
            free(retired);
        } else {
            wait_for(host, retired, looks);
            place = &retired->next;
        }
    }
}

/* Close all generations that have been replaced. */
void ld_retired_close_all(struct ld_host *host) {
    struct ld_retired *retired;
    while ((retired = host->retired) != NULL) {
        host->retired = retired->next;
        close_replaced(retired->script, "by the stop");
        free(retired);
    }
}

/* Let no generation that has been replaced start anything new. */
void ld_retired_restrain(struct ld_host *host) {
    for (const struct ld_retired *at = host->retired; at != NULL; at = at->next) {
        ld_script_restrain(at->script);
    }
}

/* Whether on_stop functions of generations that have been replaced still run. */
bool ld_retired_is_stopping(const struct ld_host *host) {
    for (const struct ld_retired *at = host->retired; at != NULL; at = at->next) {
        if (!at->script->on_stop.done) {
            return true;
        }
    }
    return false;
}
