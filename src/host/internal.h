/* The host's own parts: host.c turns the loop, host_open.c makes what is around the script,
 * host_signals.c heeds signals, reload.c swaps generations, stop.c ends things, snapshot.c tells how
 * it all stands.
 *
 * Callbacks only note what has happened; once in a turn of the loop, outside of any call into a
 * script, each part looks whether it can go on. */
#ifndef LD_HOST_INTERNAL_H
#define LD_HOST_INTERNAL_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>
#include <uv.h>

#include "daemon/service.h"
#include "engine/lag.h"
#include "engine/reaper.h"
#include "host/control.h"
#include "script/script.h"

enum ld_host_state {
    LD_HOST_STARTING, /* the script is not ready */
    LD_HOST_RUNNING,
    LD_HOST_STOPPING,
    LD_HOST_ENDED, /* the loop is to be left */
};

enum ld_reload_phase {
    LD_RELOAD_NONE,
    LD_RELOAD_ASKING,  /* the old generation for its state */
    LD_RELOAD_LOADING, /* the new generation is not ready */
};

enum ld_stop_phase {
    LD_STOP_SCRIPT,   /* on_stop functions run */
    LD_STOP_CHILDREN, /* children have got SIGTERM */
    LD_STOP_KILL,     /* everything has got SIGKILL */
};

/* A generation that has been replaced, until its on_stop functions are done, its clients gone and its
 * commands finished. */
struct ld_retired {
    struct ld_script *script;
    uint64_t deadline; /* uv_now */
    struct ld_retired *next;
};

struct ld_reload {
    enum ld_reload_phase phase;
    bool asked;                      /* for one that has not begun */
    bool answered;                   /* the old generation has given its state, or failed to */
    struct ld_task *asking;          /* runs the on_reload function */
    struct ld_script *next;          /* the new generation */
    uint64_t started;                /* uv_hrtime */
    uint64_t asked_at;               /* for the state; uv_hrtime */
    uint64_t deadline;               /* uv_now */
    uint64_t shown_by;               /* uv_now; until then a ready script may turn out to be over */
    struct ld_text why;              /* not empty: it has failed */
    struct ld_waiter *waiters;       /* for the reload under way */
    struct ld_waiter *later_waiters; /* for the one that follows */
    uint64_t ok;
    uint64_t failed;
    bool last_ok;
    double last_time; /* Unix time; 0: none yet */
    double last_ms;
    struct ld_text last_error;
};

struct ld_stop {
    enum ld_stop_phase phase;
    const char *reason;
    uint64_t deadline; /* uv_now */
};

struct ld_host {
    struct ld_service *service;
    uv_loop_t loop;
    uv_prepare_t turn;   /* once in a turn of the loop, before it waits */
    uv_timer_t alarm;    /* for the next deadline */
    uv_timer_t watchdog; /* of the service manager */
    uv_poll_t keeper;
    bool has_keeper;
    uv_poll_t file_watch;
    bool has_file_watch;
    bool has_signals;
    struct ld_reaper *reaper;
    struct ld_children *children;
    struct ld_listeners *listeners;
    struct ld_control *control;
    struct ld_lag lag;
    struct ld_source source;
    struct ld_setup setup;
    enum ld_host_state state;
    struct ld_script *script; /* the generation that is the service */
    struct ld_retired *retired;
    struct ld_reload reload;
    struct ld_stop stop;
    uint64_t started;        /* uv_hrtime */
    uint64_t start_deadline; /* uv_now */
    uint64_t terminal_until; /* uv_now: after a SIGHUP, whether the terminal goes; 0: not now */
    int exit_status;
    bool was_ready;
    bool said_started; /* in the log */
    bool failed_start;
    struct ld_text *why;  /* why the start failed */
    uint64_t error_count; /* of generations that are gone */
    uint64_t seen_errors; /* of this one, for --on-error */
};

/* host.c */

/* Have the loop turn at DEADLINE (uv_now) at the latest. */
void ld_host_wake_at(struct ld_host *host, uint64_t deadline);

/* Milliseconds of SECONDS from now, as a deadline. */
uint64_t ld_host_deadline(struct ld_host *host, double seconds);

/* Look what there is to do, once in a turn of the loop. */
void ld_host_on_turn(uv_prepare_t *prepare);

/* host_open.c */

/* Make everything around the script; 0 or a negative errno. To be closed in either case. */
int ld_host_open(struct ld_host *host);

/* Close what was made, and let the loop turn until it is all gone. */
void ld_host_close(struct ld_host *host);

/* Listen on the new control socket in service->listener instead of the old one. */
void ld_host_take_socket(struct ld_host *host);

/* host_signals.c */

/* Handle a signal, or what the keeper says. */
void ld_host_on_signal(void *arg, int signo, bool by_kernel);
void ld_host_on_keeper(uv_poll_t *poll, int status, int events);

/* Look again, after a SIGHUP, whether the terminal has gone. */
void ld_host_watch_terminal(struct ld_host *host);

/* Have a script that writes on and on to a stdout without a reader interrupted. In the foreground. */
void ld_host_watch_reader(struct ld_host *host);

/* Stop as asked from outside; asked again, stop now. */
void ld_host_ask_stop(struct ld_host *host);

/* Reopen the log, and say so in it; 0 or a negative errno. */
int ld_host_reopen_log(void);

/* reload.c */

/* Ask for a reload; it begins in the next turn. WAITER may be NULL. */
void ld_reload_ask(struct ld_host *host, struct ld_waiter *waiter);
void ld_reload_forget(struct ld_host *host, struct ld_waiter *waiter);

/* Go on with what is under way. */
void ld_reload_step(struct ld_host *host);

/* Give the reload under way up, because the host stops. */
void ld_reload_abandon(struct ld_host *host);

/* Close all generations that have been replaced, done or not. */
void ld_reload_close_retired(struct ld_host *host);

/* Let no generation that has been replaced start anything new any more: everything ends. */
void ld_reload_restrain_retired(struct ld_host *host);

/* Whether on_stop functions of generations that have been replaced still run. */
bool ld_reload_is_retiring(const struct ld_host *host);

/* stop.c */

/* Stop for a reason ("stop", "exit"); a stop under way stays as it is. */
void ld_stop_begin(struct ld_host *host, const char *reason, int status);

/* Stop without waiting for anything. */
void ld_stop_now(struct ld_host *host, int status);

/* Kill every process that came from the script, but what was detached. */
void ld_stop_kill_left(void);

/* Go on with a stop. */
void ld_stop_step(struct ld_host *host);

/* snapshot.c */

/* The status report, a new reference; NULL when memory ran out. */
json_t *ld_host_snapshot(struct ld_host *host);

#endif
