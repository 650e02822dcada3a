/* A service that reloads itself: recycle.c says when. */
#include <math.h>

#include "base/log.h"
#include "host/internal.h"

/* Whether the heap is too large without its garbage. */
static bool is_too_large(struct ld_script *script, uint64_t memory) {
    ld_state_collect(script, memory - 1);
    return script->heap.size >= memory;
}

/* Log why, for the age. */
static void log_age(const struct ld_host *host, uint64_t now) {
    static const struct {
        unsigned seconds;
        const char *name;
    } units[] = {{86400, "d"}, {3600, "h"}, {60, "min"}};
    double age = (double)(now - host->recycle.began) / 1000;
    age = age >= 10 ? round(age) : age;
    for (size_t i = 0; i < LD_COUNT(units); i++) {
        if (age >= units[i].seconds && fmod(age, units[i].seconds) == 0) {
            ld_log(LD_LOG_INFO, "recycling: %.0f %s old", age / units[i].seconds, units[i].name);
            return;
        }
    }
    ld_log(LD_LOG_INFO, "recycling: %.*f s old", age < 10 ? 1 : 0, age);
}

/* Log why, for the heap. */
static void log_heap(const struct ld_host *host) {
    struct ld_text text = {0};
    ld_text_puts(&text, "the heap has ");
    ld_heap_say(&text, host->script->heap.size);
    ld_text_puts(&text, " after a collection, --recycle-memory is ");
    ld_heap_say(&text, host->recycle.memory);
    ld_log_with(LD_LOG_INFO, &text, "recycling: ");
    ld_text_fini(&text);
}

/* Whether a reload is under way, or asked for. A trial is none. */
static bool is_reloading(const struct ld_host *host) {
    const struct ld_reload *reload = &host->reload;
    return (reload->phase != LD_RELOAD_NONE && !reload->is_trial) || ld_reload_is_asked(host);
}

/* Ask for a reload if it is time for one. A reload that is under way, or asked for, is as good. */
static void check(struct ld_host *host, uint64_t now) {
    struct ld_recycle *recycle = &host->recycle;
    if (ld_recycle_is_old(recycle, now)) {
        if (!is_reloading(host)) {
            log_age(host, now);
            ld_reload_ask_again(host);
        }
    } else if (!is_reloading(host) &&
               ld_recycle_is_to_compare(recycle, host->script->heap.size, now) &&
               is_too_large(host->script, recycle->memory)) {
        log_heap(host);
        ld_reload_ask_again(host);
    }
}

/* Reload if it is time for it. */
void ld_recycling_step(struct ld_host *host) {
    if (host->state == LD_HOST_RUNNING && (host->recycle.every > 0 || host->recycle.memory > 0)) {
        check(host, uv_now(&host->loop));
        /* The heap is not compared during a reload: there is nothing to wake up for. */
        size_t heap = is_reloading(host) ? 0 : host->script->heap.size;
        uint64_t next = ld_recycle_next(&host->recycle, heap);
        if (next != LD_RECYCLE_NEVER) {
            ld_alarm_wake_at(host, next);
        }
    }
}
