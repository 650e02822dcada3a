/* reload, reopen, signal and check. */
#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "client.h"
#include "cmd.h"
#include "parse.h"
#include "paths.h"
#include "process.h"
#include "say.h"
#include "source.h"
#include "target.h"

#define ASK_SECONDS 10.0

/* Reload one. Its answer is the verdict; it comes when the daemon has one, or dies. */
static int reload_one(const struct ld_call *call, const struct ld_rundir *dir,
                      const char *argument) {
    struct ld_target target;
    struct ld_text why = {0};
    json_t *answer;
    (void)call;
    int status = ld_target_find_running(&target, dir, argument);
    if (status != 0) {
        return status;
    }
    int rc =
        ld_client_ask(&(struct ld_request){dir->fd, target.name, "reload", -1}, &answer, &why);
    if (rc == 0) {
        ld_say("%s: reloaded, generation %d in %.1f ms", target.name,
               (int)json_integer_value(json_object_get(answer, "generation")),
               json_number_value(json_object_get(answer, "ms")));
        json_decref(answer);
    } else {
        ld_complain("%s: not reloaded%s: %s", target.name,
                    rc == -EREMOTEIO ? ", the old code goes on" : "", ld_text_string(&why));
        status = 1;
    }
    ld_text_fini(&why);
    return status;
}

/* Reload daemons. */
int ld_cmd_reload(const struct ld_call *call) {
    return ld_target_each(call, reload_one);
}

/* Have one reopen its log. */
static int reopen_one(const struct ld_call *call, const struct ld_rundir *dir,
                      const char *argument) {
    struct ld_target target;
    struct ld_text why = {0};
    json_t *answer;
    (void)call;
    int status = ld_target_find_running(&target, dir, argument);
    if (status != 0) {
        return status;
    }
    if (ld_client_ask(&(struct ld_request){dir->fd, target.name, "reopen", ASK_SECONDS}, &answer,
                      &why) == 0) {
        ld_say("%s: log reopened", target.name);
        json_decref(answer);
    } else {
        ld_complain("%s: log not reopened: %s", target.name, ld_text_string(&why));
        status = 1;
    }
    ld_text_fini(&why);
    return status;
}

/* Have daemons reopen their logs. */
int ld_cmd_reopen(const struct ld_call *call) {
    return ld_target_each(call, reopen_one);
}

/* Send a signal to the daemon of a directory. */
static int send_signal(const struct ld_rundir *dir, const char *argument, int signo) {
    struct ld_target target;
    int status = ld_target_find_running(&target, dir, argument);
    if (status != 0) {
        return status;
    }
    int pidfd = ld_target_open(&target);
    if (pidfd < 0) {
        return 1;
    }
    int rc = ld_process_signal(pidfd, signo);
    close(pidfd);
    if (rc < 0) {
        ld_complain("%s: %s", target.name, strerror(-rc));
        return 1;
    }
    ld_say("%s: SIG%s sent to pid %d", target.name, ld_signal_name(signo), (int)target.holder.pid);
    return 0;
}

/* Send a signal. */
int ld_cmd_signal(const struct ld_call *call) {
    struct ld_rundir dir;
    int signo;
    const char *word = call->argv[call->operand + 1];
    if (!ld_parse_signal(word, &signo)) {
        ld_complain("signal: \"%s\" is no signal (TERM, HUP, USR1, ... or a number)", word);
        return 2;
    }
    int status = ld_rundir_open(&dir, call->options->run_dir);
    if (status == 0) {
        status = send_signal(&dir, call->argv[call->operand], signo);
    }
    ld_rundir_close(&dir);
    return status;
}

/* Say whether a script compiles. */
int ld_cmd_check(const struct ld_call *call) {
    struct ld_text why = {0};
    char *path = ld_paths_absolute(call->argv[call->operand]);
    const struct ld_source source = {.path = path};
    int rc = path != NULL ? ld_source_check(&source, &why) : -ENOMEM;
    if (rc == 0) {
        ld_say("%s: ok", call->argv[call->operand]);
    } else {
        ld_complain("%s", !ld_text_is_empty(&why) ? ld_text_string(&why) : strerror(-rc));
    }
    ld_text_fini(&why);
    free(path);
    return rc == 0 ? 0 : 1;
}
