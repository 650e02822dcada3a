/* The thread that watches the loop, as the host uses it. */
#include <signal.h>
#include <unistd.h>

#include "base/log.h"
#include "daemon/hold.h"
#include "daemon/keeper_channel.h"
#include "host/internal.h"

/* End the process, in the thread that watches the loop, because a stop takes too long. Another thread may
 * hold any lock; what waits for one is done last. */
static void end_process(void *arg, const char *where) {
    struct ld_host *host = arg;
    struct ld_service *service = host->service;
    const char *busy = where[0] != '\0' ? "; it is busy in " : "";
    if (ld_sentry_was_asked_again(host->sentry)) {
        ld_log(LD_LOG_ERROR, "%s (pid %d) was asked to stop again: killing it%s%s", service->name,
               (int)getpid(), busy, where);
    } else {
        ld_log(LD_LOG_ERROR, "%s (pid %d) did not stop within %.10g s: killing it%s%s",
               service->name, (int)getpid(), service->options->stop_timeout, busy, where);
    }
    ld_keeper_channel_say_stopping(service);
    ld_stop_kill_left();
    if (!host->was_ready) {
        ld_keeper_channel_report_start(service, LD_START_REPORT_FAILED,
                                       "it was stopped before it was ready, and did not end");
    }
    if (service->keeper < 0) {
        ld_hold_release(service, false);
    }
    ld_stop_kill_left();
    kill(getpid(), SIGKILL);
}

/* Begin to watch. */
int ld_watchman_open(struct ld_host *host) {
    const struct ld_service *service = host->service;
    const struct ld_sentry_config config = {
        .name = service->name,
        .stuck_after = service->options->stuck_after,
        .stop_timeout = service->options->stop_timeout,
        .start_timeout = service->options->start_timeout,
        .heeds_hup = service->options->hup != LD_HUP_IGNORE && !service->ignores_hup,
        .keeper = service->keeper,
        .lobby = host->lobby,
        .script = &host->script,
        .end = end_process,
        .arg = host,
    };
    int rc = ld_sentry_start(&host->sentry, &config);
    ld_sentry_note_state(host->sentry, ld_snapshot_state(host));
    return rc;
}
