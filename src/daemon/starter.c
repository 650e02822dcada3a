#include "daemon/starter.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <unistd.h>

#include "base/say.h"
#include "base/time.h"
#include "daemon/hold.h"
#include "daemon/start_report.h"
#include "posix/family.h"
#include "posix/leftovers.h"
#include "posix/process.h"

#define END_MS    2000 /* for the end of a daemon whose start has failed */
#define LONGEST_S 1e6  /* the longest wait that poll can take; beyond it waits for ever */
#define SLACK_S   5.0  /* for what the daemon does besides its own time limits */

/* The state of a start. */
struct start {
    const struct ld_service *service;
    int channel;
    pid_t pid;  /* of the daemon, or its keeper, from the kernel; 0: not known yet */
    int pidfd;  /* -1: none */
    bool alone; /* all our descendants are those of the daemon */
    struct ld_start_report report;
};

static volatile sig_atomic_t interrupted_by;

/* Note that a signal interrupts the start. */
static void on_interrupt(int signo) {
    interrupted_by = signo;
}

/* Catch the signals that may interrupt a start; only ppoll, with MASK, lets them in. */
static void catch_interrupts(sigset_t *mask) {
    static const int signals[] = {SIGINT, SIGTERM, SIGHUP, SIGQUIT};
    struct sigaction action = {.sa_handler = on_interrupt};
    sigfillset(mask);
    for (size_t i = 0; i < LD_COUNT(signals); i++) {
        sigaction(signals[i], &action, NULL);
        sigdelset(mask, signals[i]);
    }
}

/* Receive a report: 1, 0 at the end of the channel, or a negative errno. The first report, sent
 * before any line of the script runs, tells which process is the daemon. */
static int receive(struct start *start) {
    struct ld_start_report *report = &start->report;
    int rc = ld_start_report_receive(start->channel, report);
    if (rc == 1 && report->kind == LD_START_REPORT_BORN && start->pid == 0) {
        start->pid = report->sender;
        start->pidfd = ld_process_open(start->pid);
    }
    return rc;
}

/* Wait for the next report until DEADLINE: 1, 0 at the end of the channel, -ETIMEDOUT, -EINTR. */
static int next_report(struct start *start, const sigset_t *mask, double deadline) {
    struct pollfd poller = {.fd = start->channel, .events = POLLIN};
    double left = deadline - ld_time_seconds();
    struct timespec wait = {.tv_sec = left > 0 ? (time_t)left : 0};
    wait.tv_nsec = left > 0 ? (long)((left - (double)wait.tv_sec) * 1e9) : 0;
    int rc = ppoll(&poller, 1, &wait, mask);
    if (interrupted_by != 0) {
        return -EINTR;
    }
    if (rc <= 0) {
        return rc == 0 ? -ETIMEDOUT : -errno;
    }
    rc = receive(start);
    return rc == 1 && start->report.kind == LD_START_REPORT_BORN
               ? next_report(start, mask, deadline)
               : rc;
}

/* Wait for the first report, which tells which process is the daemon. */
static void learn_pid(struct start *start) {
    struct pollfd poller = {.fd = start->channel, .events = POLLIN};
    while (start->pid == 0 && poll(&poller, 1, END_MS) > 0 && receive(start) == 1) {
    }
}

/* End a daemon and everything that it has started, but no children that this process had before it
 * became lunad by exec. */
static void end_daemon(struct start *start) {
    struct ld_leftovers leftovers = {0};
    learn_pid(start); /* an interruption may have come before the first report was received */
    if (start->pid > 0) {
        ld_family_freeze(start->pid, start->pidfd); /* it may be about to bind one more */
        ld_leftovers_find(&leftovers, start->pid);
    }
    if (start->alone) {
        ld_family_end_orphans();
    } else if (start->pid > 0) {
        ld_family_end(start->pid, start->pidfd);
    }
    if (start->pidfd >= 0) {
        ld_process_has_ended(start->pidfd, END_MS);
    }
    ld_leftovers_remove(&leftovers);
}

/* Wait until the daemon has cleaned up and is gone. */
static void wait_for_end(struct start *start) {
    struct pollfd poller = {.fd = start->channel, .events = POLLIN};
    double deadline = ld_time_seconds() + start->service->options->stop_timeout + SLACK_S;
    char byte;
    int rc;
    do {
        double left = deadline - ld_time_seconds();
        rc = left > 0 ? poll(&poller, 1, left < LONGEST_S ? (int)(left * 1000) + 1 : -1) : 0;
    } while ((rc < 0 && errno == EINTR) || (rc > 0 && read(start->channel, &byte, 1) > 0));
    if (rc <= 0 || (start->pidfd >= 0 && !ld_process_has_ended(start->pidfd, END_MS))) {
        end_daemon(start);
    }
    ld_hold_remove_stale(start->service->run_fd, start->service->name);
}

/* Print how a reported start went. */
static int conclude(struct start *start) {
    const char *name = start->service->name;
    const struct ld_start_report *report = &start->report;
    switch (report->kind) {
    case LD_START_REPORT_READY:
        if (!ld_text_is_empty(&report->text)) {
            ld_say_error("%s: %s", name, ld_text_string(&report->text));
        }
        ld_say("%s: started (pid %d)", name, report->status);
        return 0;
    case LD_START_REPORT_FINISHED:
        wait_for_end(start);
        ld_say("%s: finished", name);
        return 0;
    case LD_START_REPORT_BORN:
    case LD_START_REPORT_FAILED:
        break;
    }
    wait_for_end(start);
    ld_say_error("%s", ld_text_string(&report->text));
    return report->status > 0 && report->status <= 4 ? report->status : 1;
}

/* Print why there was no report, and remove everything that is left. */
static int give_up(struct start *start, int rc) {
    const struct ld_service *service = start->service;
    end_daemon(start);
    ld_hold_remove_stale(service->run_fd, service->name);
    if (rc == -EINTR) {
        ld_say_error("%s: start cancelled", service->name);
    } else if (rc == -ETIMEDOUT) {
        ld_say_error("%s: the script was not ready after %.10g s, and could not be interrupted",
                     service->name, service->options->start_timeout);
    } else {
        ld_say_error("%s: the daemon died before it was ready%s%s", service->name,
                     service->log_path != NULL ? "; see its log, " : "",
                     service->log_path != NULL ? service->log_path : "");
    }
    return 1;
}

/* Wait for the daemon. */
int ld_starter_wait(const struct ld_service *service, int channel, bool alone) {
    struct start start = {.service = service, .channel = channel, .pidfd = -1, .alone = alone};
    sigset_t mask;
    catch_interrupts(&mask);
    int rc =
        next_report(&start, &mask, ld_time_seconds() + service->options->start_timeout + SLACK_S);
    int status = rc == 1 ? conclude(&start) : give_up(&start, rc);
    if (start.pidfd >= 0) {
        close(start.pidfd);
    }
    ld_text_fini(&start.report.text);
    return status;
}

bool ld_starter_was_cancelled(void) {
    return interrupted_by != 0;
}
