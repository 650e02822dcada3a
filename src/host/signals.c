/* What a signal does if the script has no handler for it. */
#include <signal.h>
#include <unistd.h>

#include "api/signal.h"
#include "base/log.h"
#include "daemon/hold.h"
#include "daemon/hold_log.h"
#include "daemon/keeper_channel.h"
#include "engine/signals.h"
#include "host/internal.h"
#include "host/workers.h"
#include "posix/inherit.h"
#include "script/guard.h"
#include "script/interrupt.h"

#define ECHO_MS           200 /* after a stop by the keeper: the same signal may come to this process */
#define BROKEN_WRITES_MAX 100 /* in one turn of the loop */

static const int own_signals[] = {SIGTERM, SIGINT,  SIGHUP,  SIGUSR1, SIGUSR2,
                                  SIGQUIT, SIGPIPE, SIGXFSZ, SIGCHLD};

static struct ld_host *watched; /* whose writes are watched, or NULL */
static unsigned broken_writes;  /* since the loop has turned */

/* Stop, in the foreground, when stdout has no reader: SIGPIPE ends other programs. */
static void lose_reader(struct ld_host *host) {
    broken_writes = 0;
    if (host->service->needs_reader && !ld_inherit_has_reader() &&
        host->state != LD_HOST_STOPPING) {
        ld_guard_stop();
        ld_actions_note_stop(host);
        ld_stop_begin(host, "stop", LD_STATUS_NO_READER);
    }
}

/* Count the writes that fail. Runs in the signal handler: a script that returns to the loop is stopped
 * there; one that does not is interrupted here. */
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
void ld_host_signals_watch_reader(struct ld_host *host) {
    watched = host;
    broken_writes = 0;
    ld_signals_on_arrival(SIGPIPE, host != NULL ? on_broken_write : NULL);
}

/* Do what a signal does if the script has no handler. */
static void do_default(struct ld_host *host, int signo) {
    switch (signo) {
    case SIGTERM:
    case SIGINT:
        ld_actions_stop(host);
        break;
    case SIGHUP:
        ld_actions_hang_up(host);
        break;
    case SIGPIPE:
        lose_reader(host);
        break;
    case SIGUSR1:
        ld_actions_reopen_log(host);
        break;
    case SIGUSR2:
        ld_actions_log_status(host);
        break;
    case SIGQUIT:
        ld_actions_log_traceback(host);
        break;
    default:
        break;
    }
}

/* Handle a signal: handlers of the script replace what the host does. */
static void on_signal(void *arg, int signo, bool by_kernel) {
    struct ld_host *host = arg;
    (void)by_kernel;
    if (signo == SIGCHLD) {
        ld_reaper_sweep(host->reaper);
        return;
    }
    if (host->state == LD_HOST_ENDED) {
        return; /* it is being closed */
    }
    if (host->is_remnant) {
        host->remnant_stops |= signo == SIGTERM || signo == SIGINT;
        return;
    }
    if (signo == SIGTERM || signo == SIGINT) {
        if (uv_now(&host->loop) < host->echo_until) {
            host->echo_until = 0;
            return; /* the keeper, in the same group, got it too, and was faster */
        }
        ld_actions_note_stop(host); /* even if the script handles it, and stops later */
    }
    if (host->script == NULL || !ld_api_signal_deliver(host->script, signo)) {
        if (!ld_signals_is_shared(signo)) { /* else a handler of luv replaces it as well */
            do_default(host, signo);
        }
    }
}

/* Go on without the keeper. A host that has kept its rights can open the log itself. */
static void lose_keeper(struct ld_host *host) {
    struct ld_service *service = host->service;
    bool is_lesser = ld_service_lesser(service) != NULL;
    if (!is_lesser) {
        ld_log_set_opener(ld_hold_log_open, service);
    }
    ld_log(LD_LOG_WARN, "the keeper is gone: no process will %s%sclean up",
           is_lesser ? "reopen or rotate the log or " : "",
           ld_service_restarts(service, 1) ? "restart this or " : "");
}

/* Stop as the keeper asks. */
void ld_host_signals_on_stop(struct ld_host *host) {
    if (host->state != LD_HOST_STOPPING) {
        on_signal(host, SIGTERM, false);
        host->echo_until = uv_now(&host->loop) + ECHO_MS;
    }
}

/* Handle a message of the keeper, or of the master. */
void ld_host_signals_on_keeper(uv_poll_t *poll, int status, int events) {
    struct ld_host *host = LD_CONTAINER_OF(poll, struct ld_host, keeper);
    (void)status;
    (void)events;
    int fd = -1;
    if (host->service->worker > 0) {
        if (ld_worker_orders_hear(host)) {
            ld_host_signals_on_stop(host);
        }
        return;
    }
    switch (ld_keeper_channel_hear(host->service, &fd)) {
    case LD_KEEPER_NOTHING:
        break;
    case LD_KEEPER_STOP:
        ld_host_signals_on_stop(host);
        break;
    case LD_KEEPER_SOCKET:
        host->service->listener = fd; /* taken in this turn */
        break;
    case LD_KEEPER_GONE:
        uv_poll_stop(poll);
        host->service->keeper = -1;
        lose_keeper(host);
        break;
    }
}

/* Catch the signals that the host acts on, and unblock all. */
int ld_host_signals_open(struct ld_host *host) {
    int rc = ld_signals_open();
    for (size_t i = 0; i < LD_COUNT(own_signals) && rc == 0; i++) {
        if (own_signals[i] == SIGHUP && host->service->ignores_hup) {
            signal(SIGHUP, SIG_IGN); /* until the script handles it */
        } else {
            rc = ld_signals_catch(own_signals[i]);
        }
    }
    if (host->service->needs_reader) {
        ld_host_signals_watch_reader(host);
    }
    ld_inherit_unblock_signals();
    rc = rc == 0 ? ld_signals_attach(&host->loop, on_signal, host) : rc;
    host->has_signals = rc == 0;
    return rc;
}
