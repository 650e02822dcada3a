#include "host/host.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "api/module.h"
#include "base/log.h"
#include "base/time.h"
#include "daemon/hold.h"
#include "daemon/keeper_channel.h"
#include "daemon/way_back.h"
#include "engine/crash.h"
#include "engine/mailboxes.h"
#include "engine/pulse.h"
#include "engine/signals.h"
#include "engine/uv_memory.h"
#include "engine/workers.h"
#include "host/internal.h"
#include "host/workers.h"
#include "posix/fds.h"
#include "posix/forked.h"
#include "posix/inherit.h"
#include "posix/notify.h"
#include "posix/reserve.h"

#define PATIENCE_NS 2000000000ULL /* for requests of luv, at the end */

/* Tell the service manager's watchdog that the loop turns. */
static void on_watchdog(uv_timer_t *timer) {
    (void)timer;
    ld_notify_watchdog();
}

/* The status report, for lunad.stats(). */
static json_t *snapshot(void *arg) {
    return ld_snapshot_take(arg);
}

#define MASTER_TITLE "(master)"
static const char master_chunk[] = "require('lunad.workers').run()";

/* Fill in what the host gives its scripts. */
static void fill_setup(struct ld_host *host) {
    const struct ld_service *service = host->service;
    ld_recycle_init(&host->recycle, service->options->recycle_every,
                    service->options->recycle_memory);
    host->source = (struct ld_source){.path = service->script,
                                      .text = ld_text_string(&service->text),
                                      .size = service->text.size,
                                      .title = service->text_title,
                                      .as_root = geteuid() == 0};
    if (service->is_master) {
        host->source = (struct ld_source){
            .text = master_chunk, .size = sizeof master_chunk - 1, .title = "=" MASTER_TITLE};
    }
    host->setup = (struct ld_setup){
        .worker = service->worker,
        .workers = service->workers,
        .workers_now = service->workers,
        .channels = host->master.channels,
        .shares = host->master.shares,
        .text = service->script == NULL && service->options->chunk == NULL ? &service->text : NULL,
        .from_disk = &host->master.from_disk,
        .prepare = host->master.prepare,
        .is_rollback = &host->reload.is_rollback,
        .takes_over = service->handover != NULL,
        .unproved = &host->master.unproved,
        .worker_words = service->worker_words,
        .loop = &host->loop,
        .children = host->children,
        .reaper = host->reaper,
        .lag = &host->lag,
        .listeners = host->listeners,
        .readiness = host->readiness,
        .parcels = host->parcels,
        .mail = host->mailing.mail,
        .mail_drafts = host->mailing.drafts,
        .source = &host->source,
        .texts = host->texts,
        .written = host->written,
        .name = service->name,
        .run_dir = service->run_dir,
        .place = service->script != NULL ? service->script : service->text_title + 1,
        .daemon = service->daemon,
        .dropped = service->is_dropped || (service->keeper >= 0 && service->has_user),
        .wait_ready = service->options->wait_ready,
        .tally = &host->tally,
        .laps = &host->laps,
        .memory_limit = service->options->memory_limit,
        .words = service->words,
        .script = service->script_word,
        .path = service->path,
        .cpath = service->cpath,
        .open_libraries = ld_api_module_open,
        .snapshot = snapshot,
        .spec = service->spec,
        .host = host,
    };
}

/* Listen to the keeper. */
static int attach_keeper(struct ld_host *host) {
    ld_log_set_rotator(ld_actions_rotate_log, host->service);
    if (host->service->keeper < 0) {
        return 0;
    }
    ld_log_set_opener(ld_keeper_channel_open_log, host->service);
    int rc = uv_poll_init(&host->loop, &host->keeper, host->service->keeper);
    host->has_keeper = rc == 0;
    return rc == 0 ? uv_poll_start(&host->keeper, UV_READABLE, ld_host_signals_on_keeper) : rc;
}

/* Handle that a file may have been removed from the run directory. */
static void on_file_watch(uv_poll_t *poll, int status, int events) {
    struct ld_host *host = LD_CONTAINER_OF(poll, struct ld_host, file_watch);
    (void)status;
    (void)events;
    if (host->state == LD_HOST_STARTING || host->state == LD_HOST_RUNNING) {
        ld_hold_restore_files(host->service, getpid());
    }
}

/* Watch the run directory, unless the keeper does. */
static int attach_file_watch(struct ld_host *host) {
    if (host->service->file_watch < 0) {
        return 0;
    }
    int rc = uv_poll_init(&host->loop, &host->file_watch, host->service->file_watch);
    host->has_file_watch = rc == 0;
    return rc == 0 ? uv_poll_start(&host->file_watch, UV_READABLE, on_file_watch) : rc;
}

/* Give the sockets that were open before the script to the set of listeners. */
static int hand_sockets(struct ld_host *host) {
    const struct ld_service *service = host->service;
    int rc = 0;
    for (size_t i = 0; i < service->socket_count && rc == 0; i++) {
        const struct ld_service_socket *at = &service->sockets[i];
        if (at->worker > 0) { /* master.c has these */
            continue;
        }
        int fd = fcntl(at->fd, F_DUPFD_CLOEXEC, LD_PASSED_FIRST);
        rc = fd < 0 ? -errno
                    : ld_listeners_inherit(host->listeners, fd, at->name != NULL ? at->fd : -1,
                                           at->name, at->address);
    }
    return rc;
}

/* Replace a descriptor by an inert one: its number stays in use. */
static void blank_fd(int fd, int blank) {
    if (fd > STDERR_FILENO) {
        dup3(blank, fd, O_CLOEXEC);
    }
}

/* Do the same to the descriptor of a handle. */
static void blank_handle(uv_handle_t *handle, void *arg) {
    int fd;
    if (uv_fileno(handle, &fd) == 0) {
        blank_fd(fd, *(const int *)arg);
    }
}

/* Give up everything, in a copy of the process: pidfile, channels, control, loops, children, sockets. */
static void give_up(void *arg) {
    struct ld_host *host = arg;
    const struct ld_service *service = host->service;
    const int owned[] = {service->pidfile.fd,
                         service->claim,
                         service->file_watch,
                         service->channel,
                         service->keeper,
                         ld_readiness_fd(host->readiness),
                         service->notify_fd,
                         uv_backend_fd(&host->loop),
                         host->loop.async_io_watcher.fd};
    struct ld_listener_facts facts;
    int blank = open("/dev/null", O_RDWR | O_CLOEXEC);
    ld_crash_give_up();
    ld_signals_give_up();
    ld_guest_give_up_all(blank);
    uv_walk(&host->loop, blank_handle, &blank);
    ld_reaper_give_up(host->reaper);
    for (size_t i = 0; i < LD_COUNT(owned); i++) {
        blank_fd(owned[i], blank);
    }
    for (size_t i = 0; i < service->socket_count; i++) {
        blank_fd(service->sockets[i].fd, blank);
    }
    for (size_t i = 0; ld_listeners_describe(host->listeners, i, &facts); i++) {
        blank_fd(facts.fd, blank);
    }
    if (host->master.channels != NULL) {
        ld_workers_give_up(host->master.channels, blank);
    }
    if (host->master.boxes != NULL) {
        ld_mailboxes_give_up(host->master.boxes, blank);
    }
    ld_parcels_give_up(host->parcels, blank);
    ld_mail_give_up(host->mailing.mail, blank);
    blank_fd(ld_pulse_give_up(), blank);
    ld_log_free_in_copy();
    close(blank);
}

/* How long a connection that was handed on is held for the new generation: as long as that which has been
 * replaced may take to finish. */
static uint64_t held_ms(const struct ld_service *service) {
    return (uint64_t)(service->options->stop_timeout * 1e3);
}

/* Make the reaper, and the sets of children, listeners and connections. */
static int open_engine(struct ld_host *host) {
    int rc = ld_reaper_new(&host->reaper, &host->loop, true);
    if (rc == 0) {
        rc = ld_readiness_new(&host->readiness, &host->loop);
    }
    if (rc < 0) {
        return rc;
    }
    ld_reaper_set_foreign(host->reaper, ld_guest_has_child);
    host->children = ld_children_new(&host->loop, host->reaper, host->service->name);
    host->listeners = ld_listeners_new();
    if (host->listeners != NULL) {
        ld_worker_source_sockets(host);
    }
    host->parcels = ld_parcels_new(&host->loop, held_ms(host->service));
    host->texts = ld_texts_new();
    host->written = host->service->options->watch ? ld_written_new() : NULL;
    bool has_all = host->children != NULL && host->listeners != NULL && host->parcels != NULL &&
                   host->texts != NULL && (host->written != NULL || !host->service->options->watch);
    rc = has_all ? ld_mailing_open(host) : -ENOMEM;
    return rc == 0 ? hand_sockets(host) : rc;
}

/* Watch the loop. Where no thread can be made, do without. */
static void open_sentry(struct ld_host *host) {
    host->laps.slow_ns = (uint64_t)(host->service->options->slow * LD_TIME_SECOND);
    int rc = ld_pulse_open(uv_backend_fd(&host->loop));
    if (rc == 0) {
        rc = ld_watchman_open(host);
    }
    if (rc < 0) {
        ld_pulse_close();
        ld_log(LD_LOG_WARN,
               "no thread watches the loop: %s: a script that is stuck is not reported, and "
               "a stop or reload does not interrupt it",
               strerror(-rc));
    }
}

/* Listen to the control socket. */
static int open_control(struct ld_host *host) {
    struct ld_service *service = host->service;
    int listener = service->listener;
    service->listener = -1; /* the control closes it */
    host->lobby = ld_lobby_new(service->starter_uid);
    if (host->lobby == NULL) {
        if (listener >= 0) {
            close(listener);
        }
        return -ENOMEM;
    }
    int rc =
        ld_control_open(&host->control, &host->loop, listener, service->starter_uid, host->lobby);
    if (host->control != NULL) {
        ld_requests_serve(host);
    }
    return rc;
}

/* Make everything around the script; 0 or a negative errno. To be closed in either case. */
static int open_host(struct ld_host *host) {
    static int (*const steps[])(struct ld_host *) = {
        ld_host_signals_open, attach_keeper,  ld_log_watch_open, attach_file_watch,
        open_engine,          ld_master_open, open_control,
    };
    const struct ld_service *service = host->service;
    int rc = 0;
    uv_timer_init(&host->loop, &host->alarm);
    uv_timer_init(&host->loop, &host->watchdog);
    uv_prepare_init(&host->loop, &host->turn);
    uv_prepare_start(&host->turn, ld_turn_on_prepare);
    for (size_t i = 0; i < LD_COUNT(steps) && rc == 0; i++) {
        rc = steps[i](host);
    }
    if (service->watchdog > 0) {
        uint64_t half = (uint64_t)(service->watchdog * 500);
        uv_timer_start(&host->watchdog, on_watchdog, half, half > 0 ? half : 1);
    }
    fill_setup(host);
    return rc == 0 ? ld_forked_watch(give_up, host) : rc;
}

/* Forget the children that outlive this process. */
static void abandon_children(struct ld_host *host) {
    struct ld_child *child;
    while (host->children != NULL && (child = ld_children_next(host->children, NULL)) != NULL) {
        ld_child_abandon(child);
    }
}

/* Let the loop turn until the states of all scripts are closed. Wait for requests of luv that are
 * pending (a name that is looked up, a thread), but not for ever; false if one is left. */
static bool wait_for_scripts(struct ld_host *host) {
    uint64_t deadline = uv_hrtime() + PATIENCE_NS;
    while (ld_script_pending() > 0 && uv_hrtime() < deadline) {
        uv_run(&host->loop, UV_RUN_NOWAIT);
        ld_script_close_some(UINT64_MAX);
        uv_sleep(1);
    }
    return ld_script_pending() == 0;
}

/* Close all scripts; false if one cannot be closed. */
static bool close_scripts(struct ld_host *host) {
    struct ld_script *script = host->script;
    ld_retired_close_all(host);
    host->script = NULL; /* no event reaches it from now on */
    if (script != NULL) {
        ld_script_close(script);
    }
    abandon_children(host);
    bool done = wait_for_scripts(host);
    ld_laps_fini(&host->laps);
    ld_tally_flush(&host->tally, UINT64_MAX);
    ld_stop_kill_left(); /* what cancelled tasks or finalizers have started */
    return done;
}

/* Leave the process at once: libuv would wait for its threads, one of which may never
 * end. */
static void leave(int status, void *arg) {
    (void)arg;
    fflush(NULL);
    _exit(status);
}

/* End what is under way, and tell those who wait for it. */
static void abandon_all(struct ld_host *host) {
    ld_reload_abandon(host);
    ld_evals_abandon(host);
    ld_profiling_abandon(host);
    ld_heap_copy_abandon(host);
    ld_inquiry_abandon(host);
    ld_saving_abandon(host);
    ld_upgrade_abandon(host);
    if (host->control != NULL) {
        ld_control_close(host->control);
    }
}

/* Close what was made, and let the loop turn until it is all gone. */
static void close_host(struct ld_host *host) {
    host->state = LD_HOST_ENDED;
    uv_prepare_stop(&host->turn);
    abandon_all(host);
    bool done = close_scripts(host); /* scripts may need what is closed below */
    ld_forked_watch(NULL, NULL);
    uv_close((uv_handle_t *)&host->turn, NULL);
    uv_close((uv_handle_t *)&host->alarm, NULL);
    uv_close((uv_handle_t *)&host->watchdog, NULL);
    if (host->has_keeper) {
        uv_close((uv_handle_t *)&host->keeper, NULL);
    }
    if (host->has_file_watch) {
        uv_close((uv_handle_t *)&host->file_watch, NULL);
    }
    ld_master_close(host);
    ld_log_watch_close(host);
    ld_watching_close(host);
    ld_disk_close(host);
    ld_in_force_forget(host);
    ld_probation_forget_copy(host);
    if (host->readiness != NULL) {
        ld_readiness_close(host->readiness);
    }
    ld_mailing_close(host);
    if (host->parcels != NULL) {
        ld_parcels_close(host->parcels);
        host->setup.parcels =
            NULL; /* a script that luv still has requests of may be closed later */
    }
    if (host->reaper != NULL) {
        ld_reaper_close(host->reaper);
    }
    ld_host_signals_watch_reader(NULL);
    if (host->has_signals) {
        ld_signals_detach();
    }
    uv_run(&host->loop, done ? UV_RUN_DEFAULT : UV_RUN_NOWAIT);
    if (host->listeners != NULL) {
        ld_listeners_free(host->listeners);
    }
    if (!done) {
        ld_log(LD_LOG_WARN, "a luv request is still pending after 2 s; leaving it");
        on_exit(leave, NULL);
        return;
    }
    if (host->children != NULL) {
        ld_children_close(host->children);
    }
    if (host->texts != NULL) {
        ld_texts_free(host->texts);
    }
    ld_written_free(host->written);
    int rc = uv_loop_close(&host->loop);
    LD_ASSERT(rc == 0);
}

/* Tell the starting process how the start ended, if it does not know yet. */
static void report_end(struct ld_host *host) {
    struct ld_service *service = host->service;
    if (!host->was_ready && !host->failed_start && service->daemon) {
        ld_text_puts(host->why, "it was stopped before it was ready");
    }
    if (!host->was_ready) {
        ld_keeper_channel_report_start(service, LD_START_REPORT_FAILED, ld_text_string(host->why));
    } else {
        ld_keeper_channel_report_start(service, LD_START_REPORT_FINISHED, "");
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
    struct ld_host host = {.service = service,
                           .why = why,
                           .started = uv_hrtime(),
                           .log_watch.fd = -1,
                           .upgrade = {.program = -1, .code = -1, .beside = -1},
                           .master = {.inherited = -1, .crew.program = -1},
                           .reload = {.probation = -1, .later_probation = -1}};
    TAILQ_INIT(&host.evals);
    TAILQ_INIT(&host.inquiries.list);
    host.tally.script = service->script;
    host.tally.shows_lines = !service->daemon && service->sink == LD_LOG_STDERR;
    ld_host_crash_open(&host);
    ld_crash_divert(ld_way_back_is_open() ? ld_way_back_on_crash : NULL);
    ld_uv_memory_install();
    int rc = open_loop(&host.loop, why);
    if (rc < 0) {
        ld_host_crash_close();
        ld_keeper_channel_report_start(service, LD_START_REPORT_FAILED, ld_text_string(why));
        return 1;
    }
    rc = open_host(&host);
    if (rc == 0 && service->handover != NULL && ld_estate_restore(&host) < 0) {
        ld_way_back_go(ld_text_string(&service->handover->why));
        rc = -EPROTO;
    }
    if (rc == 0) {
        open_sentry(&host);
        ld_fds_note(LD_FD_HOST);
        ld_reserve_open(); /* a script may come to have these numbers */
        ld_start_begin(&host);
        uv_run(&host.loop, UV_RUN_DEFAULT);
        ld_saving_finish(&host);
    } else {
        host.failed_start = true;
        host.exit_status = 1;
        ld_text_format(why, "the loop: %s", uv_strerror(rc));
        ld_way_back_go(ld_text_string(why));
    }
    ld_reserve_close();
    close_host(&host);
    ld_sentry_stop(host.sentry);
    ld_pulse_close();
    if (host.lobby != NULL) {
        ld_lobby_free(host.lobby);
    }
    if (host.was_ready) {
        ld_stop_log_end(&host);
    }
    report_end(&host);
    service->was_stopped = host.asked_to_stop;
    ld_text_fini(&host.reload.why);
    ld_text_fini(&host.reload.last_error);
    ld_text_fini(&host.saving.error);
    ld_text_fini(&host.probation.why);
    ld_host_crash_close();
    return host.exit_status;
}
