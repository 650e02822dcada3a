/* What the host leaves to the next program in this process, and how that takes it over: the counters, the control
 * socket with its clients, the listening sockets, the children, the signals that have arrived. */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "api/child_events.h"
#include "api/child_keep.h"
#include "base/file.h"
#include "base/json.h"
#include "base/log.h"
#include "base/time.h"
#include "daemon/handover.h"
#include "daemon/way_back.h"
#include "engine/child_relic.h"
#include "engine/crash.h"
#include "engine/mail_relic.h"
#include "engine/signals.h"
#include "host/internal.h"
#include "host/workers.h"
#include "posix/family.h"
#include "posix/fds.h"
#include "posix/process.h"
#include "posix/reserve.h"
#include "script/memory_image.h"

/* Set a member of the line. */
static void set(struct ld_handover *handover, const char *key, json_t *value) {
    ld_handover_set(handover, handover->root, key, value);
}

/* Write the listening sockets that a script has asked for. */
static json_t *write_listeners(struct ld_handover *handover, const struct ld_host *host) {
    json_t *list = json_array();
    struct ld_listener_facts facts;
    for (size_t i = 0; ld_listeners_describe(host->listeners, i, &facts); i++) {
        if (!facts.stays) {
            ld_handover_add(handover, list,
                            json_pack("{s:o, s:o, s:b, s:i, s:b, s:I, s:I}", "address",
                                      ld_json_bytes(facts.address), "fd",
                                      ld_handover_leave_fd(handover, facts.fd), "inherited",
                                      facts.inherited, "number", facts.number, "has_file",
                                      facts.has_file, "device", (json_int_t)facts.device, "inode",
                                      (json_int_t)facts.inode));
        }
    }
    return list;
}

/* Write what is needed to go on with a child that is kept. */
static void write_kept(struct ld_handover *handover, const struct ld_child_relic *relic,
                       json_t *item) {
    json_t *streams = json_array();
    for (int i = 0; i < 2; i++) {
        ld_handover_add(handover, streams,
                        json_pack("{s:o, s:b, s:I, s:o}", "fd",
                                  ld_handover_leave_fd(handover, relic->fds[i + 1]), "to_log",
                                  relic->to_log[i], "parts", (json_int_t)relic->parts[i], "line",
                                  ld_handover_bytes(&relic->lines[i])));
    }
    ld_handover_set(handover, item, "streams", streams);
    ld_handover_set(handover, item, "stdin", ld_handover_leave_fd(handover, relic->fds[0]));
    ld_handover_set(handover, item, "unwritten", ld_handover_bytes(&relic->unwritten));
    ld_handover_set(handover, item, "input_ends", json_boolean(relic->input_ends));
    ld_handover_set(handover, item, "timed_out", json_boolean(relic->timed_out));
    ld_handover_set(handover, item, "deadline", json_integer(relic->deadline));
    ld_handover_set(handover, item, "left_ms", json_integer((json_int_t)relic->left_ms));
    ld_handover_set(handover, item, "restarts", json_integer(relic->restarts));
    ld_handover_set(handover, item, "ready", json_integer(relic->ready));
    ld_handover_set(handover, item, "ready_fd", ld_handover_leave_fd(handover, relic->ready_fd));
    ld_handover_set(handover, item, "last",
                    relic->has_last
                        ? json_pack("{s:b, s:i, s:b}", "signaled", relic->last.signaled, "status",
                                    relic->last.status, "core", relic->last.core)
                        : json_null());
}

/* Write a child that runs. */
static json_t *write_child(struct ld_handover *handover, struct ld_child *child) {
    struct ld_child_relic relic;
    ld_child_relic_take(child, &relic);
    for (int i = 0; i < 2 && relic.identity != NULL; i++) {
        ld_api_child_keep_take_line(child, i + 1, &relic.lines[i]);
    }
    json_t *item = json_pack(
        "{s:o, s:o, s:o, s:i, s:I, s:I, s:I, s:b}", "name", ld_json_bytes(relic.name), "command",
        ld_json_bytes(relic.command), "identity", ld_json_bytes(relic.identity), "pid",
        (int)relic.pid, "mark", (json_int_t)relic.mark, "started", (json_int_t)relic.started,
        "kill_after_ms", (json_int_t)relic.kill_after_ms, "detached", relic.detached);
    if (relic.identity != NULL && item != NULL) {
        write_kept(handover, &relic, item);
    }
    ld_child_relic_fini(&relic);
    return item;
}

/* Write all children that run. */
static json_t *write_children(struct ld_handover *handover, struct ld_host *host) {
    json_t *list = json_array();
    struct ld_child *child = NULL;
    while ((child = ld_children_next(host->children, child)) != NULL) {
        struct ld_child_facts facts;
        ld_child_describe(child, &facts);
        if (facts.running) {
            ld_handover_add(handover, list, write_child(handover, child));
        }
    }
    return list;
}

/* Whether a waiter is in a list. */
static bool is_in(const struct ld_waiter *list, const struct ld_waiter *waiter) {
    while (list != NULL && list != waiter) {
        list = list->next;
    }
    return list != NULL;
}

/* What a client waits for, as a word. */
static const char *waits_for(const struct ld_host *host, const struct ld_waiter *waiter) {
    return waiter == NULL                              ? "nothing"
           : is_in(host->upgrade.waiters, waiter)      ? "upgrade"
           : host->reload.later_holder == waiter       ? "other"
           : is_in(host->reload.later_waiters, waiter) ? "reload"
           : is_in(host->reload.trial_waiters, waiter) ? "check"
                                                       : "other";
}

struct clients {
    const struct ld_host *host;
    struct ld_handover *handover;
    json_t *list;
};

/* Write a client of the control socket. */
static void write_client(void *arg, const struct ld_control_client *client) {
    const struct clients *clients = arg;
    struct ld_text input = {0};
    ld_text_add(&input, client->input, client->size);
    ld_handover_add(clients->handover, clients->list,
                    json_pack("{s:o, s:o, s:s}", "fd",
                              ld_handover_leave_fd(clients->handover, client->fd), "input",
                              ld_handover_bytes(&input), "waits",
                              waits_for(clients->host, client->waiter)));
    ld_text_fini(&input);
}

/* Write the clients. */
static json_t *write_clients(struct ld_handover *handover, const struct ld_host *host) {
    struct clients clients = {.host = host, .handover = handover, .list = json_array()};
    ld_control_each(host->control, write_client, &clients);
    return clients.list;
}

/* Write the descriptors that the process was started with: they keep their numbers. */
static json_t *write_inherited(struct ld_handover *handover) {
    json_t *list = json_array();
    int fd;
    for (size_t i = 0; (fd = ld_fds_at(LD_FD_INHERITED, i)) >= 0; i++) {
        ld_handover_add(handover, list, ld_handover_leave_fd(handover, fd));
    }
    return list;
}

/* Write the processes that are left alone. */
static json_t *write_spared(struct ld_handover *handover) {
    json_t *list = json_array();
    unsigned long long started;
    pid_t pid;
    for (size_t i = 0; ld_family_spared(i, &pid, &started); i++) {
        ld_handover_add(handover, list,
                        json_pack("{s:i, s:I}", "pid", (int)pid, "started", (json_int_t)started));
    }
    return list;
}

/* The pids of our children, as the kernel lists them; false where it does not. */
static bool list_own_children(struct ld_text *out) {
    char path[64];
    snprintf(path, sizeof path, "/proc/self/task/%d/children", (int)getpid());
    return ld_file_load(path, out) == 0;
}

/* Write them; null if they are not known. */
static json_t *write_own_children(void) {
    struct ld_text children = {0};
    json_t *value = list_own_children(&children) ? ld_handover_bytes(&children) : json_null();
    ld_text_fini(&children);
    return value;
}

/* Write how the reloads and the script's errors were. */
static json_t *write_history(const struct ld_host *host) {
    const struct ld_reload *reload = &host->reload;
    const struct ld_tally_place *last = ld_tally_last(&host->tally);
    struct ld_text message = {0};
    ld_text_puts(&message, last->message);
    json_t *history =
        json_pack("{s:I, s:I, s:I, s:b, s:f, s:f, s:o, s:I, s:o, s:f}", "ok",
                  (json_int_t)reload->ok, "failed", (json_int_t)reload->failed, "rolled_back",
                  (json_int_t)reload->rolled_back, "last_ok", reload->last_ok, "last_time",
                  reload->last_time, "last_ms", reload->last_ms, "last_error",
                  ld_handover_bytes(&reload->last_error), "errors", (json_int_t)host->tally.count,
                  "error", ld_handover_bytes(&message), "error_time", last->last);
    ld_text_fini(&message);
    return history;
}

/* Write the connections that were handed on, and that no generation has taken yet. */
static json_t *write_parcels(const struct ld_host *host, struct ld_handover *handover) {
    json_t *list = json_array();
    const struct ld_parcel *parcel = NULL;
    while ((parcel = ld_parcels_next_held(host->parcels, parcel)) != NULL) {
        ld_handover_add(handover, list,
                        json_pack("{s:o, s:o, s:b, s:o, s:o, s:o, s:I}", "key",
                                  ld_handover_bytes(&parcel->key), "peer",
                                  ld_handover_bytes(&parcel->peer), "is_unix", parcel->is_unix,
                                  "fd", ld_handover_leave_fd(handover, parcel->fd), "received",
                                  ld_handover_bytes(&parcel->received), "unsent",
                                  ld_handover_bytes(&parcel->unsent), "left_ms",
                                  (json_int_t)ld_parcels_left_ms(host->parcels, parcel)));
    }
    return list;
}

/* Hold a connection again for a generation that takes it. */
static void restore_parcel(struct ld_host *host, struct ld_handover *handover, const json_t *item) {
    struct ld_text key = {0};
    struct ld_parcel *parcel;
    ld_handover_text(handover, item, "key", &key);
    int fd = ld_handover_fd(handover, item, "fd");
    int rc =
        fd < 0 ? -EBADF
               : ld_parcels_offer(host->parcels, handover, ld_text_string(&key), key.size, &parcel);
    ld_text_fini(&key);
    if (rc < 0) {
        ld_crew_keep(&fd, -1);
        ld_text_format(&handover->why, "a connection that was handed on: %s", strerror(-rc));
        return;
    }
    ld_handover_text(handover, item, "peer", &parcel->peer);
    ld_handover_text(handover, item, "received", &parcel->received);
    ld_handover_text(handover, item, "unsent", &parcel->unsent);
    parcel->is_unix = ld_handover_bool(handover, item, "is_unix");
    ld_parcels_restore(host->parcels, parcel, fd,
                       (uint64_t)ld_handover_within(handover, item, "left_ms", 0, INT64_MAX));
}

/* Leave a descriptor of the end for messages. */
static int leave_mail_fd(void *arg, int fd) {
    json_decref(ld_handover_leave_fd(arg, fd));
    return fd;
}

/* Write the messages that wait in this process. */
static void write_mail(const struct ld_host *host, struct ld_handover *handover) {
    ld_mail_relic_write(host->mailing.mail, &handover->parts[LD_HANDOVER_MAIL], leave_mail_fd,
                        handover);
    handover->has[LD_HANDOVER_MAIL] = true;
}

/* Write the code, for the way back, and for the next program if it is not to take that of the disk. */
static void write_code(const struct ld_host *host, struct ld_handover *handover) {
    struct ld_text *code = &handover->parts[LD_HANDOVER_CODE];
    handover->has[LD_HANDOVER_CODE] = host->script->memory != NULL;
    if (host->script->memory != NULL && ld_memory_image_write(host->script->memory, code) < 0) {
        handover->is_incomplete = true;
    }
}

/* Write what the host leaves. */
void ld_estate_write(struct ld_host *host, struct ld_handover *handover) {
    const struct ld_script *script = host->script;
    set(handover, "own_children", write_own_children());
    set(handover, "control_fd", ld_handover_leave_fd(handover, ld_control_fd(host->control)));
    set(handover, "clients", write_clients(handover, host));
    set(handover, "listeners", write_listeners(handover, host));
    set(handover, "children", write_children(handover, host));
    set(handover, "inherited", write_inherited(handover));
    set(handover, "spared", write_spared(handover));
    set(handover, "history", write_history(host));
    set(handover, "generation", json_integer(script->generation));
    set(handover, "started", json_integer((json_int_t)host->started));
    set(handover, "said_started", json_boolean(host->said_started));
    set(handover, "status_text", ld_handover_bytes(&script->status_text));
    set(handover, "reload_asked", json_boolean(host->reload.asked));
    set(handover, "asked_at", json_integer((json_int_t)host->upgrade.started));
    set(handover, "frozen_at", json_integer((json_int_t)host->upgrade.frozen));
    set(handover, "frozen_boot", json_integer((json_int_t)ld_time_boot()));
    set(handover, "frozen_real", json_integer((json_int_t)host->upgrade.frozen_real));
    struct ld_signals_set signals = ld_signals_take();
    set(handover, "from_user", json_integer((json_int_t)signals.from_user));
    set(handover, "from_kernel", json_integer((json_int_t)signals.from_kernel));
    bool keeps_code = host->service->worker == 0 && ld_disk_is_undone(host);
    set(handover, "code_of", json_integer(host->code));
    set(handover, "service_generation", json_integer(host->service->generation));
    set(handover, "order", json_integer((json_int_t)host->upgrade.order));
    set(handover, "code_fd", ld_handover_leave_fd(handover, host->upgrade.code));
    set(handover, "keeps_code", json_boolean(keeps_code));
    set(handover, "parcels", write_parcels(host, handover));
    set(handover, "workers_of_master", ld_master_leave(host, handover));
    write_mail(host, handover);
    write_code(host, handover);
}

/* Give back the signals that were taken. */
static void give_signals(const json_t *root) {
    ld_signals_give((struct ld_signals_set){
        .from_user = (unsigned long long)json_integer_value(json_object_get(root, "from_user")),
        .from_kernel =
            (unsigned long long)json_integer_value(json_object_get(root, "from_kernel"))});
}

/* Give a child the unfinished lines back that were taken from its owner. */
static void give_lines(struct ld_handover *handover, struct ld_child *child,
                       const json_t *streams) {
    const json_t *stream;
    size_t i;
    json_array_foreach(streams, i, stream) {
        struct ld_text line = {0};
        ld_handover_text(handover, stream, "line", &line);
        if (line.size > 0 && !json_is_true(json_object_get(stream, "to_log"))) {
            ld_child_put_output(child, (int)i + 1, line.data, line.size);
        }
        ld_text_fini(&line);
    }
}

/* Give back what writing has taken from scripts. */
void ld_estate_give_back(struct ld_host *host, struct ld_handover *handover) {
    const json_t *item;
    size_t i;
    give_signals(handover->root);
    json_array_foreach(json_object_get(handover->root, "children"), i, item) {
        pid_t pid = (pid_t)json_integer_value(json_object_get(item, "pid"));
        struct ld_child *child = ld_children_find(host->children, pid);
        if (child != NULL) {
            give_lines(handover, child, json_object_get(item, "streams"));
        }
    }
}

/* Take over the listening sockets. */
static void restore_listeners(struct ld_host *host, struct ld_handover *handover) {
    const json_t *item;
    size_t i;
    json_array_foreach(ld_handover_array(handover, handover->root, "listeners"), i, item) {
        char *address = ld_handover_string(handover, item, "address");
        struct ld_listener_facts facts = {
            .address = address != NULL ? address : "",
            .fd = ld_handover_fd(handover, item, "fd"),
            .inherited = ld_handover_bool(handover, item, "inherited"),
            .number = (int)ld_handover_within(handover, item, "number", -1, INT_MAX),
            .has_file = ld_handover_bool(handover, item, "has_file"),
            .device = (unsigned long long)ld_handover_int(handover, item, "device"),
            .inode = (unsigned long long)ld_handover_int(handover, item, "inode")};
        int rc = facts.fd >= 0 ? ld_listeners_restore(host->listeners, &facts) : 0;
        if (rc < 0) {
            ld_text_format(&handover->why, "the socket %s: %s", facts.address, strerror(-rc));
        }
        free(address);
    }
}

/* Read what is needed to go on with a kept child. */
static void read_kept(struct ld_handover *handover, const json_t *item,
                      struct ld_child_relic *relic) {
    const json_t *streams = ld_handover_array(handover, item, "streams");
    const json_t *last = json_object_get(item, "last");
    if (json_array_size(streams) != 2) {
        ld_handover_blame(handover, "streams", "not those of two outputs");
        return;
    }
    for (size_t i = 0; i < 2; i++) {
        const json_t *stream = json_array_get(streams, i);
        relic->fds[i + 1] = ld_handover_fd(handover, stream, "fd");
        relic->to_log[i] = ld_handover_bool(handover, stream, "to_log");
        relic->parts[i] = ld_handover_within(handover, stream, "parts", 0, INT64_MAX);
        ld_handover_text(handover, stream, "line", &relic->lines[i]);
    }
    relic->fds[0] = ld_handover_fd(handover, item, "stdin");
    ld_handover_text(handover, item, "unwritten", &relic->unwritten);
    relic->input_ends = ld_handover_bool(handover, item, "input_ends");
    relic->timed_out = ld_handover_bool(handover, item, "timed_out");
    relic->deadline =
        (int)ld_handover_within(handover, item, "deadline", -1, LD_CHILD_RELIC_DEADLINE_MAX);
    relic->left_ms = (uint64_t)ld_handover_within(handover, item, "left_ms", 0, INT64_MAX);
    relic->restarts = (unsigned)ld_handover_within(handover, item, "restarts", 0, UINT_MAX);
    relic->ready =
        (enum ld_ready)ld_handover_within(handover, item, "ready", LD_READY_UNKNOWN, LD_READY_NOW);
    relic->ready_fd = ld_handover_fd(handover, item, "ready_fd");
    relic->has_last = json_is_object(last);
    if (relic->has_last) {
        relic->last.signaled = ld_handover_bool(handover, last, "signaled");
        relic->last.status = (int)ld_handover_within(handover, last, "status", INT_MIN, INT_MAX);
        relic->last.core = ld_handover_bool(handover, last, "core");
    }
}

/* Take over a child. */
static void restore_child(struct ld_host *host, struct ld_handover *handover, const json_t *item) {
    char *name = ld_handover_string(handover, item, "name");
    char *command = ld_handover_string(handover, item, "command");
    char *identity = ld_handover_string(handover, item, "identity");
    struct ld_child_relic relic = {.name = name != NULL ? name : "",
                                   .command = command != NULL ? command : "",
                                   .identity = identity,
                                   .pid = ld_handover_pid(handover, item, "pid"),
                                   .mark = (uint64_t)ld_handover_int(handover, item, "mark"),
                                   .started = (uint64_t)ld_handover_int(handover, item, "started"),
                                   .kill_after_ms = (uint64_t)ld_handover_within(
                                       handover, item, "kill_after_ms", 0, INT64_MAX),
                                   .detached = ld_handover_bool(handover, item, "detached"),
                                   .fds = {-1, -1, -1},
                                   .deadline = -1,
                                   .ready_fd = -1};
    if (identity != NULL) {
        read_kept(handover, item, &relic);
    }
    int rc = ld_child_relic_restore(host->children, &relic, &ld_api_child_events);
    if (rc < 0) {
        ld_text_format(&handover->why, "the child %s: %s", relic.name, strerror(-rc));
    }
    ld_child_relic_fini(&relic);
    free(name);
    free(command);
    free(identity);
}

/* Take over how the reloads and errors were. */
static void restore_history(struct ld_host *host, struct ld_handover *handover) {
    const json_t *history = json_object_get(handover->root, "history");
    struct ld_reload *reload = &host->reload;
    struct ld_text message = {0};
    reload->ok = (uint64_t)ld_handover_int(handover, history, "ok");
    reload->failed = (uint64_t)ld_handover_int(handover, history, "failed");
    reload->rolled_back = (uint64_t)ld_handover_int(handover, history, "rolled_back");
    reload->last_ok = ld_handover_bool(handover, history, "last_ok");
    reload->last_time = ld_handover_real(handover, history, "last_time");
    reload->last_ms = ld_handover_real(handover, history, "last_ms");
    ld_handover_text(handover, history, "last_error", &reload->last_error);
    ld_handover_text(handover, history, "error", &message);
    ld_tally_restore(&host->tally, (uint64_t)ld_handover_int(handover, history, "errors"),
                     ld_text_string(&message), ld_handover_real(handover, history, "error_time"));
    ld_text_fini(&message);
    host->seen_errors = host->tally.count;
}

/* Make a copy of a descriptor that the end for messages has left. */
static int take_mail_fd(void *arg, int fd) {
    (void)arg;
    return fcntl(fd, F_DUPFD_CLOEXEC, 3);
}

/* Take the messages over that waited in this process. */
static void restore_mail(struct ld_host *host, struct ld_handover *handover) {
    const struct ld_text *mail = &handover->parts[LD_HANDOVER_MAIL];
    int rc = handover->has[LD_HANDOVER_MAIL]
                 ? ld_mail_relic_read(host->mailing.mail, ld_text_string(mail), mail->size,
                                      take_mail_fd, NULL)
                 : 0;
    if (rc < 0) {
        ld_text_format(&handover->why, "the messages that wait: %s", strerror(-rc));
    }
}

/* Take the workers over. */
static void restore_workers(struct ld_host *host, struct ld_handover *handover) {
    int rc = ld_master_take_over(host, handover);
    if (rc < 0) {
        ld_text_format(&handover->why, "the workers: %s", strerror(-rc));
    }
}

/* Take over what is needed before the script is loaded. */
int ld_estate_restore(struct ld_host *host) {
    struct ld_handover *handover = host->service->handover;
    const json_t *root = handover->root;
    const json_t *item;
    size_t i;
    ld_reaper_hold(host->reaper, true);
    restore_history(host, handover);
    restore_listeners(host, handover);
    json_array_foreach(ld_handover_array(handover, root, "children"), i, item) {
        restore_child(host, handover, item);
    }
    json_array_foreach(ld_handover_array(handover, root, "inherited"), i, item) {
        ld_fds_note_one((int)json_integer_value(item), LD_FD_INHERITED);
    }
    json_array_foreach(ld_handover_array(handover, root, "spared"), i, item) {
        ld_family_spare(ld_handover_pid(handover, item, "pid"),
                        (unsigned long long)ld_handover_int(handover, item, "started"));
    }
    host->started = (uint64_t)ld_handover_int(handover, root, "started");
    host->said_started = ld_handover_bool(handover, root, "said_started");
    host->upgrade.started = (uint64_t)ld_handover_int(handover, root, "asked_at");
    host->upgrade.frozen = (uint64_t)ld_handover_int(handover, root, "frozen_at");
    host->upgrade.frozen_real = ld_handover_int(handover, root, "frozen_real");
    host->reload.asked = ld_handover_bool(handover, root, "reload_asked");
    host->upgrade.order = (unsigned long)ld_handover_int(handover, root, "order");
    host->service->generation =
        (int)json_integer_value(json_object_get(root, "service_generation"));
    host->upgrade.is_back =
        handover->back != NULL && !json_is_true(json_object_get(root, "keeps_code"));
    if (handover->back != NULL || json_is_true(json_object_get(root, "keeps_code")) ||
        ld_handover_int(handover, root, "code_fd") >= 0) {
        host->code = (unsigned)ld_handover_within(handover, root, "code_of", 0, UINT_MAX);
    }
    host->was_ready = true;
    restore_mail(host, handover);
    json_array_foreach(ld_handover_array(handover, root, "parcels"), i, item) {
        restore_parcel(host, handover, item);
    }
    restore_workers(host, handover);
    give_signals(root);
    return ld_text_is_empty(&handover->why) ? 0 : -1;
}

/* Answer a client that waited for something that is lost. */
static void fail_waiter(struct ld_waiter *waiter) {
    waiter->done(waiter, json_pack("{s:b, s:s}", "ok", 0, "error",
                                   "the daemon went on as another program meanwhile (lunad "
                                   "upgrade): ask again"));
}

/* Go on with a client. */
static void restore_client(struct ld_host *host, struct ld_handover *handover, const json_t *item) {
    struct ld_text input = {0};
    char *waits = ld_handover_string(handover, item, "waits");
    const char *word = waits != NULL ? waits : "nothing";
    ld_handover_text(handover, item, "input", &input);
    const struct ld_control_client client = {.fd = ld_handover_fd(handover, item, "fd"),
                                             .input = ld_text_string(&input),
                                             .size = input.size};
    struct ld_waiter *waiter =
        client.fd >= 0 ? ld_control_restore(host->control, &client, strcmp(word, "nothing") != 0)
                       : NULL;
    if (waiter != NULL && strcmp(word, "upgrade") == 0) {
        waiter->next = host->upgrade.waiters;
        host->upgrade.waiters = waiter;
    } else if (waiter != NULL && strcmp(word, "reload") == 0) {
        ld_reload_ask(host, waiter);
    } else if (waiter != NULL && strcmp(word, "check") == 0) {
        ld_reload_ask_trial(host, waiter);
    } else if (waiter != NULL) {
        fail_waiter(waiter);
    }
    ld_text_fini(&input);
    free(waits);
}

/* Whether a pid is in a list of them with spaces between. */
static bool is_listed(const char *list, pid_t pid) {
    while (*list != '\0') {
        char *end;
        long number = strtol(list, &end, 10);
        if (end == list || number == pid) {
            return end != list;
        }
        list = end;
    }
    return false;
}

/* Whether a process has been there since before the exec: an orphan may have become our child meanwhile. */
static bool is_older(pid_t pid, uint64_t frozen) {
    struct ld_process process;
    uint64_t tick = LD_TIME_SECOND / (uint64_t)sysconf(_SC_CLK_TCK);
    return ld_process_read(&process, pid) && (process.started + 1) * tick <= frozen;
}

/* End the processes that the program which has failed left: our children now, and not when it began. */
static void end_leftovers(struct ld_handover *handover) {
    struct ld_text before = {0};
    struct ld_text now = {0};
    struct ld_pids roots = {0};
    uint64_t frozen = (uint64_t)ld_handover_int(handover, handover->root, "frozen_boot");
    bool is_known = !json_is_null(json_object_get(handover->root, "own_children"));
    if (is_known) {
        ld_handover_text(handover, handover->root, "own_children", &before);
        list_own_children(&now);
    }
    const char *at = ld_text_string(&now);
    char *end;
    for (long pid = strtol(at, &end, 10); end != at; pid = strtol(at, &end, 10)) {
        at = end;
        if (pid > 1 && !is_listed(ld_text_string(&before), (pid_t)pid) &&
            !is_older((pid_t)pid, frozen)) {
            ld_pids_add(&roots, (pid_t)pid);
        }
    }
    if (roots.count > 0) {
        ld_family_end_all(&roots);
    }
    ld_pids_fini(&roots);
    ld_text_fini(&before);
    ld_text_fini(&now);
}

/* Make it all our own. */
void ld_estate_settle(struct ld_host *host) {
    struct ld_handover *handover = host->service->handover;
    const json_t *root = handover->root;
    const json_t *item;
    size_t i;
    ld_way_back_close();
    ld_crash_divert(NULL);
    ld_reserve_lend(); /* until the originals are closed there are two of each */
    if (handover->back != NULL) {
        end_leftovers(handover);
    }
    ld_child_relic_settle(host->children);
    ld_mail_relic_start(host->mailing.mail);
    ld_master_settle(host);
    ld_control_listen(host->control, ld_handover_fd(handover, root, "control_fd"));
    json_array_foreach(json_object_get(root, "clients"), i, item) {
        restore_client(host, handover, item);
    }
    ld_handover_close_left(handover);
    ld_reserve_take_back();
    ld_reaper_hold(host->reaper, false);
    host->service->handover = NULL; /* its owner frees it */
}
