#include "daemon/keeper.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/log.h"
#include "base/parse.h"
#include "base/time.h"
#include "daemon/crash_file.h"
#include "daemon/hold.h"
#include "daemon/keeper_channel.h"
#include "engine/signals.h"
#include "posix/family.h"
#include "posix/inherit.h"
#include "posix/packet.h"
#include "posix/process.h"

#define SLACK_MS 5000 /* how much longer than its own limit a stop of the host may take */

/* The state of the keeper. */
struct keeper {
    struct ld_service *service;
    pid_t host;
    int channel; /* to the host; -1 when it has closed its end */
    bool ready;
    bool reported; /* how the start went */
    bool ended;
    int status;      /* as from waitpid */
    double deadline; /* of a stop, in milliseconds; 0: none */
    bool killed;     /* by us */
};

/* Answer a request with a descriptor, which is closed here, or a negative errno. The answer is lost
 * if the host does not read. */
static void answer(const struct keeper *keeper, unsigned long number, int fd) {
    char code[16] = "";
    int size = fd < 0 ? snprintf(code, sizeof code, "%d", -fd) : 0;
    const char *word = fd < 0 ? LD_KEEPER_WORD_ERROR : LD_KEEPER_WORD_OK;
    ld_packet_send(keeper->channel, number, word, code, (size_t)size, fd < 0 ? -1 : fd);
    if (fd >= 0) {
        close(fd);
    }
}

/* Tell the starting process how the start went, once. */
static void report(struct keeper *keeper, enum ld_start_report_kind kind, const char *text) {
    struct ld_service *service = keeper->service;
    int status = kind == LD_START_REPORT_READY    ? (int)keeper->host
                 : kind == LD_START_REPORT_FAILED ? 1
                                                  : 0;
    if (!keeper->reported && service->channel >= 0) {
        ld_start_report_send(service->channel, kind, status, text);
    }
    keeper->reported = true;
    if (kind == LD_START_REPORT_READY) {
        keeper->ready = true;
        if (service->channel >= 0) {
            close(service->channel);
            service->channel = -1;
        }
    }
}

/* Do what a packet of the host asks for, if the host may ask for that. */
static void obey(struct keeper *keeper, const struct ld_packet *packet) {
    if (strcmp(packet->word, LD_KEEPER_WORD_LOG) == 0 && packet->size == 0) {
        answer(keeper, packet->number, ld_hold_open_log(keeper->service));
    } else if (strcmp(packet->word, LD_KEEPER_WORD_READY) == 0) {
        report(keeper, LD_START_REPORT_READY, "");
    } else if (strcmp(packet->word, LD_KEEPER_WORD_FINISHED) == 0) {
        report(keeper, LD_START_REPORT_FINISHED, "");
    } else if (strcmp(packet->word, LD_KEEPER_WORD_FAILED) == 0) {
        report(keeper, LD_START_REPORT_FAILED, packet->text);
    } else if (packet->number > 0) {
        answer(keeper, packet->number, -EPERM);
    }
}

/* Receive one packet of the host and serve it. */
static void serve(struct keeper *keeper) {
    struct ld_packet packet;
    int rc = ld_packet_receive(keeper->channel, &packet);
    if (rc == 0) {
        close(keeper->channel);
        keeper->channel = -1;
    } else if (rc == 1) {
        if (packet.fd >= 0) {
            close(packet.fd);
        }
        obey(keeper, &packet);
    }
}

/* Reap the host and its orphans. */
static void reap(struct keeper *keeper) {
    int status;
    pid_t pid;
    while ((pid = waitpid(-1, &status, WNOHANG)) > 0) {
        if (pid == keeper->host) {
            keeper->ended = true;
            keeper->status = status;
        }
    }
}

/* Ask the host to stop, and set the deadline. The request goes over the channel, because a manager
 * that signals a whole group has signalled the host too, and a second SIGTERM means "stop now". If
 * the channel fails, send the signal. */
static void stop_host(struct keeper *keeper) {
    if (keeper->deadline == 0) {
        keeper->deadline =
            (double)ld_time_ms() + keeper->service->options->stop_timeout * 1e3 + SLACK_MS;
    }
    if (!keeper->ended && ld_packet_send(keeper->channel, 0, LD_KEEPER_WORD_STOP, "", 0, -1) < 0) {
        ld_process_kill(keeper->host, SIGTERM);
    }
}

/* Pass a signal to the keeper on to the host. */
static void on_signal(void *arg, int signo, bool by_kernel) {
    struct keeper *keeper = arg;
    (void)by_kernel;
    switch (signo) {
    case SIGCHLD:
        reap(keeper);
        break;
    case SIGTERM:
    case SIGINT:
        stop_host(keeper);
        break;
    case SIGPIPE:
        break;
    default:
        if (!keeper->ended) {
            ld_process_kill(keeper->host, signo);
        }
        break;
    }
}

/* Kill a host that has not stopped in time; return how long poll may wait. */
static int time_left(struct keeper *keeper) {
    if (keeper->deadline == 0 || keeper->killed) {
        return -1;
    }
    double left = keeper->deadline - (double)ld_time_ms();
    if (left > 0) {
        return left < 1e6 ? (int)left + 1 : 1000000;
    }
    keeper->killed = true;
    ld_process_kill(keeper->host,
                    SIGKILL); /* first: what it has made of its log could hold us up */
    ld_log(LD_LOG_ERROR, "%s (pid %d) did not stop within %.10g s: killing it",
           keeper->service->name, (int)keeper->host, keeper->service->options->stop_timeout);
    return -1;
}

/* Make removed files of the service again, and pass a new control socket to the host. */
static void look_after_files(struct keeper *keeper) {
    struct ld_service *service = keeper->service;
    ld_hold_restore_files(service, keeper->host);
    if (service->listener >= 0) {
        ld_packet_send(keeper->channel, 0, LD_KEEPER_WORD_SOCKET, "", 0, service->listener);
        close(service->listener);
        service->listener = -1;
    }
}

/* Serve the host until it ends: signals first, then one packet. */
static void attend(struct keeper *keeper) {
    while (!keeper->ended) {
        struct pollfd polls[3] = {{.fd = ld_signals_fd(), .events = POLLIN},
                                  {.fd = keeper->channel, .events = POLLIN},
                                  {.fd = keeper->service->file_watch, .events = POLLIN}};
        if (poll(polls, 3, time_left(keeper)) <= 0) {
            continue;
        }
        if (polls[0].revents != 0) {
            ld_signals_deliver(on_signal, keeper);
        }
        if (polls[2].revents != 0) {
            look_after_files(keeper);
        }
        if (polls[1].revents != 0) {
            serve(keeper);
        }
    }
}

/* Log and report how the host ended, if a signal killed it. */
static void explain_death(struct keeper *keeper) {
    struct ld_text how = {0};
    if (!WIFSIGNALED(keeper->status)) {
        return;
    }
    struct ld_service *service = keeper->service;
    ld_text_format(&how, "killed by SIG%s%s", ld_parse_signal_name(WTERMSIG(keeper->status)),
                   WCOREDUMP(keeper->status) ? " (core dumped)" : "");
    ld_log_reopen(); /* the host may have reopened its own meanwhile */
    const char *crash = ld_crash_file_take(service, ld_text_string(&how));
    ld_log(LD_LOG_ERROR, "%s (pid %d) was %s%s%s", service->name, (int)keeper->host,
           ld_text_string(&how), crash != NULL ? ", report in " : "", crash != NULL ? crash : "");
    ld_record_note_death(service->run_fd, service->name, ld_text_string(&how), crash);
    if (!keeper->ready) {
        struct ld_text text = {0};
        ld_text_format(&text, "%s died before it was ready: %s", service->name,
                       ld_text_string(&how));
        report(keeper, LD_START_REPORT_FAILED, ld_text_string(&text));
        ld_text_fini(&text);
    }
    ld_text_fini(&how);
}

/* Serve the host until it ends, then clean up; the exit status to take. */
static int keep(struct keeper *keeper) {
    ld_inherit_unblock_signals();
    reap(keeper);
    attend(keeper);
    ld_inherit_reset_signals();
    while (keeper->channel >= 0) { /* what the host has sent before its end */
        struct pollfd poller = {.fd = keeper->channel, .events = POLLIN};
        if (poll(&poller, 1, 0) <= 0) {
            break;
        }
        serve(keeper);
    }
    explain_death(keeper);
    ld_family_end_orphans(); /* we have adopted the orphans of the host */
    bool died = WIFSIGNALED(keeper->status) && !keeper->killed && keeper->ready;
    ld_hold_release(keeper->service, died);
    return WIFSIGNALED(keeper->status) ? 128 + WTERMSIG(keeper->status)
                                       : WEXITSTATUS(keeper->status);
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
static pid_t fork_with_channel(struct ld_service *service, int ends[2]) {
    int rc = catch_signals();
    if (rc < 0) {
        return rc;
    }
    rc = ld_packet_open(ends);
    if (rc < 0) {
        return rc;
    }
    prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0);
    ld_crash_file_share(service);
    pid_t host = fork();
    if (host < 0) {
        rc = -errno;
        close(ends[0]);
        close(ends[1]);
        return rc;
    }
    return host;
}

/* Fork the host after everything that the keeper needs is open. Signals are blocked here; host and
 * keeper catch their own. */
int ld_keeper_fork(struct ld_service *service, struct ld_text *why) {
    int ends[2];
    pid_t host = fork_with_channel(service, ends);
    if (host < 0) {
        ld_text_format(why, "the keeper: %s", strerror(-host));
        return 1;
    }
    if (host == 0) {
        release_signals();
        close(ends[0]);
        service->keeper = ends[1];
        return -1;
    }
    close(ends[1]);
    close(service->listener); /* so that it does not outlive the host */
    service->listener = -1;
    struct keeper keeper = {.service = service, .host = host, .channel = ends[0]};
    return keep(&keeper);
}
