/* The stop: on_stop functions, then SIGTERM, then SIGKILL. Nothing that the script has started is left,
 * except what was detached. */
#include <signal.h>
#include <unistd.h>

#include "api/life.h"
#include "base/log.h"
#include "base/time.h"
#include "host/internal.h"
#include "posix/family.h"
#include "posix/inherit.h"
#include "posix/notify.h"
#include "posix/process.h"
#include "posix/reserve.h"

#define AGAIN_MS 10   /* between checks for processes that were killed */
#define KILL_MS  2000 /* how long the kernel may take to end them */
#define CHECK_MS 100  /* between checks of children that got SIGTERM: no event tells of all */

static const char finished[] = "exit"; /* the reason when nothing is left to wait for */

/* Find all descendants of this process, even if the script has used up all descriptors; 0 or a negative
 * errno. */
static int find_family(struct ld_pids *family) {
    ld_reserve_lend();
    int rc = ld_family_find(getpid(), family);
    ld_reserve_take_back();
    return rc;
}

/* Send SIGTERM to the group of every child, and to all their other descendants. To none twice: a second
 * one may mean more. */
static void terminate_children(struct ld_host *host) {
    struct ld_pids family;
    if (!ld_reaper_has_children()) {
        return;
    }
    find_family(&family);
    for (size_t i = 0; i < family.count; i++) {
        if (ld_children_find(host->children, getpgid(family.list[i])) == NULL) {
            ld_process_kill(family.list[i], SIGTERM);
        }
    }
    ld_pids_fini(&family);
    struct ld_child *child = NULL;
    while ((child = ld_children_next(host->children, child)) != NULL) {
        struct ld_child_facts facts;
        ld_child_describe(child, &facts);
        if (!facts.detached) {
            ld_child_terminate(child); /* the host decides when to kill */
        }
    }
}

/* Kill every descendant that is left. */
void ld_stop_kill_left(void) {
    struct ld_pids family;
    if (!ld_reaper_has_children() || find_family(&family) < 0) {
        return;
    }
    for (size_t i = 0; i < family.count; i++) {
        ld_process_kill(family.list[i], SIGKILL);
    }
    ld_pids_fini(&family);
}

/* Whether no process is left that must end. */
static bool is_family_gone(struct ld_host *host) {
    struct ld_pids family;
    if (ld_children_are_awaited(host->children)) { /* cheaper than a search */
        return false;
    }
    if (!ld_reaper_has_children()) {
        return true;
    }
    bool gone = find_family(&family) == 0 && family.count == 0;
    ld_pids_fini(&family);
    return gone;
}

/* The level to log the end at: on a terminal nothing is said of a script that finishes at once. */
static enum ld_log_level end_level(const struct ld_host *host) {
    bool is_seen = !host->service->daemon && ld_log_sink() == LD_LOG_STDERR;
    bool is_quiet = !host->said_started || host->exit_status == LD_STATUS_NO_READER;
    return is_seen && is_quiet ? LD_LOG_DEBUG : LD_LOG_INFO;
}

/* Begin to kill. */
static void begin_kill(struct ld_host *host) {
    host->stop.phase = LD_STOP_KILL;
    host->stop.deadline = ld_alarm_deadline(host, KILL_MS / 1e3);
    ld_stop_kill_left();
    ld_reaper_sweep(host->reaper);
}

/* Begin to end the children. */
static void begin_children(struct ld_host *host) {
    host->stop.phase = LD_STOP_CHILDREN;
    ld_script_restrain(host->script); /* or a child that is started again would never be the last */
    ld_retired_restrain(host);
    terminate_children(host);
}

/* Whether the keeper starts another host after this one: to the service manager that is no stop. Only the
 * first start of all is not repeated when it fails. */
static bool is_restarted(const struct ld_host *host) {
    const struct ld_service *service = host->service;
    bool is_first_start = !host->was_ready && service->restarts.count == 0;
    return service->keeper >= 0 && !is_first_start && !host->asked_to_stop &&
           ld_service_restarts(service, host->exit_status);
}

/* Enter the stopping state. */
static void enter(struct ld_host *host, int status) {
    if (host->state != LD_HOST_STOPPING) {
        host->state = LD_HOST_STOPPING;
        host->exit_status = status;
        if (host->service->handover != NULL) {
            ld_estate_settle(host);
            host->saving.is_barred = true; /* the script has not taken over what it was given */
        }
        ld_sentry_note_state(host->sentry, ld_snapshot_state(host));
        ld_sentry_note_stop(host->sentry,
                            uv_hrtime() +
                                (uint64_t)(host->service->options->stop_timeout * LD_TIME_SECOND));
        if (!is_restarted(host)) {
            ld_notify_send("STOPPING=1");
        }
        ld_reload_abandon(host);
    }
}

/* Run the on_stop functions when the state was asked for: what they do to it is saved at the end. */
static void step_asking(struct ld_host *host, bool late) {
    if (host->stop.phase == LD_STOP_ASKING && !ld_saving_is_asking(host, late)) {
        host->stop.phase = LD_STOP_SCRIPT;
        ld_api_life_run_on_stop(host->script, host->stop.reason);
    }
}

/* Stop for a reason. */
void ld_stop_begin(struct ld_host *host, const char *reason, int status) {
    if (host->state == LD_HOST_STOPPING || host->state == LD_HOST_ENDED) {
        return;
    }
    enter(host, status);
    host->stop.phase = LD_STOP_ASKING;
    host->stop.reason = reason;
    host->stop.deadline = ld_alarm_deadline(host, host->service->options->stop_timeout);
    ld_saving_begin_last(host);
    step_asking(host, false);
}

/* Stop at once. */
void ld_stop_now(struct ld_host *host, int status) {
    bool killing = host->state == LD_HOST_STOPPING && host->stop.phase == LD_STOP_KILL;
    if (host->state == LD_HOST_ENDED || killing) {
        return;
    }
    enter(host, status);
    begin_kill(host);
}

/* Check whether what was killed has ended. */
static void step_kill(struct ld_host *host) {
    if (!is_family_gone(host)) {
        if (uv_now(&host->loop) < host->stop.deadline) {
            ld_stop_kill_left(); /* one may have been forked meanwhile */
            ld_alarm_wake_at(host, uv_now(&host->loop) + AGAIN_MS);
            return;
        }
        ld_log(LD_LOG_ERROR, "some processes of the script could not be ended");
    }
    host->state = LD_HOST_ENDED;
}

/* Continue the stop. */
void ld_stop_step(struct ld_host *host) {
    bool late = uv_now(&host->loop) >= host->stop.deadline;
    step_asking(host, late);
    if (host->stop.phase == LD_STOP_SCRIPT &&
        (late || (host->script->on_stop.done && !ld_retired_is_stopping(host)))) {
        begin_children(host);
    }
    if (host->stop.phase == LD_STOP_CHILDREN) {
        if (is_family_gone(host)) {
            host->state = LD_HOST_ENDED;
            return;
        }
        if (late) {
            ld_log(LD_LOG_WARN,
                   "not all processes ended after SIGTERM within %.10g s: killing them",
                   host->service->options->stop_timeout);
            begin_kill(host);
        } else {
            ld_alarm_wake_at(host, uv_now(&host->loop) + CHECK_MS);
        }
    }
    if (host->stop.phase == LD_STOP_KILL) {
        step_kill(host);
        return;
    }
    ld_alarm_wake_at(host, host->stop.deadline);
}

/* Stop because nothing is left to wait for. */
void ld_stop_finish(struct ld_host *host, const char *why, int status) {
    ld_log(status != 0 ? LD_LOG_INFO : end_level(host), "finished: %s", why);
    ld_stop_begin(host, finished, status);
}

/* Log the end. */
void ld_stop_log_end(const struct ld_host *host) {
    if (host->stop.reason != finished) {
        ld_log(end_level(host), "stopped");
    }
}
