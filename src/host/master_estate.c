/* What a master leaves to the next host of its keeper: how many workers there are, and how processes of them have ended.
 * And to the next program in this process: the channels to its workers and what it knows of each, their
 * sockets, the boxes with their messages, and unless a keeper has them their files. */
#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/json.h"
#include "daemon/hold_worker.h"
#include "daemon/keeper_channel.h"
#include "engine/mailboxes.h"
#include "engine/shares.h"
#include "engine/workers.h"
#include "host/workers.h"

/* Write how the processes of a worker have ended. */
static json_t *write_end(const struct ld_host *host, int worker) {
    const struct ld_workers_end *end = ld_workers_find_end(host->master.channels, worker);
    return json_pack("{s:I, s:o, s:f, s:f}", "count", (json_int_t)end->count, "how",
                     ld_json_bytes(end->how), "seconds", end->seconds, "time", end->time);
}

/* Read that. */
static void read_end(struct ld_host *host, struct ld_handover *handover, const json_t *item,
                     int worker) {
    const json_t *value = json_object_get(item, "end");
    struct ld_workers_end end = {
        .count = (unsigned)ld_handover_within(handover, value, "count", 0, UINT_MAX),
        .seconds = ld_handover_real(handover, value, "seconds"),
        .time = ld_handover_real(handover, value, "time")};
    char *how = ld_handover_string(handover, value, "how");
    snprintf(end.how, sizeof end.how, "%s", how != NULL ? how : "");
    free(how);
    ld_workers_restore_end(host->master.channels, worker, &end);
}

/* Write how the processes of a worker have ended, for a list of those of all: the last one with its reason or without. */
static json_t *write_listed_end(const struct ld_host *host, int worker, bool with_reason) {
    json_t *end = write_end(host, worker);
    json_object_set_new(end, "worker", json_integer(worker));
    if (!with_reason) {
        json_object_del(end, "how");
    }
    return end;
}

/* Write how the processes of all have ended. */
static json_t *write_ends(const struct ld_host *host, bool with_reasons) {
    json_t *list = json_array();
    for (int worker = 1; worker <= LD_WORKERS_MAX; worker++) {
        if (ld_workers_find_end(host->master.channels, worker)->count > 0) {
            json_array_append_new(list, write_listed_end(host, worker, with_reasons));
        }
    }
    return list;
}

/* Write what the next host is to know. If that is too much, the reasons are left out. */
void ld_master_write_facts(const struct ld_host *host, struct ld_text *facts) {
    bool is_whole = false;
    for (int with_reasons = 1; with_reasons >= 0 && !is_whole; with_reasons--) {
        json_t *root = json_pack("{s:i, s:o}", "workers", host->service->workers, "ends",
                                 write_ends(host, with_reasons == 1));
        char *text = root != NULL ? json_dumps(root, JSON_COMPACT) : NULL;
        ld_text_clear(facts);
        ld_text_puts(facts, text != NULL ? text : "");
        is_whole = facts->size <= LD_KEEPER_FACTS_MAX;
        json_decref(root);
        free(text);
    }
}

/* Read how the processes of one have ended. */
static void read_fact(struct ld_host *host, const json_t *item) {
    json_int_t worker = json_integer_value(json_object_get(item, "worker"));
    json_int_t count = json_integer_value(json_object_get(item, "count"));
    const char *how = json_string_value(json_object_get(item, "how"));
    struct ld_workers_end end = {.count = (unsigned)count,
                                 .seconds = json_number_value(json_object_get(item, "seconds")),
                                 .time = json_number_value(json_object_get(item, "time"))};
    snprintf(end.how, sizeof end.how, "%s", how != NULL ? how : "");
    if (worker >= 1 && worker <= LD_WORKERS_MAX && count >= 1 && count <= INT_MAX) {
        ld_workers_restore_end(host->master.channels, (int)worker, &end);
    }
}

/* Take over what the host before has left: it had no more rights than this one, and may have written anything. */
void ld_master_read_facts(struct ld_host *host) {
    struct ld_text *facts = &host->service->facts;
    json_t *root = json_loadb(ld_text_string(facts), facts->size, JSON_REJECT_DUPLICATES, NULL);
    json_int_t workers = json_integer_value(json_object_get(root, "workers"));
    const json_t *item;
    size_t i;
    json_array_foreach(json_object_get(root, "ends"), i, item) {
        read_fact(host, item);
    }
    if (workers >= 1 && workers <= LD_WORKERS_MAX) {
        host->service->workers = (int)workers;
    }
    json_decref(root);
    ld_text_fini(facts);
}

/* Write what is known of each worker. */
static json_t *write_workers(const struct ld_host *host, struct ld_handover *handover) {
    json_t *list = json_array();
    for (int worker = 1; worker <= LD_WORKERS_MAX; worker++) {
        const struct ld_master_worker *known = &host->master.workers[worker];
        int channel = ld_workers_fd(host->master.channels, worker);
        bool has_ended = ld_workers_find_end(host->master.channels, worker)->count > 0;
        if (channel >= 0 || known->memory >= 0 || has_ended) {
            ld_handover_add(
                handover, list,
                json_pack("{s:i, s:o, s:b, s:o, s:o, s:b, s:o}", "worker", worker, "channel",
                          ld_handover_leave_fd(handover, channel), "is_serving",
                          ld_workers_is_serving(host->master.channels, worker), "memory",
                          ld_handover_leave_fd(handover, known->memory), "next",
                          ld_handover_leave_fd(handover, known->next), "is_upgraded",
                          known->is_upgraded, "end", write_end(host, worker)));
        }
    }
    return list;
}

/* Write who uses a socket: a number for each worker. */
static json_t *write_use(struct ld_handover *handover, const struct ld_share_facts *facts) {
    json_t *list = json_array();
    for (int worker = 1; worker <= LD_WORKERS_MAX; worker++) {
        if (facts->use[worker] != 0) {
            ld_handover_add(handover, list, json_pack("[i, i]", worker, facts->use[worker]));
        }
    }
    return list;
}

/* Write the listening sockets of the workers. */
static json_t *write_shares(const struct ld_host *host, struct ld_handover *handover) {
    json_t *list = json_array();
    struct ld_share_facts facts;
    for (size_t i = 0; ld_shares_describe(host->master.shares, i, &facts); i++) {
        ld_handover_add(handover, list,
                        json_pack("{s:o, s:i, s:o, s:b, s:b, s:I, s:o, s:o}", "address",
                                  ld_json_bytes(facts.address), "worker", facts.worker, "fd",
                                  ld_handover_leave_fd(handover, facts.fd), "stays", facts.stays,
                                  "listens", facts.listens, "rank", (json_int_t)facts.rank, "file",
                                  ld_handover_leave_file(facts.file), "use",
                                  write_use(handover, &facts)));
    }
    return list;
}

/* Write what is to be told to a worker about others. */
static json_t *write_news(const struct ld_host *host, struct ld_handover *handover,
                          unsigned worker) {
    json_t *list = json_array();
    for (unsigned about = 1; about <= LD_WORKERS_MAX; about++) {
        unsigned news = ld_mailboxes_news(host->master.boxes, worker, about);
        if (news != 0) {
            ld_handover_add(handover, list, json_pack("[i, i]", (int)about, (int)news));
        }
    }
    return list;
}

/* Write the boxes. */
static json_t *write_boxes(const struct ld_host *host, struct ld_handover *handover) {
    json_t *list = json_array();
    int ends[2];
    for (unsigned worker = 1; worker <= LD_WORKERS_MAX; worker++) {
        if (ld_mailboxes_describe(host->master.boxes, worker, ends)) {
            ld_handover_add(handover, list,
                            json_pack("{s:i, s:o, s:o, s:o}", "worker", (int)worker, "read",
                                      ld_handover_leave_fd(handover, ends[0]), "write",
                                      ld_handover_leave_fd(handover, ends[1]), "news",
                                      write_news(host, handover, worker)));
        }
    }
    return list;
}

/* Leave all of it. */
json_t *ld_master_leave(struct ld_host *host, struct ld_handover *handover) {
    if (!host->service->is_master) {
        return json_null();
    }
    return json_pack("{s:o, s:o, s:o, s:o, s:o, s:I}", "inherited",
                     ld_handover_leave_fd(handover, host->master.inherited), "workers",
                     write_workers(host, handover), "shares", write_shares(host, handover), "boxes",
                     write_boxes(host, handover), "held",
                     ld_hold_worker_leave(handover, host->service), "number",
                     (json_int_t)host->master.crew.number);
}

/* Read a list of pairs of numbers: a worker, and a value for it. */
static int read_pairs(struct ld_handover *handover, const json_t *object, const char *key,
                      unsigned char *values) {
    const json_t *pair;
    size_t i;
    json_array_foreach(ld_handover_array(handover, object, key), i, pair) {
        json_int_t worker = json_integer_value(json_array_get(pair, 0));
        json_int_t value = json_integer_value(json_array_get(pair, 1));
        if (worker < 1 || worker > LD_WORKERS_MAX || value < 0 || value > UINT8_MAX) {
            return -EINVAL;
        }
        values[worker] = (unsigned char)value;
    }
    return 0;
}

/* Take a worker over: its channel is not listened to yet. */
static int restore_worker(struct ld_host *host, struct ld_handover *handover, const json_t *item) {
    int worker = (int)ld_handover_within(handover, item, "worker", 1, LD_WORKERS_MAX);
    int channel = ld_handover_fd(handover, item, "channel");
    bool is_serving = ld_handover_bool(handover, item, "is_serving");
    if (worker < 1 || worker > LD_WORKERS_MAX) {
        ld_crew_keep(&channel, -1);
        return -EINVAL;
    }
    struct ld_master_worker *known = &host->master.workers[worker];
    ld_crew_keep(&known->memory, ld_handover_fd(handover, item, "memory"));
    ld_crew_keep(&known->next, ld_handover_fd(handover, item, "next"));
    known->is_upgraded = ld_handover_bool(handover, item, "is_upgraded");
    read_end(host, handover, item, worker);
    return channel >= 0 ? ld_workers_adopt(host->master.channels, worker, channel, is_serving) : 0;
}

/* Take a listening socket over. */
static int restore_share(struct ld_host *host, struct ld_handover *handover, const json_t *item) {
    unsigned char use[LD_WORKERS_MAX + 1] = {0};
    struct ld_socket_file file = {.noted = false};
    char *address = ld_handover_string(handover, item, "address");
    int rc = read_pairs(handover, item, "use", use);
    struct ld_share_facts facts = {
        .address = address != NULL ? address : "",
        .worker = (int)ld_handover_within(handover, item, "worker", 0, LD_WORKERS_MAX),
        .fd = ld_handover_fd(handover, item, "fd"),
        .stays = ld_handover_bool(handover, item, "stays"),
        .listens = ld_handover_bool(handover, item, "listens"),
        .rank = (unsigned)ld_handover_within(handover, item, "rank", 0, UINT_MAX),
        .file = &file,
        .use = use};
    ld_handover_file(handover, json_object_get(item, "file"), address, NULL, &file);
    if (rc < 0) {
        ld_crew_keep(&facts.fd, -1);
    } else {
        rc = ld_shares_restore(host->master.shares, &facts);
    }
    if (rc < 0) {
        ld_socket_file_forget(&file);
    }
    free(address);
    return rc;
}

/* Take a box over. */
static int restore_box(struct ld_host *host, struct ld_handover *handover, const json_t *item) {
    unsigned char news[LD_WORKERS_MAX + 1] = {0};
    unsigned worker = (unsigned)ld_handover_within(handover, item, "worker", 1, LD_WORKERS_MAX);
    const int ends[2] = {ld_handover_fd(handover, item, "read"),
                         ld_handover_fd(handover, item, "write")};
    int rc = ld_mailboxes_restore(host->master.boxes, worker, ends);
    rc = rc == 0 ? read_pairs(handover, item, "news", news) : rc;
    for (unsigned about = 1; about <= LD_WORKERS_MAX && rc == 0; about++) {
        ld_mailboxes_owe(host->master.boxes, worker, about, news[about]);
    }
    return rc;
}

/* Take all of it over. */
int ld_master_take_over(struct ld_host *host, struct ld_handover *handover) {
    static const struct {
        const char *key;
        int (*restore)(struct ld_host *host, struct ld_handover *handover, const json_t *item);
    } lists[] = {{"workers", restore_worker}, {"shares", restore_share}, {"boxes", restore_box}};
    const json_t *master = json_object_get(handover->root, "workers_of_master");
    int rc = 0;
    if (!host->service->is_master) {
        return 0;
    }
    ld_crew_keep(&host->master.inherited, ld_handover_fd(handover, master, "inherited"));
    host->master.crew.number = (unsigned long)ld_handover_int(handover, master, "number");
    for (size_t i = 0; i < LD_COUNT(lists); i++) {
        const json_t *item;
        size_t at;
        json_array_foreach(ld_handover_array(handover, master, lists[i].key), at, item) {
            rc = rc == 0 ? lists[i].restore(host, handover, item) : rc;
        }
    }
    return rc < 0 ? rc
                  : ld_hold_worker_take_over(handover, ld_handover_array(handover, master, "held"),
                                             host->service);
}

/* Make what the workers have become what is in force. */
static void accept_code(struct ld_host *host) {
    bool keeps_code = json_is_true(json_object_get(host->service->handover->root, "keeps_code"));
    if (!keeps_code) {
        ld_crew_keep(&host->master.inherited, -1); /* the disk has it */
    }
    for (int worker = 1; worker <= LD_WORKERS_MAX; worker++) {
        struct ld_master_worker *known = &host->master.workers[worker];
        if (known->next >= 0) {
            ld_crew_keep(&known->memory, known->next);
            known->next = -1;
        }
        known->is_upgraded = false;
    }
}

/* Tell the workers which generation the service is now. */
static void tell_generation(struct ld_host *host) {
    char text[16];
    host->service->generation = (int)host->script->generation;
    snprintf(text, sizeof text, "%d", host->service->generation);
    for (int worker = 1; worker <= LD_WORKERS_MAX; worker++) {
        ld_workers_send(host->master.channels, worker, 0, LD_WORKERS_WORD_GENERATION, text);
    }
}

/* Make it all our own. */
void ld_master_settle(struct ld_host *host) {
    if (!host->service->is_master) {
        return;
    }
    if (host->service->handover->back == NULL) {
        accept_code(host);
    }
    ld_shares_limit(host->master.shares,
                    0); /* the chunk limits it again if workers are still to go */
    tell_generation(host);
    ld_workers_resume(host->master.channels);
    ld_mailboxes_resume(host->master.boxes);
}
