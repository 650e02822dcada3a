/* What signals mean to the host, where the script has no handler of its own. */
#include <signal.h>
#include <string.h>

#include "host_internal.h"
#include "keeper.h"
#include "lib.h"
#include "log.h"
#include "reserve.h"
#include "signals.h"
#include "status_text.h"

/* Reopen the log, and say so in it. */
int ld_host_reopen_log(void) {
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

/* Write the status report to the log. */
static void log_status(struct ld_host *host) {
    struct ld_text text = {0};
    json_t *report = ld_host_snapshot(host);
    if (report != NULL) {
        ld_status_text(&text, report);
        ld_log(LD_LOG_INFO, "status: %s", ld_text_string(&text));
    } else {
        ld_log(LD_LOG_ERROR, "status: not enough memory for a report");
    }
    json_decref(report);
    ld_text_fini(&text);
}

/* Write the traceback of everything that runs to the log. Nothing is in the middle of Lua now: what
 * runs is what is suspended. */
static void log_traceback(struct ld_host *host) {
    struct ld_text text = {0};
    ld_lib_task_traceback(host->script, &text);
    ld_log(LD_LOG_INFO, "traceback of all tasks:%s",
           text.size > 0 ? ld_text_string(&text) : " nothing is suspended");
    ld_text_fini(&text);
}

/* Stop as asked from outside; asked again, stop now. */
void ld_host_ask_stop(struct ld_host *host) {
    if (host->state == LD_HOST_STOPPING) {
        ld_log(LD_LOG_WARN, "asked to stop again: stopping now");
        ld_stop_now(host, host->exit_status);
    } else {
        ld_log(LD_LOG_INFO, "stopping");
        ld_stop_begin(host, "stop", 0);
    }
}

/* Do what SIGHUP does without a handler. A terminal that has gone takes what runs on it along. */
static void hang_up(struct ld_host *host, bool by_kernel) {
    if (by_kernel && !host->service->daemon) {
        ld_host_ask_stop(host);
        return;
    }
    switch ((enum ld_hup)host->service->options->hup) {
    case LD_HUP_RELOAD:
        ld_reload_ask(host, NULL);
        break;
    case LD_HUP_STOP:
        ld_host_ask_stop(host);
        break;
    case LD_HUP_IGNORE:
        break;
    }
}

/* Do what a signal does without a handler of the script. */
static void do_default(struct ld_host *host, int signo, bool by_kernel) {
    switch (signo) {
    case SIGTERM:
    case SIGINT:
        ld_host_ask_stop(host);
        break;
    case SIGHUP:
        hang_up(host, by_kernel);
        break;
    case SIGUSR1:
        ld_host_reopen_log();
        break;
    case SIGUSR2:
        log_status(host);
        break;
    case SIGQUIT:
        log_traceback(host);
        break;
    default:
        break;
    }
}

/* Handle a signal: the script's own handlers replace what it does otherwise. */
void ld_host_on_signal(void *arg, int signo, bool by_kernel) {
    struct ld_host *host = arg;
    if (signo == SIGCHLD) {
        ld_reaper_sweep(host->reaper);
    } else if (host->state == LD_HOST_ENDED) {
        return; /* it is being closed */
    } else if (host->script == NULL || !ld_lib_signal_deliver(host->script, signo)) {
        if (!ld_signals_is_shared(signo)) { /* else a handler of luv's replaces it as well */
            do_default(host, signo, by_kernel);
        }
    }
}

/* Handle what the keeper says. */
void ld_host_on_keeper(uv_poll_t *poll, int status, int events) {
    struct ld_host *host = LD_CONTAINER_OF(poll, struct ld_host, keeper);
    (void)status;
    (void)events;
    int fd = -1;
    switch (ld_keeper_hear(host->service, &fd)) {
    case LD_KEEPER_NOTHING:
        break;
    case LD_KEEPER_STOP:
        if (host->state != LD_HOST_STOPPING) {
            ld_host_on_signal(host, SIGTERM, false);
        }
        break;
    case LD_KEEPER_SOCKET:
        host->service->listener = fd; /* taken in this turn */
        break;
    case LD_KEEPER_GONE:
        uv_poll_stop(poll);
        host->service->keeper = -1;
        ld_log(LD_LOG_WARN, "the keeper is gone: no process will reopen the log or clean up");
        break;
    }
}
