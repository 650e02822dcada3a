/* reload, reopen, signal and check. */
#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "base/file.h"
#include "base/parse.h"
#include "base/say.h"
#include "cli/client.h"
#include "cli/target.h"
#include "cli/verbs.h"
#include "posix/paths.h"
#include "posix/process.h"
#include "script/source.h"

#define REOPEN_SECONDS 10.0
#define RELOAD_SECONDS 62.0 /* where nothing says the daemon's own limit */
#define SLACK_SECONDS  2.0  /* "and a little" */

/* The request for VERB, with the time that the command line gives it, or SECONDS. */
static struct ld_request make_request(const struct ld_call *call, const struct ld_target *target,
                                      const char *verb, double seconds) {
    bool is_chosen = call->options->timeout >= 0;
    return (struct ld_request){.run_fd = target->dir->fd,
                               .name = target->name,
                               .verb = verb,
                               .seconds = is_chosen ? call->options->timeout : seconds,
                               .pid = target->holder.pid,
                               .patient = is_chosen};
}

/* How long a reload may take: the old code gives its state, then the new code becomes ready, each
 * within --start-timeout, which the starter of the daemon has written down. */
static double reload_seconds(const struct ld_target *target) {
    struct ld_record record;
    double seconds = RELOAD_SECONDS;
    if (ld_record_load(&record, target->dir->fd, target->name) == 0) {
        seconds = 2 * record.start_timeout + SLACK_SECONDS;
        ld_record_fini(&record);
    }
    return seconds;
}

/* Reload one. Its answer is the verdict; it comes when the daemon has one, or dies. */
static int reload_one(const struct ld_call *call, const struct ld_rundir *dir,
                      const char *argument) {
    struct ld_target target;
    struct ld_text why = {0};
    json_t *answer;
    int status = ld_target_find_running(&target, dir, argument);
    if (status != 0) {
        return status;
    }
    struct ld_request request = make_request(call, &target, "reload", reload_seconds(&target));
    int rc = ld_client_ask(&request, &answer, &why);
    if (rc == 0) {
        ld_say("%s: reloaded, generation %d in %.1f ms", target.name,
               (int)json_integer_value(json_object_get(answer, "generation")),
               json_number_value(json_object_get(answer, "ms")));
        json_decref(answer);
    } else {
        ld_say_error("%s: not reloaded%s: %s", target.name,
                     rc == -EREMOTEIO   ? ", the old code keeps running"
                     : rc == -ETIMEDOUT ? " yet"
                                        : "",
                     ld_text_string(&why));
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
    int status = ld_target_find_running(&target, dir, argument);
    if (status != 0) {
        return status;
    }
    struct ld_request request = make_request(call, &target, "reopen", REOPEN_SECONDS);
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
        ld_say_error("%s: %s", target.name, strerror(-rc));
        return 1;
    }
    ld_say("%s: SIG%s sent to pid %d", target.name, ld_parse_signal_name(signo),
           (int)target.holder.pid);
    return 0;
}

/* Send a signal. */
int ld_cmd_signal(const struct ld_call *call) {
    struct ld_rundir dir;
    int signo;
    const char *word = call->argv[call->operand + 1];
    if (!ld_parse_signal(word, &signo)) {
        ld_say_error("signal: \"%s\" is no signal (TERM, HUP, USR1, ... or a number)", word);
        return 2;
    }
    int status = ld_rundir_open(&dir, call->options->run_dir);
    if (status == 0) {
        status = send_signal(&dir, call->argv[call->operand], signo);
    }
    ld_rundir_close(&dir);
    return status;
}

/* Whether what a descriptor brings compiles. */
static int check_stream(int fd, struct ld_text *why) {
    char title[32] = "=stdin";
    struct ld_text text = {0};
    if (fd != STDIN_FILENO) {
        snprintf(title, sizeof title, "=/dev/fd/%d", fd);
    }
    int rc = ld_file_read(fd, &text);
    if (rc < 0) {
        ld_text_format(why, "%s: %s", title + 1, strerror(-rc));
    } else {
        const struct ld_source source = {
            .text = ld_text_string(&text), .size = text.size, .title = title};
        rc = ld_source_check(&source, why);
    }
    ld_text_fini(&text);
    return rc;
}

/* Say whether a script compiles. */
int ld_cmd_check(const struct ld_call *call) {
    struct ld_text why = {0};
    const char *operand = call->argv[call->operand];
    int fd = strcmp(operand, "-") == 0 ? STDIN_FILENO : ld_paths_descriptor(operand);
    char *path = fd < 0 ? ld_paths_absolute(operand) : NULL;
    int rc = path != NULL ? ld_source_check(&(struct ld_source){.path = path}, &why)
             : fd >= 0    ? check_stream(fd, &why)
                          : -ENOMEM;
    if (rc == 0) {
        ld_say("%s: ok", operand);
    } else {
        ld_say_error("%s", !ld_text_is_empty(&why) ? ld_text_string(&why) : strerror(-rc));
    }
    ld_text_fini(&why);
    free(path);
    return rc == 0 ? 0 : 1;
}
