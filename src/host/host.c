#include "host/host.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "base/log.h"
#include "daemon/keeper.h"
#include "host/internal.h"
#include "posix/forked.h"
#include "posix/inherit.h"
#include "posix/notify.h"
#include "posix/reserve.h"
#include "script/guard.h"
#include "script/task.h"

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

static const char finished[] = "exit"; /* the reason of an end by itself */

/* Note that the start has failed; TEXT says why. */
static void fail_start(struct ld_host *host, const struct ld_text *text) {
    ld_guard_stop();
    if (!host->failed_start) {
        host->failed_start = true;
        ld_text_append_plain(host->why, text);
        if (host->service->daemon ||
            ld_log_sink() != LD_LOG_STDERR) { /* there it is said at the end */
            ld_log_with(LD_LOG_ERROR, text, "start failed: ");
        }
    }
    ld_stop_now(host, 1);
}

/* The same in plain words. */
static void fail_start_saying(struct ld_host *host, const char *words) {
    struct ld_text text = {0};
    ld_text_puts(&text, words);
    fail_start(host, &text);
    ld_text_fini(&text);
}

/* The level to log at that all is over: on a terminal nothing is said of a script that finishes at once. */
static enum ld_log_level end_level(const struct ld_host *host) {
    bool is_seen = !host->service->daemon && ld_log_sink() == LD_LOG_STDERR;
    bool is_quiet = !host->said_started || host->exit_status == LD_STATUS_NO_READER;
    return is_seen && is_quiet ? LD_LOG_DEBUG : LD_LOG_INFO;
}

/* Tell everybody that the script is ready. */
static void become_ready(struct ld_host *host) {
    struct ld_service *service = host->service;
    ld_guard_stop();
    host->state = LD_HOST_RUNNING;
    ld_script_serve(host->script);
    ld_listeners_commit(host->listeners);
    ld_listeners_unmute(host->listeners, host->script);
    host->was_ready = true;
    if (ld_script_is_alive(host->script)) { /* else it has finished, and that is told at the end */
        host->said_started = true;
        ld_log(LD_LOG_INFO, "started (pid %d), generation 1", (int)getpid());
        ld_notify_send("READY=1\nMAINPID=%d", (int)getpid());
        ld_keeper_report_start(service, LD_START_REPORT_READY, "");
    }
}

/* Handle a script that wants to end before it was ready: in the foreground that is its own affair,
 * for a daemon the start has failed. */
static void stop_before_ready(struct ld_host *host) {
    ld_guard_stop();
    if (host->service->daemon) {
        fail_start_saying(host, "the script asked to stop before it was ready");
    } else if ((host->script->wants & LD_WANT_EXIT) != 0) {
        ld_stop_now(host, host->script->exit_status);
    } else {
        ld_stop_begin(host, "stop", host->script->exit_status);
    }
}

/* Look whether the script has become ready. */
static void step_start(struct ld_host *host) {
    const struct ld_script *script = host->script;
    if (!ld_text_is_empty(&script->errors.first)) {
        fail_start(host, &script->errors.first);
    } else if ((script->wants & (LD_WANT_STOP | LD_WANT_EXIT)) != 0) {
        stop_before_ready(host);
    } else if (ld_script_is_ready(script)) {
        become_ready(host);
    } else if (!ld_script_is_alive(script)) {
        fail_start_saying(host, "the script ended before it called lunad.ready()");
    } else if (uv_now(&host->loop) >= host->start_deadline) {
        struct ld_text text = {0};
        ld_text_format(&text, "the script was not ready after %.10g s",
                       host->service->options->start_timeout);
        fail_start(host, &text);
        ld_text_fini(&text);
    } else {
        ld_host_wake_at(host, host->start_deadline);
    }
}

/* Tell the service manager what the script says of itself. */
static void heed_status(struct ld_script *script) {
    if ((script->wants & LD_WANT_STATUS) != 0) {
        struct ld_text line = {0};
        ld_text_add_escaped(&line, ld_text_string(&script->status_text), script->status_text.size,
                            false);
        ld_notify_send("STATUS=%s", ld_text_string(&line));
        ld_text_fini(&line);
        script->wants &= ~(unsigned)LD_WANT_STATUS;
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
    if (script->errors.count > host->seen_errors) {
        host->seen_errors = script->errors.count;
        if (host->service->options->on_error == LD_ON_ERROR_EXIT) {
            ld_log(LD_LOG_ERROR, "stopping after an uncaught error (--on-error exit)");
            ld_stop_begin(host, "stop", 1);
            return;
        }
    }
    if (!ld_script_is_alive(script) && host->reload.phase == LD_RELOAD_NONE &&
        !host->reload.asked) {
        bool failed = script->chunk == LD_CHUNK_FAILED || script->gave_up;
        ld_log(failed ? LD_LOG_INFO : end_level(host), "finished: %s",
               script->chunk == LD_CHUNK_FAILED ? "the script has failed, and nothing of it is left"
               : script->gave_up ? "a supervisor has given up, and nothing of the script is left"
                                 : "nothing of the script is left to wait for");
        ld_stop_begin(host, finished, failed ? 1 : 0);
    }
}

/* Whether a part has left something for the next turn. */
static bool is_due(const struct ld_host *host) {
    bool reload_due = host->state == LD_HOST_RUNNING && host->reload.asked &&
                      host->reload.phase == LD_RELOAD_NONE;
    return reload_due || (host->script != NULL && host->script->wants != 0);
}

/* Go on with the woken tasks of all generations; whether some are left for the next turn. */
static bool resume_tasks(struct ld_host *host) {
    bool left = host->script != NULL && ld_task_resume_left(host->script);
    if (host->reload.next != NULL) {
        left |= ld_task_resume_left(host->reload.next);
    }
    for (struct ld_retired *at = host->retired; at != NULL; at = at->next) {
        left |= ld_task_resume_left(at->script);
    }
    return left;
}

/* Look what there is to do, once in a turn of the loop. The loop's own time is from before the callbacks
 * of this turn: unless it is brought up to date, libuv waits for as long as they took in addition. */
void ld_host_on_turn(uv_prepare_t *prepare) {
    struct ld_host *host = LD_CONTAINER_OF(prepare, struct ld_host, turn);
    if (ld_forked()) { /* it should have ended before */
        ld_forked_leave(0);
    }
    bool left = resume_tasks(host);
    if (host->state == LD_HOST_STARTING) {
        step_start(host);
    }
    if (host->script != NULL) {
        heed_status(host->script);
    }
    if (host->state != LD_HOST_STARTING && host->script != NULL) {
        heed_wants(host);
    }
    ld_reload_step(host);
    if (host->service->listener >= 0) {
        ld_host_take_socket(host);
    }
    if (host->state == LD_HOST_RUNNING) {
        heed_end(host);
    }
    ld_host_watch_terminal(host);
    if (host->state == LD_HOST_STOPPING) {
        ld_stop_step(host);
    }
    uv_update_time(&host->loop);
    ld_guest_arm_all();
    if (host->state == LD_HOST_ENDED) {
        uv_stop(&host->loop);
    } else if (left || is_due(host)) {
        ld_host_wake_at(host, 0);
    }
}

/* Make the first generation and run its chunk. */
static void start_script(struct ld_host *host) {
    double timeout = host->service->options->start_timeout;
    struct ld_text why = {0};
    host->start_deadline = ld_host_deadline(host, timeout);
    ld_reserve_lend(); /* what is enough for a reload is enough for a start */
    bool loaded = ld_script_new(&host->script, &host->setup, 1, &why) == 0 &&
                  ld_script_load(host->script, &why) == 0;
    ld_reserve_take_back();
    if (!loaded) {
        fail_start(host, &why);
    } else {
        ld_guard_start(host->script, NULL, timeout, "the script");
        ld_script_start(host->script);
        step_start(host); /* ready is now, before anything else can happen */
    }
    ld_text_fini(&why);
}

/* Tell the starting process how it ended, if it has not heard that it began. */
static void report_end(struct ld_host *host) {
    struct ld_service *service = host->service;
    if (!host->was_ready && !host->failed_start && service->daemon) {
        ld_text_puts(host->why, "it was stopped before it was ready");
    }
    if (!host->was_ready) {
        ld_keeper_report_start(service, LD_START_REPORT_FAILED, ld_text_string(host->why));
    } else {
        ld_keeper_report_start(service, LD_START_REPORT_FINISHED, "");
    }
}

/* Make the loop; 0 or a negative errno with the reason in WHY. */
static int open_loop(uv_loop_t *loop, struct ld_text *why) {
    int rc = ld_reserve_check_start(why);
    if (rc == 0) {
        rc = uv_loop_init(loop);
        if (rc < 0) {
            ld_text_format(why, "the loop: %s", uv_strerror(rc));
        }
    }
    return rc;
}

/* Run the service until it ends. */
int ld_host_run(struct ld_service *service, struct ld_text *why) {
    struct ld_host host = {.service = service, .why = why, .started = uv_hrtime()};
    int rc = open_loop(&host.loop, why);
    if (rc < 0) {
        ld_keeper_report_start(service, LD_START_REPORT_FAILED, ld_text_string(why));
        return 1;
    }
    rc = ld_host_open(&host);
    if (rc == 0) {
        ld_reserve_open();
        start_script(&host);
        uv_run(&host.loop, UV_RUN_DEFAULT);
    } else {
        host.failed_start = true;
        host.exit_status = 1;
        ld_text_format(why, "the loop: %s", uv_strerror(rc));
    }
    ld_reserve_close();
    ld_host_close(&host);
    if (host.was_ready && host.stop.reason != finished) {
        ld_log(end_level(&host), "stopped");
    }
    report_end(&host);
    ld_text_fini(&host.reload.why);
    ld_text_fini(&host.reload.last_error);
    return host.exit_status;
}
