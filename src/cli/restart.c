/* lunad restart */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <string.h>
#include <unistd.h>

#include "base/say.h"
#include "base/time.h"
#include "cli/apart.h"
#include "cli/crew.h"
#include "cli/services.h"
#include "cli/status_report.h"
#include "cli/target.h"
#include "cli/verbs.h"
#include "daemon/record.h"
#include "daemon/starter.h"
#include "posix/paths.h"
#include "posix/pidfile.h"
#include "posix/user.h"

#define WORKER_SECONDS 40.0 /* for a worker, where no record says its times */
#define SLACK_SECONDS  2.0  /* "and a little" */
#define LOOK_MS        10   /* between checks of a worker */

/* Become the user who started the service, the owner of the record, with the groups of the user
 * database. Where that is another user, only root can do this, and cannot go back. 0, or 1 after
 * complaining. */
static int become_starter(const struct ld_target *target, const struct ld_record *record) {
    struct ld_text why = {0};
    struct ld_user user;
    char number[24];
    if (record->uid == geteuid()) {
        return 0;
    }
    snprintf(number, sizeof number, "%u", (unsigned)record->uid);
    int rc = ld_user_find(&user, number, &why);
    if (rc == 0) {
        rc = ld_user_become(&user, &why);
        ld_user_fini(&user);
    }
    if (rc < 0) {
        ld_say_error("%s: it cannot be started as the user who had started it: %s", target->name,
                     ld_text_string(&why));
    }
    ld_text_fini(&why);
    return rc < 0 ? 1 : 0;
}

/* Leave the terminal of root before this process becomes another user, who could otherwise type
 * into it. 0, or 1 after complaining. */
static int leave_terminal(const struct ld_target *target, const struct ld_record *record) {
    if (record->uid == geteuid()) {
        return 0;
    }
    if (strcmp(record->words[1], "start") != 0) {
        ld_say_error(
            "%s: not restarted: another user runs it in the foreground, and this terminal is "
            "not for that user's scripts",
            target->name);
        return 1;
    }
    setsid();
    return 0;
}

/* Take on the user, directory and environment that the service was started with. 0, or 1 after
 * complaining. */
static int go_back(const struct ld_target *target, const struct ld_record *record) {
    const char *cwd = record->cwd != NULL ? record->cwd : "/";
    if (leave_terminal(target, record) != 0) {
        return 1;
    }
    if (become_starter(target, record) != 0) {
        return 1;
    }
    if (chdir(cwd) < 0) {
        ld_say_error("%s: the directory it was started from: %s: %s", target->name, cwd,
                     strerror(errno));
        return 1;
    }
    environ = record->environment;
    return 0;
}

/* Call the verb that started the service, run or start, with the words of RECORD; or only CHECK
 * that this can be done. Called in a process of its own. The exit status. */
static int start_again(const struct ld_target *target, const struct ld_record *record, bool check) {
    static const struct ld_verb *const verbs[] = {&ld_verb_run, &ld_verb_start};
    int status = go_back(target, record);
    if (status != 0) {
        return status;
    }
    for (size_t i = 0; i < LD_COUNT(verbs); i++) {
        if (strcmp(verbs[i]->name, record->words[1]) == 0) {
            return ld_verbs_call(verbs[i], check ? verbs[i]->check : verbs[i]->run,
                                 record->words + 1, true);
        }
    }
    ld_say_error("it was not started by run or start");
    return 1;
}

/* Write a record again, unless another process has taken the name meanwhile; 0 or a negative errno. */
static int keep_record(const struct ld_target *target, const struct ld_record *record,
                       const char *how) {
    struct ld_pidfile file;
    int dir = open(target->dir->path, /* the start has closed the descriptor */
                   O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (dir < 0) {
        return -errno;
    }
    int rc = ld_pidfile_acquire(&file, dir, target->name);
    if (rc == 0) {
        rc = ld_record_restore(record, dir, target->name, how);
        ld_pidfile_remove(&file);
    }
    close(dir);
    return rc;
}

/* Start again, with the rights of the starter. If that fails, the record of how it was started is
 * written again, so that it can be restarted when what failed has been put right; but not if it was
 * cancelled, which leaves nothing. */
static int start_or_keep_record(const struct ld_target *target, const struct ld_record *record) {
    int status = start_again(target, record, false);
    bool is_start = strcmp(record->words[1], "start") == 0;
    bool was_alive = target->holder.state == LD_HOLDER_ALIVE;
    int rc = -ECANCELED;
    if (!is_start || status == 0) {
        return status;
    }
    if (status == 1 && !ld_starter_was_cancelled()) { /* not 4: then the name is in use */
        rc = keep_record(target, record,
                         was_alive ? "stopped by a restart whose start failed" : NULL);
    }
    ld_say_error("%s: %s, and not started again%s%s%s", target->name,
                 was_alive ? "it was stopped" : "it had died",
                 rc == 0 ? " (when that is put right: lunad restart " : "",
                 rc == 0 ? target->name : "", rc == 0 ? ")" : "");
    return status;
}

/* A start by a record. */
struct again {
    const struct ld_target *target;
    const struct ld_record *record;
};

/* Start as a record says. */
static int do_start(void *arg) {
    const struct again *again = arg;
    return start_or_keep_record(again->target, again->record);
}

/* Check that this can be done. */
static int do_check(void *arg) {
    const struct again *again = arg;
    return start_again(again->target, again->record, true);
}

/* Say why the record cannot be used; the exit status. */
static int blame_record(const struct ld_target *target, int rc) {
    bool is_alive = target->holder.state == LD_HOLDER_ALIVE;
    if (rc == -ENOENT && !is_alive) {
        ld_say_error("%s: not running (%s), and nothing says how it was started: use lunad start",
                     target->name, ld_text_string(&target->dir->where));
        return 3;
    }
    ld_say_error("%s: not restarted: %s/%s" LD_PATHS_RECORD ", which says how it was started: %s",
                 target->name, target->dir->path, target->name,
                 rc == -EPERM    ? "others could have written it: remove it, then stop and start"
                 : rc == -EPROTO ? "it is damaged: remove it, then stop and start"
                                 : strerror(-rc));
    return 1;
}

/* Restart the service of RECORD. Everything that can be checked is checked before anything is
 * stopped. */
static int restart_as(const struct ld_target *target, const struct ld_record *record) {
    if (record->script == NULL && record->text == NULL) {
        ld_say_error("%s: cannot restart: its script was read from stdin", target->name);
        return 1;
    }
    struct again again = {target, record};
    bool is_alive = target->holder.state == LD_HOLDER_ALIVE;
    int status = ld_apart_call(do_check, &again, "restart");
    if (status != 0 && is_alive) {
        ld_say_error("%s: not restarted: it keeps running as it is", target->name);
    }
    if (status == 0 && is_alive) {
        status = ld_target_stop(target, -1);
    }
    return status != 0 ? status : ld_apart_call(do_start, &again, "restart");
}

/* Whether a worker is ready that is not the process BEFORE. */
static bool is_ready_again(struct ld_target *worker, pid_t before) {
    if (ld_pidfile_inspect(&worker->holder, worker->dir->fd, worker->name) < 0 ||
        !ld_crew_is_up(worker) || worker->holder.pid == before) {
        return false;
    }
    json_t *report = ld_status_report_ask(worker, LD_CLIENT_SECONDS);
    bool is_ready = json_is_true(json_object_get(report, "ready"));
    json_decref(report);
    return is_ready;
}

/* How long a restart of a worker may take: as its master's record says. */
static double worker_seconds(const struct ld_target *master) {
    struct ld_record record;
    double seconds = WORKER_SECONDS;
    if (ld_record_load(&record, master->dir->fd, master->name) == 0) {
        seconds = record.stop_timeout + record.start_timeout;
        ld_record_fini(&record);
    }
    return seconds + SLACK_SECONDS;
}

/* Have a master restart one of its workers, and wait until that is ready. The exit status. */
static int restart_worker(struct ld_target *worker, const struct ld_target *master,
                          unsigned number) {
    struct ld_text why = {0};
    json_t *answer = NULL;
    json_t *body = json_pack("{s:i}", "worker", (int)number);
    pid_t before = worker->holder.state == LD_HOLDER_ALIVE ? worker->holder.pid : 0;
    struct ld_request request = ld_target_request(master, "restart", LD_CLIENT_SECONDS);
    request.body = body;
    int rc = ld_client_ask(&request, &answer, &why);
    double seconds = worker_seconds(master);
    double deadline = ld_time_seconds() + seconds;
    if (rc < 0) {
        ld_say_error("%s: not restarted: %s: %s", worker->name, master->name, ld_text_string(&why));
    }
    bool is_ready = rc == 0 && is_ready_again(worker, before);
    while (rc == 0 && !is_ready && ld_time_seconds() < deadline) {
        poll(NULL, 0, LOOK_MS);
        is_ready = is_ready_again(worker, before);
    }
    if (is_ready) {
        ld_say("%s: started (pid %d)", worker->name, (int)worker->holder.pid);
    } else if (rc == 0) {
        ld_say_error("%s: it was not ready again after %.10g s: see lunad logs %s", worker->name,
                     seconds, master->name);
    }
    json_decref(answer);
    json_decref(body);
    ld_text_fini(&why);
    return is_ready ? 0 : 1;
}

/* Restart a daemon, also one that has crashed. */
static int restart_one(const struct ld_call *call, const struct ld_rundir *dir,
                       const char *argument) {
    struct ld_target target;
    struct ld_record record;
    (void)call;
    struct ld_target master;
    unsigned number;
    int status = ld_target_find(&target, dir, argument);
    if (status != 0) {
        return status;
    }
    if (ld_crew_find_master(&master, &target, &number)) {
        return restart_worker(&target, &master, number);
    }
    int rc = ld_record_load(&record, dir->fd, target.name);
    if (rc < 0) {
        return blame_record(&target, rc);
    }
    status = restart_as(&target, &record);
    ld_record_fini(&record);
    return status;
}

/* Restart daemons: by their records, or by a config. */
static int run(const struct ld_call *call) {
    return call->options->config != NULL ? ld_services_restart(call, &ld_verb_start)
                                         : ld_target_each(call, restart_one);
}

const struct ld_verb ld_verb_restart = {
    .name = "restart",
    .operands = "NAME...",
    .summary = "stop, then start as it was started",
    .options = LD_OPTIONS_CONFIG | LD_OPTIONS_ALL,
    .least = 1,
    .most = -1,
    .run = run,
};
