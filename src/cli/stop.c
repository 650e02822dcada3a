/* stop. */
#include <poll.h>
#include <signal.h>
#include <unistd.h>

#include "base/say.h"
#include "base/time.h"
#include "cli/client.h"
#include "cli/target.h"
#include "cli/verbs.h"
#include "posix/leftovers.h"
#include "posix/process.h"

#define ASK_SECONDS     2.0  /* for an answer of a loop that turns */
#define DEFAULT_SECONDS 10.0 /* where the daemon does not say its own time */
#define SLACK_SECONDS   2.0  /* "and a little" */
#define LOOK_MS         5    /* between looks at the lock */

/* Whether TARGET's lock is free, or held by another one by now. */
static bool has_ended(const struct ld_target *target) {
    struct ld_holder holder;
    return ld_pidfile_inspect(&holder, target->dir->fd, target->name) < 0 ||
           holder.state != LD_HOLDER_ALIVE ||
           (holder.pid != 0 && target->holder.pid != 0 && holder.pid != target->holder.pid);
}

/* Wait until the lock is free; false when the time is up. */
static bool wait_for_end(const struct ld_target *target, double deadline) {
    while (!has_ended(target)) {
        if (ld_time_seconds() >= deadline) {
            return false;
        }
        poll(NULL, 0, LOOK_MS);
    }
    return true;
}

/* How many seconds a graceful stop of TARGET may take, as its starter has written down. */
static double own_seconds(const struct ld_target *target) {
    struct ld_record record;
    double seconds = DEFAULT_SECONDS;
    if (ld_record_load(&record, target->dir->fd, target->name) == 0) {
        seconds = record.stop_timeout;
        ld_record_fini(&record);
    }
    return seconds + SLACK_SECONDS;
}

/* Ask for a graceful stop, over the socket or else by SIGTERM; false if neither can be done. */
static bool ask_to_stop(const struct ld_target *target) {
    struct ld_text why = {0};
    json_t *answer;
    int rc = ld_client_ask(&(struct ld_request){.run_fd = target->dir->fd,
                                                .name = target->name,
                                                .verb = "stop",
                                                .seconds = ASK_SECONDS},
                           &answer, &why);
    ld_text_fini(&why);
    if (rc == 0) {
        json_decref(answer);
    } else if (!has_ended(target)) {
        int pidfd = ld_target_open(target);
        if (pidfd < 0) {
            return false;
        }
        ld_process_signal(pidfd, SIGTERM);
        close(pidfd);
    }
    return true;
}

/* Kill what did not end in time, and everything that came from it. What ended by itself meanwhile, or
 * by another stop, needs none of that. */
static int kill_target(const struct ld_target *target, double seconds) {
    struct ld_leftovers leftovers = {0};
    int pidfd = ld_pidfile_open_holder(&target->holder, target->dir->fd, target->name);
    if (pidfd < 0 && has_ended(target)) {
        return 0;
    }
    if (pidfd < 0) {
        return ld_target_open(target) < 0 ? 1 : 0; /* says why */
    }
    ld_leftovers_find(&leftovers, target->holder.pid);
    ld_process_end_family(target->holder.pid, pidfd);
    ld_process_has_ended(pidfd, 2000);
    close(pidfd);
    ld_leftovers_remove(&leftovers);
    if (!wait_for_end(target, ld_time_seconds() + SLACK_SECONDS)) {
        ld_say_error("%s: pid %d survived SIGKILL", target->name, (int)target->holder.pid);
        return 1;
    }
    ld_say_error("%s: it did not stop within %.10g s and was killed", target->name, seconds);
    return 0;
}

/* Stop a daemon that runs, giving it SECONDS (below 0: its own time). The exit status. */
static int stop_in(const struct ld_target *target, double seconds) {
    double limit = seconds >= 0 ? seconds : own_seconds(target);
    double deadline = ld_time_seconds() + limit;
    if (!ask_to_stop(target)) {
        return has_ended(target) ? 0 : 1;
    }
    int status = wait_for_end(target, deadline) ? 0 : kill_target(target, limit);
    if (status == 0) {
        ld_target_clear(target);
    }
    return status;
}

/* Wait for the end of a process, unless PIDFD is none. */
static void see_end(int pidfd, bool wait) {
    if (pidfd >= 0) {
        if (wait) {
            ld_process_has_ended(pidfd, SLACK_SECONDS * 1000);
        }
        close(pidfd);
    }
}

/* Stop a daemon that runs, and see its process go, and its keeper: the lock is free a moment
 * earlier. */
int ld_stop_target(const struct ld_target *target, double seconds) {
    struct ld_holder keeper = target->holder;
    keeper.pid = ld_process_parent(target->holder.pid);
    int pidfd = ld_pidfile_open_holder(&target->holder, target->dir->fd, target->name);
    int keeper_pidfd = ld_pidfile_open_holder(&keeper, target->dir->fd, target->name);
    int status = stop_in(target, seconds);
    see_end(pidfd, status == 0);
    see_end(keeper_pidfd, status == 0);
    return status;
}

/* Stop one. */
static int stop_one(const struct ld_call *call, const struct ld_rundir *dir, const char *argument) {
    struct ld_target target;
    int status = ld_target_find(&target, dir, argument);
    if (status != 0) {
        return status;
    }
    if (target.holder.state != LD_HOLDER_ALIVE) {
        bool stale = target.holder.state == LD_HOLDER_DEAD;
        struct ld_text death = {0};
        ld_target_describe_death(&target, &death);
        if (stale || !ld_text_is_empty(&death)) {
            ld_target_clear(&target);
        }
        ld_say("%s: not running (%s%s)%s", target.name,
               stale ? "a stale pidfile was removed; " : "", ld_text_string(&dir->where),
               ld_text_string(&death));
        ld_text_fini(&death);
        return 0;
    }
    status = ld_stop_target(&target, call->options->timeout);
    if (status == 0) {
        ld_say("%s: stopped", target.name);
    }
    return status;
}

/* Stop daemons. */
int ld_cmd_stop(const struct ld_call *call) {
    return ld_target_each(call, stop_one);
}
