/* The upgrade: this process becomes another program. That is first tried in a child, while the service goes on.
 * Then the script gives its state, all that there is is written down, a fork goes on with the clients that are
 * connected, and exec. Until then all of it can be undone; afterwards, and until its script is ready, the new program
 * comes back to this one if it fails. */
#include <errno.h>
#include <fcntl.h>
#include <lua.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "api/keep.h"
#include "api/life.h"
#include "base/json.h"
#include "base/log.h"
#include "base/parse.h"
#include "base/time.h"
#include "base/version.h"
#include "daemon/handover_service.h"
#include "engine/mail_relic.h"
#include "host/internal.h"
#include "host/workers.h"
#include "posix/forked.h"
#include "posix/inherit.h"
#include "posix/notify.h"
#include "script/guard.h"
#include "script/pack.h"
#include "script/task.h"

#define QUIET_MS      500 /* for commands and requests, before the generation is asked for its state */
#define QUIET_LOOK_MS 5

/* Tell all who wait; the reference is taken over. */
static void tell(struct ld_host *host, json_t *answer) {
    struct ld_waiter *waiter;
    while ((waiter = host->upgrade.waiters) != NULL) {
        host->upgrade.waiters = waiter->next;
        waiter->done(waiter, json_incref(answer));
    }
    json_decref(answer);
}

/* Make the answer of a refusal. */
static json_t *refusal(const struct ld_text *why) {
    return json_pack("{s:b, s:o}", "ok", 0, "error", ld_json_text(ld_text_string(why), why->size));
}

/* Forget a waiter. */
void ld_upgrade_forget(struct ld_host *host, const struct ld_waiter *waiter) {
    struct ld_waiter **at = &host->upgrade.waiters;
    while (*at != NULL && *at != waiter) {
        at = &(*at)->next;
    }
    if (*at != NULL) {
        *at = waiter->next;
    }
}

/* Undo what was begun. */
static void clean_up(struct ld_host *host) {
    struct ld_upgrade *upgrade = &host->upgrade;
    struct ld_task *asking = upgrade->asking;
    ld_upgrade_trial_drop(upgrade);
    upgrade->asking = NULL;
    upgrade->phase = LD_UPGRADE_NONE;
    if (asking != NULL) {
        ld_guard_stop();
        ld_task_cancel(asking); /* its state is not wanted */
    }
    ld_handover_free(upgrade->handover);
    upgrade->handover = NULL;
    if (upgrade->program >= 0) {
        close(upgrade->program);
        upgrade->program = -1;
    }
    if (upgrade->code >= 0) {
        close(upgrade->code);
        upgrade->code = -1;
    }
    free(upgrade->path);
    upgrade->path = NULL;
}

/* Tell the master, in a worker, how the request that it has made ended, or how far it is. */
static void tell_master(struct ld_host *host, const char *word, const char *text) {
    if (host->upgrade.order > 0 && host->service->keeper >= 0) {
        ld_worker_tell(host, host->upgrade.order, word, text, -1);
    }
    host->upgrade.order = 0;
}

/* Log that an upgrade was refused, as this program runs on. */
static void log_refusal(struct ld_host *host, const char *how) {
    bool is_worker = host->service->worker > 0; /* the master says it for all */
    ld_log_with(is_worker ? LD_LOG_INFO : LD_LOG_ERROR, &host->upgrade.why,
                "upgrade refused, lunad %s keeps running%s: ", ld_version_text, how);
}

/* Have workers that are the program already become this one again; false if there are none. */
static bool begin_undo(struct ld_host *host) {
    if (host->state != LD_HOST_RUNNING || !ld_crew_is_mixed(host)) {
        ld_crew_drop(host);
        return false;
    }
    host->upgrade.phase = LD_UPGRADE_UNDO;
    ld_crew_begin_back(host);
    return true;
}

/* Refuse, for the reason in upgrade->why. */
static void refuse(struct ld_host *host) {
    clean_up(host);
    if (begin_undo(host)) {
        return;
    }
    log_refusal(host, "");
    ld_notify_send("READY=1");
    tell_master(host, LD_WORKERS_WORD_UPGRADE_REFUSED, ld_text_string(&host->upgrade.why));
    tell(host, refusal(&host->upgrade.why));
}

/* Why this service cannot be upgraded, or NULL. */
static const char *find_obstacle(const struct ld_host *host) {
    const struct ld_service *service = host->service;
    return service->worker > 0 ? "a worker goes on as another program together with its master "
                                 "alone: lunad upgrade that"
           : service->is_bare || service->is_console || service->spec != NULL
               ? "this process is not a service that can go on as another program"
           : host->state == LD_HOST_STARTING        ? "the daemon is starting"
           : host->state != LD_HOST_RUNNING         ? "the daemon is stopping"
           : host->upgrade.phase != LD_UPGRADE_NONE ? "an upgrade is under way"
           : host->probation.phase == LD_PROBATION_ON
               ? "the code is on probation: ask again when that is over"
               : NULL;
}

/* Take a request. */
json_t *ld_upgrade_ask(struct ld_host *host, struct ld_waiter *waiter, const json_t *request) {
    struct ld_upgrade *upgrade = &host->upgrade;
    const json_t *device = json_object_get(request, "device");
    const json_t *inode = json_object_get(request, "inode");
    char *path = ld_json_take_bytes(json_object_get(request, "program"));
    const char *obstacle = find_obstacle(host);
    if (path == NULL || path[0] != '/' || !json_is_integer(device) || !json_is_integer(inode)) {
        obstacle = "an upgrade needs the \"program\", with its \"device\" and \"inode\"";
    }
    if (obstacle != NULL) {
        free(path);
        return json_pack("{s:b, s:s}", "ok", 0, "error", obstacle);
    }
    upgrade->path = path;
    upgrade->device = (dev_t)json_integer_value(device);
    upgrade->inode = (ino_t)json_integer_value(inode);
    upgrade->phase = LD_UPGRADE_ASKED;
    waiter->next = upgrade->waiters;
    upgrade->waiters = waiter;
    ld_alarm_wake_at(host, 0);
    return NULL;
}

/* Take an image of the code that the next program is to go on with. */
void ld_upgrade_take_code(struct ld_host *host, int image) {
    if (host->upgrade.code >= 0) {
        close(host->upgrade.code);
    }
    host->upgrade.code = image;
}

/* Begin at the word of the master. */
void ld_upgrade_hold(struct ld_host *host, unsigned long number, int program) {
    struct ld_upgrade *upgrade = &host->upgrade;
    if (upgrade->phase != LD_UPGRADE_NONE || host->state != LD_HOST_RUNNING) {
        close(program);
        ld_upgrade_take_code(host, -1);
        ld_worker_tell(host, number, LD_WORKERS_WORD_UPGRADE_REFUSED,
                       host->state != LD_HOST_RUNNING ? "it is starting, or stopping"
                                                      : "an upgrade is under way",
                       -1);
        return;
    }
    upgrade->program = program;
    upgrade->order = number;
    upgrade->phase = LD_UPGRADE_ASKED;
    ld_alarm_wake_at(host, 0);
}

/* Go on at the word of the master. */
void ld_upgrade_go(struct ld_host *host, unsigned long number) {
    struct ld_upgrade *upgrade = &host->upgrade;
    upgrade->order = number;
    if (upgrade->phase != LD_UPGRADE_HELD) {
        tell_master(host, LD_WORKERS_WORD_UPGRADE_REFUSED, "it has not tried the program");
        return;
    }
    upgrade->started = uv_hrtime();
    upgrade->phase = LD_UPGRADE_QUIET;
    upgrade->deadline = uv_now(&host->loop) + QUIET_MS;
    ld_alarm_wake_at(host, 0);
}

/* Forget the program at the word of the master. */
void ld_upgrade_drop(struct ld_host *host) {
    if (host->upgrade.phase != LD_UPGRADE_NONE) {
        clean_up(host);
        host->upgrade.order = 0;
    }
}

/* Begin with the trial. */
static void begin(struct ld_host *host) {
    struct ld_upgrade *upgrade = &host->upgrade;
    ld_text_clear(&upgrade->why);
    ld_text_clear(&upgrade->said);
    upgrade->answered = false;
    upgrade->started = uv_hrtime();
    upgrade->phase = LD_UPGRADE_TRIAL;
    ld_notify_reloading();
    ld_upgrade_trial_begin(host);
}

/* Pack the first of the results on CO, in the time that the on_reload function has left. */
static void pack_state(struct ld_host *host, lua_State *co, int results) {
    struct ld_upgrade *upgrade = &host->upgrade;
    double timeout = host->service->options->start_timeout;
    struct ld_text why = {0};
    lua_settop(co, lua_gettop(co) - (results - 1));
    int rc = ld_pack_value(co, "state", &upgrade->handover->parts[LD_HANDOVER_STATE],
                           uv_hrtime() + (uint64_t)(timeout * 1e9), &why);
    if (rc == -ETIME) {
        ld_text_puts(&upgrade->why, "its state is too large: packing it took too long");
    } else if (rc < 0) {
        ld_text_format(&upgrade->why, "its state cannot be handed on: %s", ld_text_string(&why));
    }
    upgrade->handover->has[LD_HANDOVER_STATE] = rc == 0;
    ld_text_fini(&why);
}

/* Take the script's state, or note why there is none. */
static bool on_state(struct ld_task *task, enum ld_outcome outcome, int results) {
    struct ld_host *host = task->owner;
    struct ld_upgrade *upgrade = &host->upgrade;
    if (upgrade->asking != task) {
        return outcome == LD_OUTCOME_FAILED; /* too late: it was given up */
    }
    ld_guard_stop();
    upgrade->asking = NULL;
    upgrade->answered = true;
    if (outcome == LD_OUTCOME_OK && results > 0) {
        pack_state(host, task->co, results);
    } else if (outcome == LD_OUTCOME_FAILED) {
        ld_text_puts(&upgrade->why, "its on_reload function failed: ");
        ld_text_append(&upgrade->why, task->trace);
    } else if (outcome == LD_OUTCOME_CANCELLED) {
        ld_text_puts(&upgrade->why, "its on_reload function was cancelled");
    }
    return true;
}

/* Ask the script for its state. */
static void ask_state(struct ld_host *host) {
    struct ld_upgrade *upgrade = &host->upgrade;
    double timeout = host->service->options->start_timeout;
    upgrade->phase = LD_UPGRADE_ASKING;
    upgrade->deadline = ld_alarm_deadline(host, timeout);
    ld_handover_free(upgrade->handover);
    upgrade->handover = ld_handover_new();
    if (upgrade->handover == NULL) {
        ld_text_puts(&upgrade->why, "not enough memory");
    } else if (ld_api_life_take_on_reload(host->script, false, &upgrade->asking) < 0) {
        ld_text_puts(&upgrade->why, "its on_reload function cannot be called: not enough memory");
    }
    if (upgrade->asking == NULL) {
        upgrade->answered = true;
        return;
    }
    upgrade->asking->owner = host;
    upgrade->asking->on_end = on_state;
    ld_guard_start(host->script, upgrade->asking, timeout, "the on_reload function");
    ld_task_start(upgrade->asking, 0);
}

/* Pack what the script keeps by name. */
static void pack_kept(struct ld_host *host) {
    struct ld_upgrade *upgrade = &host->upgrade;
    double timeout = host->service->options->start_timeout;
    struct ld_text why = {0};
    int rc = ld_api_keep_pack(host->script, &upgrade->handover->parts[LD_HANDOVER_KEPT],
                              uv_hrtime() + (uint64_t)(timeout * 1e9), &why);
    if (rc < 0) {
        ld_text_format(&upgrade->why, "what it keeps cannot be handed on: %s",
                       rc == -ETIME ? "packing it took too long" : ld_text_string(&why));
    }
    upgrade->handover->has[LD_HANDOVER_KEPT] = rc == 0;
    ld_text_fini(&why);
}

/* Execute the program. Returns a negative errno. */
static int execute(const struct ld_upgrade *upgrade) {
    char word[] = LD_HANDOVER_WORD;
    char title[] = "lunad: (upgrading)";
    char number[16];
    char *argv[] = {title, word, number, NULL};
    snprintf(number, sizeof number, "%d", upgrade->handover->paper);
    ld_inherit_seal_fds(true, -1); /* what libraries have opened too */
    ld_handover_expose(upgrade->handover, true);
    syscall(SYS_execveat, upgrade->program, "", argv, environ, AT_EMPTY_PATH);
    int rc = -errno;
    ld_handover_expose(upgrade->handover, false);
    return rc;
}

/* Make the box by which that sends messages here; 0 or a negative errno. */
static int open_beside(struct ld_host *host) {
    int ends[2];
    int rc = ld_mail_packet_open(ends);
    if (rc == 0) {
        host->upgrade.beside = ends[1];
        rc = ld_mail_relic_hear(host->mailing.mail, ends[0]);
    }
    return rc;
}

/* Close the end of it that only the other process needs: the end here closes when nothing has it any more. */
static void close_beside(struct ld_host *host) {
    if (host->upgrade.beside >= 0) {
        close(host->upgrade.beside);
        host->upgrade.beside = -1;
    }
}

/* Fork what goes on beside the program, which begins when the other end of *GO is closed. The pid, 0 there, or a
 * negative errno. */
static pid_t fork_remnant(struct ld_host *host, int *go) {
    int ends[2];
    pid_t parent = getpid();
    int rc = open_beside(host);
    if (rc != 0 || pipe2(ends, O_CLOEXEC) < 0) {
        rc = rc != 0 ? rc : -errno;
        close_beside(host);
        return rc;
    }
    pid_t pid = ld_forked_split();
    int code = errno;
    if (pid == 0) {
        close(ends[1]);
        ld_remnant_begin(host, ends[0], parent);
        return 0;
    }
    close(ends[0]);
    close_beside(host);
    if (pid < 0) {
        close(ends[1]);
        return -code;
    }
    *go = ends[1];
    return pid;
}

/* Tell the process that was to go on beside the program that there is none. */
static void hold_back(int go, pid_t pid) {
    if (write(go, "x", 1) != 1) {
        kill(pid, SIGKILL); /* or it would take the end of the pipe for the exec */
    }
    close(go);
}

/* Write all down and execute the program. Returns a negative errno, or 0 in the remnant. */
static int leave(struct ld_host *host) {
    struct ld_upgrade *upgrade = &host->upgrade;
    int go = -1;
    pid_t pid = -1;
    int own = open("/proc/self/exe", O_PATH | O_CLOEXEC);
    int rc = own < 0 ? -errno : 0;
    if (rc == 0 && ld_remnant_is_needed(host)) {
        pid = fork_remnant(host, &go);
        if (pid == 0) {
            return 0;
        }
        rc = pid < 0 ? (int)pid : 0;
    }
    if (rc == 0) {
        ld_handover_service_write(upgrade->handover, host->service);
        ld_estate_write(host, upgrade->handover);
        rc = ld_handover_write(upgrade->handover, own);
        rc = rc == 0 ? execute(upgrade) : rc;
        ld_estate_give_back(host, upgrade->handover);
    }
    if (go >= 0) {
        hold_back(go, pid);
    }
    if (own >= 0) {
        close(own);
    }
    return rc;
}

/* Become the program. Returns if that failed, or in the remnant. */
static void become(struct ld_host *host) {
    struct ld_upgrade *upgrade = &host->upgrade;
    sigset_t all;
    sigset_t before;
    upgrade->frozen = uv_hrtime();
    upgrade->frozen_real = ld_time_real();
    ld_profiling_abandon(host);
    ld_heap_copy_abandon(host);
    ld_inquiry_abandon(host);
    ld_saving_abandon(host);
    ld_sentry_stop(
        host->sentry); /* fork copies no thread, and no lock that one holds can be opened */
    host->sentry = NULL;
    ld_control_take_over(host->control);
    fflush(NULL);
    sigfillset(&all);
    sigprocmask(SIG_SETMASK, &all, &before);
    int rc = leave(host);
    if (host->is_remnant) {
        return;
    }
    sigprocmask(SIG_SETMASK, &before, NULL);
    ld_watchman_open(host);
    ld_text_format(&upgrade->why, "%s: %s", upgrade->path,
                   rc == -EMFILE ? "the limit of open files is too low: while it starts it needs "
                                   "another descriptor for each that it takes over"
                                 : strerror(-rc));
    refuse(host);
}

/* Whether nothing is under way that the next program could not go on with, or the time for it is over. */
static bool is_quiet(struct ld_host *host) {
    const struct ld_script *script = host->script;
    bool is_busy = script->commands > 0 || ld_control_is_answering(host->control) ||
                   (script->guest != NULL && ld_guest_has_requests(script->guest));
    if (is_busy && uv_now(&host->loop) < host->upgrade.deadline) {
        ld_alarm_wake_at(host, uv_now(&host->loop) + QUIET_LOOK_MS);
        return false;
    }
    return true;
}

/* Check whether the trial has ended. */
static void step_trial(struct ld_host *host) {
    struct ld_upgrade *upgrade = &host->upgrade;
    if (upgrade->trial != NULL) {
        return;
    }
    ld_upgrade_trial_drop(upgrade);
    if (!ld_text_is_empty(&upgrade->why)) {
        refuse(host);
    } else if (host->service->worker > 0) {
        upgrade->phase = LD_UPGRADE_HELD;
        tell_master(host, LD_WORKERS_WORD_UPGRADE_CAN, "");
    } else if (host->service->is_master) {
        upgrade->phase = LD_UPGRADE_CREW;
        ld_crew_begin(host);
    } else {
        upgrade->phase = LD_UPGRADE_QUIET;
        upgrade->deadline = uv_now(&host->loop) + QUIET_MS;
    }
}

/* Check whether the workers have become the program. */
static void step_crew(struct ld_host *host) {
    int rc = ld_crew_step(host);
    if (rc < 0) {
        refuse(host);
    } else if (rc > 0) {
        host->upgrade.phase = LD_UPGRADE_QUIET;
        host->upgrade.deadline = uv_now(&host->loop) + QUIET_MS;
    }
}

/* Check whether those that did are this program again. */
static void step_undo(struct ld_host *host) {
    if (ld_crew_step(host) != 0) {
        refuse(host);
    }
}

/* Check whether the script has given its state. */
static void step_asking(struct ld_host *host) {
    struct ld_upgrade *upgrade = &host->upgrade;
    bool asks_to_stop = (host->script->wants & (LD_WANT_STOP | LD_WANT_EXIT)) != 0;
    if (!upgrade->answered && uv_now(&host->loop) >= upgrade->deadline) {
        ld_text_format(&upgrade->why, "its on_reload function took longer than %.10g s",
                       host->service->options->start_timeout);
    }
    if (ld_text_is_empty(&upgrade->why) && upgrade->answered && !asks_to_stop) {
        pack_kept(host);
    }
    if (!ld_text_is_empty(&upgrade->why)) {
        refuse(host);
    } else if (asks_to_stop) {
        return; /* which comes first */
    } else if (upgrade->answered) {
        become(host);
    } else {
        ld_alarm_wake_at(host, upgrade->deadline);
    }
}

/* Give it up, for a reason. */
static void give_up(struct ld_host *host, const char *why) {
    ld_text_clear(&host->upgrade.why);
    ld_text_puts(&host->upgrade.why, why);
    refuse(host);
}

/* Give it up, because the host ends. */
void ld_upgrade_abandon(struct ld_host *host) {
    struct ld_upgrade *upgrade = &host->upgrade;
    if (upgrade->phase != LD_UPGRADE_NONE) {
        give_up(host, "the daemon is stopping");
    }
    tell(host, json_pack("{s:b, s:s}", "ok", 0, "error", "the daemon is stopping"));
    ld_text_fini(&upgrade->why);
    ld_text_fini(&upgrade->said);
}

/* Continue. */
void ld_upgrade_step(struct ld_host *host) {
    struct ld_upgrade *upgrade = &host->upgrade;
    if (upgrade->phase == LD_UPGRADE_NONE) {
        return;
    }
    if (host->state != LD_HOST_RUNNING) {
        give_up(host, "the daemon is stopping");
        return;
    }
    if (upgrade->phase == LD_UPGRADE_ASKED && host->reload.phase == LD_RELOAD_NONE &&
        host->probation.phase == LD_PROBATION_NONE) {
        begin(host);
    }
    if (upgrade->phase == LD_UPGRADE_TRIAL) {
        step_trial(host);
    }
    if (upgrade->phase == LD_UPGRADE_CREW) {
        step_crew(host);
    }
    if (upgrade->phase == LD_UPGRADE_UNDO) {
        step_undo(host);
    }
    if (upgrade->phase == LD_UPGRADE_QUIET && is_quiet(host)) {
        ask_state(host);
    }
    if (upgrade->phase == LD_UPGRADE_ASKING) {
        step_asking(host);
    }
}

/* Say how it ended. */
void ld_upgrade_finish(struct ld_host *host, const struct ld_handover *handover) {
    double ms = (double)(uv_hrtime() - host->upgrade.started) / 1e6;
    double gap = (double)(uv_hrtime() - host->upgrade.frozen) / 1e6;
    unsigned generation = host->script->generation;
    if (handover->back != NULL) {
        char how[48];
        ld_text_clear(&host->upgrade.why);
        ld_text_puts(&host->upgrade.why, handover->back);
        if (begin_undo(host)) {
            return;
        }
        snprintf(how, sizeof how, ", as generation %u", generation);
        log_refusal(host, how);
        ld_worker_tell_memory(host);
        tell_master(host, LD_WORKERS_WORD_UPGRADE_REFUSED, handover->back);
        tell(host, refusal(&host->upgrade.why));
        return;
    }
    ld_worker_tell_memory(host);
    tell_master(host, LD_WORKERS_WORD_UPGRADED, "");
    host->saving.due = 1; /* save what the script has now */
    char *was = ld_json_take_bytes(json_object_get(handover->root, "version"));
    char waited[64] = "";
    if (!host->service->is_master) { /* which has no clients */
        snprintf(waited, sizeof waited, "; new clients waited for %.1f ms", gap);
    }
    ld_log(LD_LOG_INFO, "upgraded: lunad %s, generation %u in %.1f ms (was lunad %s%s)",
           ld_version_text, generation, ms, was != NULL ? was : "?", waited);
    tell(host, json_pack("{s:b, s:s, s:s, s:i, s:f, s:f}", "ok", 1, "version", ld_version_text,
                         "was", was != NULL ? was : "?", "generation", (int)generation, "ms", ms,
                         "gap_ms", gap));
    free(was);
}
