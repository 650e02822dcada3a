#include "host.h"

#include <errno.h>
#include <signal.h>
#include <string.h>
#include <unistd.h>

#include "daemon.h"
#include "guard.h"
#include "host_internal.h"
#include "keeper.h"
#include "lib.h"
#include "log.h"
#include "notify.h"
#include "report.h"
#include "signals.h"
#include "status_text.h"

static const int own_signals[] = {SIGTERM, SIGINT,  SIGHUP,  SIGUSR1,
                                  SIGUSR2, SIGQUIT, SIGPIPE, SIGCHLD};

/* A deadline in SECONDS from now. */
uint64_t ld_host_deadline(struct ld_host *host, double seconds) {
    uv_update_time(&host->loop);
    return uv_now(&host->loop) + (uint64_t)(seconds * 1000);
}

/* Handle the alarm: it is enough that the loop turns. */
static void on_alarm(uv_timer_t *timer) {
    (void)timer;
}

/* Have the loop turn at DEADLINE at the latest. */
void ld_host_wake_at(struct ld_host *host, uint64_t deadline) {
    uint64_t now = uv_now(&host->loop);
    uint64_t left = deadline > now ? deadline - now : 0;
    if (!uv_is_active((uv_handle_t *)&host->alarm) || uv_timer_get_due_in(&host->alarm) > left) {
        uv_timer_start(&host->alarm, on_alarm, left, 0);
    }
}

/* Reopen the log, and say so in it. */
static int reopen_log(void) {
    int rc = ld_log_reopen();
    if (rc < 0) {
        ld_log(LD_LOG_ERROR, "the log cannot be reopened, the old file stays in use: %s",
               strerror(-rc));
    } else if (ld_log_path() != NULL) {
        ld_log(LD_LOG_INFO, "log reopened");
    }
    return rc;
}

/* Write the status report to the log. */
static void log_status(struct ld_host *host) {
    struct ld_text text = {0};
    json_t *report = ld_host_snapshot(host);
    ld_status_text(&text, report);
    ld_log(LD_LOG_INFO, "status: %s", ld_text_string(&text));
    json_decref(report);
    ld_text_fini(&text);
}

/* Write the traceback of everything that runs to the log. Nothing is in the middle of Lua now: what
 * runs is what is suspended. */
static void log_traceback(struct ld_host *host) {
    struct ld_text text = {0};
    ld_lib_task_traceback(host->script, &text);
    ld_log(LD_LOG_INFO, "traceback of all tasks:%s",
           text.size > 0 ? ld_text_string(&text) : " nothing is suspended");
    ld_text_fini(&text);
}

/* Stop as asked from outside; asked again, stop now. */
static void stop_by_signal(struct ld_host *host) {
    if (host->state == LD_HOST_STOPPING) {
        ld_log(LD_LOG_WARN, "asked to stop again: stopping now");
        ld_stop_now(host, host->exit_status);
    } else {
        ld_log(LD_LOG_INFO, "stopping");
        ld_stop_begin(host, "stop", 0);
    }
}

/* Do what SIGHUP does without a handler. A terminal that has gone takes what runs on it along. */
static void hang_up(struct ld_host *host, bool by_kernel) {
    if (by_kernel && !host->service->daemon) {
        stop_by_signal(host);
        return;
    }
    switch ((enum ld_hup)host->service->options->hup) {
    case LD_HUP_RELOAD:
        ld_reload_ask(host, NULL);
        break;
    case LD_HUP_STOP:
        stop_by_signal(host);
        break;
    case LD_HUP_IGNORE:
        break;
    }
}

/* Do what a signal does without a handler of the script. */
static void do_default(struct ld_host *host, int signo, bool by_kernel) {
    switch (signo) {
    case SIGTERM:
    case SIGINT:
        stop_by_signal(host);
        break;
    case SIGHUP:
        hang_up(host, by_kernel);
        break;
    case SIGUSR1:
        reopen_log();
        break;
    case SIGUSR2:
        log_status(host);
        break;
    case SIGQUIT:
        log_traceback(host);
        break;
    default:
        break;
    }
}

/* Handle a signal: the script's own handlers replace what it does otherwise. */
static void on_signal(void *arg, int signo, bool by_kernel) {
    struct ld_host *host = arg;
    if (signo == SIGCHLD) {
        ld_reaper_sweep(host->reaper);
    } else if (host->script == NULL || !ld_lib_signal_deliver(host->script, signo)) {
        do_default(host, signo, by_kernel);
    }
}

/* Handle what the keeper says. */
static void on_keeper(uv_poll_t *poll, int status, int events) {
    struct ld_host *host = LD_CONTAINER_OF(poll, struct ld_host, keeper);
    (void)status;
    (void)events;
    switch (ld_keeper_listen(host->service)) {
    case LD_KEEPER_NOTHING:
        break;
    case LD_KEEPER_STOP:
        if (host->state != LD_HOST_STOPPING) {
            on_signal(host, SIGTERM, false);
        }
        break;
    case LD_KEEPER_GONE:
        uv_poll_stop(poll);
        host->service->keeper = -1;
        ld_log(LD_LOG_WARN, "the keeper is gone: nobody will open the log again, or clean up");
        break;
    }
}

/* Note that the start has failed; TEXT says why. */
static void fail_start(struct ld_host *host, const char *text) {
    if (!host->failed_start) {
        host->failed_start = true;
        ld_text_puts(host->why, text);
        ld_log(LD_LOG_ERROR, "start failed: %s", text);
    }
    ld_stop_now(host, 1);
}

/* Tell everybody that the script is ready. */
static void become_ready(struct ld_host *host) {
    struct ld_service *service = host->service;
    host->state = LD_HOST_RUNNING;
    host->was_ready = true;
    if (ld_script_is_alive(host->script)) { /* else it has finished, and that is told at the end */
        ld_log(LD_LOG_INFO, "started (pid %d), generation 1", (int)getpid());
        ld_notify_send("READY=1\nMAINPID=%d", (int)getpid());
        ld_keeper_say_ready(service);
        ld_report_send(service->channel, LD_REPORT_READY, (int)getpid(), "");
        if (service->channel >= 0) {
            close(service->channel);
            service->channel = -1;
        }
    }
}

/* Look whether the script has become ready. */
static void step_start(struct ld_host *host) {
    const struct ld_script *script = host->script;
    if (script->first_error.size > 0) {
        fail_start(host, ld_text_string(&script->first_error));
    } else if ((script->wants & (LD_WANT_STOP | LD_WANT_EXIT)) != 0) {
        fail_start(host, "the script asked to stop before it was ready");
    } else if (ld_script_is_ready(script)) {
        become_ready(host);
    } else if (!ld_script_is_alive(script)) {
        fail_start(host, "the script ended before it called lunad.ready()");
    } else if (uv_now(&host->loop) >= host->start_deadline) {
        struct ld_text text = {0};
        ld_text_format(&text, "the script was not ready after %.10g s",
                       host->service->options->start_timeout);
        fail_start(host, ld_text_string(&text));
        ld_text_fini(&text);
    } else {
        ld_host_wake_at(host, host->start_deadline);
    }
}

/* Do what the script wants. */
static void heed_wants(struct ld_host *host) {
    struct ld_script *script = host->script;
    unsigned wants = script->wants;
    if ((wants & LD_WANT_EXIT) != 0) {
        ld_stop_now(host, script->exit_status);
    } else if ((wants & LD_WANT_STOP) != 0) {
        if (host->state == LD_HOST_RUNNING) {
            ld_log(LD_LOG_INFO, "stopping, as the script asked");
        }
        ld_stop_begin(host, "stop", script->exit_status);
    } else if ((wants & LD_WANT_RELOAD) != 0) {
        ld_reload_ask(host, NULL);
    }
    script->wants = 0;
}

/* Look whether an error or the end of everything ends the service. */
static void heed_end(struct ld_host *host) {
    const struct ld_script *script = host->script;
    if (script->error_count > host->seen_errors) {
        host->seen_errors = script->error_count;
        if (host->service->options->on_error == LD_ON_ERROR_EXIT) {
            ld_log(LD_LOG_ERROR, "stopping after an uncaught error (--on-error exit)");
            ld_stop_begin(host, "stop", 1);
            return;
        }
    }
    if (!ld_script_is_alive(script) && host->reload.phase == LD_RELOAD_NONE &&
        !host->reload.asked) {
        ld_log(LD_LOG_INFO, "finished: %s",
               script->chunk_failed ? "the script has failed, and nothing of it is left"
                                    : "nothing of the script is left to wait for");
        ld_stop_begin(host, "exit", script->chunk_failed ? 1 : 0);
    }
}

/* Whether a part has left something for the next turn. */
static bool is_due(const struct ld_host *host) {
    bool reload_due = host->state == LD_HOST_RUNNING && host->reload.asked &&
                      host->reload.phase == LD_RELOAD_NONE;
    return reload_due || (host->script != NULL && host->script->wants != 0);
}

/* Look what there is to do, once in a turn of the loop. */
static void on_turn(uv_prepare_t *prepare) {
    struct ld_host *host = LD_CONTAINER_OF(prepare, struct ld_host, turn);
    if (host->state == LD_HOST_STARTING) {
        step_start(host);
    }
    if (host->state != LD_HOST_STARTING && host->script != NULL) {
        heed_wants(host);
    }
    ld_reload_step(host);
    if (host->state == LD_HOST_RUNNING) {
        heed_end(host);
    }
    if (host->state == LD_HOST_STOPPING) {
        ld_stop_step(host);
    }
    if (host->state == LD_HOST_ENDED) {
        uv_stop(&host->loop);
    } else if (is_due(host)) {
        ld_host_wake_at(host, 0);
    }
}

/* Tell the service manager's watchdog that the loop turns. */
static void on_watchdog(uv_timer_t *timer) {
    (void)timer;
    ld_notify_send("WATCHDOG=1");
}

/* Answer "status". */
static json_t *answer_status(void *arg) {
    json_t *report = ld_host_snapshot(arg);
    json_object_set_new(report, "ok", json_true());
    return report;
}

/* Answer "origin". */
static json_t *answer_origin(void *arg) {
    return ld_host_origin(arg);
}

/* Answer "stop"; one that is under way is joined. */
static json_t *answer_stop(void *arg) {
    struct ld_host *host = arg;
    if (host->state == LD_HOST_RUNNING || host->state == LD_HOST_STARTING) {
        stop_by_signal(host);
    }
    return json_pack("{s:b, s:i, s:f}", "ok", 1, "pid", (int)getpid(), "timeout",
                     host->service->options->stop_timeout);
}

/* Answer "reopen". */
static json_t *answer_reopen(void *arg) {
    (void)arg;
    int rc = reopen_log();
    return rc < 0 ? json_pack("{s:b, s:s}", "ok", 0, "error", strerror(-rc))
                  : json_pack("{s:b}", "ok", 1);
}

/* Take a request for a reload. */
static void ask_reload(void *arg, struct ld_waiter *waiter) {
    ld_reload_ask(arg, waiter);
}

/* Forget who waits for a reload. */
static void forget_waiter(void *arg, struct ld_waiter *waiter) {
    ld_reload_forget(arg, waiter);
}

/* The status report, for lunad.stats(). */
static json_t *snapshot(void *arg) {
    return ld_host_snapshot(arg);
}

/* Fill in what the host lends to its scripts. */
static void fill_env(struct ld_host *host) {
    const struct ld_service *service = host->service;
    host->source = (struct ld_source){.path = service->script,
                                      .text = ld_text_string(&service->text),
                                      .size = service->text.size,
                                      .title = service->text_title,
                                      .as_root = geteuid() == 0};
    host->env = (struct ld_env){
        .loop = &host->loop,
        .children = host->children,
        .reaper = host->reaper,
        .lag = &host->lag,
        .source = &host->source,
        .name = service->name,
        .place = service->script != NULL ? service->script : service->text_title + 1,
        .daemon = service->daemon,
        .wait_ready = service->options->wait_ready,
        .words = service->words,
        .script = service->script_word,
        .path = service->path,
        .cpath = service->cpath,
        .open_libraries = ld_lib_open,
        .snapshot = snapshot,
        .host = host,
    };
}

/* Begin to catch what signals mean to the host, and then block none of them. */
static int catch_signals(struct ld_host *host) {
    int rc = ld_signals_open();
    for (size_t i = 0; i < LD_COUNT(own_signals) && rc == 0; i++) {
        rc = ld_signals_catch(own_signals[i]);
    }
    ld_daemon_unblock_signals();
    rc = rc == 0 ? ld_signals_attach(&host->loop, on_signal, host) : rc;
    host->has_signals = rc == 0;
    return rc;
}

/* Listen to the keeper. */
static int attach_keeper(struct ld_host *host) {
    if (host->service->keeper < 0) {
        return 0;
    }
    ld_log_set_opener(ld_keeper_open_log, host->service);
    int rc = uv_poll_init(&host->loop, &host->keeper, host->service->keeper);
    host->has_keeper = rc == 0;
    return rc == 0 ? uv_poll_start(&host->keeper, UV_READABLE, on_keeper) : rc;
}

/* Make everything around the script. */
static int open_host(struct ld_host *host) {
    static const struct ld_control_ops ops = {answer_status, answer_origin, answer_stop,
                                              answer_reopen, ask_reload,    forget_waiter};
    struct ld_service *service = host->service;
    uv_timer_init(&host->loop, &host->alarm);
    uv_timer_init(&host->loop, &host->watchdog);
    uv_prepare_init(&host->loop, &host->turn);
    uv_prepare_start(&host->turn, on_turn);
    int rc = catch_signals(host);
    rc = rc == 0 ? attach_keeper(host) : rc;
    rc = rc == 0 ? ld_reaper_new(&host->reaper, &host->loop, true) : rc;
    if (rc == 0) {
        host->children = ld_children_new(&host->loop, host->reaper, service->name);
        rc = host->children == NULL ? -ENOMEM : 0;
    }
    if (rc == 0) {
        int listener = service->listener;
        service->listener = -1; /* the control closes it */
        rc = ld_control_open(&host->control, &host->loop, listener, service->starter_uid, &ops,
                             host);
    }
    if (service->watchdog > 0) {
        uint64_t half = (uint64_t)(service->watchdog * 500);
        uv_timer_start(&host->watchdog, on_watchdog, half, half > 0 ? half : 1);
    }
    fill_env(host);
    return rc;
}

/* Make the first generation and run its chunk. */
static void start_script(struct ld_host *host) {
    double timeout = host->service->options->start_timeout;
    struct ld_text why = {0};
    host->start_deadline = ld_host_deadline(host, timeout);
    if (ld_script_new(&host->script, &host->env, 1, &why) < 0 ||
        ld_script_load(host->script, &why) < 0) {
        fail_start(host, ld_text_string(&why));
    } else {
        ld_guard_start(host->script, timeout, "the script");
        ld_script_start(host->script);
        ld_guard_stop();
    }
    ld_text_fini(&why);
}

/* Forget the children that are to outlive us. */
static void abandon_children(struct ld_host *host) {
    struct ld_child *child;
    while (host->children != NULL && (child = ld_children_next(host->children, NULL)) != NULL) {
        ld_child_abandon(child);
    }
}

/* Close what was made, and let the loop turn until it is all gone. */
static void close_host(struct ld_host *host) {
    ld_reload_abandon(host);
    ld_reload_close_retired(host);
    if (host->script != NULL) {
        ld_script_close(host->script);
        host->script = NULL;
    }
    abandon_children(host);
    uv_prepare_stop(&host->turn);
    uv_close((uv_handle_t *)&host->turn, NULL);
    uv_close((uv_handle_t *)&host->alarm, NULL);
    uv_close((uv_handle_t *)&host->watchdog, NULL);
    if (host->has_keeper) {
        uv_close((uv_handle_t *)&host->keeper, NULL);
    }
    if (host->control != NULL) {
        ld_control_close(host->control);
    }
    if (host->reaper != NULL) {
        ld_reaper_close(host->reaper);
    }
    if (host->has_signals) {
        ld_signals_detach();
    }
    uv_run(&host->loop, UV_RUN_DEFAULT);
    if (host->children != NULL) {
        ld_children_close(host->children);
    }
    int rc = uv_loop_close(&host->loop);
    if (rc < 0) {
        ld_log(LD_LOG_WARN, "the loop was not empty at the end: %s", uv_strerror(rc));
    }
}

/* Tell the starting process how it ended, if it has not heard that it began. */
static void report_end(struct ld_host *host) {
    const struct ld_service *service = host->service;
    if (!host->was_ready && !host->failed_start) {
        ld_text_puts(host->why, "it was stopped before it was ready");
    }
    if (!host->was_ready) {
        ld_report_send(service->channel, LD_REPORT_FAILED, 1, ld_text_string(host->why));
    } else {
        ld_report_send(service->channel, LD_REPORT_FINISHED, 0, "");
    }
}

/* Run the service until it ends. */
int ld_host_run(struct ld_service *service, struct ld_text *why) {
    struct ld_host host = {.service = service, .why = why, .started = uv_hrtime()};
    int rc = uv_loop_init(&host.loop);
    if (rc < 0) {
        ld_text_puts(why, uv_strerror(rc));
        ld_report_send(service->channel, LD_REPORT_FAILED, 1, ld_text_string(why));
        return 1;
    }
    rc = open_host(&host);
    if (rc == 0) {
        start_script(&host);
        uv_run(&host.loop, UV_RUN_DEFAULT);
    } else {
        host.failed_start = true;
        host.exit_status = 1;
        ld_text_format(why, "the loop: %s", uv_strerror(rc));
    }
    close_host(&host);
    if (host.state == LD_HOST_ENDED && !host.failed_start) {
        ld_log(LD_LOG_INFO, "stopped");
    }
    report_end(&host);
    ld_text_fini(&host.reload.why);
    ld_text_fini(&host.reload.last_error);
    return host.exit_status;
}
