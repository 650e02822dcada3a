/* Probation: for some time after a reload the new code has to prove itself, and what it was made of before is
 * remembered. If it fails, the service goes back, which is one more reload, from memory: a generation whose on_stop
 * functions have run cannot be woken. Here it is decided that it has failed, or passed; reload.c goes back. */
#include <lua.h>
#include <string.h>

#include "base/json.h"
#include "base/log.h"
#include "host/internal.h"
#include "host/waiters.h"

#define HEAP_TIMES   4           /* as large as the heap before is too large, */
#define HEAP_MORE    (64U << 20) /* if it is so much larger */
#define HEAP_LOOK_MS 1000        /* between collections that show what of it is garbage */
#define PROOF_MS     2000  /* that a master waits for what its workers say when the time is over */
#define WORD_MS      10000 /* and a worker for the word of its master */

/* How long the reload under way puts its code on probation: what was asked for, or what the one that is under way
 * has, or the option says. */
double ld_probation_seconds(const struct ld_host *host) {
    const struct ld_reload *reload = &host->reload;
    const struct ld_probation *probation = &host->probation;
    bool is_proved = reload->keeps_code && probation->phase == LD_PROBATION_NONE;
    if (reload->is_trial || reload->is_rollback || is_proved) {
        return 0;
    }
    return reload->probation >= 0                  ? reload->probation
           : probation->phase == LD_PROBATION_NONE ? host->service->options->probation
                                                   : probation->seconds;
}

/* What the code in force is made of. */
struct ld_memory *ld_probation_in_force(const struct ld_host *host) {
    return host->probation.phase != LD_PROBATION_NONE ? host->probation.good : host->script->memory;
}

/* How long the code has been on probation, in seconds. */
static double find_age(const struct ld_probation *probation) {
    return (double)(uv_hrtime() - probation->started) / 1e9;
}

/* Drop the copy of what the good code has handed on. */
void ld_probation_forget_copy(struct ld_host *host) {
    if (host->probation.copy != NULL) {
        lua_close(host->probation.copy);
        host->probation.copy = NULL;
    }
}

/* Forget what there would be to go back to, and end what was held for it. */
static void forget(struct ld_host *host) {
    struct ld_probation *probation = &host->probation;
    ld_memory_drop(probation->good);
    probation->good = NULL;
    ld_probation_forget_copy(host);
    probation->phase = LD_PROBATION_NONE;
    host->script->on_probation = false;
    ld_sentry_note_probation(host->sentry, false);
    ld_text_fini(&probation->why);
    ld_listeners_release(host->listeners);
    ld_children_release_parked(host->children, host->state == LD_HOST_RUNNING);
}

/* Begin the probation of the new generation, which has just replaced OLD. */
void ld_probation_begin(struct ld_host *host, struct ld_script *old) {
    struct ld_probation *probation = &host->probation;
    double seconds = ld_probation_seconds(host);
    if (probation->phase == LD_PROBATION_NONE) { /* else OLD has not proved itself either */
        probation->good = ld_memory_hold(old->memory);
        probation->good_generation = old->generation;
        probation->allowed = ld_errors_count_since(&old->errors, (uint64_t)(seconds * 1e9));
        probation->heap = old->heap.size;
    } else {
        host->reload.ok++; /* the one that is replaced: nothing speaks against it */
    }
    probation->phase = LD_PROBATION_ON;
    probation->seconds = seconds;
    probation->started = uv_hrtime();
    probation->until = ld_alarm_deadline(host, seconds);
    probation->heap_look_at = 0;
    probation->from_copy = false;
    probation->by_master =
        host->service->worker > 0 && host->worker.is_asked && host->worker.was_told;
    probation->is_over = false;
    host->script->on_probation = true;
    ld_sentry_note_probation(host->sentry, true);
    ld_waiters_move(&probation->waiters, &host->reload.waiters);
    ld_log(LD_LOG_INFO, "generation %u is on probation for %.10g s", host->script->generation,
           seconds);
}

/* Note that the code is as good as proved: a reload without probation has replaced it. */
void ld_probation_skip(struct ld_host *host) {
    struct ld_probation *probation = &host->probation;
    if (probation->phase == LD_PROBATION_NONE) {
        return;
    }
    struct ld_text text = {0};
    ld_text_format(&text, "generation %u replaced it before its probation was over",
                   host->script->generation);
    ld_waiters_tell(&probation->waiters, json_pack("{s:b, s:o}", "ok", 0, "error",
                                                   ld_json_text(ld_text_string(&text), text.size)));
    ld_text_fini(&text);
    forget(host);
}

/* Decide that the code has passed. */
void ld_probation_pass(struct ld_host *host) {
    struct ld_probation *probation = &host->probation;
    if (probation->phase != LD_PROBATION_ON) {
        return;
    }
    ld_log(LD_LOG_INFO, "generation %u has passed its probation of %.10g s",
           host->script->generation, probation->seconds);
    json_t *answer =
        json_pack("{s:b, s:i, s:f, s:f}", "ok", 1, "generation", (int)host->script->generation,
                  "ms", host->reload.last_ms, "probation", probation->seconds);
    host->reload.ok++;
    forget(host);
    host->worker.told = SIZE_MAX; /* a worker tells its master what is in force now */
    host->master.has_passed = true;
    ld_alarm_wake_at(host, 0); /* its workers are told */
    ld_waiters_tell(&probation->waiters, answer);
}

/* Decide that the code has failed. */
bool ld_probation_fail(struct ld_host *host, const char *why) {
    struct ld_probation *probation = &host->probation;
    if (probation->phase != LD_PROBATION_ON || host->state != LD_HOST_RUNNING ||
        probation->is_over) {
        return probation->phase == LD_PROBATION_BACK;
    }
    probation->phase = LD_PROBATION_BACK;
    probation->from_copy = false;
    probation->failed_after = find_age(probation);
    probation->wants = host->script->wants;
    ld_text_clear(&probation->why);
    ld_text_puts(&probation->why, why);
    if (host->service->worker > 0) { /* then all workers go back */
        ld_text_clear(&host->worker.unproved);
        ld_text_puts(&host->worker.unproved, why);
    }
    ld_sentry_note_probation(host->sentry, false);
    ld_log_with(LD_LOG_ERROR, &probation->why,
                "generation %u failed its probation after %.1f s, going back to the code of "
                "generation %u: ",
                host->script->generation, probation->failed_after, probation->good_generation);
    ld_alarm_wake_at(host, 0);
    return true;
}

/* Log that the state of the failed code cannot be had. */
void ld_probation_log_fallback(const struct ld_host *host, const struct ld_text *why) {
    ld_log_with(LD_LOG_WARN, why,
                "going back with the state that generation %u had handed on, as generation %u "
                "gives none: ",
                host->probation.good_generation, host->script->generation);
}

/* Whether the code has failed, and the good code is to be the service again. */
bool ld_probation_is_back(const struct ld_host *host) {
    return host->probation.phase == LD_PROBATION_BACK;
}

/* Add that it has been rolled back, and why. */
void ld_probation_add_verdict(const struct ld_host *host, struct ld_text *text) {
    const struct ld_probation *probation = &host->probation;
    ld_text_format(text, "rolled back after %.1f s: generation %u has the code of generation %u: ",
                   probation->failed_after, host->script->generation, probation->good_generation);
    ld_text_append(text, &probation->why);
}

/* Note that the good code is the service again. */
void ld_probation_end_back(struct ld_host *host, const struct ld_text *verdict) {
    struct ld_probation *probation = &host->probation;
    json_t *answer = json_pack("{s:b, s:b, s:i, s:o}", "ok", 0, "rolled_back", 1, "generation",
                               (int)host->script->generation, "error",
                               ld_json_text(ld_text_string(verdict), verdict->size));
    host->seen_errors = host->tally.count; /* --on-error exit: they were the reason to go back */
    forget(host);
    ld_waiters_tell(&probation->waiters, answer);
}

/* Note that the good code cannot be the service again: try with what it had handed on, or give up. */
void ld_probation_fail_back(struct ld_host *host, const struct ld_text *why) {
    struct ld_probation *probation = &host->probation;
    if (!probation->from_copy) {
        ld_probation_log_fallback(host, why);
        probation->from_copy = true;
        ld_alarm_wake_at(host, 0);
        return;
    }
    struct ld_text text = {0};
    ld_log_with(LD_LOG_ERROR, why,
                "rollback failed, generation %u keeps running: ", host->script->generation);
    ld_text_puts(&text, "it failed (");
    ld_text_append(&text, &probation->why);
    ld_text_puts(&text, "), and the code before could not be loaded again: ");
    ld_text_append(&text, why);
    json_t *answer =
        json_pack("{s:b, s:o}", "ok", 0, "error", ld_json_text(ld_text_string(&text), text.size));
    ld_text_fini(&text);
    host->script->wants |= probation->wants;
    forget(host);
    ld_waiters_tell(&probation->waiters, answer);
}

/* Whether there were more uncaught errors than the code before had; the last one goes to WHY. */
static bool has_erred(const struct ld_host *host, struct ld_text *why) {
    const struct ld_probation *probation = &host->probation;
    const struct ld_errors *errors = &host->script->errors;
    if (errors->count <= probation->allowed) {
        return false;
    }
    ld_text_append(why, &errors->last);
    if (probation->allowed > 0) {
        ld_text_format(why, " (%llu uncaught errors; the code before had %llu in as long a time)",
                       (unsigned long long)errors->count, (unsigned long long)probation->allowed);
    }
    return true;
}

/* Whether a callback held the loop for too long: then it was interrupted, an error as others, unless it ended before. */
static bool was_stuck(const struct ld_host *host, struct ld_text *why) {
    const struct ld_script *script = host->script;
    if (script->was_stuck) {
        bool has_place = script->errors.count > 0 && strcmp(host->tally.last_where, "?") != 0;
        ld_text_format(why, "%s%sa callback held the loop longer than %.10g s (--stuck-after)",
                       has_place ? host->tally.last_where : "", has_place ? ": " : "",
                       host->service->options->stuck_after);
    }
    return script->was_stuck;
}

/* Whether the heap is far beyond that of the code before, without its garbage. */
static bool is_swollen(struct ld_host *host, struct ld_text *why) {
    struct ld_probation *probation = &host->probation;
    struct ld_script *script = host->script;
    size_t most = probation->heap * HEAP_TIMES;
    most = most > probation->heap + HEAP_MORE ? most : probation->heap + HEAP_MORE;
    if (script->heap.size <= most || uv_now(&host->loop) < probation->heap_look_at) {
        return false;
    }
    ld_state_collect(script, most);
    uv_update_time(&host->loop);
    probation->heap_look_at = uv_now(&host->loop) + HEAP_LOOK_MS;
    if (script->heap.size <= most) {
        return false;
    }
    ld_text_puts(why, "its heap has ");
    ld_heap_say(why, script->heap.size);
    ld_text_puts(why, ", that of the code before had ");
    ld_heap_say(why, probation->heap);
    return true;
}

/* Fail because another worker has, or pass because all have done well: the master says so. */
void ld_probation_hear(struct ld_host *host, const char *why) {
    if (why != NULL) {
        host->probation.is_over = false;
        ld_probation_fail(host, why);
    } else if (host->probation.by_master) {
        ld_probation_pass(host);
    }
}

/* Let what has done well long enough pass, once all workers have; one that does not say so is not waited for for ever.
 * While a reload is under way its end decides: what it would go back to is kept. */
static void finish(struct ld_host *host) {
    struct ld_probation *probation = &host->probation;
    bool is_worker = probation->by_master && host->service->keeper >= 0;
    uint64_t patience = is_worker ? WORD_MS : PROOF_MS;
    bool is_awaited = is_worker || host->master.unproved_count > 0;
    if (host->reload.phase != LD_RELOAD_NONE && !host->reload.is_trial) {
        return;
    }
    if (is_worker && !probation->is_over) {
        probation->is_over = true;
        host->worker.has_proved = true;
        ld_alarm_wake_at(host, 0);
    }
    if (is_awaited && uv_now(&host->loop) < probation->until + patience) {
        ld_alarm_wake_at(host, probation->until + patience);
    } else {
        ld_probation_pass(host);
    }
}

/* Check how the new code does. */
void ld_probation_step(struct ld_host *host) {
    struct ld_probation *probation = &host->probation;
    if (probation->phase != LD_PROBATION_ON || host->state != LD_HOST_RUNNING) {
        return;
    }
    struct ld_text why = {0};
    if (!probation->is_over &&
        (was_stuck(host, &why) || has_erred(host, &why) || is_swollen(host, &why))) {
        ld_probation_fail(host, ld_text_string(&why));
    } else if (uv_now(&host->loop) < probation->until) {
        ld_alarm_wake_at(host, probation->until);
    } else {
        finish(host);
    }
    ld_text_fini(&why);
}

/* Give it up, because the host stops. */
void ld_probation_abandon(struct ld_host *host) {
    struct ld_probation *probation = &host->probation;
    ld_waiters_tell(&probation->waiters,
                    json_pack("{s:b, s:s}", "ok", 0, "error",
                              "the daemon is stopping, before the probation was over"));
    if (probation->phase != LD_PROBATION_NONE) {
        forget(host);
    }
}
