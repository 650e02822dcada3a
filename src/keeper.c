#include "keeper.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "daemon.h"
#include "file.h"
#include "log.h"
#include "parse.h"
#include "process.h"
#include "report.h"
#include "signals.h"

#define PATIENCE_MS 2000 /* how long the host waits for an answer */

/* What goes over the channel, a packet each: host to keeper OPEN_LOG, LISTEN, REMOVE (the file of
 * what it has made for LISTEN) and READY, keeper to host ANSWER (with a descriptor, or an errno)
 * and STOP. */
enum kind { OPEN_LOG = 'o', LISTEN = 'l', REMOVE = 'u', READY = 'r', ANSWER = 'a', STOP = 's' };

struct packet {
    int kind;
    int code;                         /* of an answer */
    struct ld_listen_options options; /* to listen */
    char address[128];
};

/* What the keeper knows. */
struct keeper {
    struct ld_service *service;
    pid_t host;
    int fd; /* to the host; -1 when it has closed its end */
    bool ready;
    bool ended;
    int status;                   /* as from waitpid */
    struct ld_socket_file *files; /* of Unix sockets that were made for the host */
    size_t file_count;
};

/* Send a packet, with a descriptor if it is not -1. */
static void send_packet(int fd, const struct packet *packet, int passed) {
    struct iovec part = {.iov_base = (void *)(uintptr_t)packet, .iov_len = sizeof *packet};
    union {
        struct cmsghdr head;
        char bytes[CMSG_SPACE(sizeof(int))];
    } control = {.head = {.cmsg_len = 0}};
    struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1};
    if (passed >= 0) {
        message.msg_control = control.bytes;
        message.msg_controllen = sizeof control.bytes;
        control.head = (struct cmsghdr){
            .cmsg_len = CMSG_LEN(sizeof(int)), .cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS};
        memcpy(CMSG_DATA(&control.head), &passed, sizeof passed);
    }
    while (sendmsg(fd, &message, MSG_NOSIGNAL) < 0 && errno == EINTR) {
    }
}

/* Receive a packet; false at the end of the channel. *PASSED is a descriptor, or -1. */
static bool receive_packet(int fd, struct packet *packet, int *passed) {
    struct iovec part = {.iov_base = packet, .iov_len = sizeof *packet};
    union {
        struct cmsghdr head;
        char bytes[CMSG_SPACE(sizeof(int))];
    } control;
    struct msghdr message = {.msg_iov = &part,
                             .msg_iovlen = 1,
                             .msg_control = control.bytes,
                             .msg_controllen = sizeof control.bytes};
    ssize_t size;
    *passed = -1;
    do {
        size = recvmsg(fd, &message, MSG_CMSG_CLOEXEC);
    } while (size < 0 && errno == EINTR);
    const struct cmsghdr *head = CMSG_FIRSTHDR(&message);
    if (size == (ssize_t)sizeof *packet && head != NULL && head->cmsg_type == SCM_RIGHTS) {
        memcpy(passed, CMSG_DATA(head), sizeof *passed);
    }
    return size == (ssize_t)sizeof *packet;
}

/* Open the log for the host. */
static int open_log(const struct ld_service *service) {
    return ld_file_open_log(service->log_path, service->has_user ? (long)service->user.gid : -1);
}

/* Note the file of a socket that was made, to remove it: the host may not. */
static void note_file(struct keeper *keeper, const struct ld_address *address) {
    size_t size = (keeper->file_count + 1) * sizeof *keeper->files;
    struct ld_socket_file *files = realloc(keeper->files, size);
    if (files != NULL) {
        keeper->files = files;
        keeper->file_count += ld_socket_file_note(&files[keeper->file_count], address);
    }
}

/* Remove the files at a Unix address that were made for the host; all of them without an address. */
static void remove_files(struct keeper *keeper, const struct ld_address *address) {
    const char *path = address != NULL ? ld_address_path(address) : NULL;
    size_t kept = 0;
    for (size_t i = 0; i < keeper->file_count; i++) {
        const struct ld_socket_file *file = &keeper->files[i];
        if (address == NULL ||
            (path != NULL && strcmp(ld_address_path(&file->address), path) == 0)) {
            ld_socket_file_remove(file);
        } else {
            keeper->files[kept++] = *file;
        }
    }
    keeper->file_count = kept;
}

/* Listen for the host, which may not, or remove the file of what was made. */
static int listen_for(struct keeper *keeper, struct packet *packet) {
    struct ld_address address;
    packet->address[sizeof packet->address - 1] = '\0';
    if (!ld_address_parse(packet->address, &address)) {
        return -EINVAL;
    }
    if (packet->kind == REMOVE) {
        remove_files(keeper, &address);
        return 0;
    }
    int fd = ld_socket_listen(&address, &packet->options);
    if (fd >= 0) {
        note_file(keeper, &address);
    }
    return fd;
}

/* Answer with a descriptor or an errno. */
static void answer(const struct keeper *keeper, int fd) {
    const struct packet packet = {.kind = ANSWER, .code = fd < 0 ? fd : 0};
    send_packet(keeper->fd, &packet, fd);
    if (fd >= 0) {
        close(fd);
    }
}

/* Serve the host. */
static void serve(struct keeper *keeper) {
    struct packet packet;
    int passed;
    if (!receive_packet(keeper->fd, &packet, &passed)) {
        close(keeper->fd);
        keeper->fd = -1;
        return;
    }
    if (passed >= 0) {
        close(passed);
    }
    if (packet.kind == OPEN_LOG) {
        answer(keeper, open_log(keeper->service));
    } else if (packet.kind == LISTEN) {
        answer(keeper, listen_for(keeper, &packet));
    } else if (packet.kind == REMOVE) {
        listen_for(keeper, &packet);
    } else if (packet.kind == READY) {
        keeper->ready = true;
        if (keeper->service->channel >= 0) {
            close(keeper->service->channel);
            keeper->service->channel = -1;
        }
    }
}

/* Reap what has ended: the host, and orphans of it. */
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

/* Handle a signal to the keeper: it means the host. A stop goes over the channel, because a manager
 * that signals a whole group has signalled the host too, and a second signal would mean more. */
static void on_signal(void *arg, int signo, bool by_kernel) {
    struct keeper *keeper = arg;
    (void)by_kernel;
    switch (signo) {
    case SIGCHLD:
        reap(keeper);
        break;
    case SIGTERM:
    case SIGINT:
        send_packet(keeper->fd, &(struct packet){.kind = STOP}, -1);
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

/* Wait for the end of the host, and serve it meanwhile. */
static void attend(struct keeper *keeper) {
    while (!keeper->ended) {
        struct pollfd polls[2] = {{.fd = ld_signals_fd(), .events = POLLIN},
                                  {.fd = keeper->fd, .events = POLLIN}};
        if (poll(polls, 2, -1) < 0) {
            continue;
        }
        if (polls[0].revents != 0) {
            ld_signals_deliver(on_signal, keeper);
        }
        if (polls[1].revents != 0) {
            serve(keeper);
        }
    }
}

/* Say how the host ended, if that was no end it chose. */
static void explain_death(const struct keeper *keeper) {
    if (!WIFSIGNALED(keeper->status)) {
        return;
    }
    const char *name = ld_signal_name(WTERMSIG(keeper->status));
    ld_log_reopen(); /* the host may have reopened its own since */
    ld_log(LD_LOG_ERROR, "%s (pid %d) was killed by SIG%s", keeper->service->name,
           (int)keeper->host, name);
    if (!keeper->ready) {
        struct ld_text text = {0};
        ld_text_format(&text, "%s died before it was ready: killed by SIG%s", keeper->service->name,
                       name);
        ld_report_send(keeper->service->channel, LD_REPORT_FAILED, 1, ld_text_string(&text));
        ld_text_fini(&text);
    }
}

/* The keeper, until everything is over. */
static int keep(struct ld_service *service, pid_t host, int fd) {
    static const int passed_on[] = {SIGHUP,  SIGUSR1, SIGUSR2, SIGQUIT,
                                    SIGTERM, SIGINT,  SIGPIPE, SIGCHLD};
    struct keeper keeper = {.service = service, .host = host, .fd = fd};
    ld_signals_open();
    for (size_t i = 0; i < LD_COUNT(passed_on); i++) {
        ld_signals_catch(passed_on[i]);
    }
    ld_daemon_unblock_signals();
    reap(&keeper);
    attend(&keeper);
    ld_daemon_reset_signals();
    explain_death(&keeper);
    ld_process_end_orphans(); /* what the host has left behind is ours now */
    remove_files(&keeper, NULL);
    free(keeper.files);
    ld_service_release(service);
    return WIFSIGNALED(keeper.status) ? 128 + WTERMSIG(keeper.status) : WEXITSTATUS(keeper.status);
}

/* Fork the host. All signals are blocked here; the host and the keeper catch their own. */
int ld_keeper_fork(struct ld_service *service) {
    int ends[2];
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) < 0) {
        ld_log(LD_LOG_ERROR, "keeper: %s", strerror(errno));
        return 1;
    }
    prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0);
    pid_t host = fork();
    if (host < 0) {
        ld_log(LD_LOG_ERROR, "keeper: fork: %s", strerror(errno));
        return 1;
    }
    if (host == 0) {
        close(ends[0]);
        service->keeper = ends[1];
        return -1;
    }
    close(ends[1]);
    close(service->listener); /* the host's: after its death nobody shall seem to listen */
    service->listener = -1;
    return keep(service, host, ends[0]);
}

/* Tell the keeper that the script is ready. */
void ld_keeper_say_ready(const struct ld_service *service) {
    if (service->keeper >= 0) {
        send_packet(service->keeper, &(struct packet){.kind = READY}, -1);
    }
}

/* Receive an answer from the keeper. What it asks meanwhile comes again, as the signal it means. */
static bool receive_answer(int fd, struct packet *packet, int *passed) {
    while (receive_packet(fd, packet, passed)) {
        if (packet->kind == ANSWER) {
            return true;
        }
        raise(SIGTERM);
    }
    return false;
}

/* Ask the keeper for a descriptor. */
static int ask(const struct ld_service *service, const struct packet *question) {
    struct pollfd poller = {.fd = service->keeper, .events = POLLIN};
    struct packet packet;
    int fd;
    if (service->keeper < 0) {
        return -ESRCH;
    }
    send_packet(service->keeper, question, -1);
    if (poll(&poller, 1, PATIENCE_MS) <= 0) {
        return -ETIMEDOUT;
    }
    if (!receive_answer(service->keeper, &packet, &fd)) {
        return -ESRCH;
    }
    return fd >= 0 ? fd : packet.code;
}

/* Open the log by the keeper. */
int ld_keeper_open_log(void *arg) {
    return ask(arg, &(struct packet){.kind = OPEN_LOG});
}

/* Listen by the keeper, or have it remove the file of what it has made. */
int ld_keeper_listen_on(void *arg, const char *address, const struct ld_listen_options *options) {
    const struct ld_service *service = arg;
    struct packet packet = {.kind = options != NULL ? LISTEN : REMOVE};
    snprintf(packet.address, sizeof packet.address, "%s", address);
    if (options == NULL) {
        send_packet(service->keeper, &packet, -1);
        return 0;
    }
    packet.options = *options;
    return ask(service, &packet);
}

/* Hear what the keeper says. */
enum ld_keeper_word ld_keeper_listen(struct ld_service *service) {
    struct packet packet;
    int passed;
    if (!receive_packet(service->keeper, &packet, &passed)) {
        return LD_KEEPER_GONE;
    }
    if (passed >= 0) { /* an answer that came too late */
        close(passed);
        return LD_KEEPER_NOTHING;
    }
    return LD_KEEPER_STOP;
}
