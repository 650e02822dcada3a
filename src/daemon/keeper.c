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
#include "daemon/hold.h"
#include "engine/signals.h"
#include "posix/family.h"
#include "posix/inherit.h"
#include "posix/packet.h"
#include "posix/process.h"

#define PATIENCE_MS 2000 /* how long the host waits for an answer */
#define SLACK_MS    5000 /* how much longer than its own limit a stop of the host may take */

/* The words of the protocol. From host to keeper, with a number: LOG; without: READY, FINISHED,
 * FAILED (with the reason). From keeper to host, with the number of the request: OK (with the
 * descriptor), ERROR (with an errno); without: STOP, SOCKET (with the descriptor). */
static const char word_log[] = "open-log";
static const char word_ready[] = "ready";
static const char word_finished[] = "finished";
static const char word_failed[] = "failed";
static const char word_ok[] = "ok";
static const char word_error[] = "error";
static const char word_stop[] = "stop";
static const char word_socket[] = "socket";

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
    const char *word = fd < 0 ? word_error : word_ok;
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
    if (strcmp(packet->word, word_log) == 0 && packet->size == 0) {
        answer(keeper, packet->number, ld_hold_open_log(keeper->service));
    } else if (strcmp(packet->word, word_ready) == 0) {
        report(keeper, LD_START_REPORT_READY, "");
    } else if (strcmp(packet->word, word_finished) == 0) {
        report(keeper, LD_START_REPORT_FINISHED, "");
    } else if (strcmp(packet->word, word_failed) == 0) {
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
    if (!keeper->ended && ld_packet_send(keeper->channel, 0, word_stop, "", 0, -1) < 0) {
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
        ld_packet_send(keeper->channel, 0, word_socket, "", 0, service->listener);
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
    const struct ld_service *service = keeper->service;
    ld_text_format(&how, "killed by SIG%s%s", ld_parse_signal_name(WTERMSIG(keeper->status)),
                   WCOREDUMP(keeper->status) ? " (core dumped)" : "");
    ld_log_reopen(); /* the host may have reopened its own meanwhile */
    ld_log(LD_LOG_ERROR, "%s (pid %d) was %s", service->name, (int)keeper->host,
           ld_text_string(&how));
    ld_record_note_death(service->run_fd, service->name, ld_text_string(&how));
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
static pid_t fork_with_channel(int ends[2]) {
    int rc = catch_signals();
    if (rc < 0) {
        return rc;
    }
    rc = ld_packet_open(ends);
    if (rc < 0) {
        return rc;
    }
    prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0);
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
    pid_t host = fork_with_channel(ends);
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

/* Report how the start went. */
void ld_keeper_report_start(struct ld_service *service, enum ld_start_report_kind kind,
                            const char *text) {
    const char *word = kind == LD_START_REPORT_READY      ? word_ready
                       : kind == LD_START_REPORT_FINISHED ? word_finished
                                                          : word_failed;
    int status = kind == LD_START_REPORT_READY    ? (int)getpid()
                 : kind == LD_START_REPORT_FAILED ? 1
                                                  : 0;
    if (service->keeper >= 0) {
        ld_packet_send(service->keeper, 0, word, text, strlen(text), -1);
        return;
    }
    ld_start_report_send(service->channel, kind, status, text);
    if (kind == LD_START_REPORT_READY && service->channel >= 0) {
        close(service->channel);
        service->channel = -1;
    }
}

/* Keep for later what the keeper sends unasked during a request. */
static void note_event(struct ld_service *service, const struct ld_packet *packet) {
    if (strcmp(packet->word, word_stop) == 0) {
        raise(SIGTERM);
    } else if (strcmp(packet->word, word_socket) == 0 && packet->fd >= 0) {
        if (service->listener >= 0) {
            close(service->listener);
        }
        service->listener = packet->fd;
    } else if (packet->fd >= 0) {
        close(packet->fd);
    }
}

/* Read an answer: a descriptor, or a negative errno. */
static int read_answer(const struct ld_packet *packet) {
    long code;
    if (strcmp(packet->word, word_ok) == 0 && packet->fd >= 0) {
        return packet->fd;
    }
    if (packet->fd >= 0) {
        close(packet->fd);
    }
    bool is_error = strcmp(packet->word, word_error) == 0 && packet->size < 5 &&
                    ld_parse_whole(packet->text, 1, 4095, &code);
    return is_error ? -(int)code : -EPROTO;
}

/* Wait for the answer to request NUMBER. Signals do not shorten the wait; late answers to earlier
 * requests are dropped. */
static int await_answer(struct ld_service *service, unsigned long number) {
    double deadline = (double)ld_time_ms() + PATIENCE_MS;
    struct pollfd poller = {.fd = service->keeper, .events = POLLIN};
    struct ld_packet packet;
    for (;;) {
        double left = deadline - (double)ld_time_ms();
        if (left <= 0) {
            return -ETIMEDOUT;
        }
        if (poll(&poller, 1, (int)left + 1) <= 0) {
            continue;
        }
        int rc = ld_packet_receive(service->keeper, &packet);
        if (rc == 0) {
            return -ESRCH;
        }
        if (rc < 0 && rc != -EAGAIN && rc != -EPROTO) {
            return rc;
        }
        if (rc == 1 && packet.number == number) {
            return read_answer(&packet);
        }
        if (rc == 1) {
            note_event(service, &packet);
        }
    }
}

/* Ask the keeper to open the log. */
int ld_keeper_open_log(void *arg) {
    static unsigned long last_number;
    struct ld_service *service = arg;
    if (service->keeper < 0) {
        return -ESRCH;
    }
    last_number = last_number % 999999999 + 1;
    int rc = ld_packet_send(service->keeper, last_number, word_log, "", 0, -1);
    return rc < 0 ? rc : await_answer(service, last_number);
}

/* Receive what the keeper sends. */
enum ld_keeper_event ld_keeper_hear(struct ld_service *service, int *fd) {
    struct ld_packet packet;
    int rc = ld_packet_receive(service->keeper, &packet);
    if (rc == 0) {
        return LD_KEEPER_GONE;
    }
    if (rc == 1 && strcmp(packet.word, word_stop) == 0) {
        return LD_KEEPER_STOP;
    }
    if (rc == 1 && strcmp(packet.word, word_socket) == 0 && packet.fd >= 0) {
        *fd = packet.fd;
        return LD_KEEPER_SOCKET;
    }
    if (packet.fd >= 0) { /* an answer that came too late */
        close(packet.fd);
    }
    return LD_KEEPER_NOTHING;
}
