/* run and start. */
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/say.h"
#include "cli/verbs.h"
#include "daemon/detach.h"
#include "daemon/hold.h"
#include "daemon/launch.h"
#include "daemon/starter.h"
#include "host/host.h"
#include "posix/fds.h"
#include "posix/inherit.h"
#include "posix/paths.h"
#include "posix/process.h"
#include "script/source.h"

/* Whether the script compiles; 0, or 1 after complaining. What is wrong with it is said before
 * anything is touched. */
static int check_script(const struct ld_service *service) {
    struct ld_text why = {0};
    uid_t uid = service->has_user ? service->user.uid : geteuid();
    const struct ld_source source = {.path = service->script,
                                     .text = ld_text_string(&service->text),
                                     .size = service->text.size,
                                     .title = service->text_title,
                                     .as_root = uid == 0};
    int rc = ld_source_check(&source, &why);
    if (rc < 0) {
        ld_say_error("%s", ld_text_string(&why));
    }
    ld_text_fini(&why);
    return rc < 0 ? 1 : 0;
}

/* Find out about everything that the command line names; 0, or an exit status after complaining. */
static int prepare(struct ld_service *service, const struct ld_call *call) {
    struct ld_text why = {0};
    int status = ld_service_init(service, call->options, call->argv, call->operand, &why);
    if (status != 0) {
        ld_say_error("%s", ld_text_string(&why));
    }
    ld_text_fini(&why);
    return status == 0 ? check_script(service) : status;
}

/* Check what a start does before the daemon is forked, then what the user it runs as can do. */
int ld_cmd_check_start(const struct ld_call *call) {
    struct ld_service service = {.daemon = call->argv[0][0] == 's'};
    struct ld_text why = {0};
    int status = prepare(&service, call);
    if (status == 0) {
        status = ld_hold_check(&service, &why);
        if (status != 0) {
            ld_say_error("%s", ld_text_string(&why));
        } else {
            status = check_script(&service); /* as the user whom the check has become */
        }
    }
    ld_text_fini(&why);
    ld_service_fini(&service);
    return status;
}

/* Whether this process has children: a shell that became it by exec may have had some. */
static bool has_children(void) {
    siginfo_t info;
    return waitid(P_ALL, 0, &info, WEXITED | WNOHANG | WNOWAIT) == 0;
}

/* End as other programs do when nobody reads what they write. Returns if that is not to be. */
static void die_of_pipe(void) {
    sigset_t pipe;
    sigemptyset(&pipe);
    sigaddset(&pipe, SIGPIPE);
    signal(SIGPIPE, SIG_DFL);
    raise(SIGPIPE);
    sigprocmask(SIG_UNBLOCK, &pipe, NULL);
}

/* Whether a signal is ignored. */
static bool is_ignored(int signo) {
    struct sigaction action = {.sa_handler = SIG_DFL};
    sigaction(signo, NULL, &action);
    return action.sa_handler == SIG_IGN;
}

/* Note what there is around a script in the foreground. A service manager that has SIGPIPE ignored
 * gives a socket for stdout, and wants the service to outlive the reader of that. */
static void look_around(struct ld_service *service) {
    struct stat out;
    bool is_pipe = fstat(STDOUT_FILENO, &out) == 0 && S_ISFIFO(out.st_mode);
    service->has_terminal = ld_inherit_has_terminal();
    service->ignores_hup = is_ignored(SIGHUP);
    service->needs_reader = is_pipe || !is_ignored(SIGPIPE);
    if (has_children()) {
        ld_process_spare_children();
    }
}

/* Run a script in the foreground. */
int ld_cmd_run(const struct ld_call *call) {
    struct ld_service service = {.daemon = false};
    ld_inherit_seal_fds(true);
    ld_fds_note(LD_FD_INHERITED);
    int status = prepare(&service, call);
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

/* Fork the daemon; in the daemon run it, in the starting process wait until it is ready. */
static int detach(struct ld_service *service) {
    int channel = -1;
    ld_inherit_reset_signals();
    bool alone = !has_children();
    if (alone) { /* until it is ready all that it leaves is ours */
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
            close(service->channel); /* the last word: everything is cleaned up */
        }
        return status;
    }
    int status = ld_starter_wait(service, channel, alone);
    close(channel);
    return status;
}

/* Run a script as a daemon. */
int ld_cmd_start(const struct ld_call *call) {
    struct ld_service service = {.daemon = true};
    const char *script = call->argv[call->operand];
    if (strcmp(script, "-") == 0 || ld_paths_descriptor(script) >= 0) {
        ld_say_error("start: a daemon's script must be a file: \"%s\" is for run", script);
        return 2;
    }
    ld_inherit_seal_fds(false);
    ld_fds_note(LD_FD_INHERITED);
    int status = prepare(&service, call);
    if (status == 0) {
        status = detach(&service);
    }
    ld_service_fini(&service);
    return status;
}
