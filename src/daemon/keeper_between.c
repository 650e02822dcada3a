#include "daemon/keeper_between.h"

#include <poll.h>
#include <string.h>
#include <unistd.h>

#include "base/json.h"
#include "base/log.h"
#include "base/time.h"
#include "engine/signals.h"
#include "posix/inherit.h"
#include "posix/notify.h"

#define GRACE_S          0.2 /* for a client that has come and not yet asked */
#define BUSY_MS          20  /* between checks of that */
#define FAREWELL_S       1.0 /* the terminal may go that long after a SIGHUP */
#define FAREWELL_CHECK_S 0.05

/* What is polled. */
enum { SIGNALS, FILES, DESK, COUNT = DESK + LD_KEEPER_DESK_POLLS };

/* Make the answer to "status" while there is no host. */
static json_t *answer_status(const struct ld_keeper *keeper) {
    const struct ld_service *service = keeper->service;
    double due = keeper->due - ld_time_seconds();
    const char *script = service->script != NULL ? service->script : service->text_title + 1;
    return json_pack("{s:b, s:s, s:n, s:o, s:s, s:s, s:b, s:n, s:f, s:n, s:o}", "ok", 1, "name",
                     service->name, "pid", "script", ld_json_string(script), "mode",
                     service->daemon ? "daemon" : "foreground", "state", "restarting", "ready", 0,
                     "text", "uptime", 0.0, "generation", "restarts",
                     ld_service_report_restarts(service, due > 0 ? due : 0));
}

/* Refuse what only a host can do. */
static json_t *refuse(const struct ld_keeper *keeper, const char *verb) {
    double due = keeper->due - ld_time_seconds();
    struct ld_text why = {0};
    ld_text_format(&why, "restarting in %.1f s (%s)%s", due > 0 ? due : 0,
                   ld_text_string(&keeper->service->restarts.message),
                   strcmp(verb, "reload") == 0 ? ", with the code that is there then" : "");
    json_t *answer =
        json_pack("{s:b, s:o}", "ok", 0, "error", ld_json_text(ld_text_string(&why), why.size));
    ld_text_fini(&why);
    return answer;
}

/* Answer a request while there is no host. */
static json_t *answer_request(void *arg, const char *verb) {
    struct ld_keeper *keeper = arg;
    if (strcmp(verb, "status") == 0) {
        return answer_status(keeper);
    }
    if (strcmp(verb, "stop") == 0) {
        keeper->stopping = true;
        return json_pack("{s:b, s:i, s:f}", "ok", 1, "pid", (int)getpid(), "timeout",
                         keeper->service->options->stop_timeout);
    }
    if (strcmp(verb, "reopen") == 0) {
        int rc = ld_keeper_host_reopen_log();
        return rc < 0 ? json_pack("{s:b, s:s}", "ok", 0, "error", strerror(-rc))
                      : json_pack("{s:b}", "ok", 1);
    }
    return refuse(keeper, verb);
}

/* Whether the terminal of the service has gone. */
static bool has_lost_terminal(const struct ld_keeper *keeper) {
    return keeper->service->has_terminal && !ld_inherit_has_terminal();
}

/* Do what the time asks for while there is no host, and compute how long poll may wait. */
static int wait_left(struct ld_keeper *keeper, double now) {
    const struct ld_service *service = keeper->service;
    double left = keeper->due - now;
    if (service->watchdog > 0) {
        if (now - keeper->fed >= service->watchdog / 2) {
            keeper->fed = now;
            ld_notify_watchdog();
        }
        double until = keeper->fed + service->watchdog / 2 - now;
        left = until < left ? until : left;
    }
    if (keeper->hung_up > 0 && now - keeper->hung_up < FAREWELL_S) {
        keeper->stopping |= has_lost_terminal(keeper);
        left = left < FAREWELL_CHECK_S ? left : FAREWELL_CHECK_S;
    }
    return ld_keeper_host_cap_wait(left > 0 ? (int)(left * 1000) + 1 : 0);
}

/* Handle what has come: signals first, then removed files, then clients. */
static void handle(struct ld_keeper *keeper, const struct pollfd *polls) {
    if (polls[SIGNALS].revents != 0) {
        ld_signals_deliver(ld_keeper_host_on_signal, keeper);
    }
    if (polls[FILES].revents != 0) {
        ld_keeper_host_look_after_files(keeper);
    }
    ld_keeper_desk_serve(&keeper->desk, polls + DESK);
}

/* Answer clients and signals until the next start is due; false if a stop is asked for. Who has come before
 * that is still answered, but not for ever. */
static bool wait_for_start(struct ld_keeper *keeper) {
    while (!keeper->stopping) {
        struct pollfd polls[COUNT] = {
            [SIGNALS] = {.fd = ld_signals_fd(), .events = POLLIN},
            [FILES] = {.fd = keeper->service->file_watch, .events = POLLIN}};
        double now = ld_time_seconds();
        bool is_due = now >= keeper->due;
        bool is_busy = ld_keeper_desk_is_busy(&keeper->desk, now - GRACE_S);
        ld_keeper_desk_poll(&keeper->desk, polls + DESK);
        int count = poll(polls, COUNT, is_due ? (is_busy ? BUSY_MS : 0) : wait_left(keeper, now));
        if (count > 0) {
            handle(keeper, polls);
        }
        if (is_due && ((count == 0 && !is_busy) || now >= keeper->due + GRACE_S)) {
            return !keeper->stopping;
        }
    }
    return false;
}

/* Have the pidfile name this process. */
void ld_keeper_between_begin(struct ld_keeper *keeper) {
    keeper->waiting = true;
    keeper->hung_up = 0;
    keeper->fed = ld_time_seconds();
    ld_pidfile_write(&keeper->service->pidfile, getpid());
    ld_pidfile_show_waiting(&keeper->service->pidfile, true);
}

/* Be the daemon while it has no host, and answer for it. */
bool ld_keeper_between_stand_in(struct ld_keeper *keeper) {
    struct ld_service *service = keeper->service;
    keeper->host = 0;
    ld_keeper_desk_open(&keeper->desk, service->listener, service->starter_uid, answer_request,
                        keeper);
    ld_notify_send("STATUS=restarting (%s)", ld_text_string(&service->restarts.message));
    bool go_on = wait_for_start(keeper);
    if (go_on && has_lost_terminal(keeper)) {
        ld_log(LD_LOG_INFO, "the terminal has gone");
        go_on = false;
    }
    ld_keeper_desk_close(&keeper->desk);
    if (go_on) { /* else the next to look shall not find a number that nothing holds */
        ld_pidfile_show_waiting(&service->pidfile, false);
        keeper->waiting = false;
    }
    return go_on;
}
