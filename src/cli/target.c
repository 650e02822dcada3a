#include "cli/target.h"

#include <errno.h>
#include <poll.h>
#include <pwd.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/parse.h"
#include "base/say.h"
#include "base/time.h"
#include "cli/config.h"
#include "cli/crew.h"
#include "daemon/hold.h"
#include "daemon/record.h"
#include "posix/family.h"
#include "posix/leftovers.h"
#include "posix/paths.h"
#include "posix/process.h"

#define DEFAULT_SECONDS 10.0 /* where no record says the daemon's own time to stop */
#define SLACK_SECONDS   2.0  /* "and a little" */
#define LOOK_MS         5    /* between checks of the lock */
#define END_LOOKS       50   /* for the end of a daemon whose connection has broken */
#define END_LOOK_MS     10

/* A search for the daemon that runs a script. */
struct search {
    const struct ld_rundir *dir;
    const char *script; /* resolved */
    char found[LD_NAME_MAX + 1];
};

enum answer { RUNS_IT, RUNS_ANOTHER, DOES_NOT_SAY };

/* Resolve the symbolic links of PATH, also if the file itself is gone. The caller frees the result;
 * NULL if its directory is missing. */
static char *resolve(const char *path) {
    char *resolved = realpath(path, NULL);
    if (resolved != NULL || errno != ENOENT) {
        return resolved;
    }
    const char *slash = strrchr(path, '/');
    char *folder = slash != NULL ? strndup(path, (size_t)(slash - path) + 1) : strdup(".");
    char *real = folder != NULL ? realpath(folder, NULL) : NULL;
    if (real == NULL || asprintf(&resolved, "%s/%s", real, slash != NULL ? slash + 1 : path) < 0) {
        resolved = NULL;
    }
    free(folder);
    free(real);
    return resolved;
}

/* Check whether the daemon NAME runs the script that is searched for. The record of its starter
 * says so, because the daemon itself is not trusted. */
static enum answer ask_for_script(const struct search *search, const char *name) {
    struct ld_holder holder;
    struct ld_record record;
    if (ld_pidfile_inspect(&holder, search->dir->fd, name) < 0 || holder.state != LD_HOLDER_ALIVE ||
        ld_record_load(&record, search->dir->fd, name) < 0) {
        return DOES_NOT_SAY;
    }
    char *resolved = record.script != NULL ? resolve(record.script) : NULL;
    const char *script = resolved != NULL ? resolved : record.script;
    bool same = script != NULL && strcmp(script, search->script) == 0;
    free(resolved);
    ld_record_fini(&record);
    return same ? RUNS_IT : RUNS_ANOTHER;
}

/* Note the first daemon that runs the script. */
static bool look_at(const char *name, void *arg) {
    struct search *search = arg;
    if (ask_for_script(search, name) != RUNS_IT) {
        return true;
    }
    snprintf(search->found, sizeof search->found, "%s", name);
    return false;
}

/* Find the daemon that runs the script, beginning with NAME, the script's own; return the answer
 * for NAME. */
static enum answer search_script(struct search *search, const char *name) {
    enum answer answer = name[0] != '\0' ? ask_for_script(search, name) : RUNS_ANOTHER;
    if (answer == RUNS_IT) {
        snprintf(search->found, sizeof search->found, "%s", name);
    } else {
        ld_rundir_each(search->dir, look_at, search);
    }
    return answer;
}

/* Check whether a daemon, dead or alive, has NAME. */
static bool is_in_use(const struct ld_rundir *dir, const char *name) {
    struct ld_holder holder;
    return ld_parse_is_name(name) && dir->fd >= 0 &&
           ld_pidfile_inspect(&holder, dir->fd, name) == 0 && holder.state != LD_HOLDER_NONE;
}

/* Name the daemon that a script's path means: one that runs it, one whose name only looks like a
 * path, or one that is named after the script and has no record. False if there is none. */
static bool name_by_script(struct ld_target *target, const char *path) {
    char *resolved = resolve(path);
    char *name = ld_paths_script_name(path);
    const char *own = name != NULL && ld_parse_is_name(name) ? name : "";
    struct search search = {.dir = target->dir, .script = resolved != NULL ? resolved : path};
    enum answer answer = search_script(&search, own);
    const char *found = search.found[0] != '\0'        ? search.found
                        : is_in_use(target->dir, path) ? path
                        : answer == DOES_NOT_SAY       ? own
                                                       : "";
    bool is_found = found[0] != '\0';
    struct ld_text clean = {0};
    if (!is_found) {
        ld_text_add_escaped(&clean, path, strlen(path), false);
        found = ld_text_string(&clean);
    }
    snprintf(target->name, sizeof target->name, "%s", found);
    ld_text_fini(&clean);
    free(resolved);
    free(name);
    return is_found;
}

/* Refuse a daemon of another user; 0 if it is ours. */
static int check_owner(const struct ld_target *target, int rc) {
    bool is_ours = target->holder.owner == geteuid() || geteuid() == 0 ||
                   target->holder.state == LD_HOLDER_NONE;
    if (rc == 0 && is_ours) {
        return 0;
    }
    if (rc < 0 && rc != -EACCES && rc != -EPERM) {
        ld_say_error("%s: pidfile %s/%s" LD_PATHS_PIDFILE ": %s", target->name, target->dir->path,
                     target->name, rc == -ELOOP ? "it is a symbolic link" : strerror(-rc));
        return 1;
    }
    const struct passwd *entry = rc == 0 ? getpwuid(target->holder.owner) : NULL;
    ld_say_error("%s: it belongs to another user%s%s: permission denied", target->name,
                 entry != NULL ? ", " : "", entry != NULL ? entry->pw_name : "");
    return 1;
}

/* Find a daemon. */
int ld_target_find(struct ld_target *target, const struct ld_rundir *dir, const char *argument) {
    *target = (struct ld_target){.dir = dir};
    if (ld_paths_is_script(argument)) {
        if (!name_by_script(target, argument)) {
            return 0;
        }
    } else if (!ld_parse_is_name(argument)) {
        ld_say_error("\"%s\" is not a name: 1 to 64 of A-Z a-z 0-9 . _ -, no leading dot or dash",
                     argument);
        return 2;
    } else {
        snprintf(target->name, sizeof target->name, "%s", argument);
    }
    if (dir->fd < 0) {
        return 0;
    }
    return check_owner(target, ld_pidfile_inspect(&target->holder, dir->fd, target->name));
}

/* Say why a daemon is not running. */
void ld_target_describe_death(const struct ld_target *target, struct ld_text *text) {
    struct ld_record record;
    if (target->dir->fd >= 0 && ld_record_load(&record, target->dir->fd, target->name) == 0) {
        ld_text_puts(text, "; it ");
        ld_record_describe_death(text, &record, target->dir->fd, target->name);
        ld_record_fini(&record);
    } else if (target->holder.state == LD_HOLDER_DEAD) {
        ld_text_puts(text, "; it died and left its pidfile");
    }
}

/* Find a daemon that runs. */
int ld_target_find_running(struct ld_target *target, const struct ld_rundir *dir,
                           const char *argument) {
    int status = ld_target_find(target, dir, argument);
    if (status == 0 && target->holder.state != LD_HOLDER_ALIVE) {
        struct ld_text death = {0};
        ld_target_describe_death(target, &death);
        ld_say_error("%s: not running (%s)%s", target->name, ld_text_string(&dir->where),
                     ld_text_string(&death));
        ld_text_fini(&death);
        status = 3;
    }
    return status;
}

/* Wait for a moment if the holder of the lock is a keeper whose host has just ended: then the pidfile will name the
 * keeper. */
static void settle(struct ld_target *target) {
    for (int looks = 0; looks < END_LOOKS && target->holder.state == LD_HOLDER_ALIVE; looks++) {
        int rc = ld_pidfile_confirm(target->holder.pid, target->dir->fd, target->name);
        if (rc != -ESRCH ||
            ld_pidfile_inspect(&target->holder, target->dir->fd, target->name) < 0) {
            return;
        }
        poll(NULL, 0, END_LOOK_MS);
    }
}

/* Open a pidfd for a running target. */
int ld_target_open(struct ld_target *target) {
    settle(target);
    int pidfd = ld_pidfile_open_holder(&target->holder, target->dir->fd, target->name);
    if (pidfd < 0) {
        ld_say_error("%s: it runs, but the kernel does not confirm that pid %d of its pidfile is "
                     "it (%s): nothing is signalled",
                     target->name, (int)target->holder.pid, strerror(-pidfd));
    }
    return pidfd;
}

/* Make a request. */
struct ld_request ld_target_request(const struct ld_target *target, const char *verb,
                                    double seconds) {
    return (struct ld_request){.run_fd = target->dir->fd,
                               .name = target->name,
                               .verb = verb,
                               .seconds = seconds,
                               .pid = target->holder.pid};
}

/* Make a request with the time of the command line. */
struct ld_request ld_target_timed_request(const struct ld_call *call,
                                          const struct ld_target *target, const char *verb,
                                          double seconds) {
    struct ld_request request = ld_target_request(target, verb, seconds);
    if (call->options->timeout >= 0) {
        request.seconds = call->options->timeout;
        request.patient = true;
    }
    return request;
}

/* Remove what a dead daemon has left. */
void ld_target_clear(const struct ld_target *target) {
    if (target->dir->fd >= 0) {
        ld_hold_remove_stale(target->dir->fd, target->name);
    }
}

/* Check for a moment whether a daemon has ended. */
bool ld_target_has_ended(struct ld_target *target) {
    for (int looks = 0; looks < END_LOOKS; looks++) {
        struct ld_holder holder;
        if (ld_pidfile_inspect(&holder, target->dir->fd, target->name) < 0) {
            return false;
        }
        if (holder.state != LD_HOLDER_ALIVE) {
            target->holder = holder;
            return true;
        }
        poll(NULL, 0, END_LOOK_MS);
    }
    return false;
}

/* A stop under way. */
struct stop {
    struct ld_target target; /* whose holder changes with its hosts */
    int host;                /* pidfds; -1: none */
    int keeper;
};

/* Check whether the lock of a daemon is free, or held by a later daemon. */
static bool has_ended(const struct stop *stop) {
    const struct ld_holder *before = &stop->target.holder;
    struct ld_holder holder;
    bool is_held = ld_pidfile_inspect(&holder, stop->target.dir->fd, stop->target.name) == 0 &&
                   holder.state == LD_HOLDER_ALIVE;
    if (stop->keeper >= 0) { /* the hosts of a keeper have a number each */
        return !is_held || ld_process_has_ended(stop->keeper, 0);
    }
    return !is_held || (holder.pid != 0 && before->pid != 0 && holder.pid != before->pid);
}

/* Wait until the lock is free; false when the time is up. */
static bool wait_for_end(const struct stop *stop, double deadline) {
    while (!has_ended(stop)) {
        if (ld_time_seconds() >= deadline) {
            return false;
        }
        poll(NULL, 0, LOOK_MS);
    }
    return true;
}

/* Read from the record how many seconds a graceful stop of TARGET may take. */
static double own_seconds(const struct ld_target *target) {
    struct ld_record record;
    double seconds = DEFAULT_SECONDS;
    if (ld_record_load(&record, target->dir->fd, target->name) == 0) {
        seconds = record.stop_timeout;
        ld_record_fini(&record);
    }
    return seconds + SLACK_SECONDS;
}

/* Say what a daemon is busy with that was asked to stop, if it says so. */
static void say_busy(const struct ld_target *target, const json_t *answer) {
    const json_t *error = json_object_get(answer, "error");
    if (json_is_string(error)) {
        struct ld_text words = {0};
        ld_text_add_escaped(&words, json_string_value(error), json_string_length(error), false);
        ld_say_error("%s: it is %s; stopping it", target->name, ld_text_string(&words));
        ld_text_fini(&words);
    }
}

/* Send SIGTERM to a daemon: to its keeper, which passes it on and starts no other host, or to itself; false
 * after complaining. */
static bool send_term(struct stop *stop) {
    int pidfd = stop->keeper >= 0 ? stop->keeper : ld_target_open(&stop->target);
    if (pidfd < 0) {
        return false;
    }
    ld_process_signal(pidfd, SIGTERM);
    if (pidfd != stop->keeper) {
        close(pidfd);
    }
    return true;
}

/* Ask for a graceful stop, over the control socket or else by SIGTERM; false if both fail. A request
 * that a busy daemon has not answered waits in its socket: a signal beside it would be a second stop,
 * which means "at once". */
static bool ask_to_stop(struct stop *stop) {
    struct ld_text why = {0};
    json_t *answer;
    struct ld_request request = ld_target_request(&stop->target, "stop", LD_CLIENT_SECONDS);
    request.patient = true;
    int rc = ld_client_ask(&request, &answer, &why);
    ld_text_fini(&why);
    if (rc == 0) {
        say_busy(&stop->target, answer);
        json_decref(answer);
    }
    return rc == 0 || rc == -ETIMEDOUT || has_ended(stop) || send_term(stop);
}

/* Find the process that runs the script now, because hosts of a keeper follow each other; tell the keeper
 * that none shall follow. */
static void find_last_host(struct stop *stop) {
    struct ld_holder holder;
    if (stop->keeper >= 0) {
        ld_process_signal(stop->keeper, SIGTERM);
        if (ld_pidfile_inspect(&holder, stop->target.dir->fd, stop->target.name) == 0) {
            stop->target.holder = holder;
        }
    }
}

/* Kill a daemon that did not end in time, with all its descendants, unless it has ended meanwhile.
 * The exit status. */
static int kill_target(struct stop *stop, double seconds) {
    struct ld_leftovers leftovers = {0};
    struct ld_target *target = &stop->target;
    find_last_host(stop);
    int pidfd = ld_pidfile_open_holder(&target->holder, target->dir->fd, target->name);
    if (pidfd < 0 && has_ended(stop)) {
        return 0;
    }
    if (pidfd < 0) {
        return ld_target_open(target) < 0 ? 1 : 0; /* says why */
    }
    ld_family_freeze(target->holder.pid, pidfd); /* it may be about to bind one more */
    ld_leftovers_find(&leftovers, target->holder.pid);
    ld_family_end(target->holder.pid, pidfd);
    ld_process_has_ended(pidfd, 2000);
    close(pidfd);
    ld_leftovers_remove(&leftovers);
    if (!wait_for_end(stop, ld_time_seconds() + SLACK_SECONDS)) {
        ld_say_error("%s: pid %d survived SIGKILL", target->name, (int)target->holder.pid);
        return 1;
    }
    ld_say_error("%s: it did not stop within %.10g s and was killed", target->name, seconds);
    return 0;
}

/* Stop a daemon that runs within SECONDS (below 0: its own time). The exit status. */
static int stop_in(struct stop *stop, double seconds) {
    double limit = seconds >= 0 ? seconds : own_seconds(&stop->target);
    double deadline = ld_time_seconds() + limit;
    if (!ask_to_stop(stop)) {
        return has_ended(stop) ? 0 : 1;
    }
    int status = wait_for_end(stop, deadline) ? 0 : kill_target(stop, limit);
    if (status == 0) {
        ld_target_clear(&stop->target);
    }
    return status;
}

/* Close PIDFD, unless it is -1, and WAIT before for the end of its process. */
static void close_pidfd(int pidfd, bool wait) {
    if (pidfd >= 0) {
        if (wait) {
            ld_process_has_ended(pidfd, SLACK_SECONDS * 1000);
        }
        close(pidfd);
    }
}

/* Stop a daemon. The lock is released a moment before the processes end, so wait for host and
 * keeper as well. */
int ld_target_stop(const struct ld_target *target, double seconds) {
    struct stop stop = {.target = *target};
    settle(&stop.target);
    struct ld_holder keeper = stop.target.holder;
    if (!keeper.waiting) {
        keeper.pid = ld_process_parent(keeper.pid);
    }
    bool is_worker = ld_crew_worker(target->dir, target->name) > 0; /* its master is to go on */
    stop.host = ld_pidfile_open_holder(&stop.target.holder, target->dir->fd, target->name);
    stop.keeper = is_worker ? -1 : ld_pidfile_open_holder(&keeper, target->dir->fd, target->name);
    int status = stop_in(&stop, seconds);
    close_pidfd(stop.host, status == 0);
    close_pidfd(stop.keeper, status == 0);
    return status;
}

/* Work for services of a config. */
static int each_service(const struct ld_call *call, unsigned flags, ld_target_work *each) {
    struct ld_config config;
    int worst = ld_config_load(&config, call->options->config, call->argv[0]);
    if (worst == 0) {
        worst = ld_config_choose(&config, call, (flags & LD_TARGET_IMPLIED) != 0);
    }
    for (size_t i = 0; i < config.chosen_count; i++) {
        bool backwards = (flags & LD_TARGET_LAST_FIRST) != 0;
        const struct ld_config_service *service =
            config.chosen[backwards ? config.chosen_count - 1 - i : i];
        struct ld_call own = *call;
        struct ld_rundir dir;
        int status = ld_rundir_open(&dir, ld_config_run_dir(service, call));
        own.service = service;
        status = status == 0 ? each(&own, &dir, service->name) : status;
        worst = status > worst ? status : worst;
        ld_rundir_close(&dir);
    }
    ld_config_fini(&config);
    return worst;
}

/* A walk over all daemons. */
struct walk {
    const struct ld_call *call;
    const struct ld_rundir *dir;
    unsigned flags;
    ld_target_work *each;
    int count;
    int worst;
};

/* Whether nothing is left of a daemon: it was a worker that ended with its master. */
static bool is_past(const struct ld_rundir *dir, const char *name, const struct ld_holder *holder) {
    struct ld_record record;
    bool has_record = ld_record_load(&record, dir->fd, name) != -ENOENT;
    if (has_record) {
        ld_record_fini(&record);
    }
    return holder->state == LD_HOLDER_NONE && !has_record;
}

/* Work for one of them. */
static bool walk_on(const char *name, void *arg) {
    struct walk *walk = arg;
    struct ld_holder holder;
    bool is_seen = ld_pidfile_inspect(&holder, walk->dir->fd, name) == 0;
    bool is_alive = !is_seen || holder.state == LD_HOLDER_ALIVE; /* EACH will say why */
    if (ld_crew_has_master(walk->dir, name) || (is_seen && is_past(walk->dir, name, &holder))) {
        return true; /* what is done to its master is for it too */
    }
    if (is_alive || (walk->flags & LD_TARGET_RUNNING) == 0) {
        int status = walk->each(walk->call, walk->dir, name);
        walk->worst = status > walk->worst ? status : walk->worst;
        walk->count++;
    }
    return true;
}

/* Work for all daemons of the run directory. */
static int each_daemon(const struct ld_call *call, unsigned flags, ld_target_work *each) {
    struct ld_rundir dir;
    struct walk walk = {.call = call, .dir = &dir, .flags = flags, .each = each};
    walk.worst = ld_rundir_open(&dir, call->options->run_dir);
    if (walk.worst == 0) {
        ld_rundir_each(&dir, walk_on, &walk);
    }
    if (walk.worst == 0 && walk.count == 0 && !call->options->json) {
        ld_say("no daemon is running (%s)", ld_text_string(&dir.where));
    }
    ld_rundir_close(&dir);
    return walk.worst;
}

/* Work for every operand. */
static int each_operand(const struct ld_call *call, ld_target_work *each) {
    struct ld_rundir dir;
    int worst = ld_rundir_open(&dir, call->options->run_dir);
    if (worst == 0) {
        for (int i = call->operand; call->argv[i] != NULL; i++) {
            int status = each(call, &dir, call->argv[i]);
            worst = status > worst ? status : worst;
        }
    }
    ld_rundir_close(&dir);
    return worst;
}

/* Work for all that a call means. */
int ld_target_each_of(const struct ld_call *call, unsigned flags, ld_target_work *each) {
    return call->options->config != NULL ? each_service(call, flags, each)
           : call->options->all          ? each_daemon(call, flags, each)
                                         : each_operand(call, each);
}

/* The same without flags. */
int ld_target_each(const struct ld_call *call, ld_target_work *each) {
    return ld_target_each_of(call, 0, each);
}
