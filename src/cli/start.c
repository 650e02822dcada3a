/* lunad start: a script becomes a daemon in these steps, in this order.
 *
 *   parse the options                                      ld_verbs_call
 *   close inherited descriptors                            ld_prepare_descriptors
 *   look up what the options name, clean the environment   ld_service_init
 *   compile the script                                     ld_prepare_service
 *   reset signals; they stay blocked                       ld_inherit_reset_signals
 *   fork, setsid, fork again                               ld_detach_fork
 *   stdin, log, umask, directory, pidfile, sockets         ld_hold_take
 *   fork the host, with --user or --restart                ld_keeper_fork
 *   pid, limits, user                                      ld_hold_drop
 *   make loop and Lua state, load and run the script       ld_host_run
 *   tell the starting process "ready"                      ld_keeper_channel_report_start
 *   print that, or why not, and exit                       ld_starter_wait
 *
 * Whatever fails on the way is printed by the process that a person started. */
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "base/say.h"
#include "cli/prepare.h"
#include "cli/services.h"
#include "cli/verbs.h"
#include "daemon/detach.h"
#include "daemon/launch.h"
#include "daemon/starter.h"
#include "host/host.h"
#include "posix/inherit.h"
#include "posix/paths.h"

/* Fork the daemon; in the daemon run it, in the starting process wait until it is ready. */
static int detach(struct ld_service *service) {
    int channel = -1;
    ld_inherit_reset_signals();
    bool alone = !ld_prepare_has_children();
    if (alone) { /* until it is ready we adopt its orphans */
        prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0);
    }
    int rc = ld_detach_fork(&channel);
    if (rc < 0) {
        ld_say_error("fork: %s", strerror(-rc));
        return 1;
    }
    if (rc == 0) {
        service->channel = channel;
        int status = ld_launch_run(service, ld_host_run);
        if (service->channel >= 0) {
            close(service->channel); /* this tells the starter that everything is cleaned up */
        }
        return status;
    }
    if (service->notify_fd >= 0) {
        close(service->notify_fd); /* the daemon has it */
    }
    int status = ld_starter_wait(service, channel, alone);
    close(channel);
    return status;
}

/* Run a script as a daemon. */
static int run(const struct ld_call *call) {
    struct ld_service service = {.daemon = true};
    if (call->options->config != NULL) {
        return ld_services_start(call, &ld_verb_start);
    }
    if (call->options->all) {
        ld_say_error("start: --all means the services of a config: give --config FILE");
        return 2;
    }
    const char *script = call->argv[call->operand];
    if (strcmp(script, "-") == 0 || ld_paths_descriptor(script) >= 0) {
        ld_say_error("start: a daemon's script must be a file: \"%s\" is for run", script);
        return 2;
    }
    if (ld_prepare_descriptors(call, false) != 0) {
        return 2;
    }
    int status = ld_prepare_service(&service, call);
    if (status == 0) {
        status = detach(&service);
    }
    ld_service_fini(&service);
    return status;
}

/* Check that a script could be started. */
static int check(const struct ld_call *call) {
    return ld_prepare_check(call, true);
}

const struct ld_verb ld_verb_start = {
    .name = "start",
    .operands = "SCRIPT [ARG...]",
    .summary = "run a script as a daemon; it returns when the script is ready, or says why not",
    .options = LD_OPTIONS_SERVICE | LD_OPTIONS_CONFIG | LD_OPTIONS_ALL,
    .least = 1,
    .most = -1,
    .run = run,
    .check = check,
};
