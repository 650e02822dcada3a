/* What signals and requests make the host do. */
#include <string.h>

#include "api/task.h"
#include "base/log.h"
#include "daemon/hold_log.h"
#include "daemon/keeper_channel.h"
#include "host/internal.h"
#include "host/status_text.h"
#include "host/workers.h"
#include "posix/inherit.h"
#include "posix/reserve.h"

#define FAREWELL_SECONDS 1 /* the terminal may go that long after a SIGHUP */
#define CHECK_MS         50

/* Reopen the log, and say so in it. */
int ld_actions_reopen_log(struct ld_host *host) {
    ld_master_tell_reopen(host);
    ld_reserve_lend();
    int rc = ld_log_reopen();
    ld_reserve_take_back();
    if (rc < 0) {
        ld_log(LD_LOG_ERROR, "the log cannot be reopened, the old file stays in use: %s",
               strerror(-rc));
    } else if (ld_log_path() != NULL) {
        ld_log(LD_LOG_INFO, "log reopened");
    }
    return rc;
}

/* Rotate the log, by the keeper if there is one. A host that has kept its rights can do without. */
int ld_actions_rotate_log(void *arg) {
    struct ld_service *service = arg;
    bool by_keeper = service->keeper >= 0 || ld_service_lesser(service) != NULL;
    ld_reserve_lend();
    int rc = by_keeper ? ld_keeper_channel_rotate_log(service) : ld_hold_log_rotate(service);
    ld_reserve_take_back();
    return rc;
}

/* Write the status report to the log. */
void ld_actions_log_status(struct ld_host *host) {
    struct ld_text text = {0};
    json_t *report = ld_snapshot_take(host);
    if (report != NULL) {
        ld_status_text(&text, report);
        ld_log(LD_LOG_INFO, "status: %s", ld_text_string(&text));
    } else {
        ld_log(LD_LOG_ERROR, "status: not enough memory for a report");
    }
    json_decref(report);
    ld_text_fini(&text);
}

/* Write the traceback of everything that runs to the log. No Lua code runs now, so
 * that is what is suspended. */
void ld_actions_log_traceback(struct ld_host *host) {
    struct ld_text text = {0};
    ld_api_task_traceback(host->script, &text);
    ld_log(LD_LOG_INFO, "traceback of all tasks:%s",
           text.size > 0 ? ld_text_string(&text) : " nothing is suspended");
    ld_text_fini(&text);
}

/* Note that a stop was asked for. */
void ld_actions_note_stop(struct ld_host *host) {
    if (!host->asked_to_stop) {
        host->asked_to_stop = true;
        ld_keeper_channel_say_stopping(host->service);
    }
}

/* Stop as asked from outside; asked again, stop now. */
void ld_actions_stop(struct ld_host *host) {
    ld_actions_note_stop(host);
    if (host->state == LD_HOST_STOPPING) {
        ld_log(LD_LOG_WARN, "asked to stop again: stopping now");
        ld_stop_now(host, host->exit_status);
    } else {
        ld_log(host->service->is_console ? LD_LOG_DEBUG : LD_LOG_INFO, "stopping");
        ld_stop_begin(host, "stop", 0);
    }
}

/* Whether the terminal that a script was started on has gone. */
static bool has_lost_terminal(const struct ld_host *host) {
    return host->service->has_terminal && !ld_inherit_has_terminal();
}

/* Stop because the terminal has gone. */
static void follow_terminal(struct ld_host *host) {
    host->terminal_until = 0;
    if (host->state == LD_HOST_STARTING || host->state == LD_HOST_RUNNING) {
        ld_log(LD_LOG_INFO, "the terminal has gone");
        ld_actions_stop(host);
    }
}

/* Check again whether the terminal has gone. */
void ld_actions_watch_terminal(struct ld_host *host) {
    if (host->terminal_until == 0) {
        return;
    }
    if (has_lost_terminal(host)) {
        follow_terminal(host);
    } else if (uv_now(&host->loop) >= host->terminal_until) {
        host->terminal_until = 0;
    } else {
        ld_alarm_wake_at(host, uv_now(&host->loop) + CHECK_MS);
    }
}

/* Do what SIGHUP does without a handler. A terminal that has gone ends what runs on it,
 * whether the kernel, a shell or sudo passed the signal on. A shell may do so just before it exits. */
void ld_actions_hang_up(struct ld_host *host) {
    if (has_lost_terminal(host)) {
        follow_terminal(host);
        return;
    }
    if (host->service->has_terminal) {
        host->terminal_until = ld_alarm_deadline(host, FAREWELL_SECONDS);
    }
    switch ((enum ld_hup)host->service->options->hup) {
    case LD_HUP_RELOAD:
        ld_reload_ask(host, NULL);
        break;
    case LD_HUP_STOP:
        ld_actions_stop(host);
        break;
    case LD_HUP_IGNORE:
        break;
    }
}
