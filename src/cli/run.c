/* lunad run */
#include <signal.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cli/prepare.h"
#include "cli/services.h"
#include "cli/verbs.h"
#include "daemon/launch.h"
#include "host/host.h"
#include "posix/family.h"
#include "posix/inherit.h"

/* End as other programs do when their stdout has lost its reader. Returns if SIGPIPE does not end
 * us. */
static void die_of_pipe(void) {
    sigset_t pipe;
    sigemptyset(&pipe);
    sigaddset(&pipe, SIGPIPE);
    signal(SIGPIPE, SIG_DFL);
    raise(SIGPIPE);
    sigprocmask(SIG_UNBLOCK, &pipe, NULL);
}

/* Check whether a signal is ignored. */
static bool is_ignored(int signo) {
    struct sigaction action = {.sa_handler = SIG_DFL};
    sigaction(signo, NULL, &action);
    return action.sa_handler == SIG_IGN;
}

/* Note the surroundings of a script in the foreground. A service manager ignores SIGPIPE and passes
 * a socket as stdout; the service must then outlive the reader. */
static void look_around(struct ld_service *service) {
    struct stat out;
    bool is_pipe = fstat(STDOUT_FILENO, &out) == 0 && S_ISFIFO(out.st_mode);
    service->has_terminal = ld_inherit_has_terminal();
    service->ignores_hup = is_ignored(SIGHUP);
    service->needs_reader = is_pipe || !is_ignored(SIGPIPE);
    if (ld_prepare_has_children()) {
        ld_family_spare_children();
    }
}

/* Run a script in the foreground. */
static int run(const struct ld_call *call) {
    struct ld_service service = {.daemon = false};
    if (call->options->config != NULL) {
        return ld_services_start(call, &ld_verb_run);
    }
    if (ld_prepare_descriptors(call, true) != 0) {
        return 2;
    }
    int status = ld_prepare_service(&service, call);
    if (status == 0) {
        look_around(&service);
        ld_inherit_reset_signals();
        status = ld_launch_run(&service, ld_host_run);
        if (status == LD_STATUS_NO_READER && !ld_inherit_has_reader()) {
            die_of_pipe();
        }
    }
    ld_service_fini(&service);
    return status;
}

/* Check that a script could be run. */
static int check(const struct ld_call *call) {
    return ld_prepare_check(call, false);
}

const struct ld_verb ld_verb_run = {
    .name = "run",
    .operands = "SCRIPT|-|-e CHUNK [ARG...]",
    .summary = "run a script in the foreground",
    .options = LD_OPTIONS_SERVICE | LD_OPTIONS_CHUNK | LD_OPTIONS_CONFIG,
    .least = 1,
    .most = -1,
    .run = run,
    .check = check,
};
