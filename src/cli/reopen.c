/* lunad reopen */
#include "base/say.h"
#include "cli/client.h"
#include "cli/target.h"
#include "cli/verbs.h"

#define ANSWER_SECONDS 10.0

/* Make a daemon reopen its log. */
static int reopen_one(const struct ld_call *call, const struct ld_rundir *dir,
                      const char *argument) {
    struct ld_target target;
    struct ld_text why = {0};
    json_t *answer;
    int status = ld_target_find_running(&target, dir, argument);
    if (status != 0) {
        return status;
    }
    struct ld_request request = ld_target_timed_request(call, &target, "reopen", ANSWER_SECONDS);
    if (ld_client_ask(&request, &answer, &why) == 0) {
        ld_say("%s: log reopened", target.name);
        json_decref(answer);
    } else {
        ld_say_error("%s: log not reopened: %s", target.name, ld_text_string(&why));
        status = 1;
    }
    ld_text_fini(&why);
    return status;
}

/* Make daemons reopen their logs. */
static int run(const struct ld_call *call) {
    return ld_target_each_of(call, LD_TARGET_RUNNING, reopen_one);
}

const struct ld_verb ld_verb_reopen = {
    .name = "reopen",
    .operands = "NAME...",
    .summary = "reopen the log file after a rotation",
    .options = LD_OPTIONS_ASK | LD_OPTIONS_CONFIG | LD_OPTIONS_ALL,
    .least = 1,
    .most = -1,
    .run = run,
};
