/* lunad worker: a worker, started by its master. See daemon/worker_start.h. */
#include <sys/prctl.h>

#include "base/say.h"
#include "cli/prepare.h"
#include "cli/verbs.h"
#include "daemon/keeper_channel.h"
#include "daemon/launch.h"
#include "daemon/worker_start.h"
#include "host/host.h"
#include "posix/fds.h"
#include "posix/inherit.h"

/* Run the worker that FACTS tell of. */
static int run_with(const struct ld_call *call, struct ld_worker_facts *facts) {
    struct ld_text why = {0};
    struct ld_service service = {.daemon = json_is_true(json_object_get(facts->fields, "daemon")),
                                 .is_bare = true};
    if (!json_is_true(json_object_get(facts->fields, "dropped"))) {
        prctl(PR_SET_DUMPABLE, 1, 0, 0, 0);
    }
    int status = ld_service_init(&service, call->options, call->argv, call->operand, &why);
    status = status == 0 ? ld_worker_start_apply(facts, &service, &why) : status;
    if (status == 0) {
        ld_inherit_reset_signals();
        status = ld_launch_run(&service, ld_host_run);
    } else {
        service.keeper = LD_WORKER_CHANNEL;
        ld_keeper_channel_report_start(&service, LD_START_REPORT_FAILED, ld_text_string(&why));
    }
    ld_text_fini(&why);
    ld_service_fini(&service);
    return status;
}

/* Run a worker. */
static int run(const struct ld_call *call) {
    struct ld_worker_facts facts;
    struct ld_text why = {0};
    prctl(PR_SET_DUMPABLE, 0, 0, 0,
          0); /* others of the user that a master has dropped to must not trace it */
    ld_inherit_seal_fds(true, LD_WORKER_CHANNEL);
    int status = ld_worker_start_receive(&facts, &why);
    if (status != 0) {
        ld_say_error("%s", ld_text_string(&why));
        status = 2;
    } else {
        status = run_with(call, &facts);
    }
    ld_worker_start_fini(&facts);
    ld_text_fini(&why);
    return status;
}

const struct ld_verb ld_verb_worker = {
    .name = LD_WORKER_VERB,
    .operands = "SCRIPT [ARG...]",
    .summary = "run a worker of a master",
    .options = LD_OPTIONS_SERVICE | LD_OPTIONS_CHUNK,
    .least = 1,
    .most = -1,
    .run = run,
};
