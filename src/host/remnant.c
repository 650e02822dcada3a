/* What goes on of a generation when this process becomes another program: a fork of it, which serves the clients
 * that are connected and runs the on_stop functions, as a generation does that was replaced, and ends. It
 * owns nothing of the service: the pidfile, the sockets and the children are those of the other process. */
#include <signal.h>
#include <stdio.h>
#include <sys/prctl.h>
#include <time.h>
#include <unistd.h>

#include "api/child_keep.h"
#include "api/life.h"
#include "base/log.h"
#include "engine/child_relic.h"
#include "engine/crash.h"
#include "engine/mail_relic.h"
#include "engine/signals.h"
#include "host/internal.h"
#include "posix/inherit.h"
#include "posix/notify.h"
#include "posix/title.h"
#include "script/guard.h"

#define SLACK_SECONDS                                                                              \
    2 /* beside --stop-timeout, before a process that does not even look at the time is ended */

/* Whether it is needed. */
bool ld_remnant_is_needed(const struct ld_host *host) {
    const struct ld_script *script = host->script;
    bool has_clients = !LIST_EMPTY(&script->connections) ||
                       (script->guest != NULL && ld_guest_is_connected(script->guest));
    return has_clients || script->commands > 0 || host->retired != NULL ||
           ld_api_life_has_on_stop(script) || ld_children_are_lingering(host->children);
}

/* Close a descriptor that the other process has. */
static void close_fd(int *fd) {
    if (*fd >= 0) {
        close(*fd);
        *fd = -1;
    }
}

/* Give up what belongs to the service. */
static void give_up(struct ld_host *host) {
    struct ld_service *service = host->service;
    int *fds[] = {&service->pidfile.fd, &service->claim,   &service->file_watch, &service->keeper,
                  &service->run_fd,     &service->channel, &service->crash_fd};
    ld_log_set_opener(NULL, NULL);
    ld_log_set_rotator(NULL, NULL);
    ld_log_watch_close(host);
    ld_watching_close(host);
    ld_notify_close();
    uv_timer_stop(&host->watchdog);
    if (host->has_keeper) {
        uv_poll_stop(&host->keeper);
    }
    if (host->has_file_watch) {
        uv_poll_stop(&host->file_watch);
    }
    for (size_t i = 0; i < LD_COUNT(fds); i++) {
        close_fd(fds[i]);
    }
    for (size_t i = 0; i < service->socket_count; i++) {
        close_fd(&service->sockets[i].fd);
    }
    ld_parcels_leave(host->parcels);
    ld_mail_relic_disown(host->mailing.mail, host->upgrade.beside);
    host->upgrade.beside = -1;
    ld_control_close(host->control);
    ld_listeners_leave(host->listeners);
}

/* End the generation as one that was replaced. */
static void retire(struct ld_host *host) {
    struct ld_script *script = host->script;
    ld_child_relic_disown(host->children);
    ld_api_child_keep_let_go(script);
    for (const struct ld_retired *at = host->retired; at != NULL; at = at->next) {
        ld_api_child_keep_let_go(at->script);
    }
    host->script = NULL;
    ld_stage_move(&script->stage, LD_STAGE_REPLACED);
    ld_retired_begin(host, script);
}

/* Wait until the other process is another program; end if it is not, or has gone. */
static void wait_for_exec(int go, pid_t parent) {
    char byte;
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != parent || read(go, &byte, 1) != 0) {
        _exit(0);
    }
    close(go);
}

/* Have the kernel end this process in SECONDS. A script may handle any other signal. */
static void limit_life(double seconds) {
    struct sigevent event = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGKILL};
    struct itimerspec when = {.it_value.tv_sec = (time_t)seconds};
    timer_t timer;
    if (timer_create(CLOCK_MONOTONIC, &event, &timer) < 0 ||
        timer_settime(timer, 0, &when, NULL) < 0) {
        alarm((unsigned)seconds);
    }
}

/* Begin. Before the exec nothing may be touched that both processes share, as the sets of epoll. */
void ld_remnant_begin(struct ld_host *host, int go, pid_t parent) {
    wait_for_exec(go, parent);
    host->is_remnant = true;
    ld_title_set("lunad: (replaced)");
    ld_log_free_in_copy();
    ld_crash_give_up();
    ld_guard_renew();
    ld_signals_take();
    limit_life(host->service->options->stop_timeout + SLACK_SECONDS);
    give_up(host);
    retire(host);
    ld_inherit_unblock_signals();
}

/* Continue. */
void ld_remnant_step(struct ld_host *host) {
    if (host->remnant_stops) {
        ld_retired_close_all(host); /* the service stops */
    }
    ld_retired_step(host);
    if (host->retired == NULL && !ld_children_are_lingering(host->children)) {
        ld_stop_kill_left();
        ld_mailing_close(host);
        fflush(NULL);
        _exit(0);
    }
}
