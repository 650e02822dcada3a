#include "daemon/keeper.h"

#include <errno.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/log.h"
#include "base/time.h"
#include "daemon/crash_file.h"
#include "daemon/hold.h"
#include "daemon/keeper_between.h"
#include "daemon/keeper_host.h"
#include "engine/signals.h"
#include "posix/family.h"
#include "posix/inherit.h"
#include "posix/notify.h"
#include "posix/packet.h"

/* How a host ended. */
struct end {
    struct ld_text how; /* "killed by SIGSEGV" */
    const char *crash;  /* the path of the report of the crash, or NULL */
    int status;         /* 0: it has finished; else it has failed */
};

/* Find out how the host ended. */
static void find_end(struct ld_keeper *keeper, struct end *end) {
    bool was_killed = WIFSIGNALED(keeper->status);
    *end = (struct end){.status = was_killed ? 1 : WEXITSTATUS(keeper->status)};
    ld_keeper_host_describe_end(keeper, &end->how);
    if (was_killed) {
        ld_log_reopen(); /* the host may have reopened its own meanwhile */
        end->crash = ld_crash_file_take(keeper->service, ld_text_string(&end->how));
    }
}

/* Log how the host ended, and WHAT follows. */
static void log_end(const struct ld_keeper *keeper, const struct end *end, const char *what) {
    ld_log_reopen();
    ld_log(end->status != 0 ? LD_LOG_ERROR : LD_LOG_INFO, "%s (pid %d) %s%s%s%s, after %.1f s%s",
           keeper->service->name, (int)keeper->host, WIFSIGNALED(keeper->status) ? "was " : "",
           ld_text_string(&end->how), end->crash != NULL ? ", report in " : "",
           end->crash != NULL ? end->crash : "", ld_time_seconds() - keeper->born, what);
}

/* Note in NAME.start how the service, or this host of it, has died. */
static void note_death(const struct ld_keeper *keeper, const char *how, const struct end *end) {
    ld_record_note_death(keeper->service->run_fd, keeper->service->name, how, end->crash);
}

/* Log and report how the last host ended, if a signal killed it. */
static void explain_death(struct ld_keeper *keeper, const struct end *end) {
    if (!WIFSIGNALED(keeper->status)) {
        return;
    }
    log_end(keeper, end, "");
    note_death(keeper, ld_text_string(&end->how), end);
    if (!keeper->was_ready) {
        struct ld_text text = {0};
        ld_text_format(&text, "%s died before it was ready: %s%s%s", keeper->service->name,
                       ld_text_string(&end->how), end->crash != NULL ? ", report in " : "",
                       end->crash != NULL ? end->crash : "");
        ld_keeper_host_report(keeper, LD_START_REPORT_FAILED, ld_text_string(&text));
        ld_text_fini(&text);
    }
}

/* Note for the next host, and for status, how the last one ended. */
static void note_end(struct ld_keeper *keeper, const struct end *end) {
    struct ld_restarts *restarts = &keeper->service->restarts;
    ld_text_clear(&restarts->message);
    ld_text_append(&restarts->message, &end->how);
    restarts->report = end->crash;
    restarts->seconds = ld_time_seconds() - keeper->born;
    restarts->time = (double)ld_time_real() / LD_TIME_SECOND;
}

/* Give up, because there were too many starts. */
static void give_up(struct ld_keeper *keeper, const struct end *end) {
    struct ld_text text = {0};
    keeper->gave_up = true;
    log_end(keeper, end, "");
    ld_log(LD_LOG_ERROR, "giving up: %d starts of %s within %.10g s", LD_BACKOFF_STARTS,
           keeper->service->name, LD_BACKOFF_WITHIN);
    ld_text_format(&text, "given up after %d starts within %.10g s (%s)", LD_BACKOFF_STARTS,
                   LD_BACKOFF_WITHIN, ld_text_string(&end->how));
    note_death(keeper, ld_text_string(&text), end);
    ld_text_fini(&text);
}

/* Plan the start of the next host, and log how the last one ended; false if none follows it. */
static bool plan_next(struct ld_keeper *keeper, const struct end *end) {
    double now = ld_time_seconds();
    keeper->stopping |= end->status == LD_STATUS_NO_READER && !ld_inherit_has_reader();
    if (!keeper->was_ready || keeper->stopping ||
        !ld_service_restarts(keeper->service, end->status)) {
        explain_death(keeper, end);
        return false;
    }
    note_end(keeper, end);
    if (ld_backoff_is_over(&keeper->backoff, now)) {
        give_up(keeper, end);
        return false;
    }
    double delay = ld_backoff_next(&keeper->backoff, keeper->ready ? now - keeper->ready_at : 0);
    ld_keeper_between_begin(keeper);
    char next[64];
    snprintf(next, sizeof next, "; restarting in %.1f s", delay);
    log_end(keeper, end, next);
    note_death(keeper, ld_text_string(&end->how), end);
    keeper->due = now + delay;
    return true;
}

static const int passed_on[] = {SIGHUP,  SIGUSR1, SIGUSR2, SIGQUIT,
                                SIGTERM, SIGINT,  SIGPIPE, SIGCHLD};

/* Begin to catch the signals that are passed on. They stay blocked for now. */
static int catch_signals(void) {
    int rc = ld_signals_open();
    for (size_t i = 0; i < LD_COUNT(passed_on) && rc == 0; i++) {
        rc = ld_signals_catch(passed_on[i]);
    }
    return rc;
}

/* Stop catching signals. */
static void release_signals(void) {
    for (size_t i = 0; i < LD_COUNT(passed_on); i++) {
        ld_signals_release(passed_on[i]);
    }
    ld_signals_close();
}

/* Make the channel (the end of the keeper first) and fork the host. The pid, 0 in the host, or a
 * negative errno. */
static pid_t fork_with_channel(int ends[2]) {
    int rc = ld_packet_open(ends);
    if (rc < 0) {
        return rc;
    }
    pid_t host = fork();
    if (host < 0) {
        rc = -errno;
        close(ends[0]);
        close(ends[1]);
        return rc;
    }
    return host;
}

/* Fork a host, with signals blocked, and begin its life: its pid, 0 in the host, or a negative errno. The host
 * inherits everything that the service holds. What a later host is to get from the one before it goes into
 * the service before this. */
static pid_t fork_host(struct ld_keeper *keeper) {
    struct ld_service *service = keeper->service;
    int ends[2];
    ld_crash_file_share(service);
    pid_t host = fork_with_channel(ends);
    if (host < 0) {
        return host;
    }
    if (host == 0) {
        release_signals();
        close(ends[0]);
        service->keeper = ends[1];
        return 0;
    }
    close(ends[1]);
    keeper->host = host;
    keeper->channel = ends[0];
    keeper->ready = false;
    keeper->ended = false;
    keeper->killed = false;
    keeper->status = 0;
    keeper->born = ld_time_seconds();
    ld_text_clear(&keeper->failure);
    ld_backoff_note_start(&keeper->backoff, keeper->born);
    return host;
}

/* Fork the next host as soon as that is possible. 0 in the host, 1 in the keeper, below 0 if it shall not
 * follow after all. */
static int start_next(struct ld_keeper *keeper) {
    struct ld_service *service = keeper->service;
    for (;;) {
        if (!ld_keeper_between_stand_in(keeper)) {
            return -1;
        }
        service->restarts.count++;
        ld_inherit_block_signals();
        pid_t host = fork_host(keeper);
        if (host > 0) {
            ld_hold_forget_death(service);
        }
        if (host >= 0) {
            return host > 0;
        }
        ld_inherit_unblock_signals();
        ld_keeper_between_begin(keeper);
        service->restarts.count--;
        double delay = ld_backoff_next(&keeper->backoff, 0);
        keeper->due = ld_time_seconds() + delay;
        ld_log(LD_LOG_ERROR, "%s cannot be started (%s); trying again in %.1f s", service->name,
               strerror(-host), delay);
    }
}

/* Serve one host after the other: -1 in each of them, 0 in the keeper when none is left. */
static int keep_hosts(struct ld_keeper *keeper) {
    int next = 1;
    while (next > 0) {
        struct end end;
        ld_inherit_unblock_signals();
        ld_keeper_host_reap(keeper);
        ld_keeper_host_attend(keeper);
        ld_keeper_host_take_leave(keeper);
        find_end(keeper, &end);
        bool goes_on = plan_next(keeper, &end);
        ld_text_fini(&end.how);
        ld_family_end_orphans(); /* we have adopted the orphans of the host */
        if (goes_on) {           /* one of them may have shared the lock that shows it */
            ld_pidfile_show_waiting(&keeper->service->pidfile, keeper->waiting);
        }
        next = goes_on ? start_next(keeper) : -1;
    }
    return next == 0 ? -1 : 0;
}

/* Clean up after the last host; the exit status to take. */
static int clean_up(struct ld_keeper *keeper) {
    bool stopped_between = keeper->waiting;
    bool was_killed = WIFSIGNALED(keeper->status) && !stopped_between;
    bool died = keeper->gave_up ||
                (was_killed && !keeper->killed && !keeper->stopping && keeper->was_ready);
    ld_inherit_reset_signals();
    if (stopped_between) {
        ld_log(LD_LOG_INFO, "stopped before it was restarted");
    }
    if (stopped_between || keeper->gave_up) { /* else the host has said so */
        ld_notify_send("STOPPING=1");
    }
    ld_hold_release(keeper->service, died);
    ld_notify_close();
    ld_text_fini(&keeper->failure);
    return stopped_between               ? 0
           : keeper->gave_up             ? 1
           : WIFSIGNALED(keeper->status) ? 128 + WTERMSIG(keeper->status)
                                         : WEXITSTATUS(keeper->status);
}

/* Fork the host after everything that the keeper needs is open. Signals are blocked here; host and
 * keeper catch their own. */
int ld_keeper_fork(struct ld_service *service, struct ld_text *why) {
    struct ld_keeper keeper = {.service = service};
    ld_notify_open(service->notify_socket);
    prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0);
    int rc = catch_signals();
    rc = rc == 0 ? fork_host(&keeper) : rc;
    if (rc < 0) {
        ld_text_format(why, "the keeper: %s", strerror(-rc));
        return 1;
    }
    if (rc == 0) {
        return -1;
    }
    if (!ld_keeper_host_is_restarted(&keeper)) {
        close(service->listener); /* so that it does not outlive the host */
        service->listener = -1;
    }
    rc = keep_hosts(&keeper);
    if (rc < 0) {
        ld_text_fini(&keeper.failure); /* the memory of the keeper, copied */
    }
    return rc < 0 ? rc : clean_up(&keeper);
}
