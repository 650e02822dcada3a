/* lunad reload */
#include <errno.h>

#include "base/say.h"
#include "cli/client.h"
#include "cli/target.h"
#include "cli/verbs.h"
#include "daemon/record.h"

#define DEFAULT_SECONDS 65.0 /* where no record says the daemon's own limit */
#define SLACK_SECONDS   5.0  /* "and a little" */

/* Compute how long a reload may take: the old code returns its state, then the new code becomes
 * ready, each within the --start-timeout of the record. */
static double reload_seconds(const struct ld_target *target) {
    struct ld_record record;
    double seconds = DEFAULT_SECONDS;
    if (ld_record_load(&record, target->dir->fd, target->name) == 0) {
        seconds = 2 * record.start_timeout + SLACK_SECONDS;
        ld_record_fini(&record);
    }
    return seconds;
}

/* Reload a daemon. It answers when the reload is over. */
static int reload_one(const struct ld_call *call, const struct ld_rundir *dir,
                      const char *argument) {
    struct ld_target target;
    struct ld_text why = {0};
    json_t *answer;
    int status = ld_target_find_running(&target, dir, argument);
    if (status != 0) {
        return status;
    }
    struct ld_request request =
        ld_target_timed_request(call, &target, "reload", reload_seconds(&target));
    int rc = ld_client_ask(&request, &answer, &why);
    if (rc == 0) {
        ld_say("%s: reloaded, generation %d in %.1f ms", target.name,
               (int)json_integer_value(json_object_get(answer, "generation")),
               json_number_value(json_object_get(answer, "ms")));
        json_decref(answer);
    } else {
        ld_say_error("%s: not reloaded%s: %s", target.name,
                     target.holder.waiting ? ""
                     : rc == -EREMOTEIO    ? ", the old code keeps running"
                     : rc == -ETIMEDOUT    ? " yet"
                                           : "",
                     ld_text_string(&why));
        status = 1;
    }
    ld_text_fini(&why);
    return status;
}

/* Reload daemons. */
static int run(const struct ld_call *call) {
    return ld_target_each(call, reload_one);
}

const struct ld_verb ld_verb_reload = {
    .name = "reload",
    .operands = "NAME...",
    .summary = "load the script again without losing the process, and say how that went",
    .options = LD_OPTIONS_ASK,
    .least = 1,
    .most = -1,
    .run = run,
};
