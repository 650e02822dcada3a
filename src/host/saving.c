/* --state: what the script would hand on at a reload is also in a file, for the next start. It is packed and written
 * by a copy of the process, while the service goes on; at the end of a stop, by the process itself.
 *
 * At an interval, and at a stop, the on_reload function is called for it. A reload has its answer already: that is on
 * the shelf of the old generation until the commit. What is packed is what there is at the moment of the fork. */
#include <errno.h>
#include <string.h>

#include "api/keep.h"
#include "api/life.h"
#include "base/json.h"
#include "base/log.h"
#include "base/time.h"
#include "daemon/state_file.h"
#include "host/internal.h"
#include "script/guard.h"
#include "script/pack.h"
#include "script/task.h"

#define SLICE        ((size_t)1 << 20) /* bytes that are packed before they are written */
#define COPY_SECONDS 600.0             /* a disk may be slow; then the copy is killed */
#define CPU_SECONDS  300
#define REPORT_MOST  10000

/* What the report of a copy begins with. */
enum { REPORT_SAVED = 's', REPORT_SAME = '=', REPORT_FAILED = 'e' };

/* Note why the state was not saved; it is logged unless the same was said before. */
static void note_failure(struct ld_host *host, const struct ld_text *why) {
    struct ld_saving *saving = &host->saving;
    bool is_known = saving->error.size == why->size &&
                    memcmp(ld_text_string(&saving->error), ld_text_string(why), why->size) == 0;
    if (!is_known) {
        ld_log_with(LD_LOG_ERROR, why, "the state is not saved: ");
        ld_text_clear(&saving->error);
        ld_text_append(&saving->error, why);
    }
}

/* The same of a fixed text. */
static void note_failure_saying(struct ld_host *host, const char *words) {
    struct ld_text why = {0};
    ld_text_puts(&why, words);
    note_failure(host, &why);
    ld_text_fini(&why);
}

/* Note that the file is right. */
static void note_success(struct ld_host *host, uint64_t size) {
    struct ld_saving *saving = &host->saving;
    saving->size = size;
    saving->time = (double)ld_time_real() / LD_TIME_SECOND;
    saving->ms = (double)(ld_time_monotonic() - saving->started) / 1e6;
    if (!ld_text_is_empty(&saving->error)) {
        ld_log(LD_LOG_INFO, "the state is saved again");
        ld_text_clear(&saving->error);
    }
}

/* Have nothing on the shelf, so that it can be collected. */
static void clear_shelf(const struct ld_script *script) {
    lua_pushnil(script->shelf);
    lua_replace(script->shelf, LD_SHELF_HANDED);
}

/* Push a part on the stack of the script; the name of its root. */
static const char *push_part(const struct ld_script *script, enum ld_state_part part) {
    if (part == LD_STATE_GIVEN) {
        ld_state_push_shelved(script->L, LD_SHELF_HANDED);
        return "state";
    }
    ld_api_keep_push(script, part == LD_STATE_KEPT);
    return "keep";
}

/* Pack a part into a file. */
static int write_part(struct ld_state_draft *draft, const struct ld_script *script,
                      enum ld_state_part part, struct ld_text *why) {
    struct ld_text bytes = {0};
    const char *root = push_part(script, part);
    struct ld_packer *packer = ld_packer_new(script->L, root, &bytes, why);
    int rc = 1;
    if (packer == NULL) {
        ld_text_puts(why, strerror(ENOMEM));
        rc = -ENOMEM;
    }
    while (rc > 0) {
        int more = ld_packer_step(packer, SLICE, UINT64_MAX);
        rc = more < 0 ? more : ld_state_draft_add(draft, part, &bytes, why);
        rc = rc == 0 ? more : rc;
        ld_text_clear(&bytes);
    }
    ld_packer_free(packer);
    lua_pop(script->L, 1);
    ld_text_fini(&bytes);
    return rc;
}

/* Whose state it is: workers have that of their master. */
static const char *find_owner(const struct ld_service *service) {
    return service->master != NULL ? service->master : service->name;
}

/* Write the file: 1 if it was replaced, 0 if it was as it is to be, or a negative number with the reason in WHY. */
static int write_file(const struct ld_host *host, struct ld_script *script, uint64_t *size,
                      struct ld_text *why) {
    const struct ld_service *service = host->service;
    struct ld_state_draft draft;
    enum ld_heap_user before = ld_heap_lend(script, LD_HEAP_LAST); /* for room on the stack */
    int rc = ld_state_draft_open(&draft, service->state_path, find_owner(service), why);
    for (int part = 0; rc == 0 && part < LD_STATE_PARTS; part++) {
        rc = write_part(&draft, script, (enum ld_state_part)part, why);
    }
    rc = rc == 0 ? ld_state_draft_finish(&draft, size, why) : rc;
    ld_state_draft_fini(&draft);
    ld_heap_restore(script, before);
    return rc;
}

/* In the copy: write the file, and report. */
static void save_in_copy(void *arg, struct ld_text *report) {
    const struct ld_host *host = arg;
    struct ld_text why = {0};
    uint64_t size = 0;
    int rc = write_file(host, host->saving.script, &size, &why);
    if (rc < 0) {
        ld_text_putc(report, REPORT_FAILED);
        ld_text_append(report, &why);
    } else {
        ld_text_format(report, "%c%llu", rc > 0 ? REPORT_SAVED : REPORT_SAME,
                       (unsigned long long)size);
    }
}

/* Note how the copy has ended. */
static void on_report(void *arg, const struct ld_text *report) {
    struct ld_host *host = arg;
    struct ld_saving *saving = &host->saving;
    const char *text = ld_text_string(report);
    unsigned long long size;
    saving->fork_ms = ld_copy_fork_ms(saving->copy);
    saving->copy = NULL;
    if ((text[0] == REPORT_SAVED || text[0] == REPORT_SAME) &&
        sscanf(text + 1, "%llu", &size) == 1) {
        note_success(host, size);
        ld_log(LD_LOG_DEBUG, "state %s: %llu bytes in %.1f ms, the service stood still for %.1f ms",
               text[0] == REPORT_SAVED ? "saved" : "unchanged", size, saving->ms, saving->fork_ms);
    } else if (text[0] == REPORT_FAILED) {
        const struct ld_text why = {.data = report->data + 1, .size = report->size - 1};
        note_failure(host, &why);
    } else {
        note_failure_saying(host,
                            "the copy of the process that writes it has died: memory may be short");
    }
}

/* Write what SCRIPT has now, in a copy. One that still writes has older data. */
static void save(struct ld_host *host, struct ld_script *script) {
    struct ld_saving *saving = &host->saving;
    const struct ld_copy_job job = {.run = save_in_copy,
                                    .done = on_report,
                                    .arg = host,
                                    .report_most = REPORT_MOST,
                                    .cpu_seconds = CPU_SECONDS};
    ld_copy_end(saving->copy);
    saving->copy = NULL;
    saving->script = script;
    saving->started = ld_time_monotonic();
    saving->deadline = ld_alarm_deadline(host, COPY_SECONDS);
    int rc = ld_copy_make(&saving->copy, &host->loop, &job);
    clear_shelf(script);
    if (rc < 0) {
        struct ld_text why = {0};
        ld_text_format(&why, "no copy of the process can be made: %s", strerror(-rc));
        note_failure(host, &why);
        ld_text_fini(&why);
    }
}

/* Keep what an on_reload function has returned, the first of the results on CO. */
void ld_saving_hold(const struct ld_host *host, lua_State *co, int results) {
    if (host->service->state_path == NULL) {
        return;
    }
    if (results > 0) {
        lua_pushvalue(co, -results);
    } else {
        lua_pushnil(co);
    }
    ld_state_shelve(co, LD_SHELF_HANDED);
}

/* Note why an on_reload function has no answer. */
static void note_no_answer(struct ld_host *host, const struct ld_task *task,
                           enum ld_outcome outcome) {
    struct ld_text why = {0};
    ld_text_puts(&why, outcome == LD_OUTCOME_FAILED ? "its on_reload function failed: "
                                                    : "its on_reload function was cancelled");
    if (outcome == LD_OUTCOME_FAILED) {
        ld_text_append(&why, task->trace);
    }
    note_failure(host, &why);
    ld_text_fini(&why);
}

/* Save what the on_reload function has returned: now, or at the end of the stop. */
static bool on_answer(struct ld_task *task, enum ld_outcome outcome, int results) {
    struct ld_host *host = task->owner;
    struct ld_saving *saving = &host->saving;
    if (saving->asking != task) {
        return outcome == LD_OUTCOME_FAILED; /* too late: it was given up */
    }
    ld_guard_stop();
    saving->asking = NULL;
    if (outcome != LD_OUTCOME_OK) {
        note_no_answer(host, task, outcome);
        return true;
    }
    ld_saving_hold(host, task->co, results);
    if (saving->is_last) {
        saving->has_last = true;
    } else {
        save(host, host->script);
    }
    return true;
}

/* Call the on_reload function, which may take SECONDS. */
static void ask(struct ld_host *host, double seconds) {
    struct ld_saving *saving = &host->saving;
    clear_shelf(host->script);
    int rc = ld_api_life_take_on_reload(host->script, false, &saving->asking);
    if (rc < 0) {
        note_failure_saying(host, "its on_reload function cannot be called: not enough memory");
    } else if (saving->asking != NULL) {
        saving->asking->owner = host;
        saving->asking->on_end = on_answer;
        saving->deadline = ld_alarm_deadline(host, seconds);
        ld_guard_start(host->script, saving->asking, seconds, "the on_reload function");
        ld_task_start(saving->asking, 0);
    } else if (saving->is_last) {
        saving->has_last = true;
    } else {
        save(host, host->script);
    }
}

/* Stop waiting for an on_reload function. */
static void give_up_asking(struct ld_host *host) {
    struct ld_task *asking = host->saving.asking;
    host->saving.asking = NULL;
    if (asking != NULL) {
        ld_guard_stop();
        ld_task_cancel(asking);
    }
}

/* Whether what there is now may not be the state that counts: a reload is about to ask for it, or new code has not
 * proved itself. */
static bool is_unsettled(const struct ld_host *host) {
    const struct ld_reload *reload = &host->reload;
    return reload->phase != LD_RELOAD_NONE || reload->asked || reload->later_holder != NULL ||
           reload->trial_waiters != NULL || host->probation.phase != LD_PROBATION_NONE ||
           host->upgrade.phase != LD_UPGRADE_NONE;
}

/* End what takes too long. */
static void check_deadline(struct ld_host *host) {
    struct ld_saving *saving = &host->saving;
    if (uv_now(&host->loop) < saving->deadline) {
        ld_alarm_wake_at(host, saving->deadline);
        return;
    }
    struct ld_text why = {0};
    if (saving->asking != NULL) {
        ld_text_format(&why, "its on_reload function took longer than %.10g s",
                       host->service->options->start_timeout);
    } else {
        ld_text_format(&why, "it was not written within %.10g s", COPY_SECONDS);
    }
    give_up_asking(host);
    ld_copy_end(saving->copy);
    saving->copy = NULL;
    note_failure(host, &why);
    ld_text_fini(&why);
}

/* Save when it is time. */
void ld_saving_step(struct ld_host *host) {
    struct ld_saving *saving = &host->saving;
    const struct ld_options *options = host->service->options;
    if (host->service->state_path == NULL || host->state != LD_HOST_RUNNING) {
        return;
    }
    if (saving->due == 0) {
        saving->due = ld_alarm_deadline(host, options->state_every);
    }
    if (saving->asking != NULL && is_unsettled(host)) {
        give_up_asking(host); /* the reload asks too, and saves */
    }
    if (saving->asking != NULL || saving->copy != NULL) {
        check_deadline(host);
    } else if (uv_now(&host->loop) >= saving->due && !is_unsettled(host)) {
        saving->due = ld_alarm_deadline(host, options->state_every);
        ask(host, options->start_timeout);
    }
    if (uv_now(&host->loop) < saving->due) {
        ld_alarm_wake_at(host, saving->due);
    }
}

/* Save what was handed on at a reload. */
void ld_saving_commit(struct ld_host *host, struct ld_script *old) {
    if (host->service->state_path != NULL) {
        save(host, old);
        host->saving.due = ld_alarm_deadline(host, host->service->options->state_every);
    }
}

/* Begin the last one. */
void ld_saving_begin_last(struct ld_host *host) {
    struct ld_saving *saving = &host->saving;
    ld_saving_abandon(host);
    if (host->service->state_path != NULL && host->was_ready && !saving->is_barred) {
        saving->is_last = true;
        ask(host, host->service->options->stop_timeout);
    }
}

/* Whether its on_reload function still runs; with IS_LATE it is given up. */
bool ld_saving_is_asking(struct ld_host *host, bool is_late) {
    if (is_late && host->saving.asking != NULL) {
        give_up_asking(host);
        note_failure_saying(host, "its on_reload function took longer than the stop may");
    }
    return host->saving.asking != NULL;
}

/* Write the last one. */
void ld_saving_finish(struct ld_host *host) {
    struct ld_saving *saving = &host->saving;
    const char *path = host->service->state_path;
    struct ld_text why = {0};
    uint64_t size = 0;
    if (path == NULL || !host->was_ready || host->script == NULL || saving->is_barred) {
        return;
    }
    if (!saving->has_last) {
        if (!saving->is_last || saving->asking != NULL) {
            note_failure_saying(host, "this end does not wait for it");
        }
        return;
    }
    saving->started = ld_time_monotonic();
    int rc = write_file(host, host->script, &size, &why);
    if (rc < 0) {
        note_failure(host, &why);
    } else {
        note_success(host, size);
        ld_log(LD_LOG_INFO, "state saved: %llu bytes in %.1f ms", (unsigned long long)size,
               saving->ms);
    }
    ld_text_fini(&why);
}

/* Give up what is under way. */
void ld_saving_abandon(struct ld_host *host) {
    give_up_asking(host);
    ld_copy_end(host->saving.copy);
    host->saving.copy = NULL;
}

/* Keep a damaged file under another name; 0 or -1 with the reason in WHY. */
static int put_aside(struct ld_host *host, struct ld_text *why) {
    struct ld_text kept = {0};
    int rc = ld_state_file_put_aside(host->service->state_path, &kept);
    if (rc < 0) {
        ld_text_format(why, "; and it cannot be kept as %s: %s", ld_text_string(&kept),
                       strerror(-rc));
    } else {
        ld_text_format(why, "; it is kept as %s, and this start has no state",
                       ld_text_string(&kept));
        ld_log_with(LD_LOG_ERROR, why, "--state: ");
        ld_text_append(&host->saving.error, why);
        ld_text_clear(why);
    }
    ld_text_fini(&kept);
    return rc < 0 ? -1 : 0;
}

/* Give a script what is in the file; 0 or -1 with the reason in WHY. */
static int hand_over(struct ld_script *script, const struct ld_state_file *file,
                     struct ld_text *why) {
    int rc = ld_api_life_unpack_state(script, &file->parts[LD_STATE_GIVEN], why);
    rc = rc == 0 ? ld_api_keep_unpack(script, &file->parts[LD_STATE_UNASKED], why) : rc;
    return rc == 0 ? ld_api_keep_unpack(script, &file->parts[LD_STATE_KEPT], why) : rc;
}

/* Check that the file can be written, by beginning to. */
static int probe(const struct ld_service *service, struct ld_text *why) {
    struct ld_state_draft draft;
    int rc = ld_state_draft_open(&draft, service->state_path, find_owner(service), why);
    ld_state_draft_fini(&draft);
    return rc < 0 ? -1 : 0;
}

/* Take what was read. */
static int take_file(struct ld_host *host, struct ld_script *script,
                     const struct ld_state_file *file, struct ld_text *why) {
    struct ld_text reason = {0};
    host->saving.size = file->text.size;
    host->saving.time = file->time;
    int rc = hand_over(script, file, &reason);
    if (rc == 0) {
        ld_log(LD_LOG_INFO, "state of %.1f s ago: %zu bytes",
               (double)ld_time_real() / LD_TIME_SECOND - file->time, file->text.size);
    } else {
        ld_text_format(why, "%s: it cannot be handed to the script: %s", host->service->state_path,
                       ld_text_string(&reason));
    }
    ld_text_fini(&reason);
    return rc;
}

/* Read the file for the first generation; the reason without what it is about. */
static int load(struct ld_host *host, struct ld_script *script, struct ld_text *why) {
    const struct ld_service *service = host->service;
    struct ld_state_file file;
    int rc = ld_state_file_read(&file, service->state_path, find_owner(service), why);
    if (rc == 0) {
        rc = take_file(host, script, &file, why);
    } else if (rc == -EBADMSG) {
        rc = put_aside(host, why);
    } else if (rc == -ENOENT) {
        rc = 0;
    }
    ld_state_file_fini(&file);
    return rc == 0 ? probe(service, why) : -1;
}

/* Read the file for the first generation. */
int ld_saving_load(struct ld_host *host, struct ld_script *script, struct ld_text *why) {
    struct ld_text reason = {0};
    int rc = host->service->state_path != NULL ? load(host, script, &reason) : 0;
    if (rc < 0) {
        ld_text_format(why, "--state: %s", ld_text_string(&reason));
    }
    ld_text_fini(&reason);
    return rc;
}

/* Report on the file. */
json_t *ld_saving_report(const struct ld_host *host) {
    const struct ld_saving *saving = &host->saving;
    if (host->service->state_path == NULL) {
        return json_null();
    }
    return json_pack("{s:o, s:o, s:o, s:f, s:f, s:o}", "file",
                     ld_json_string(host->service->state_path), "size",
                     saving->time > 0 ? json_integer((json_int_t)saving->size) : json_null(),
                     "time", saving->time > 0 ? json_real(saving->time) : json_null(), "ms",
                     saving->ms, "held_ms", saving->fork_ms, "error",
                     ld_text_is_empty(&saving->error)
                         ? json_null()
                         : ld_json_cut(ld_text_string(&saving->error), saving->error.size, 8000));
}
