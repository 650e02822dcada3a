/* The workers during an upgrade of their master. First each tries the program, then they become it, one after the other, and
 * the master last. If one refuses, those that did become what they were before. */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "api/workers.h"
#include "base/log.h"
#include "base/parse.h"
#include "base/version.h"
#include "daemon/keeper_channel.h"
#include "engine/workers.h"
#include "host/workers.h"
#include "posix/process.h"

#define SLACK_SECONDS                                                                              \
    45.0               /* beside the starts that a worker may need, also to be the old one again */
#define LOOK_MS    500 /* between looks whether a worker is stopped */
#define LOOKS      2   /* that find it stopped, in a row */
#define ASKED_MOST (8 * LD_WORKERS_MAX) /* then too many of them crash */

/* Replace a descriptor that is kept. */
void ld_crew_keep(int *kept, int fd) {
    if (*kept >= 0) {
        close(*kept);
    }
    *kept = fd;
}

/* Whether some are another program than their master. */
bool ld_crew_is_mixed(const struct ld_host *host) {
    bool any = false;
    for (int worker = 1; host->master.workers != NULL && worker <= LD_WORKERS_MAX; worker++) {
        any = any || host->master.workers[worker].is_upgraded;
    }
    return any;
}

/* Begin with a phase. */
static void begin(struct ld_host *host, enum ld_crew_phase phase) {
    struct ld_crew *crew = &host->master.crew;
    crew->phase = phase;
    crew->at = 0;
    crew->asked = 0;
    crew->deadline = 0;
    ld_alarm_wake_at(host, 0);
}

/* Begin to have all become the program. */
void ld_crew_begin(struct ld_host *host) {
    begin(host, LD_CREW_TRIAL);
}

/* Begin to have some become this one again. */
void ld_crew_begin_back(struct ld_host *host) {
    ld_crew_keep(&host->master.crew.program, open("/proc/self/exe", O_PATH | O_CLOEXEC));
    begin(host, LD_CREW_BACK);
}

/* Let none hold the program. */
void ld_crew_drop(struct ld_host *host) {
    if (host->master.channels == NULL) {
        return;
    }
    for (int worker = 1; worker <= LD_WORKERS_MAX; worker++) {
        host->master.workers[worker].can_upgrade = false;
    }
    host->master.crew.phase = LD_CREW_NONE;
    ld_crew_keep(&host->master.crew.program, -1);
    ld_workers_tell_all(host->master.channels, LD_WORKERS_WORD_UPGRADE_DROP, 0);
}

/* Find an image of what is in force; -1 if none is known. */
static int find_any_code(const struct ld_host *host) {
    int memory = -1;
    for (int worker = 1; memory < 0 && worker <= LD_WORKERS_MAX; worker++) {
        memory = host->master.workers[worker].memory;
    }
    return memory < 0 ? host->master.inherited : memory;
}

/* Find the image of what a worker is to be made of; -1: the disk. The code in force stays where the disk has other code,
 * which was undone. */
static int find_code(const struct ld_host *host, int worker) {
    bool is_back = host->master.crew.phase == LD_CREW_BACK;
    bool keeps_code = ld_disk_is_undone(host);
    int own = host->master.workers[worker].memory;
    return !is_back && !keeps_code ? -1 : own >= 0 ? own : find_any_code(host);
}

/* Have a worker try the program; 0 or a negative errno. */
static int send_program(struct ld_host *host, int worker) {
    const struct ld_crew *crew = &host->master.crew;
    struct ld_workers *channels = host->master.channels;
    int program = crew->phase == LD_CREW_BACK ? crew->program : host->upgrade.program;
    int code = find_code(host, worker);
    int rc = program < 0 || (code < 0 && crew->phase == LD_CREW_BACK) ? -ENOENT : 0;
    if (rc == 0 && code >= 0) {
        rc = ld_workers_send_fd(channels, worker, 0, LD_WORKERS_WORD_UPGRADE_CODE, code);
    }
    return rc < 0 ? rc
                  : ld_workers_send_fd(channels, worker, crew->number, LD_WORKERS_WORD_UPGRADE_TRY,
                                       program);
}

/* Ask a worker: to try the program, or if it did to become it. */
static void ask(struct ld_host *host, int worker) {
    struct ld_crew *crew = &host->master.crew;
    double timeout = host->service->options->start_timeout; /* which is that of several */
    crew->at = worker;
    crew->go = host->master.workers[worker].can_upgrade;
    crew->answer = LD_CREW_SILENT;
    crew->number = crew->number % 999999999 + 1;
    crew->asked++;
    crew->looks = 0;
    crew->look_at = 0;
    crew->deadline = ld_alarm_deadline(host, timeout + SLACK_SECONDS);
    ld_text_clear(&crew->said);
    ld_workers_send(host->master.channels, worker, 0, LD_KEEPER_WORD_UPGRADE, "");
    int rc = crew->go ? ld_workers_send(host->master.channels, worker, crew->number,
                                        LD_WORKERS_WORD_UPGRADE_GO, "")
                      : send_program(host, worker);
    if (rc < 0) {
        crew->answer = LD_CREW_NO;
        ld_text_format(&crew->said, "it cannot be asked: %s", strerror(-rc));
    }
}

/* Take what a worker says. */
bool ld_crew_hear(struct ld_host *host, int worker, const struct ld_packet *packet) {
    struct ld_crew *crew = &host->master.crew;
    bool can = strcmp(packet->word, LD_WORKERS_WORD_UPGRADE_CAN) == 0;
    bool is_upgraded = strcmp(packet->word, LD_WORKERS_WORD_UPGRADED) == 0;
    bool is_busy = strcmp(packet->word, LD_KEEPER_WORD_UPGRADE_BUSY) == 0;
    if (!can && !is_upgraded && !is_busy &&
        strcmp(packet->word, LD_WORKERS_WORD_UPGRADE_REFUSED) != 0) {
        return false;
    }
    if (crew->phase != LD_CREW_NONE && crew->at == worker &&
        (packet->number == crew->number || is_busy) && crew->answer == LD_CREW_SILENT) {
        crew->answer = (can && !crew->go) || (is_upgraded && crew->go) ? LD_CREW_YES : LD_CREW_NO;
        ld_text_add(&crew->said, packet->text, packet->size);
        ld_alarm_wake_at(host, 0);
    }
    return true;
}

/* Note that a worker has ended: the next process of it is this program. */
void ld_crew_note_gone(struct ld_host *host, int worker) {
    struct ld_crew *crew = &host->master.crew;
    host->master.workers[worker].can_upgrade = host->master.workers[worker].is_upgraded = false;
    if (crew->phase != LD_CREW_NONE && crew->at == worker) {
        crew->at = 0;
        ld_alarm_wake_at(host, 0);
    }
}

/* Whether what a worker tells is of the program. */
bool ld_crew_is_ahead(const struct ld_host *host, int worker) {
    const struct ld_crew *crew = &host->master.crew;
    bool goes = crew->at == worker && crew->go;
    return crew->phase == LD_CREW_BACK
               ? !goes && host->master.workers[worker].is_upgraded
               : host->master.workers[worker].is_upgraded || (crew->phase == LD_CREW_GO && goes);
}

/* Have a worker started again that may not be this program. */
static void start_again(struct ld_host *host, int worker) {
    ld_log_with(LD_LOG_ERROR, &host->master.crew.said,
                "worker %d is started again, to be lunad %s: ", worker, ld_version_text);
    ld_api_workers_tell(
        host->script, &(struct ld_api_workers_event){.worker = worker, .word = "kill", .text = ""});
}

/* Take the answer of a worker, or that there is none; 0, or -1 if it refuses. */
static int take_answer(struct ld_host *host) {
    struct ld_crew *crew = &host->master.crew;
    int worker = crew->at;
    struct ld_master_worker *known = &host->master.workers[worker];
    if (crew->answer == LD_CREW_SILENT) {
        ld_text_puts(&crew->said, "it does not answer");
    }
    crew->at = 0;
    bool is_back = crew->phase == LD_CREW_BACK;
    if (crew->answer == LD_CREW_YES) {
        known->can_upgrade = !crew->go;
        known->is_upgraded = crew->go ? !is_back : known->is_upgraded;
    } else if (is_back) {
        start_again(host, worker);
        known->can_upgrade = known->is_upgraded = false;
    } else {
        ld_text_format(&host->upgrade.why, "worker %d: %s", worker, ld_text_string(&crew->said));
        if (crew->go && crew->answer == LD_CREW_SILENT) {
            start_again(host, worker);
        }
        return -1;
    }
    if (!known->is_upgraded) {
        ld_crew_keep(&known->next, -1);
    }
    return 0;
}

/* Whether a worker has something to do in this phase. */
static bool is_next(const struct ld_host *host, int worker) {
    const struct ld_master_worker *known = &host->master.workers[worker];
    return host->master.crew.phase == LD_CREW_TRIAL ? !known->can_upgrade
           : host->master.crew.phase == LD_CREW_GO  ? !known->is_upgraded
                                                    : known->is_upgraded;
}

/* Find the next worker to ask: 0 if there is none, -1 if one starts, and is waited for. */
static int find_next(const struct ld_host *host) {
    for (int worker = 1; worker <= LD_WORKERS_MAX; worker++) {
        if (ld_workers_is_connected(host->master.channels, worker) && is_next(host, worker)) {
            return ld_workers_is_serving(host->master.channels, worker) ? worker : -1;
        }
    }
    return 0;
}

/* Give up the phase, for a reason. Workers that were to become this program again are started again then: to ask them
 * once more could go on for ever. -1. */
static int fail(struct ld_host *host, const char *why) {
    bool is_back = host->master.crew.phase == LD_CREW_BACK;
    if (!is_back) {
        ld_text_puts(&host->upgrade.why, why);
    }
    for (int worker = 1; is_back && worker <= LD_WORKERS_MAX; worker++) {
        struct ld_master_worker *known = &host->master.workers[worker];
        if (known->is_upgraded) {
            ld_text_clear(&host->master.crew.said);
            ld_text_puts(&host->master.crew.said, why);
            start_again(host, worker);
            known->can_upgrade = known->is_upgraded = false;
        }
    }
    return -1;
}

/* Wait for a worker that starts; 0, or -1 when it has had its time. */
static int wait_for_start(struct ld_host *host) {
    struct ld_crew *crew = &host->master.crew;
    if (crew->deadline == 0) {
        crew->deadline = ld_alarm_deadline(host, host->service->options->start_timeout);
    }
    if (uv_now(&host->loop) >= crew->deadline) {
        return fail(host, "a worker that starts is not ready");
    }
    ld_alarm_wake_at(host, crew->deadline);
    return 0;
}

/* Whether the process of a worker is stopped. */
static bool is_stopped(const struct ld_host *host, int worker) {
    char name[LD_NAME_MAX + 16];
    snprintf(name, sizeof name, "%s-%d", host->service->name, worker);
    struct ld_children *children = host->children;
    for (struct ld_child *child = ld_children_next(children, NULL); child != NULL;
         child = ld_children_next(children, child)) {
        struct ld_child_facts facts;
        ld_child_describe(child, &facts);
        if (facts.running && strcmp(facts.name, name) == 0) {
            return ld_process_is_stopped(facts.pid);
        }
    }
    return false;
}

/* Check whether the worker that tries the program is stopped by a signal. One that was told to become it is waited for: it
 * may do so when it goes on. */
static void look(struct ld_host *host) {
    struct ld_crew *crew = &host->master.crew;
    if (crew->go || uv_now(&host->loop) < crew->look_at) {
        return;
    }
    crew->look_at = uv_now(&host->loop) + LOOK_MS;
    crew->looks = is_stopped(host, crew->at) ? crew->looks + 1 : 0;
    if (crew->looks >= LOOKS) {
        crew->answer = LD_CREW_NO;
        ld_text_format(&crew->said,
                       "it is stopped by a signal (\"lunad signal %s-%d CONT\" lets it go on)",
                       host->service->name, crew->at);
    }
}

/* Whether the worker that was asked has yet to answer. */
static bool is_waiting(struct ld_host *host) {
    struct ld_crew *crew = &host->master.crew;
    if (crew->at == 0 || crew->answer != LD_CREW_SILENT || uv_now(&host->loop) >= crew->deadline) {
        return false;
    }
    look(host);
    ld_alarm_wake_at(host, crew->deadline);
    if (!crew->go) {
        ld_alarm_wake_at(host, crew->look_at);
    }
    return crew->answer == LD_CREW_SILENT;
}

/* Go on with the next worker, of this phase or the one after the trial: 1 when none is left, 0, or -1. */
static int go_on(struct ld_host *host) {
    struct ld_crew *crew = &host->master.crew;
    int worker = find_next(host);
    if (worker == 0 && crew->phase == LD_CREW_TRIAL) {
        crew->phase = LD_CREW_GO;
        worker = find_next(host);
    }
    if (worker <= 0) {
        return worker == 0 ? 1 : wait_for_start(host);
    }
    if (crew->asked >= ASKED_MOST) {
        return fail(host, "its workers crash");
    }
    ask(host, worker);
    return 0;
}

/* Continue. */
int ld_crew_step(struct ld_host *host) {
    struct ld_crew *crew = &host->master.crew;
    int rc = 0;
    while (rc == 0 && !is_waiting(host)) {
        if (crew->at > 0) {
            rc = take_answer(host);
            crew->deadline = 0;
        }
        rc = rc == 0 ? go_on(host) : rc;
        if (rc == 0 && crew->at == 0) {
            return 0; /* one starts */
        }
    }
    return rc;
}
