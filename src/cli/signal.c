/* lunad signal */
#include <signal.h>
#include <string.h>
#include <unistd.h>

#include "base/parse.h"
#include "base/say.h"
#include "cli/client.h"
#include "cli/crew.h"
#include "cli/status_report.h"
#include "cli/target.h"
#include "cli/verbs.h"
#include "host/status_text.h"
#include "posix/process.h"

/* Refuse a signal to a daemon that waits to be restarted: its keeper understands only some. */
static int refuse(struct ld_target *target, int signo) {
    struct ld_text state = {0};
    json_t *report = ld_status_report_ask(target, LD_CLIENT_SECONDS);
    if (ld_status_text_is_between(report)) {
        ld_status_text_state(&state, report);
    } else {
        ld_text_puts(&state,
                     report != NULL ? "it was just being restarted, try again" : "it has ended");
    }
    ld_say_error("%s: %s: no process is there to get SIG%s", target->name, ld_text_string(&state),
                 ld_parse_signal_name(signo));
    json_decref(report);
    ld_text_fini(&state);
    return 1;
}

/* Send a signal, an int, to a process. */
static int send_to_one(void *arg, struct ld_target *target) {
    int signo = *(const int *)arg;
    bool is_for_keeper = signo == SIGTERM || signo == SIGINT || signo == SIGHUP || signo == SIGUSR1;
    int pidfd = ld_target_open(target);
    if (pidfd < 0) {
        return 1;
    }
    if (target->holder.waiting && !is_for_keeper) {
        close(pidfd);
        return refuse(target, signo);
    }
    int rc = ld_process_signal(pidfd, signo);
    close(pidfd);
    if (rc < 0) {
        ld_say_error("%s: %s", target->name, strerror(-rc));
        return 1;
    }
    ld_say("%s: SIG%s sent to pid %d", target->name, ld_parse_signal_name(signo),
           (int)target->holder.pid);
    return 0;
}

/* Whether a signal to a service with workers is for its master, which acts for all: those that stop or reload. */
static bool is_for_master(int signo) {
    return signo == SIGTERM || signo == SIGINT || signo == SIGHUP || signo == SIGKILL;
}

/* Whether it is for its master too: what lunad itself does at it, or the kernel. */
static bool is_for_all(int signo) {
    return signo == SIGUSR1 || signo == SIGUSR2 || signo == SIGQUIT || signo == SIGSTOP ||
           signo == SIGCONT;
}

/* Find a daemon and send it a signal. */
static int send_signal(const struct ld_rundir *dir, const char *argument, int signo) {
    struct ld_target target;
    int status = ld_target_find_running(&target, dir, argument);
    if (status != 0) {
        return status;
    }
    if (is_for_master(signo) || ld_crew_count(&target) == 0) {
        return send_to_one(&signo, &target);
    }
    status = is_for_all(signo) ? send_to_one(&signo, &target) : 0;
    int worst = ld_crew_each(&target, send_to_one, &signo);
    return worst > status ? worst : status;
}

/* Send a signal. */
static int run(const struct ld_call *call) {
    struct ld_rundir dir;
    int signo;
    const char *word = call->argv[call->operand + 1];
    if (!ld_parse_signal(word, &signo)) {
        ld_say_error("signal: \"%s\" is not a signal (TERM, HUP, USR1, ... or a number)", word);
        return 2;
    }
    int status = ld_rundir_open(&dir, call->options->run_dir);
    if (status == 0) {
        status = send_signal(&dir, call->argv[call->operand], signo);
    }
    ld_rundir_close(&dir);
    return status;
}

const struct ld_verb ld_verb_signal = {
    .name = "signal",
    .operands = "NAME SIGNAL",
    .summary = "send a signal, by name or number",
    .least = 2,
    .most = 2,
    .run = run,
};
