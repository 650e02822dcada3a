/* What a worker does at the word of its master: reload, together with the others, and stop. */
#include <errno.h>
#include <limits.h>
#include <string.h>
#include <unistd.h>

#include "base/log.h"
#include "base/parse.h"
#include "daemon/keeper_channel.h"
#include "daemon/worker_start.h"
#include "host/workers.h"

#define PACKETS_MOST 64 /* in one turn of the loop */

/* Note that the next generation is held, and tell the master. */
static bool tell_held(struct ld_waiter *waiter, json_t *part) {
    struct ld_host *host = LD_CONTAINER_OF(waiter, struct ld_host, worker.waiter);
    bool is_committed = json_is_true(json_object_get(part, "committed"));
    json_decref(part);
    if (is_committed) { /* and on probation: all of them, as one */
        host->worker.is_asked = false;
        ld_alarm_wake_at(host, 0); /* for what was put off */
        ld_reload_forget(host, waiter);
        return ld_worker_tell(host, 0, LD_WORKERS_WORD_COMMITTED, "", -1) == 0;
    }
    host->worker.is_held = true;
    return ld_worker_send_memory(host, host->worker.number, LD_WORKERS_WORD_PREPARED,
                                 host->reload.next->memory) == 0;
}

/* Whether the master can be told that: always. */
static bool can_tell(const struct ld_waiter *waiter) {
    (void)waiter;
    return true;
}

/* Tell the master how it ended. */
static void tell_end(struct ld_waiter *waiter, json_t *verdict) {
    struct ld_host *host = LD_CONTAINER_OF(waiter, struct ld_host, worker.waiter);
    bool ok = json_is_true(json_object_get(verdict, "ok"));
    const char *error = json_string_value(json_object_get(verdict, "error"));
    error = error != NULL ? error : "?";
    host->worker.is_asked = false;
    ld_alarm_wake_at(host, 0); /* for what was put off */
    if (ok) {
        ld_worker_tell(host, 0, LD_WORKERS_WORD_COMMITTED, "", -1);
    } else {
        host->setup.workers = host->worker.before;
        ld_worker_tell(host, host->worker.number,
                       host->worker.was_told ? LD_WORKERS_WORD_FAILED : LD_WORKERS_WORD_REFUSED,
                       error, -1);
    }
    json_decref(verdict);
}

/* Read "WORKERS PROBATION"; false for anything else. */
static bool read_prepare(const struct ld_packet *packet, long *workers, double *probation) {
    char text[48] = "";
    memcpy(text, packet->text, packet->size < sizeof text ? packet->size : 0);
    char *space = strchr(text, ' ');
    if (space == NULL) {
        return false;
    }
    *space = '\0';
    return ld_parse_whole(text, 1, LD_WORKERS_MAX, workers) &&
           ld_parse_seconds(space + 1, probation);
}

/* Begin to prepare a reload. */
static void prepare(struct ld_host *host, const struct ld_packet *packet) {
    long workers;
    double probation;
    if (host->worker.is_asked || host->state != LD_HOST_RUNNING ||
        !read_prepare(packet, &workers, &probation)) {
        ld_worker_tell(host, packet->number, LD_WORKERS_WORD_REFUSED,
                       host->worker.is_asked ? "it is still busy with the reload before"
                                             : "it is stopping",
                       -1);
        return;
    }
    host->worker.is_asked = true;
    host->worker.is_held = host->worker.was_told = false;
    host->worker.is_said_by_master = true;
    host->worker.number = packet->number;
    host->worker.before = host->setup.workers;
    host->setup.workers = (int)workers;
    host->worker.waiter =
        (struct ld_waiter){.done = tell_end, .can_tell = can_tell, .tell = tell_held};
    if (ld_reload_ask_held(host, &host->worker.waiter)) {
        ld_reload_note_probation(host, probation);
    } else {
        tell_end(&host->worker.waiter, json_pack("{s:b, s:s}", "ok", 0, "error",
                                                 "another reload of it waits to be held"));
    }
}

/* Prepare a reload once the one before is committed: that takes until the next turn of the loop, and the service is
 * reloaded for the master already. */
static void put_off(struct ld_host *host, const struct ld_packet *packet) {
    if (packet->size == 0 || packet->size >= sizeof host->worker.later) {
        ld_worker_tell(host, packet->number, LD_WORKERS_WORD_REFUSED, "a wrong request", -1);
        return;
    }
    memcpy(host->worker.later, packet->text, packet->size);
    host->worker.later[packet->size] = '\0';
    host->worker.later_number = packet->number;
    ld_alarm_wake_at(host, 0);
}

/* Prepare what was put off, if the reload before is over. */
static void resume(struct ld_host *host) {
    char text[sizeof host->worker.later];
    if (host->worker.later[0] == '\0' || host->worker.is_asked) {
        return;
    }
    struct ld_packet packet = {.number = host->worker.later_number,
                               .text = text,
                               .size = strlen(host->worker.later),
                               .fd = -1};
    memcpy(text, host->worker.later, sizeof text);
    host->worker.later[0] = '\0';
    prepare(host, &packet);
}

/* Give the reload up that was prepared, or the one that was put off. */
static void abandon(struct ld_host *host) {
    if (host->worker.later[0] != '\0') {
        host->worker.later[0] = '\0';
        return;
    }
    if (!host->worker.is_asked) {
        return;
    }
    host->worker.is_asked = false;
    host->setup.workers = host->worker.before;
    ld_reload_forget(host, &host->worker.waiter);
    if (!ld_text_is_empty(&host->reload.why)) {
        ld_text_clear(&host->reload.why);
        ld_text_puts(&host->reload.why, "it was refused for all workers");
    }
}

/* Note the generation of the service. */
static void note_generation(struct ld_host *host, const struct ld_packet *packet) {
    long generation;
    if (ld_parse_whole(packet->text, 1, INT_MAX, &generation)) {
        host->service->generation = (int)generation;
    }
}

/* Commit it. */
static void commit(struct ld_host *host) {
    if (host->worker.is_asked) {
        host->worker.was_told = true;
        host->worker.is_said_by_master = false;
        ld_reload_commit(host, &host->worker.waiter);
    }
}

/* Try a program, unless the master was told meanwhile that this worker is busy. */
static void try_program(struct ld_host *host, const struct ld_packet *packet) {
    if (host->worker.has_put_off) {
        close(packet->fd);
        ld_upgrade_take_code(host, -1);
    } else {
        ld_upgrade_hold(host, packet->number, packet->fd);
    }
}

/* Do what a packet says; true if that is to stop. */
static bool obey(struct ld_host *host, const struct ld_packet *packet) {
    if (strcmp(packet->word, LD_WORKERS_WORD_PREPARE) == 0) {
        bool is_committing = host->worker.is_asked && host->worker.was_told;
        (is_committing ? put_off : prepare)(host, packet);
    } else if (strcmp(packet->word, LD_WORKERS_WORD_COMMIT) == 0) {
        note_generation(host, packet);
        commit(host);
    } else if (strcmp(packet->word, LD_WORKERS_WORD_GENERATION) == 0) {
        note_generation(host, packet);
    } else if (strcmp(packet->word, LD_WORKERS_WORD_ABANDON) == 0) {
        abandon(host);
    } else if (strcmp(packet->word, LD_WORKERS_WORD_UNPROVED) == 0) {
        ld_probation_hear(host, packet->text);
        ld_text_clear(&host->worker.unproved);
    } else if (strcmp(packet->word, LD_WORKERS_WORD_PROVED) == 0) {
        ld_probation_hear(host, NULL);
    } else if (strcmp(packet->word, LD_KEEPER_WORD_UPGRADE) == 0) {
        host->worker.has_put_off = ld_sentry_has_put_off(host->sentry);
    } else if (strcmp(packet->word, LD_WORKERS_WORD_UPGRADE_CODE) == 0 && packet->fd >= 0) {
        ld_upgrade_take_code(host, packet->fd);
    } else if (strcmp(packet->word, LD_WORKERS_WORD_UPGRADE_TRY) == 0 && packet->fd >= 0) {
        try_program(host, packet);
    } else if (strcmp(packet->word, LD_WORKERS_WORD_UPGRADE_GO) == 0) {
        if (!host->worker.has_put_off) {
            ld_upgrade_go(host, packet->number);
        }
    } else if (strcmp(packet->word, LD_WORKERS_WORD_UPGRADE_DROP) == 0) {
        ld_upgrade_drop(host);
    } else if (strcmp(packet->word, LD_KEEPER_WORD_FILES) == 0) {
        ld_worker_start_ask_for_files(host->service); /* the socket is taken in this turn */
    } else if (strcmp(packet->word, LD_WORKERS_WORD_REOPEN) == 0) {
        ld_log_reopen();
    } else if (strcmp(packet->word, LD_KEEPER_WORD_SOCKET) == 0 && packet->fd >= 0) {
        if (host->service->listener >= 0) {
            close(host->service->listener);
        }
        host->service->listener = packet->fd; /* taken in this turn */
    } else if (strcmp(packet->word, LD_WORKERS_WORD_MAIL) == 0 && packet->fd >= 0 &&
               host->service->mailbox < 0) {
        host->service->mailbox = packet->fd; /* likewise */
    } else if (packet->fd >= 0) {
        close(packet->fd); /* an answer that came too late */
    }
    return strcmp(packet->word, LD_KEEPER_WORD_STOP) == 0;
}

/* Note that the master has died. */
static void lose_master(struct ld_host *host) {
    uv_poll_stop(&host->keeper);
    host->service->keeper = -1;
    ld_log(LD_LOG_ERROR, "the master is gone: stopping");
}

/* Receive what the master sends. */
bool ld_worker_orders_hear(struct ld_host *host) {
    bool is_over = false;
    for (int i = 0; i < PACKETS_MOST && host->service->keeper >= 0; i++) {
        struct ld_packet packet;
        int rc = ld_keeper_channel_receive(host->service, &packet);
        if (rc == 0) {
            lose_master(host);
            is_over = true;
        } else if (rc == 1) {
            is_over |= obey(host, &packet);
        } else if (rc != -EPROTO) {
            return is_over;
        }
    }
    return is_over;
}

/* Do what came during a request, and note what was loaded since the master was told. */
bool ld_worker_orders_step(struct ld_host *host) {
    if (host->service->worker == 0 || host->state == LD_HOST_ENDED) {
        return false;
    }
    bool is_over = ld_keeper_channel_is_behind() && ld_worker_orders_hear(host);
    if (!ld_text_is_empty(&host->worker.unproved)) {
        ld_worker_tell(host, 0, LD_WORKERS_WORD_UNPROVED, ld_text_string(&host->worker.unproved),
                       -1);
        ld_text_clear(&host->worker.unproved);
    }
    if (host->worker.has_proved) {
        host->worker.has_proved = false;
        ld_worker_tell(host, 0, LD_WORKERS_WORD_PROVED, "", -1);
    }
    resume(host);
    bool is_whole = host->was_ready && host->reload.phase == LD_RELOAD_NONE;
    if (is_whole && host->state == LD_HOST_RUNNING &&
        ld_memory_count(ld_probation_in_force(host)) != host->worker.told) {
        ld_worker_tell_memory(host);
    }
    return is_over;
}
