/* The start: the first generation becomes the service, or the process ends. */
#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

#include "api/keep.h"
#include "api/life.h"
#include "api/module.h"
#include "api/parcel.h"
#include "api/timer_cron.h"
#include "base/log.h"
#include "daemon/keeper_channel.h"
#include "daemon/way_back.h"
#include "host/internal.h"
#include "host/workers.h"
#include "posix/inherit.h"
#include "posix/notify.h"
#include "posix/reserve.h"
#include "script/guard.h"
#include "script/memory_image.h"

#define LONG_SECONDS 30.0 /* for code that has run before, if --start-timeout is shorter */

/* Bring back the program that this process was before, if it was one. Returns if it was not. */
static void go_back(struct ld_host *host, const struct ld_text *why) {
    if (ld_way_back_is_open()) {
        if (host->script != NULL) {
            ld_api_module_discard(host->script);
        }
        fflush(NULL);
        ld_way_back_go(ld_text_string(why));
    }
}

/* Note that the start has failed; TEXT says why. */
static void fail_start(struct ld_host *host, const struct ld_text *text) {
    ld_guard_stop();
    go_back(host, text);
    if (ld_sentry_was_asked_to_stop(host->sentry)) {
        ld_actions_note_stop(host); /* so no other start follows */
    }
    if (!host->failed_start) {
        host->failed_start = true;
        ld_text_append_plain(host->why, text);
        bool is_said = host->service->worker > 0 || /* by the master, or at the end */
                       (!host->service->daemon && ld_log_sink() == LD_LOG_STDERR);
        if (!is_said) {
            ld_log_with(LD_LOG_ERROR, text, "start failed: ");
        }
    }
    ld_stop_now(host, 1);
}

/* The same with a fixed text. */
static void fail_start_saying(struct ld_host *host, const char *words) {
    struct ld_text text = {0};
    ld_text_puts(&text, words);
    fail_start(host, &text);
    ld_text_fini(&text);
}

/* Tell everybody how an upgrade ended. */
static void finish_upgrade(struct ld_host *host) {
    struct ld_handover *handover = host->service->handover;
    host->setup.silent_since = 0;
    host->setup.takes_over = false;
    ld_estate_settle(host);
    ld_api_parcel_deliver(host->script);
    if (host->script->status_text.size == 0) { /* it has said nothing: what was said stands */
        ld_handover_text(handover, handover->root, "status_text", &host->script->status_text);
    }
    ld_api_timer_cron_run_held(host->script);
    ld_notify_send("READY=1\nMAINPID=%d", (int)getpid());
    ld_upgrade_finish(host, handover);
}

/* Make the script the service, and tell the log, the service manager and the starting process. */
static void become_ready(struct ld_host *host) {
    struct ld_service *service = host->service;
    ld_guard_stop();
    host->state = LD_HOST_RUNNING;
    ld_sentry_note_state(host->sentry, ld_snapshot_state(host));
    ld_script_serve(host->script);
    if (host->script->recall != NULL) { /* the next generation may want all of it */
        ld_memory_fill(host->script->memory, host->script->recall);
    }
    ld_recycle_begin(&host->recycle, ld_alarm_deadline(host, 0));
    ld_api_module_take_over(host->script);
    ld_listeners_commit(host->listeners, false);
    ld_listeners_unmute(host->listeners, host->script);
    host->was_ready = true;
    if (service->handover != NULL) {
        finish_upgrade(host);
        return;
    }
    bool follows = service->keeper >= 0 && ld_service_restarts(service, 0);
    if (service->is_console) {
        ld_service_announce(service);
    } else if (follows || ld_script_is_alive(host->script)) { /* else it has finished, which is
                                                                 logged at the end */
        host->said_started = true;
        ld_log(LD_LOG_INFO, "started (pid %d), generation 1", (int)getpid());
        if (service->keeper < 0) { /* else the keeper tells it */
            ld_notify_send("READY=1\nMAINPID=%d", (int)getpid());
        }
        ld_worker_tell_memory(host);
        const struct ld_text *warning =
            service->is_master ? &host->master.warnings : &host->saving.error;
        ld_keeper_channel_report_start(service, LD_START_REPORT_READY, ld_text_string(warning));
    }
}

/* Handle a script that asks to stop before it was ready: in the foreground it just ends, for a daemon the
 * start has failed. */
static void stop_before_ready(struct ld_host *host) {
    ld_guard_stop();
    if (host->service->daemon || ld_way_back_is_open()) {
        fail_start_saying(host, "the script asked to stop before it was ready");
    } else if ((host->script->wants & LD_WANT_EXIT) != 0) {
        ld_stop_now(host, host->script->exit_status);
    } else {
        ld_stop_begin(host, "stop", host->script->exit_status);
    }
}

/* Check whether the script has become ready. */
void ld_start_step(struct ld_host *host) {
    const struct ld_script *script = host->script;
    if (!ld_text_is_empty(&script->errors.first)) {
        fail_start(host, &script->errors.first);
    } else if ((script->wants & (LD_WANT_STOP | LD_WANT_EXIT)) != 0) {
        stop_before_ready(host);
    } else if (ld_script_is_ready(script) && ld_way_back_is_open() && !ld_script_is_alive(script)) {
        fail_start_saying(host,
                          "the script has nothing to wait for: no timer, signal handler, child, "
                          "task or socket");
    } else if (ld_script_is_ready(script)) {
        become_ready(host);
    } else if (!ld_script_is_alive(script)) {
        fail_start_saying(host, "the script ended before it called lunad.ready()");
    } else if (uv_now(&host->loop) >= host->start_deadline) {
        struct ld_text text = {0};
        ld_text_format(&text, "the script was not ready after %.10g s",
                       host->service->options->start_timeout);
        fail_start(host, &text);
        ld_text_fini(&text);
    } else {
        ld_alarm_wake_at(host, host->start_deadline);
    }
}

/* Whether a program that has taken over goes on with the code that ran before: it has come back because the next one
 * failed, or the disk has code that was undone. The chunk of a master is its own. */
static bool keeps_code(const struct ld_host *host) {
    const struct ld_handover *handover = host->service->handover;
    return handover->back != NULL || (!host->service->is_master &&
                                      json_is_true(json_object_get(handover->root, "keeps_code")));
}

/* Find the memory that the first generation is made from: what a master has sent, or what ran before; NULL for none. 0 or
 * a negative errno with the reason in WHY. */
static int find_memory(struct ld_host *host, struct ld_memory **memory, struct ld_text *why) {
    struct ld_handover *handover = host->service->handover;
    *memory = NULL;
    if (handover != NULL && handover->back == NULL) {
        host->service->memory_fd = ld_handover_fd(handover, handover->root, "code_fd");
    }
    if (handover == NULL || host->service->memory_fd >= 0) {
        return ld_worker_recall(host, memory, why);
    }
    const struct ld_text *code = &handover->parts[LD_HANDOVER_CODE];
    return keeps_code(host) && handover->has[LD_HANDOVER_CODE]
               ? ld_memory_image_read(host->texts, ld_text_string(code), code->size, memory, why)
               : 0;
}

/* Have the workers made from what the host before had in force, in IMAGE, if that CAN_BE_READ; else close it. */
static void inherit(struct ld_host *host, int image, bool can_be_read) {
    if (can_be_read && image >= 0) {
        ld_master_inherit(host, image);
    } else if (image >= 0) {
        close(image);
    }
}

/* Have the first generation made from such a memory; with a master, that of its workers. */
static int recall(struct ld_host *host, struct ld_text *why) {
    struct ld_memory *memory;
    const struct ld_handover *handover = host->service->handover;
    bool is_next = host->service->worker == 0 && host->service->handover == NULL;
    bool is_master = host->service->is_master && is_next && host->service->memory_fd >= 0;
    int image = is_master ? fcntl(host->service->memory_fd, F_DUPFD_CLOEXEC, LD_PASSED_FIRST) : -1;
    int rc = find_memory(host, &memory, why);
    inherit(host, image, rc == 0 && memory != NULL);
    if (rc < 0 && is_next) { /* the host before may have sent anything */
        ld_log_with(LD_LOG_WARN, why,
                    "the script is loaded from disk, as what was in force is lost: ");
        ld_text_clear(why);
        return 0;
    }
    if (rc == 0 && memory != NULL) {
        if (is_next || (handover != NULL && handover->back == NULL && host->service->worker == 0)) {
            ld_log(LD_LOG_INFO,
                   "the code in force is loaded from memory: what is on disk was undone, "
                   "refused, or not proved");
        }
        if (!is_master) {
            ld_script_recall(host->script, memory);
        }
        ld_memory_drop(memory);
    }
    return rc;
}

/* Give the first generation what an earlier program in this process has left to it, or else what the file of
 * --state has; 0, or -1 with the reason in WHY. */
static int give_state(struct ld_host *host, struct ld_text *why) {
    const struct ld_handover *handover = host->service->handover;
    int rc = 0;
    if (handover == NULL) {
        return ld_saving_load(host, host->script, why);
    }
    if (handover->has[LD_HANDOVER_STATE]) {
        rc = ld_api_life_unpack_state(host->script, &handover->parts[LD_HANDOVER_STATE], why);
    }
    if (rc == 0 && handover->has[LD_HANDOVER_KEPT]) {
        rc = ld_api_keep_unpack(host->script, &handover->parts[LD_HANDOVER_KEPT], why);
    }
    if (rc == 0 && !ld_text_is_empty(&handover->why)) {
        ld_text_append(why, &handover->why);
        rc = -1;
    }
    return rc;
}

/* The number of the first generation that this program makes. */
static unsigned first_number(struct ld_host *host) {
    struct ld_handover *handover = host->service->handover;
    return handover == NULL ? 1
                            : 1 + (unsigned)ld_handover_within(handover, handover->root,
                                                               "generation", 1, UINT_MAX - 1);
}

/* How long the script may take. Code that has run before has longer: nothing else is left to go back to. */
static double find_patience(const struct ld_host *host) {
    const struct ld_handover *handover = host->service->handover;
    double timeout = host->service->options->start_timeout;
    return handover != NULL && handover->back != NULL && timeout < LONG_SECONDS ? LONG_SECONDS
                                                                                : timeout;
}

/* Make the first generation and run its chunk. */
void ld_start_begin(struct ld_host *host) {
    double timeout = find_patience(host);
    struct ld_text why = {0};
    host->setup.silent_since = host->upgrade.frozen_real;
    host->start_deadline = ld_alarm_deadline(host, timeout);
    ld_reserve_lend(); /* what suffices for a start suffices for a reload */
    bool loaded = ld_script_new(&host->script, &host->setup, first_number(host), &why) == 0 &&
                  recall(host, &why) == 0 && ld_script_load(host->script, &why) == 0 &&
                  give_state(host, &why) == 0;
    ld_reserve_take_back();
    if (!loaded) {
        fail_start(host, &why);
    } else {
        ld_guard_start(host->script, NULL, timeout, "the script");
        ld_script_start(host->script);
        ld_start_step(host); /* ready at once, before any event */
    }
    ld_text_fini(&why);
}
