/* The end of a master of the channels to its workers. What they ask for is answered here, as a keeper answers
 * its host; what they report goes to the chunk of the master as well, which starts, reloads and stops them. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "api/workers.h"
#include "base/json.h"
#include "base/log.h"
#include "base/parse.h"
#include "daemon/hold_log.h"
#include "daemon/hold_worker.h"
#include "daemon/keeper_channel.h"
#include "daemon/worker_start.h"
#include "engine/mailboxes.h"
#include "engine/shares.h"
#include "engine/workers.h"
#include "host/workers.h"
#include "posix/inherit.h"
#include "posix/sealed.h"

/* Note whether the code of a worker has yet to prove itself. */
static void note_unproved(struct ld_host *host, int worker, bool is_unproved) {
    struct ld_master_worker *known = &host->master.workers[worker];
    host->master.unproved_count += (int)is_unproved - (int)known->is_unproved;
    known->is_unproved = is_unproved;
}

/* Answer a request with a descriptor, which is closed here, or a negative errno. */
static void answer(struct ld_host *host, int worker, unsigned long number, int fd) {
    char code[16];
    if (fd >= 0) {
        ld_workers_send_fd(host->master.channels, worker, number, LD_KEEPER_WORD_OK, fd);
        close(fd);
    } else {
        snprintf(code, sizeof code, "%d", -fd);
        ld_workers_send(host->master.channels, worker, number, LD_KEEPER_WORD_ERROR, code);
    }
}

/* Ask the keeper about a worker, "WORKER" with what follows. */
static int ask_keeper(struct ld_host *host, const char *word, int worker, const char *rest) {
    char text[48];
    snprintf(text, sizeof text, "%d%s%s", worker, rest[0] != '\0' ? " " : "", rest);
    return ld_keeper_channel_ask(host->service, word, text);
}

/* Tell the keeper something about a worker. */
static void tell_keeper(const struct ld_host *host, const char *word, int worker) {
    char text[16];
    int size = snprintf(text, sizeof text, "%d", worker);
    ld_packet_send(host->service->keeper, 0, word, text, (size_t)size, -1);
}

/* Lock the pidfile of a worker for the process that asks. */
static int lock(struct ld_host *host, int worker, const struct ld_packet *packet) {
    long pid;
    char text[16] = "";
    if (packet->size >= sizeof text) {
        return -EINVAL;
    }
    memcpy(text, packet->text, packet->size);
    if (!ld_parse_whole(text, 2, INT_MAX, &pid)) {
        return -EINVAL;
    }
    return host->service->keeper >= 0 ? ask_keeper(host, LD_KEEPER_WORD_LOCK, worker, text)
                                      : ld_hold_worker_lock(host->service, worker, (pid_t)pid);
}

/* Have the log rotated; the others, and this process, write to the new file. */
static int rotate(struct ld_host *host, int worker) {
    int fd = host->service->keeper >= 0 ? ld_keeper_channel_rotate_log(host->service)
                                        : ld_hold_log_rotate(host->service);
    if (fd >= 0) {
        ld_log_reopen();
        ld_workers_tell_all(host->master.channels, LD_WORKERS_WORD_REOPEN, worker);
    }
    return fd;
}

/* Read a whole number and the space after it; what follows, or NULL. */
static const char *read_number(const char *at, int *number) {
    char *end;
    errno = 0;
    long value = strtol(at, &end, 10);
    if (end == at || *end != ' ' || errno != 0 || value < -1 || value > INT_MAX) {
        return NULL;
    }
    *number = (int)value;
    return end + 1;
}

/* Find a listening socket for a worker: one of those that were passed or made before, or its own. */
static int find_socket(struct ld_host *host, int worker, const struct ld_packet *packet) {
    struct ld_listen_options options = {.mode = -1};
    const char *at = read_number(packet->text, &options.backlog);
    at = at != NULL ? read_number(at, &options.mode) : NULL;
    if (at == NULL || strlen(packet->text) != packet->size) {
        return -EINVAL;
    }
    bool is_named = strncmp(at, "fd:", 3) == 0;
    return is_named || ld_listeners_has(host->listeners, at)
               ? ld_listeners_ask(host->listeners, at, &options, false)
               : ld_shares_ask(host->master.shares, worker, at, &options);
}

/* Serve a request; false if it is none. */
static bool serve(struct ld_host *host, int worker, const struct ld_packet *packet) {
    struct ld_service *service = host->service;
    bool has_keeper = service->keeper >= 0;
    int fd;
    if (strcmp(packet->word, LD_KEEPER_WORD_LOG) == 0) {
        fd = has_keeper ? ld_keeper_channel_open_log(service) : ld_hold_log_open(service);
    } else if (strcmp(packet->word, LD_KEEPER_WORD_ROTATE) == 0) {
        fd = rotate(host, worker);
    } else if (strcmp(packet->word, LD_KEEPER_WORD_LOCK) == 0) {
        fd = lock(host, worker, packet);
    } else if (strcmp(packet->word, LD_KEEPER_WORD_CONTROL) == 0) {
        fd = has_keeper ? ask_keeper(host, LD_KEEPER_WORD_CONTROL, worker, "")
                        : ld_hold_worker_socket(service, worker);
    } else if (strcmp(packet->word, LD_WORKERS_WORD_LISTEN) == 0) {
        fd = find_socket(host, worker, packet);
    } else {
        return false;
    }
    answer(host, worker, packet->number, fd);
    return true;
}

/* Tell the chunk of the master, and the one that is to replace it. The text of a packet is gone once the first one has
 * received another. */
static void tell_chunks(struct ld_host *host, const struct ld_api_workers_event *event) {
    struct ld_api_workers_event own = *event;
    struct ld_text text = {0};
    ld_text_add(&text, event->text, event->size);
    own.text = ld_text_string(&text);
    own.size = text.size;
    if (host->script != NULL) {
        ld_api_workers_tell(host->script, event);
    }
    if (host->reload.next != NULL) {
        ld_api_workers_tell(host->reload.next, &own);
    }
    ld_text_fini(&text);
}

/* Whether a word of a worker is for the chunk: the other ones that it knows come from here. */
static bool is_for_chunk(const char *word) {
    static const char *const words[] = {
        LD_KEEPER_WORD_READY,      LD_KEEPER_WORD_FINISHED,  LD_KEEPER_WORD_FAILED,
        LD_KEEPER_WORD_STOPPING,   LD_WORKERS_WORD_PREPARED, LD_WORKERS_WORD_REFUSED,
        LD_WORKERS_WORD_COMMITTED, LD_WORKERS_WORD_FAILED,   LD_KEEPER_WORD_RELOAD_BUSY};
    for (size_t i = 0; i < LD_COUNT(words); i++) {
        if (strcmp(word, words[i]) == 0) {
            return true;
        }
    }
    return false;
}

/* Take the image of a memory that came with a packet, if there is one, and if it is what it should be: other workers read
 * it, and must not wait for what is none, or find it changed. */
static void take_memory(struct ld_host *host, int worker, struct ld_packet *packet) {
    struct ld_master_worker *known = &host->master.workers[worker];
    bool is_sound = packet->fd >= 0 && ld_sealed_is_sound(packet->fd, LD_KEEPER_MEMORY_MAX);
    if (is_sound && strcmp(packet->word, LD_WORKERS_WORD_MEMORY) == 0) {
        ld_crew_keep(ld_crew_is_ahead(host, worker) ? &known->next : &known->memory, packet->fd);
    } else if (is_sound && strcmp(packet->word, LD_WORKERS_WORD_PREPARED) == 0) {
        ld_crew_keep(&known->next, packet->fd);
    } else if (packet->fd >= 0) {
        close(packet->fd);
    }
    packet->fd = -1;
}

/* Note what a worker warns of, a line each, until the service is started. */
static void note_warning(struct ld_host *host, int worker, const char *text) {
    struct ld_text *warnings = &host->master.warnings;
    if (text[0] != '\0' && !host->was_ready) {
        ld_text_format(warnings, "%sworker %d: %s", ld_text_is_empty(warnings) ? "" : "\n", worker,
                       text);
    }
}

/* Handle a packet of a worker. */
static void on_packet(void *arg, int worker, const struct ld_packet *packet) {
    struct ld_host *host = arg;
    struct ld_packet copy = *packet;
    take_memory(host, worker, &copy);
    if (serve(host, worker, &copy) || ld_crew_hear(host, worker, &copy)) {
        return;
    }
    if (strcmp(copy.word, LD_WORKERS_WORD_UNLISTEN) == 0) {
        ld_shares_drop(host->master.shares, worker, copy.text);
        return;
    }
    if (strcmp(copy.word, LD_KEEPER_WORD_READY) == 0 &&
        !ld_workers_is_serving(host->master.channels, worker)) {
        ld_shares_settle(host->master.shares, worker);
        ld_workers_note_serving(host->master.channels, worker);
        note_warning(host, worker, copy.text);
    }
    if (strcmp(copy.word, LD_WORKERS_WORD_UNPROVED) == 0) {
        ld_text_clear(&host->master.unproved);
        ld_text_format(&host->master.unproved, "worker %d: %s", worker, copy.text);
        ld_alarm_wake_at(host, 0);
        return;
    }
    if (strcmp(copy.word, LD_WORKERS_WORD_PROVED) == 0) {
        note_unproved(host, worker, false);
        ld_alarm_wake_at(host, 0);
        return;
    }
    bool have_changed = strcmp(copy.word, LD_WORKERS_WORD_CHANGED) == 0;
    if (have_changed && host->reload.phase != LD_RELOAD_NONE) {
        return; /* another worker was faster; what changes now, this one sees after its reload */
    }
    if (have_changed || strcmp(copy.word, LD_WORKERS_WORD_RELOAD) == 0) {
        host->master.wants_reload = true;
        ld_alarm_wake_at(host, 0);
        return;
    }
    if (strcmp(copy.word, LD_WORKERS_WORD_PREPARED) == 0 ||
        strcmp(copy.word, LD_WORKERS_WORD_REFUSED) == 0) {
        ld_workers_note_asked(host->master.channels, worker, false);
    }
    if (is_for_chunk(copy.word)) {
        tell_chunks(host, &(struct ld_api_workers_event){.worker = worker,
                                                         .number = copy.number,
                                                         .word = copy.word,
                                                         .text = copy.text,
                                                         .size = copy.size});
    }
}

/* Handle the end of a worker. */
static void on_gone(void *arg, int worker) {
    struct ld_host *host = arg;
    ld_crew_keep(&host->master.workers[worker].next, -1);
    ld_crew_note_gone(host, worker);
    if (host->service->keeper >= 0) {
        tell_keeper(host, LD_KEEPER_WORD_DOWN, worker);
    } else {
        ld_hold_worker_wait(host->service, worker);
    }
    tell_chunks(host, &(struct ld_api_workers_event){.worker = worker, .word = "gone", .text = ""});
}

/* Remove what is held for a worker that no process follows. */
static void on_forget(void *arg, int worker) {
    struct ld_host *host = arg;
    ld_crew_keep(&host->master.workers[worker].memory, -1);
    ld_crew_keep(&host->master.workers[worker].next, -1);
    note_unproved(host, worker, false);
    ld_shares_drop_all(host->master.shares, worker);
    ld_mailboxes_drop(host->master.boxes, (unsigned)worker);
    if (host->service->keeper >= 0) {
        tell_keeper(host, LD_KEEPER_WORD_DROP, worker);
    } else {
        ld_hold_worker_drop(host->service, worker);
    }
}

/* Find what a new process of a worker is made from: what it was made of, or else another one, which may hold what is to
 * be in force. */
static int find_memory(const struct ld_host *host, int worker) {
    bool from_disk = host->master.from_disk;
    int memory = from_disk ? -1 : host->master.workers[worker].memory;
    for (int i = 1; !from_disk && memory < 0 && i <= LD_WORKERS_MAX; i++) {
        const struct ld_master_worker *other = &host->master.workers[i];
        memory = other->next >= 0 ? other->next : other->memory;
    }
    return memory < 0 && !from_disk ? host->master.inherited : memory;
}

/* Keep what the host before had in force. */
void ld_master_inherit(struct ld_host *host, int memory) {
    ld_crew_keep(&host->master.inherited, memory);
}

/* Find what is in force. */
int ld_master_in_force(const struct ld_host *host) {
    int memory = -1;
    for (int i = 1; memory < 0 && i <= LD_WORKERS_MAX; i++) {
        memory = host->master.workers[i].memory;
    }
    return memory < 0 ? host->master.inherited : memory;
}

/* Describe how the processes of a worker before the next one have ended. */
static json_t *describe_end(const struct ld_host *host, int worker) {
    const struct ld_workers_end *end = ld_workers_find_end(host->master.channels, worker);
    return json_pack("{s:i, s:o, s:f, s:f}", "count", (int)end->count, "message",
                     ld_json_text(end->how, strlen(end->how)), "seconds", end->seconds, "time",
                     end->time);
}

/* Send a worker that is about to be started what it has to know. */
static void on_connect(void *arg, int worker) {
    struct ld_host *host = arg;
    int memory = find_memory(host, worker);
    ld_shares_begin(host->master.shares, worker);
    note_unproved(host, worker, false);
    char *facts =
        ld_worker_start_describe(host->service, worker, memory >= 0, describe_end(host, worker));
    if (facts != NULL) {
        ld_workers_send(host->master.channels, worker, 0, LD_WORKER_WORD_BEGIN, facts);
    }
    if (facts != NULL && memory >= 0) {
        ld_workers_send_fd(host->master.channels, worker, 0, LD_WORKER_WORD_MEMORY, memory);
    }
    free(facts);
    int box = ld_mailboxes_hand_out(host->master.boxes, (unsigned)worker);
    if (box >= 0) {
        ld_workers_send_fd(host->master.channels, worker, 0, LD_WORKERS_WORD_MAIL, box);
    } else {
        ld_log(LD_LOG_ERROR, "worker %d gets no messages of others: %s", worker, strerror(-box));
    }
}

/* Take over the sockets that were bound for the workers before. */
static int take_sockets(struct ld_host *host) {
    int rc = 0;
    for (size_t i = 0; i < host->service->socket_count && rc == 0; i++) {
        const struct ld_service_socket *at = &host->service->sockets[i];
        int fd = at->worker > 0 ? fcntl(at->fd, F_DUPFD_CLOEXEC, LD_PASSED_FIRST) : 0;
        if (at->worker > 0) {
            rc = fd < 0 ? -errno
                        : ld_shares_inherit(host->master.shares, at->worker, fd, at->address);
        }
    }
    return rc;
}

/* Make the channels. */
int ld_master_open(struct ld_host *host) {
    static const struct ld_workers_ops ops = {on_connect, on_packet, on_gone, on_forget};
    if (!host->service->is_master) {
        return 0;
    }
    host->master.workers = calloc(LD_WORKERS_MAX + 1, sizeof *host->master.workers);
    for (int worker = 0; host->master.workers != NULL && worker <= LD_WORKERS_MAX; worker++) {
        host->master.workers[worker] = (struct ld_master_worker){.memory = -1, .next = -1};
    }
    host->master.channels = ld_workers_new(&host->loop, LD_WORKERS_MAX, &ops, host);
    host->master.shares = ld_shares_new(LD_WORKERS_MAX);
    host->master.boxes = ld_mailboxes_new(&host->loop);
    if (host->master.shares == NULL || host->master.workers == NULL ||
        host->master.channels == NULL || host->master.boxes == NULL ||
        (host->service->worker_words == NULL && !ld_worker_start_make_words(host->service))) {
        return -ENOMEM;
    }
    ld_master_read_facts(host);
    return host->service->handover == NULL ? take_sockets(host) : 0;
}

/* Close them. */
void ld_master_close(struct ld_host *host) {
    for (int worker = 1; host->master.workers != NULL && worker <= LD_WORKERS_MAX; worker++) {
        ld_crew_keep(&host->master.workers[worker].memory, -1);
        ld_crew_keep(&host->master.workers[worker].next, -1);
    }
    ld_crew_keep(&host->master.inherited, -1);
    ld_crew_keep(&host->master.crew.program, -1);
    ld_text_fini(&host->master.crew.said);
    free(host->master.workers);
    host->master.workers = NULL;
    ld_text_fini(&host->master.unproved);
    ld_text_fini(&host->master.warnings);
    ld_text_fini(&host->worker.unproved);
    if (host->master.channels != NULL) {
        ld_workers_close(host->master.channels);
        host->master.channels = NULL;
    }
    ld_mailboxes_close(host->master.boxes);
    host->master.boxes = NULL;
    if (host->master.shares != NULL) {
        ld_shares_free(host->master.shares);
        host->master.shares = NULL;
    }
}

/* Have the workers open the log again. */
void ld_master_tell_reopen(struct ld_host *host) {
    if (host->master.channels != NULL) {
        ld_workers_tell_all(host->master.channels, LD_WORKERS_WORD_REOPEN, 0);
    }
}

/* Tell the workers that files were made again. */
void ld_master_tell_files(struct ld_host *host) {
    if (host->master.channels != NULL) {
        ld_workers_tell_all(host->master.channels, LD_KEEPER_WORD_FILES, 0);
    }
}

/* Have the next generation be for as many workers as were asked for. */
void ld_master_begin(struct ld_host *host) {
    if (host->master.wanted > 0) {
        host->setup.workers = host->master.wanted;
        host->master.wanted = 0;
    }
    snprintf(host->master.prepare, sizeof host->master.prepare, "%d %.3f", host->setup.workers,
             ld_probation_seconds(host));
    for (int worker = 1; host->master.channels != NULL && worker <= LD_WORKERS_MAX; worker++) {
        ld_workers_note_asked(host->master.channels, worker, false);
    }
    if (host->master.channels != NULL && host->reload.is_rollback) {
        for (int worker = 1; worker <= LD_WORKERS_MAX; worker++) {
            ld_workers_send(host->master.channels, worker, 0, LD_WORKERS_WORD_UNPROVED,
                            ld_text_string(&host->probation.why));
        }
    }
}

/* Tell the workers to commit. One that does not read has not done so, and is restarted. */
static void tell_commit(struct ld_host *host) {
    char generation[16];
    int codes[LD_WORKERS_MAX + 1];
    host->service->generation = (int)host->script->generation;
    snprintf(generation, sizeof generation, "%d", host->service->generation);
    for (int worker = 1; worker <= LD_WORKERS_MAX; worker++) {
        codes[worker] =
            ld_workers_send(host->master.channels, worker, 0, LD_WORKERS_WORD_COMMIT, generation);
    }
    for (int worker = 1; worker <= LD_WORKERS_MAX; worker++) {
        if (codes[worker] < 0 && codes[worker] != -ENOTCONN) {
            const char *why = strerror(-codes[worker]);
            tell_chunks(host, &(struct ld_api_workers_event){.worker = worker,
                                                             .word = LD_WORKERS_WORD_FAILED,
                                                             .text = why,
                                                             .size = strlen(why)});
        }
    }
}

/* Let the workers commit. */
void ld_master_commit(struct ld_host *host) {
    if (host->master.channels == NULL) {
        return;
    }
    bool is_unproved = ld_probation_seconds(host) > 0;
    if (!is_unproved && !host->reload.is_rollback) {
        ld_crew_keep(&host->master.inherited, -1); /* the disk has what is in force */
    }
    host->service->workers = host->setup.workers_now = host->setup.workers;
    tell_commit(host);
    for (int worker = 1; worker <= LD_WORKERS_MAX; worker++) {
        struct ld_master_worker *known = &host->master.workers[worker];
        note_unproved(host, worker, is_unproved && !host->reload.is_rollback && known->next >= 0);
        if (host->reload.is_rollback || (is_unproved && known->memory >= 0)) {
            ld_crew_keep(&known->next,
                         -1); /* in force is what was, until a worker says otherwise */
            continue;
        }
        ld_crew_keep(&known->memory,
                     known->next); /* without one it is made from that of another one */
        known->next = -1;
    }
    host->master.from_disk = false;
}

/* Have all workers pass. */
void ld_master_step(struct ld_host *host) {
    if (host->master.has_passed && host->master.channels != NULL) {
        ld_workers_tell_all(host->master.channels, LD_WORKERS_WORD_PROVED, 0);
    }
    host->master.has_passed = false;
}

/* Have them give it up. */
void ld_master_abandon(struct ld_host *host) {
    if (host->master.channels == NULL) {
        return;
    }
    ld_workers_tell_all(host->master.channels, LD_WORKERS_WORD_ABANDON, 0);
    ld_shares_note_retirement(host->master.shares, false);
    for (int worker = 1; worker <= LD_WORKERS_MAX; worker++) {
        ld_crew_keep(&host->master.workers[worker].next, -1);
    }
    for (int worker = host->service->workers + 1; worker <= host->setup.workers; worker++) {
        ld_workers_forget(host->master.channels, worker);
    }
    host->setup.workers = host->service->workers;
    host->master.from_disk = false;
}

/* Report how the processes of a worker before the next one have ended, as the worker does. */
static json_t *report_restarts(const struct ld_host *host, int worker) {
    const struct ld_workers_end *end = ld_workers_find_end(host->master.channels, worker);
    json_t *last = json_null();
    if (end->count > 0) {
        last =
            json_pack("{s:o, s:n, s:f, s:f}", "message", ld_json_text(end->how, strlen(end->how)),
                      "report", "seconds", end->seconds, "time", end->time);
    }
    return json_pack("{s:I, s:n, s:o}", "count", (json_int_t)end->count, "due", "last", last);
}

/* List the workers. */
json_t *ld_master_report(const struct ld_host *host) {
    if (host->master.channels == NULL) {
        return json_null();
    }
    json_t *list = json_array();
    for (int worker = 1; worker <= host->service->workers; worker++) {
        char name[LD_NAME_MAX + 16];
        bool is_up = ld_workers_is_connected(host->master.channels, worker);
        snprintf(name, sizeof name, "%s-%d", host->service->name, worker);
        json_array_append_new(list,
                              json_pack("{s:o, s:i, s:s, s:o}", "name", ld_json_string(name),
                                        "worker", worker, "state", is_up ? "running" : "waiting",
                                        "restarts", report_restarts(host, worker)));
    }
    return list;
}

/* Find a worker that others wait for. */
int ld_master_find_awaited(const struct ld_host *host) {
    if (host->master.crew.phase != LD_CREW_NONE) {
        return host->master.crew.at;
    }
    bool any = host->master.channels != NULL && host->reload.phase != LD_RELOAD_NONE;
    for (int worker = 1; any && worker <= LD_WORKERS_MAX; worker++) {
        if (ld_workers_is_asked(host->master.channels, worker)) {
            return worker;
        }
    }
    return 0;
}

/* Count those without a process. */
int ld_master_count_down(const struct ld_host *host) {
    int count = 0;
    for (int worker = 1; host->master.channels != NULL && worker <= host->service->workers;
         worker++) {
        count += !ld_workers_is_connected(host->master.channels, worker);
    }
    return count;
}

/* Have a worker restarted, by the chunk that has started it. */
void ld_master_restart(struct ld_host *host, int worker) {
    ld_api_workers_tell(host->script, &(struct ld_api_workers_event){
                                          .worker = worker, .word = "restart", .text = ""});
}
