#include "daemon/keeper_channel.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>
#include <unistd.h>

#include "base/parse.h"
#include "base/time.h"
#include "posix/packet.h"

#define PATIENCE_MS 2000 /* how long the host waits for an answer */
#define ROTATE_MS   500  /* the same with the log locked: a rotation can be tried again */

/* Report how the start went. */
void ld_keeper_channel_report_start(struct ld_service *service, enum ld_start_report_kind kind,
                                    const char *text) {
    const char *word = kind == LD_START_REPORT_READY      ? LD_KEEPER_WORD_READY
                       : kind == LD_START_REPORT_FINISHED ? LD_KEEPER_WORD_FINISHED
                                                          : LD_KEEPER_WORD_FAILED;
    int status = kind == LD_START_REPORT_READY    ? (int)getpid()
                 : kind == LD_START_REPORT_FAILED ? 1
                                                  : 0;
    if (service->keeper >= 0) {
        ld_packet_send(service->keeper, 0, word, text, strlen(text), -1);
        return;
    }
    if (kind == LD_START_REPORT_READY) {
        ld_service_announce(service);
    }
    ld_start_report_send(service->channel, kind, status, text);
    if (kind == LD_START_REPORT_READY && service->channel >= 0) {
        close(service->channel);
        service->channel = -1;
    }
}

/* Tell the keeper that a stop was asked for. */
void ld_keeper_channel_say_stopping(const struct ld_service *service) {
    if (service->keeper >= 0) {
        ld_packet_send(service->keeper, 0, LD_KEEPER_WORD_STOPPING, "", 0, -1);
    }
}

/* Tell the keeper what the next host is made from. */
int ld_keeper_channel_tell_memory(const struct ld_service *service, int fd) {
    return service->keeper >= 0
               ? ld_packet_send(service->keeper, 0, LD_KEEPER_WORD_MEMORY, "", 0, fd)
               : -ESRCH;
}

/* Tell the keeper what the next host is to know. */
int ld_keeper_channel_tell_facts(const struct ld_service *service, const struct ld_text *facts) {
    return service->keeper < 0 ? -ESRCH
           : facts->size > LD_KEEPER_FACTS_MAX
               ? -E2BIG
               : ld_packet_send(service->keeper, 0, LD_KEEPER_WORD_FACTS, ld_text_string(facts),
                                facts->size, -1);
}

/* Take what needs no answer of the host: a new pidfile, and that the service manager knows it. Closes the
 * descriptor of any other packet. */
static void take_note(struct ld_service *service, const struct ld_packet *packet) {
    if (strcmp(packet->word, LD_KEEPER_WORD_PIDFILE) == 0 && packet->fd >= 0) {
        ld_pidfile_adopt(&service->pidfile, packet->fd);
    } else if (strcmp(packet->word, LD_KEEPER_WORD_TOLD) == 0) {
        service->manager_knows = true;
    } else if (strcmp(packet->word, LD_KEEPER_WORD_FILES) == 0) {
        service->has_new_files = true;
    } else if (packet->fd >= 0) {
        close(packet->fd); /* an answer that came too late */
    }
}

/* What a master has sent to this worker during a request. */
struct late {
    STAILQ_ENTRY(late) link;
    struct ld_packet packet;
    char text[];
};
static STAILQ_HEAD(, late) late = STAILQ_HEAD_INITIALIZER(late);

/* Keep a packet for later. Without memory it is lost, and the master finds no answer. */
static void put_off(const struct ld_packet *packet) {
    struct late *copy = malloc(sizeof *copy + packet->size + 1);
    if (copy == NULL) {
        if (packet->fd >= 0) {
            close(packet->fd);
        }
        return;
    }
    copy->packet = *packet;
    memcpy(copy->text, packet->text, packet->size + 1);
    copy->packet.text = copy->text;
    STAILQ_INSERT_TAIL(&late, copy, link);
}

/* Whether a packet was kept for later. */
bool ld_keeper_channel_is_behind(void) {
    return !STAILQ_EMPTY(&late);
}

/* Receive the next packet of the master. */
int ld_keeper_channel_receive(const struct ld_service *service, struct ld_packet *packet) {
    static struct late *last;
    free(last);
    last = STAILQ_FIRST(&late);
    if (last == NULL) {
        return ld_packet_receive(service->keeper, packet);
    }
    STAILQ_REMOVE_HEAD(&late, link);
    *packet = last->packet;
    return 1;
}

/* Keep for later what the keeper sends unasked during a request. */
static void note_event(struct ld_service *service, const struct ld_packet *packet) {
    if (strcmp(packet->word, LD_KEEPER_WORD_STOP) == 0) {
        raise(SIGTERM);
    } else if (strcmp(packet->word, LD_KEEPER_WORD_SOCKET) == 0 && packet->fd >= 0) {
        if (service->listener >= 0) {
            close(service->listener);
        }
        service->listener = packet->fd;
    } else if (service->worker > 0) {
        put_off(packet);
    } else {
        take_note(service, packet);
    }
}

/* Read an answer: a descriptor, or a negative errno. */
static int read_answer(const struct ld_packet *packet) {
    long code;
    if (strcmp(packet->word, LD_KEEPER_WORD_OK) == 0 && packet->fd >= 0) {
        return packet->fd;
    }
    if (packet->fd >= 0) {
        close(packet->fd);
    }
    bool is_error = strcmp(packet->word, LD_KEEPER_WORD_ERROR) == 0 && packet->size < 5 &&
                    ld_parse_whole(packet->text, 1, 4095, &code);
    return is_error ? -(int)code : -EPROTO;
}

/* Wait for the answer to request NUMBER. Signals do not shorten the wait; late answers to earlier
 * requests are dropped. */
static int await_answer(struct ld_service *service, unsigned long number, int patience) {
    double deadline = (double)ld_time_ms() + patience;
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

/* Make the request WORD for a descriptor. A request during another one (by a line that is logged
 * meanwhile) would take the answer of that. */
static int ask(struct ld_service *service, const char *word, const char *text, int patience) {
    static unsigned long last_number;
    static bool is_asking;
    if (service->keeper < 0 || is_asking) {
        return is_asking ? -EAGAIN : -ESRCH;
    }
    is_asking = true;
    last_number = last_number % 999999999 + 1;
    int rc = ld_packet_send(service->keeper, last_number, word, text, strlen(text), -1);
    rc = rc < 0 ? rc : await_answer(service, last_number, patience);
    is_asking = false;
    return rc;
}

/* Ask the keeper to open the log. */
int ld_keeper_channel_open_log(void *arg) {
    return ask(arg, LD_KEEPER_WORD_LOG, "", PATIENCE_MS);
}

/* Ask the keeper to rotate the log. */
int ld_keeper_channel_rotate_log(void *arg) {
    return ask(arg, LD_KEEPER_WORD_ROTATE, "", ROTATE_MS);
}

/* Ask the keeper, or the master, for something else. */
int ld_keeper_channel_ask(struct ld_service *service, const char *word, const char *text) {
    return ask(service, word, text, PATIENCE_MS);
}

/* Receive what the keeper sends. */
enum ld_keeper_event ld_keeper_channel_hear(struct ld_service *service, int *fd) {
    struct ld_packet packet;
    int rc = ld_packet_receive(service->keeper, &packet);
    if (rc == 0) {
        return LD_KEEPER_GONE;
    }
    if (rc == 1 && strcmp(packet.word, LD_KEEPER_WORD_STOP) == 0) {
        return LD_KEEPER_STOP;
    }
    if (rc == 1 && strcmp(packet.word, LD_KEEPER_WORD_SOCKET) == 0 && packet.fd >= 0) {
        *fd = packet.fd;
        return LD_KEEPER_SOCKET;
    }
    if (rc == 1) {
        take_note(service, &packet);
    }
    return LD_KEEPER_NOTHING;
}
