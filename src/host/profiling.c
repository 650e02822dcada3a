/* A profile of the service for a client: one at a time, which ends with the client. */
#include <errno.h>
#include <string.h>

#include "base/json.h"
#include "base/time.h"
#include "host/internal.h"
#include "script/caller.h"
#include "script/profile.h"

#define DEFAULT_SECONDS 10.0
#define SECONDS_MOST    3600.0
#define LOOK_MS         250 /* between looks for the client */

/* Make an error answer. */
static json_t *failure(const char *message) {
    return json_pack("{s:b, s:s}", "ok", 0, "error", message);
}

/* Add a stack to the list ARG. */
static void add_stack(void *arg, const char *stack, size_t size, uint64_t count) {
    json_array_append_new(arg, json_pack("[o, I]", ld_json_text(stack, size), (json_int_t)count));
}

/* End the profile, and tell the client. */
static void finish(struct ld_host *host) {
    struct ld_waiter *waiter = host->profiling.waiter;
    struct ld_profile_totals totals;
    json_t *stacks = json_array();
    double seconds = (double)(ld_time_monotonic() - host->profiling.started) / LD_TIME_SECOND;
    ld_profile_stop();
    ld_profile_read(&totals, add_stack, stacks);
    ld_profile_clear();
    host->profiling.waiter = NULL; /* first: the client may send the next request */
    waiter->done(waiter,
                 json_pack("{s:b, s:f, s:i, s:I, s:I, s:I, s:o}", "ok", 1, "seconds", seconds, "hz",
                           LD_PROFILE_HZ, "samples", (json_int_t)totals.samples, "outside",
                           (json_int_t)totals.outside, "missed", (json_int_t)totals.missed,
                           "stacks", stacks));
}

/* Begin a profile. */
json_t *ld_profiling_ask(struct ld_host *host, struct ld_waiter *waiter, const json_t *request,
                         int fd) {
    const json_t *wanted = json_object_get(request, "seconds");
    double seconds = wanted != NULL ? json_number_value(wanted) : DEFAULT_SECONDS;
    bool is_time = (wanted == NULL || json_is_number(wanted)) && seconds > 0;
    if (!is_time || seconds > SECONDS_MOST) {
        return failure("the \"seconds\" of profile are not a number above 0, up to 3600");
    }
    if (host->state == LD_HOST_STOPPING || host->state == LD_HOST_ENDED) {
        return failure("the daemon is stopping");
    }
    if (host->profiling.waiter != NULL) {
        return failure("another profile is being made; there can be one at a time");
    }
    int rc = ld_profile_start();
    if (rc < 0) {
        return failure(strerror(-rc));
    }
    host->profiling.waiter = waiter;
    host->profiling.fd = fd;
    host->profiling.started = ld_time_monotonic();
    host->profiling.deadline = ld_alarm_deadline(host, seconds);
    ld_alarm_wake_at(host, 0);
    return NULL;
}

/* End it without an answer. */
void ld_profiling_forget(struct ld_host *host, const struct ld_waiter *waiter) {
    if (host->profiling.waiter != NULL && host->profiling.waiter == waiter) {
        host->profiling.waiter = NULL;
        ld_profile_stop();
        ld_profile_clear();
    }
}

/* End it when its time is over, its client has gone, or the daemon stops. A client that waits is not read from,
 * so look whether it is there. */
void ld_profiling_step(struct ld_host *host) {
    if (host->profiling.waiter == NULL) {
        return;
    }
    uv_update_time(&host->loop);
    uint64_t now = uv_now(&host->loop);
    if (now >= host->profiling.deadline || host->state == LD_HOST_STOPPING ||
        ld_caller_is_gone(host->profiling.fd)) {
        finish(host);
        return;
    }
    uint64_t left = host->profiling.deadline - now;
    ld_alarm_wake_at(host, now + (left < LOOK_MS ? left : LOOK_MS));
}

/* End it because the daemon ends. */
void ld_profiling_abandon(struct ld_host *host) {
    if (host->profiling.waiter != NULL) {
        finish(host);
    }
}
