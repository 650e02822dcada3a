/* What signals mean to the host, where the script has no handler of its own. */
#include <signal.h>
#include <string.h>
#include <unistd.h>

#include "api/signal.h"
#include "api/task.h"
#include "base/log.h"
#include "daemon/keeper.h"
#include "engine/signals.h"
#include "host/internal.h"
#include "host/status_text.h"
#include "posix/inherit.h"
#include "posix/reserve.h"
#include "script/guard.h"
#include "script/interrupt.h"

#define FAREWELL_SECONDS  1 /* after a SIGHUP: how long the terminal may take to go */
#define LOOK_EVERY_MS     50
#define BROKEN_WRITES_MAX 100 /* in one turn of the loop */

static struct ld_host *watched; /* whose writes are watched, or NULL */
static unsigned broken_writes;  /* since the loop has turned */

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
    ld_api_task_traceback(host->script, &text);
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

/* Whether the terminal that a script was started on has gone. */
static bool has_lost_terminal(const struct ld_host *host) {
    return host->service->has_terminal && !ld_inherit_has_terminal();
}

/* Stop because the terminal has gone. */
static void follow_terminal(struct ld_host *host) {
    host->terminal_until = 0;
    if (host->state == LD_HOST_STARTING || host->state == LD_HOST_RUNNING) {
        ld_log(LD_LOG_INFO, "the terminal has gone");
        ld_host_ask_stop(host);
    }
}

/* Look again whether the terminal has gone. */
void ld_host_watch_terminal(struct ld_host *host) {
    if (host->terminal_until == 0) {
        return;
    }
    if (has_lost_terminal(host)) {
        follow_terminal(host);
    } else if (uv_now(&host->loop) >= host->terminal_until) {
        host->terminal_until = 0;
    } else {
        ld_host_wake_at(host, uv_now(&host->loop) + LOOK_EVERY_MS);
    }
}

/* Do what SIGHUP does without a handler. A terminal that has gone takes what runs on it along,
 * whoever has passed the signal on: the kernel, a shell, sudo. A shell may do so just before it goes. */
static void hang_up(struct ld_host *host) {
    if (has_lost_terminal(host)) {
        follow_terminal(host);
        return;
    }
    if (host->service->has_terminal) {
        host->terminal_until = ld_host_deadline(host, FAREWELL_SECONDS);
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

/* Stop, in the foreground, when nobody reads what is written to stdout: other programs die of it. */
static void lose_reader(struct ld_host *host) {
    broken_writes = 0;
    if (host->service->needs_reader && !ld_inherit_has_reader() &&
        host->state != LD_HOST_STOPPING) {
        ld_guard_stop();
        ld_stop_begin(host, "stop", LD_STATUS_NO_READER);
    }
}

/* Count the writes that nobody reads, as they fail. Runs in the signal handler: what comes back to the
 * loop is stopped there; a script that does not is interrupted. */
static void on_broken_write(int signo) {
    (void)signo;
    struct ld_host *host = watched;
    if (host == NULL || ++broken_writes < BROKEN_WRITES_MAX || gettid() != getpid() ||
        ld_inherit_has_reader()) {
        return;
    }
    struct ld_script *scripts[] = {host->script, host->reload.next};
    for (size_t i = 0; i < LD_COUNT(scripts); i++) {
        if (scripts[i] != NULL && scripts[i]->interruption.running != NULL) {
            scripts[i]->exit_status = LD_STATUS_NO_READER;
            scripts[i]->wants |= LD_WANT_EXIT;
            scripts[i]->exited = true;
            scripts[i]->interruption.reason = "stdout has no reader";
            ld_interrupt(scripts[i]);
        }
    }
}

/* Watch the writes to stdout. */
void ld_host_watch_reader(struct ld_host *host) {
    watched = host;
    broken_writes = 0;
    ld_signals_on_arrival(SIGPIPE, host != NULL ? on_broken_write : NULL);
}

/* Do what a signal does without a handler of the script. */
static void do_default(struct ld_host *host, int signo) {
    switch (signo) {
    case SIGTERM:
    case SIGINT:
        ld_host_ask_stop(host);
        break;
    case SIGHUP:
        hang_up(host);
        break;
    case SIGPIPE:
        lose_reader(host);
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
    (void)by_kernel;
    if (signo == SIGCHLD) {
        ld_reaper_sweep(host->reaper);
    } else if (host->state == LD_HOST_ENDED) {
        return; /* it is being closed */
    } else if (host->script == NULL || !ld_api_signal_deliver(host->script, signo)) {
        if (!ld_signals_is_shared(signo)) { /* else a handler of luv's replaces it as well */
            do_default(host, signo);
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
