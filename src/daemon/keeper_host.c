#include "daemon/keeper_host.h"

#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/log.h"
#include "base/parse.h"
#include "base/time.h"
#include "daemon/hold.h"
#include "daemon/hold_log.h"
#include "daemon/hold_worker.h"
#include "daemon/keeper_channel.h"
#include "engine/signals.h"
#include "posix/notify.h"
#include "posix/packet.h"
#include "posix/process.h"
#include "posix/sealed.h"

#define SLACK_MS  5000 /* how much longer than its own limit a stop of the host may take */
#define BEHIND_MS 100  /* between tries to send to a slow service manager */
#define LEFT_MAX                                                                                   \
    4096 /* packets that are served after the end of the host; more than a channel holds */
#define FAILURE_MAX 200 /* bytes that are kept of why a host could not start */

/* Whether hosts are restarted. */
bool ld_keeper_host_is_restarted(const struct ld_keeper *keeper) {
    return keeper->service->options->restart != LD_RESTART_NO;
}

/* Answer a request with a descriptor, which is closed here, or a negative errno. The answer is lost
 * if the host does not read. */
static void answer(const struct ld_keeper *keeper, unsigned long number, int fd) {
    char code[16] = "";
    int size = fd < 0 ? snprintf(code, sizeof code, "%d", -fd) : 0;
    const char *word = fd < 0 ? LD_KEEPER_WORD_ERROR : LD_KEEPER_WORD_OK;
    ld_packet_send(keeper->channel, number, word, code, (size_t)size, fd < 0 ? -1 : fd);
    if (fd >= 0) {
        close(fd);
    }
}

/* Tell the starting process how the start went, once. */
void ld_keeper_host_report(struct ld_keeper *keeper, enum ld_start_report_kind kind,
                           const char *text) {
    struct ld_service *service = keeper->service;
    int status = kind == LD_START_REPORT_READY    ? (int)keeper->host
                 : kind == LD_START_REPORT_FAILED ? 1
                                                  : 0;
    if (!keeper->reported && service->channel >= 0) {
        ld_start_report_send(service->channel, kind, status, text);
    }
    keeper->reported = true;
    if (kind == LD_START_REPORT_READY && service->channel >= 0) {
        close(service->channel);
        service->channel = -1;
    }
}

/* Note that the host is ready, and tell everyone who waits for that; TEXT is what a person should know of it.
 * The service manager is told by this process, because it may listen to no other: this is the main process
 * until it knows the host. */
static void note_ready(struct ld_keeper *keeper, const char *text) {
    struct ld_service *service = keeper->service;
    if (!keeper->ready) {
        keeper->ready = true;
        keeper->was_ready = true;
        keeper->ready_at = ld_time_seconds();
        ld_notify_send("READY=1\nMAINPID=%d%s", (int)keeper->host,
                       service->restarts.count > 0 ? "\nSTATUS=" : "");
        ld_packet_send(keeper->channel, 0, LD_KEEPER_WORD_TOLD, "", 0, -1);
        ld_service_announce(service);
    }
    ld_keeper_host_report(keeper, LD_START_REPORT_READY, text);
}

/* Note why the host could not start. */
static void note_failure(struct ld_keeper *keeper, const char *text) {
    size_t size = strcspn(text, "\n");
    ld_text_clear(&keeper->failure);
    ld_text_add_escaped(&keeper->failure, text, size < FAILURE_MAX ? size : FAILURE_MAX, false);
    ld_keeper_host_report(keeper, LD_START_REPORT_FAILED, text);
}

/* Read the text of a packet about a worker, "WORKER" or "WORKER PID"; false for anything else. */
static bool read_worker(const struct ld_packet *packet, long *worker, long *pid) {
    char text[32] = "";
    if (packet->size == 0 || packet->size >= sizeof text) {
        return false;
    }
    memcpy(text, packet->text, packet->size);
    char *space = strchr(text, ' ');
    if (space != NULL) {
        *space = '\0';
    }
    return (pid != NULL) == (space != NULL) && ld_parse_whole(text, 1, LD_WORKERS_MAX, worker) &&
           (pid == NULL || ld_parse_whole(space + 1, 2, INT_MAX, pid));
}

/* Do what a packet of the host of a master asks for about a worker. A pid is only that of a child of the host. */
static void obey_master(struct ld_keeper *keeper, const struct ld_packet *packet) {
    struct ld_service *service = keeper->service;
    long worker;
    long pid;
    if (strcmp(packet->word, LD_KEEPER_WORD_LOCK) == 0 && read_worker(packet, &worker, &pid)) {
        bool is_child = ld_process_parent((pid_t)pid) == keeper->host;
        answer(keeper, packet->number,
               is_child ? ld_hold_worker_lock(service, (int)worker, (pid_t)pid) : -ESRCH);
    } else if (!read_worker(packet, &worker, NULL)) {
        if (packet->number > 0) {
            answer(keeper, packet->number, -EINVAL);
        }
    } else if (strcmp(packet->word, LD_KEEPER_WORD_CONTROL) == 0) {
        answer(keeper, packet->number, ld_hold_worker_socket(service, (int)worker));
    } else if (strcmp(packet->word, LD_KEEPER_WORD_DOWN) == 0) {
        ld_hold_worker_wait(service, (int)worker);
    } else if (strcmp(packet->word, LD_KEEPER_WORD_DROP) == 0) {
        ld_hold_worker_drop(service, (int)worker);
    }
}

/* Do what a packet of the host asks for, if the host may ask for that. */
static void obey(struct ld_keeper *keeper, const struct ld_packet *packet) {
    if (strcmp(packet->word, LD_KEEPER_WORD_LOG) == 0 && packet->size == 0) {
        answer(keeper, packet->number, ld_hold_log_open(keeper->service));
    } else if (strcmp(packet->word, LD_KEEPER_WORD_ROTATE) == 0 && packet->size == 0 &&
               keeper->service->options->log_max_size > 0) {
        answer(keeper, packet->number, ld_hold_log_rotate(keeper->service));
        ld_log_reopen(); /* the old file is not to be held by this process, which has it too */
    } else if (strcmp(packet->word, LD_KEEPER_WORD_READY) == 0) {
        note_ready(keeper, packet->text);
    } else if (strcmp(packet->word, LD_KEEPER_WORD_FINISHED) == 0) {
        ld_keeper_host_report(keeper, LD_START_REPORT_FINISHED, "");
    } else if (strcmp(packet->word, LD_KEEPER_WORD_FAILED) == 0) {
        note_failure(keeper, packet->text);
    } else if (strcmp(packet->word, LD_KEEPER_WORD_STOPPING) == 0) {
        keeper->stopping = true;
    } else if (keeper->service->is_master && strncmp(packet->word, "worker-", 7) == 0) {
        obey_master(keeper, packet);
    } else if (packet->number > 0) {
        answer(keeper, packet->number, -EPERM);
    }
}

/* Take what the next host is made from, in the place of what was taken before; false if it is not what it should be. It
 * is handed on unread: the next host has no more rights than the one that has sent it. */
static bool take_memory(struct ld_keeper *keeper, const struct ld_packet *packet) {
    struct ld_service *service = keeper->service;
    bool is_sound = packet->fd < 0 || (ld_keeper_host_is_restarted(keeper) &&
                                       ld_sealed_is_sound(packet->fd, LD_KEEPER_MEMORY_MAX));
    if (is_sound && service->memory_fd >= 0) {
        close(service->memory_fd);
    }
    if (is_sound) {
        service->memory_fd = packet->fd;
    }
    return is_sound;
}

/* Take what the next host of a master is to know, in the place of what was taken before. It is handed on unread, as that is. */
static void take_facts(struct ld_keeper *keeper, const struct ld_packet *packet) {
    struct ld_text *facts = &keeper->service->facts;
    if (keeper->service->is_master && ld_keeper_host_is_restarted(keeper)) {
        ld_text_clear(facts);
        ld_text_add(facts, packet->text, packet->size);
    }
}

/* Receive one packet of the host and serve it. */
static void serve(struct ld_keeper *keeper) {
    struct ld_packet packet;
    int rc = ld_packet_receive(keeper->channel, &packet);
    if (rc == 0) {
        close(keeper->channel);
        keeper->channel = -1;
    } else if (rc == 1) {
        bool is_memory = strcmp(packet.word, LD_KEEPER_WORD_MEMORY) == 0;
        bool is_taken = is_memory && take_memory(keeper, &packet);
        if (packet.fd >= 0 && !is_taken) {
            close(packet.fd);
        }
        if (strcmp(packet.word, LD_KEEPER_WORD_FACTS) == 0) {
            take_facts(keeper, &packet);
        }
        obey(keeper, &packet);
    }
}

/* Reap the host and its orphans. */
void ld_keeper_host_reap(struct ld_keeper *keeper) {
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
 * the channel fails, send the signal. No host follows. */
static void stop_host(struct ld_keeper *keeper) {
    keeper->stopping = true;
    if (keeper->ended) {
        return;
    }
    if (keeper->deadline == 0) {
        keeper->deadline =
            (double)ld_time_ms() + keeper->service->options->stop_timeout * 1e3 + SLACK_MS;
    }
    if (ld_packet_send(keeper->channel, 0, LD_KEEPER_WORD_STOP, "", 0, -1) < 0) {
        ld_process_kill(keeper->host, SIGTERM);
    }
}

/* Reopen the log, which the next host inherits; 0 or a negative errno. */
int ld_keeper_host_reopen_log(void) {
    int rc = ld_log_reopen();
    if (rc < 0) {
        ld_log(LD_LOG_ERROR, "the log cannot be reopened, the old file stays in use: %s",
               strerror(-rc));
    } else if (ld_log_path() != NULL) {
        ld_log(LD_LOG_INFO, "log reopened");
    }
    return rc;
}

/* Do what a signal means to a daemon that waits for its next start. */
static void on_signal_between(struct ld_keeper *keeper, int signo) {
    const struct ld_service *service = keeper->service;
    if (signo == SIGUSR1) {
        ld_keeper_host_reopen_log();
    } else if (signo == SIGHUP && !service->ignores_hup) {
        keeper->hung_up = ld_time_seconds();
        keeper->stopping |= service->options->hup == LD_HUP_STOP;
    }
}

/* Pass a signal to the keeper on to the host. */
void ld_keeper_host_on_signal(void *arg, int signo, bool by_kernel) {
    struct ld_keeper *keeper = arg;
    if (by_kernel && !keeper->ended && (signo == SIGINT || signo == SIGQUIT)) {
        return; /* the terminal sends it to the host as well */
    }
    switch (signo) {
    case SIGCHLD:
        ld_keeper_host_reap(keeper);
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
        } else if (keeper->waiting) {
            on_signal_between(keeper, signo);
        }
        break;
    }
}

/* Until when the host may go on, in milliseconds; 0: without end. The first start is limited by the process that
 * waits for it, a later one by the host; one whose loop does not turn cannot do that. */
static double find_deadline(const struct ld_keeper *keeper) {
    const struct ld_service *service = keeper->service;
    bool is_later_start = service->restarts.count > 0 && !keeper->ready;
    return keeper->deadline > 0 ? keeper->deadline
           : is_later_start     ? (keeper->born + service->options->start_timeout) * 1e3 + SLACK_MS
                                : 0;
}

/* Kill a host that has not stopped, or started, in time; return how long poll may wait. */
static int time_left(struct ld_keeper *keeper) {
    const struct ld_service *service = keeper->service;
    double deadline = find_deadline(keeper);
    if (deadline == 0 || keeper->killed) {
        return -1;
    }
    double left = deadline - (double)ld_time_ms();
    if (left > 0) {
        return left < 1e6 ? (int)left + 1 : 1000000;
    }
    bool stops = keeper->deadline > 0;
    keeper->killed = true;
    ld_process_kill(keeper->host,
                    SIGKILL); /* first: what it has made of its log could hold us up */
    ld_log(LD_LOG_ERROR, "%s (pid %d) did not %s within %.10g s: killing it", service->name,
           (int)keeper->host, stops ? "stop" : "start",
           stops ? service->options->stop_timeout : service->options->start_timeout);
    return -1;
}

/* Make removed files of the service again, and pass what is new to the host. Where hosts are restarted, the
 * keeper has the control socket as well: its queue outlives a host. */
void ld_keeper_host_look_after_files(struct ld_keeper *keeper) {
    struct ld_service *service = keeper->service;
    int before = service->listener;
    service->listener = -1;
    if (ld_hold_restore_files(service, keeper->waiting ? getpid() : keeper->host)) {
        int fd = keeper->waiting ? -1 : ld_pidfile_open_witness(&service->pidfile);
        if (fd >= 0) {
            ld_packet_send(keeper->channel, 0, LD_KEEPER_WORD_PIDFILE, "", 0, fd);
            close(fd);
        }
        ld_pidfile_show_waiting(&service->pidfile, keeper->waiting);
    }
    if (service->has_new_files) {
        service->has_new_files = false;
        ld_packet_send(keeper->channel, 0, LD_KEEPER_WORD_FILES, "", 0, -1);
    }
    if (service->listener < 0) {
        service->listener = before;
        return;
    }
    if (before >= 0) {
        close(before);
    }
    if (!keeper->waiting) {
        ld_packet_send(keeper->channel, 0, LD_KEEPER_WORD_SOCKET, "", 0, service->listener);
    }
    keeper->desk.listener = service->listener;
    if (!ld_keeper_host_is_restarted(keeper)) {
        close(service->listener);
        service->listener = -1;
    }
}

/* Shorten how long poll may wait, if the service manager has not taken all that it was told. */
int ld_keeper_host_cap_wait(int wait) {
    return ld_notify_is_behind() && (wait < 0 || wait > BEHIND_MS) ? BEHIND_MS : wait;
}

/* Serve the host until it ends: signals first, then one packet. */
void ld_keeper_host_attend(struct ld_keeper *keeper) {
    while (!keeper->ended) {
        struct pollfd polls[3] = {{.fd = ld_signals_fd(), .events = POLLIN},
                                  {.fd = keeper->channel, .events = POLLIN},
                                  {.fd = keeper->service->file_watch, .events = POLLIN}};
        if (poll(polls, 3, ld_keeper_host_cap_wait(time_left(keeper))) <= 0) {
            continue;
        }
        if (polls[0].revents != 0) {
            ld_signals_deliver(ld_keeper_host_on_signal, keeper);
        }
        if (polls[2].revents != 0) {
            ld_keeper_host_look_after_files(keeper);
        }
        if (polls[1].revents != 0) {
            serve(keeper);
        }
    }
}

/* Serve what the host has sent before its end, but not for ever: another process may have its end of the
 * channel. */
void ld_keeper_host_take_leave(struct ld_keeper *keeper) {
    for (int i = 0; i < LEFT_MAX && keeper->channel >= 0; i++) {
        struct pollfd poller = {.fd = keeper->channel, .events = POLLIN};
        if (poll(&poller, 1, 0) <= 0) {
            break;
        }
        serve(keeper);
    }
    if (keeper->channel >= 0) {
        close(keeper->channel);
        keeper->channel = -1;
    }
}

/* Describe how the host ended, as what is said of it: "killed by SIGSEGV". */
void ld_keeper_host_describe_end(const struct ld_keeper *keeper, struct ld_text *how) {
    if (WIFSIGNALED(keeper->status)) {
        ld_text_format(how, "killed by SIG%s%s", ld_parse_signal_name(WTERMSIG(keeper->status)),
                       WCOREDUMP(keeper->status) ? " (core dumped)" : "");
    } else if (!keeper->ready && !ld_text_is_empty(&keeper->failure)) {
        ld_text_puts(how, "failed to start: ");
        ld_text_append(how, &keeper->failure);
    } else if (WEXITSTATUS(keeper->status) != 0) {
        ld_text_format(how, "exited with status %d", WEXITSTATUS(keeper->status));
    } else {
        ld_text_puts(how, "finished");
    }
}
