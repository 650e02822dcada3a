#include "host/sentry.h"

#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/base.h"
#include "base/log.h"
#include "base/time.h"
#include "daemon/keeper_channel.h"
#include "engine/crash.h"
#include "engine/pulse.h"
#include "engine/signals.h"
#include "host/lobby.h"
#include "posix/packet.h"
#include "script/caller.h"
#include "script/interrupt.h"
#include "script/shot.h"

#define SECOND        ((uint64_t)LD_TIME_SECOND)
#define STACK_SIZE    ((size_t)256 * 1024)
#define NEVER         UINT64_MAX
#define TICK          (SECOND / 50) /* between shots, and looks at clients */
#define SLOW_TICK     (SECOND / 10) /* between looks when nothing is to be done */
#define STUCK_DEFAULT (5 * SECOND)  /* where nothing is reported */
#define STOP_PATIENCE (1 * SECOND)  /* of a stop or a client, with what holds the loop */
#define FRESH         (1 * SECOND)  /* a place is told to clients for so long */
#define REPORT_MOST   (60 * SECOND) /* between reports of one callback */
#define END_SLACK     (1 * SECOND)  /* more than a stop may take */
#define VERB_SLACK    (3 * SECOND)  /* the same where lunad stop kills before */
#define OWN_SLACK     (10 * SECOND) /* where no Lua code is known to run: memory may be freed */
#define SHOTS_MAX     25            /* for one look */

struct ld_sentry {
    struct ld_sentry_config config;
    pthread_t thread;
    atomic_bool quits;
    _Atomic(const char *) state;
    atomic_ullong stop_deadline; /* 0: no stop is under way */
    atomic_bool has_refused;
    atomic_bool has_put_off; /* the master was told that an upgrade is not heard of */
    atomic_bool was_asked_to_stop;
    atomic_bool is_on_probation; /* the service is */
    atomic_bool is_for_script;   /* SIGTERM or SIGINT has come to a script that handles it */
    atomic_bool is_hup_for_script;
    atomic_bool is_rung; /* for a signal, and the thread has not looked since */
    atomic_uint stops;   /* SIGTERM and SIGINT that the script does not handle */

    /* The rest is the thread's. How long the loop may be held, and the turn of the loop that is watched. */
    uint64_t patience;
    struct ld_pulse turn;
    bool
        is_late; /* it has been held for long, or a client has waited for long: clients are served */
    uint64_t visited_at; /* a client has come; 0: none */
    uint64_t stop_at;    /* a stop was asked for; 0: none */
    unsigned stops_seen; /* in earlier turns */
    uint64_t again_at;   /* it was asked for again by a signal; 0: it was not */
    uint64_t signal_at;  /* a signal came that the script handles; 0: none */
    uint64_t reload_at;  /* the same of a reload */
    uint64_t upgrade_at; /* and of an upgrade, by the master */
    uint64_t told_at;    /* the master was told that the loop is held */
    bool is_ordered;     /* the reload, by the master */
    bool by_verb;        /* the stop, over the control socket */
    bool by_keeper;
    bool has_heard;   /* something came from the keeper */
    bool is_refusing; /* reloads */
    bool has_hup;     /* one was asked for by SIGHUP */
    struct ld_lobby_wishes wishes;

    /* The call that is watched. */
    unsigned long call;
    uint64_t call_since;
    uint64_t call_seen;  /* first */
    uint64_t call_after; /* it had not begun before this */
    uint64_t looked_at;  /* last */
    uint64_t report_at;
    uint64_t report_after;
    bool is_reported;
    bool said_c; /* it was logged that this call cannot be interrupted */

    /* What is known about it. */
    unsigned wants;    /* that were not done */
    int shots;         /* for them */
    uint64_t sight_at; /* 0: none */
    struct ld_sight sight;
    char where[300]; /* "" if no Lua code runs */
};

/* The earlier of two times. */
static uint64_t earlier(uint64_t a, uint64_t b) {
    return a < b ? a : b;
}

/* The later of two times. */
static uint64_t later(uint64_t a, uint64_t b) {
    return a > b ? a : b;
}

/* Nanoseconds of some seconds. */
static uint64_t nanoseconds(double seconds) {
    return (uint64_t)(seconds * LD_TIME_SECOND);
}

/* Note that another call is watched. */
static void begin_call(struct ld_sentry *sentry, unsigned long call, uint64_t since, uint64_t now) {
    sentry->call = call;
    sentry->call_since = since;
    sentry->call_seen = now;
    sentry->call_after = since;
    sentry->report_after = nanoseconds(sentry->config.stuck_after);
    sentry->report_at = sentry->report_after > 0 ? since + sentry->report_after : NEVER;
    sentry->is_reported = false;
    sentry->said_c = false;
    sentry->wants = 0;
    sentry->sight_at = 0;
    sentry->where[0] = '\0';
    ld_shot_cancel();
    ld_shot_fetch(&sentry->sight); /* of the call before: forgotten */
}

/* Note that another turn of the loop is watched. */
static void begin_turn(struct ld_sentry *sentry, const struct ld_pulse *turn, uint64_t now) {
    if (sentry->is_late) {
        ld_lobby_end_turn(sentry->config.lobby);
    }
    sentry->turn = *turn;
    sentry->is_late = false;
    sentry->visited_at = 0;
    sentry->stop_at = 0;
    bool has_stop = (ld_signals_is_waiting(SIGTERM) || ld_signals_is_waiting(SIGINT)) &&
                    !atomic_load(&sentry->is_for_script);
    sentry->stops_seen = atomic_load(&sentry->stops) - has_stop; /* that one is of this turn */
    sentry->again_at = 0;
    sentry->signal_at = 0;
    sentry->reload_at = 0;
    sentry->upgrade_at = 0;
    sentry->told_at = 0;
    sentry->is_ordered = false;
    sentry->by_verb = false;
    sentry->by_keeper = false;
    sentry->has_heard = false;
    sentry->is_refusing = false;
    sentry->wishes = (struct ld_lobby_wishes){0};
    begin_call(sentry, atomic_load(&ld_interrupt_calls), turn->since, now);
}

/* Whether the master, or the keeper, has sent a word that the loop has not received. */
static bool is_queued(const struct ld_sentry *sentry, const char *word) {
    return sentry->config.keeper >= 0 && ld_packet_is_queued(sentry->config.keeper, word);
}

/* Note what was asked for. */
static void look_at_requests(struct ld_sentry *sentry, uint64_t now) {
    atomic_store(&sentry->is_rung, false);
    sentry->by_keeper = sentry->by_keeper || is_queued(sentry, LD_KEEPER_WORD_STOP);
    sentry->by_verb = sentry->by_verb || sentry->wishes.stop;
    bool has_signal = ld_signals_is_waiting(SIGTERM) || ld_signals_is_waiting(SIGINT);
    bool is_for_script = atomic_load(&sentry->is_for_script);
    bool stops = sentry->by_keeper || sentry->by_verb || (has_signal && !is_for_script);
    bool has_hup = ld_signals_is_waiting(SIGHUP);
    bool is_hup_for_script = atomic_load(&sentry->is_hup_for_script);
    sentry->has_hup = has_hup && !is_hup_for_script && sentry->config.heeds_hup;
    sentry->is_ordered = is_queued(sentry, LD_KEEPER_WORD_RELOAD);
    bool reloads = sentry->wishes.reload || sentry->has_hup || sentry->is_ordered;
    if (sentry->upgrade_at == 0 && is_queued(sentry, LD_KEEPER_WORD_UPGRADE)) {
        sentry->upgrade_at = now;
    }
    if (stops && sentry->stop_at == 0) {
        bool is_older = sentry->by_verb && sentry->visited_at != 0;
        sentry->stop_at = is_older ? sentry->visited_at : now;
        atomic_store(&sentry->was_asked_to_stop, true);
    }
    if (sentry->again_at == 0 && atomic_load(&sentry->stops) - sentry->stops_seen > 1) {
        sentry->again_at = now;
    }
    bool is_handled = (has_signal && is_for_script) || (has_hup && is_hup_for_script);
    if (is_handled && sentry->signal_at == 0) {
        sentry->signal_at = now;
    }
    if (!reloads || sentry->is_refusing) {
        sentry->reload_at = 0;
    } else if (sentry->reload_at == 0) {
        sentry->reload_at = now;
    }
}

/* When the call that is watched is to be interrupted. */
static uint64_t find_interruption(const struct ld_sentry *sentry) {
    uint64_t deadline = atomic_load(&sentry->stop_deadline);
    uint64_t late = sentry->call_since + sentry->patience;
    bool is_stuck = atomic_load(&sentry->is_on_probation) && sentry->config.stuck_after > 0;
    uint64_t at = is_stuck ? late : NEVER;
    if (sentry->again_at != 0) {
        at = sentry->again_at;
    } else if (sentry->stop_at != 0) {
        at = earlier(late, later(sentry->stop_at, sentry->call_since) + STOP_PATIENCE);
    }
    if (sentry->reload_at != 0 || sentry->signal_at != 0) {
        at = earlier(at, late);
    }
    if (deadline != 0) {
        at = earlier(at, earlier(late, later(deadline, sentry->call_since)));
    }
    return later(at, at == NEVER ? NEVER : sentry->call_seen + TICK);
}

/* When the master is to be told that an upgrade is not heard of. */
static uint64_t find_excuse(const struct ld_sentry *sentry) {
    return sentry->upgrade_at != 0
               ? earlier(later(sentry->turn.since + sentry->patience, sentry->upgrade_at),
                         sentry->upgrade_at + STUCK_DEFAULT)
               : NEVER;
}

/* When clients are to be served, or the master. */
static uint64_t find_service(const struct ld_sentry *sentry) {
    uint64_t at = earlier(sentry->turn.since + sentry->patience, find_excuse(sentry));
    uint64_t asked = sentry->visited_at;
    if (asked == 0 || (sentry->stop_at != 0 && sentry->stop_at < asked)) {
        asked = sentry->stop_at;
    }
    return asked != 0 ? earlier(at, asked + STOP_PATIENCE) : at;
}

/* When a stop takes too long. */
static uint64_t find_end(const struct ld_sentry *sentry) {
    uint64_t deadline = atomic_load(&sentry->stop_deadline);
    uint64_t slack = sentry->by_verb ? VERB_SLACK : END_SLACK;
    if (sentry->again_at != 0) { /* "stop now" */
        return sentry->again_at + END_SLACK;
    }
    if (sentry->where[0] == '\0') {
        slack += OWN_SLACK;
    }
    if (deadline != 0) {
        return later(deadline, sentry->turn.since) + slack;
    }
    if (sentry->stop_at != 0 && !sentry->by_keeper) { /* the keeper looks at its own clock */
        return sentry->stop_at + nanoseconds(sentry->config.stop_timeout) + slack;
    }
    return NEVER;
}

/* Take what was seen. */
static void fetch(struct ld_sentry *sentry, uint64_t now) {
    if (!ld_shot_fetch(&sentry->sight)) {
        return;
    }
    const struct ld_sight_call *place = ld_sight_place(&sentry->sight);
    sentry->sight_at = now;
    sentry->where[0] = '\0';
    if (place != NULL) {
        snprintf(sentry->where, sizeof sentry->where, "%s:%d", place->path, place->line);
    }
    sentry->wants = 0;
}

/* Whether an interruption is for a reload. */
static bool is_reload(const struct ld_sentry *sentry) {
    return sentry->reload_at != 0 && sentry->stop_at == 0 && sentry->signal_at == 0 &&
           atomic_load(&sentry->stop_deadline) == 0;
}

/* Whether somebody waits for the end of the call that is watched. */
static bool is_awaited(const struct ld_sentry *sentry) {
    return sentry->again_at != 0 || sentry->stop_at != 0 || sentry->reload_at != 0 ||
           sentry->signal_at != 0 || atomic_load(&sentry->stop_deadline) != 0;
}

/* The reason of an interruption. */
static const char *find_reason(const struct ld_sentry *sentry) {
    if (is_reload(sentry)) {
        return "interrupted by a reload, as it held the loop";
    }
    return sentry->stop_at == 0 && atomic_load(&sentry->stop_deadline) == 0
               ? "interrupted by a signal, as it held the loop"
               : "interrupted by a stop, as it held the loop";
}

/* Say, once, that a call of the script cannot be interrupted. */
static void say_c(struct ld_sentry *sentry, uint64_t now) {
    if (sentry->said_c || sentry->sight_at == 0 || !sentry->sight.is_c ||
        sentry->where[0] == '\0') {
        return;
    }
    sentry->said_c = true;
    ld_log(LD_LOG_WARN,
           "asked to %s, but a C function that was called at %s has been running for %.1f s, and "
           "cannot "
           "be interrupted",
           is_reload(sentry) ? "reload" : "stop", sentry->where,
           (double)(now - sentry->call_since) / LD_TIME_SECOND);
}

/* Shoot, if something is to be done. */
static void shoot(struct ld_sentry *sentry, uint64_t now) {
    bool reports = (sentry->wants & LD_SHOT_REPORT) != 0; /* is not logged yet, or given up */
    bool interrupts = !reports && now >= find_interruption(sentry);
    bool is_stale = sentry->sight_at == 0 || now - sentry->sight_at > FRESH;
    bool has_due = ld_caller_judge(sentry->call_after, sentry->patience, now) <= now; /* callers */
    struct ld_shot shot = {
        .call = sentry->call, .since = sentry->call_since, .reason = find_reason(sentry)};
    if (now >= sentry->report_at || (interrupts && !sentry->is_reported)) {
        interrupts = interrupts && sentry->is_reported; /* first the log says what is interrupted */
        sentry->is_reported = true;
        sentry->report_at = sentry->report_after > 0 ? now + sentry->report_after : NEVER;
        sentry->report_after = earlier(sentry->report_after * 2,
                                       later(REPORT_MOST, nanoseconds(sentry->config.stuck_after)));
        sentry->wants |= LD_SHOT_TRACE | LD_SHOT_REPORT;
        sentry->shots = 0;
    } else if (sentry->is_late && is_stale &&
               (sentry->wishes.clients > 0 || sentry->upgrade_at != 0 || interrupts)) {
        sentry->shots = sentry->wants == 0 ? 0 : sentry->shots;
        sentry->wants |= LD_SHOT_TRACE;
    }
    bool is_asked = is_awaited(sentry);
    unsigned how = is_asked ? LD_SHOT_INTERRUPT : LD_SHOT_STUCK;
    shot.wants = sentry->wants | (interrupts ? how : 0) | (has_due ? LD_SHOT_CALLER : 0);
    if (sentry->wants != 0 && sentry->shots++ >= SHOTS_MAX) {
        sentry->wants = 0;
    }
    if (shot.wants != 0) {
        ld_shot_send(&shot);
    }
    if (interrupts && is_asked) {
        say_c(sentry, now);
    }
}

/* Refuse reloads that have waited too long. */
static void refuse_reloads(struct ld_sentry *sentry, uint64_t now) {
    uint64_t most = nanoseconds(sentry->config.start_timeout);
    bool is_late = sentry->reload_at != 0 && now - sentry->reload_at >= most;
    if (!is_late && !(sentry->is_refusing && sentry->has_hup)) {
        return;
    }
    sentry->is_refusing = true;
    sentry->reload_at = 0;
    if (sentry->has_hup) {
        ld_signals_forget(SIGHUP);
    }
    atomic_store(&sentry->has_refused, true);
    ld_log(LD_LOG_ERROR, "reload refused, the old code keeps running: busy%s%s for %.1f s",
           sentry->where[0] != '\0' ? " in " : "", sentry->where,
           (double)(now - sentry->turn.since) / LD_TIME_SECOND);
}

/* Tell the master that the loop is held. */
static void tell_master(const struct ld_sentry *sentry, const char *word,
                        const struct ld_lobby_news *news) {
    char words[512];
    ld_lobby_say_busy(words, sizeof words, news);
    ld_packet_send(sentry->config.keeper, 0, word, words, strlen(words), -1);
}

/* Tell the master, in an upgrade, unless the loop has heard of that in this moment: what it receives after it was noted
 * is not obeyed. */
static void put_off_upgrade(struct ld_sentry *sentry, const struct ld_lobby_news *news) {
    atomic_store(&sentry->has_put_off, true);
    if (is_queued(sentry, LD_KEEPER_WORD_UPGRADE)) {
        tell_master(sentry, LD_KEEPER_WORD_UPGRADE_BUSY, news);
    } else {
        atomic_store(&sentry->has_put_off, false);
    }
}

/* Answer the master, again and again: it may have asked again. */
static void serve_master(struct ld_sentry *sentry, const struct ld_lobby_news *news, uint64_t now) {
    bool refuses = sentry->is_refusing && sentry->is_ordered;
    bool puts_off = now >= find_excuse(sentry);
    if (news->where == NULL || (!refuses && !puts_off) ||
        (sentry->told_at != 0 && now - sentry->told_at < SECOND)) {
        return;
    }
    sentry->told_at = now;
    if (refuses) {
        tell_master(sentry, LD_KEEPER_WORD_RELOAD_BUSY, news);
    }
    if (puts_off) {
        put_off_upgrade(sentry, news);
    }
}

/* Serve clients, and the master. */
static void serve(struct ld_sentry *sentry, uint64_t now) {
    bool is_known = sentry->sight_at != 0 || sentry->shots >= SHOTS_MAX;
    const struct ld_lobby_news news = {
        .name = sentry->config.name,
        .state = atomic_load(&sentry->state),
        .where = is_known ? sentry->where : NULL,
        .seconds = (double)(now - sentry->turn.since) / LD_TIME_SECOND,
        .stop_timeout = sentry->config.stop_timeout,
        .refuses_reload = sentry->is_refusing,
    };
    ld_lobby_serve(sentry->config.lobby, &news, &sentry->wishes);
    serve_master(sentry, &news, now);
}

/* Do what is due; when to look again. */
static uint64_t step(struct ld_sentry *sentry, uint64_t now) {
    unsigned long call = atomic_load(&ld_interrupt_calls);
    if (call != sentry->call) {
        begin_call(sentry, call, now, now);
        sentry->call_after = sentry->looked_at;
    }
    sentry->looked_at = now;
    look_at_requests(sentry, now);
    if (!sentry->is_late && now >= find_service(sentry)) {
        sentry->is_late = true;
        sentry->where[0] = '\0';
        sentry->shots = 0;
    }
    fetch(sentry, now);
    if (sentry->is_late) {
        serve(sentry, now);
        look_at_requests(sentry, now);
    }
    shoot(sentry, now);
    refuse_reloads(sentry, now);
    if (now >= find_end(sentry)) {
        sentry->config.end(sentry->config.arg, sentry->where);
    }
    if (sentry->is_late || sentry->wants != 0) {
        bool is_busy = sentry->wants != 0 || sentry->wishes.clients > 0 || sentry->stop_at != 0;
        return now + (is_busy ? TICK : SLOW_TICK);
    }
    uint64_t next = earlier(find_service(sentry), sentry->report_at);
    next = earlier(next,
                   later(ld_caller_judge(sentry->call_after, sentry->patience, now), now + TICK));
    if (sentry->has_heard && !sentry->by_keeper) { /* a stop may come behind what is queued */
        next = earlier(next, now + SLOW_TICK);
    }
    return earlier(next, earlier(find_interruption(sentry), find_end(sentry)));
}

/* Wait until UNTIL, or for the bell, or, while the loop is held, for a client or the keeper. Nothing is read
 * here that the loop may be about to read, so each of them is waited for only once in a turn. */
static void wait_until(struct ld_sentry *sentry, uint64_t until) {
    bool is_busy = until != NEVER;
    bool heeds_clients = is_busy && (sentry->is_late || sentry->visited_at == 0);
    bool heeds_keeper = is_busy && !sentry->has_heard;
    struct pollfd polls[3 + LD_CALLERS_MAX] = {
        {.fd = ld_pulse_bell(), .events = POLLIN},
        {.fd = heeds_clients ? ld_lobby_listener(sentry->config.lobby) : -1, .events = POLLIN},
        {.fd = heeds_keeper ? sentry->config.keeper : -1, .events = POLLIN},
    };
    size_t callers = ld_caller_poll(polls + 3, &until);
    uint64_t now = ld_time_monotonic();
    uint64_t left = until > now ? until - now : 0;
    struct timespec time = {.tv_sec = (time_t)(left / SECOND), .tv_nsec = (long)(left % SECOND)};
    int rc = ppoll(polls, 3 + callers, until != NEVER ? &time : NULL, NULL);
    ld_caller_notice(ld_time_monotonic());
    if (rc <= 0) {
        return;
    }
    if (polls[0].revents != 0) {
        ld_pulse_hush();
        atomic_store(&sentry->is_rung, false); /* what comes from now on rings again */
    }
    if (polls[1].revents != 0 && sentry->visited_at == 0) {
        sentry->visited_at = ld_time_monotonic();
    }
    sentry->has_heard = sentry->has_heard || polls[2].revents != 0;
}

/* Watch. */
static void *run(void *arg) {
    struct ld_sentry *sentry = arg;
    while (!atomic_load(&sentry->quits)) {
        struct ld_pulse turn;
        ld_pulse_look(&turn);
        uint64_t now = ld_time_monotonic();
        bool is_new = turn.turn != sentry->turn.turn;
        if (is_new || (turn.waits && sentry->is_late)) {
            begin_turn(sentry, &turn, now);
        }
        if (!turn.waits) {
            wait_until(sentry, step(sentry, now));
        } else if (is_new) { /* a loop that turns often need not wake us each time */
            wait_until(sentry, now + sentry->patience);
        } else if (ld_pulse_may_sleep()) {
            wait_until(sentry, NEVER);
        }
    }
    return NULL;
}

static struct ld_sentry *volatile heeding; /* signals, or NULL */

/* Whether the script, or libuv for it, handles a signal. */
static bool is_handled(const struct ld_sentry *sentry, int signo) {
    const struct ld_script *script = ld_interrupt_current;
    if (gettid() != getpid()) {
        return false; /* the script may be gone in a moment */
    }
    script = script != NULL ? script : *sentry->config.script;
    return ld_signals_is_shared(signo) || (script != NULL && script->signals[signo].handlers > 0);
}

/* Note a signal. Runs in its handler, when it is waiting for delivery. */
static void on_arrival(int signo) {
    struct ld_sentry *sentry = heeding;
    if (sentry != NULL) {
        bool is_for_script = is_handled(sentry, signo);
        atomic_store(signo == SIGHUP ? &sentry->is_hup_for_script : &sentry->is_for_script,
                     is_for_script);
        if (signo != SIGHUP && !is_for_script) {
            atomic_fetch_add(&sentry->stops, 1);
        }
        if (!atomic_exchange(&sentry->is_rung, true)) {
            ld_pulse_ring();
        }
    }
}

static const int signals[] = {SIGTERM, SIGINT, SIGHUP};

/* Have signals noted; NULL: no longer. */
static void heed_signals(struct ld_sentry *sentry) {
    heeding = sentry;
    for (size_t i = 0; i < LD_COUNT(signals); i++) {
        ld_signals_on_arrival(signals[i], sentry != NULL ? on_arrival : NULL);
    }
}

/* Make the thread, which has no signals but those of crashes. */
static int make_thread(struct ld_sentry *sentry) {
    pthread_attr_t attributes;
    sigset_t all;
    sigset_t before;
    sigfillset(&all);
    ld_crash_spare(&all);
    pthread_attr_init(&attributes);
    pthread_attr_setstacksize(&attributes, STACK_SIZE);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int rc = pthread_create(&sentry->thread, &attributes, run, sentry);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    pthread_attr_destroy(&attributes);
    return -rc;
}

/* Begin to watch. */
int ld_sentry_start(struct ld_sentry **out, const struct ld_sentry_config *config) {
    struct ld_sentry *sentry = calloc(1, sizeof *sentry);
    if (sentry == NULL) {
        return -ENOMEM;
    }
    sentry->config = *config;
    sentry->patience = config->stuck_after > 0 ? nanoseconds(config->stuck_after) : STUCK_DEFAULT;
    sentry->turn.turn = UINT64_MAX;
    atomic_store(&sentry->state, "starting");
    int rc = ld_shot_open();
    if (rc == 0) {
        rc = make_thread(sentry);
    }
    if (rc < 0) {
        free(sentry);
        return rc;
    }
    heed_signals(sentry);
    *out = sentry;
    return 0;
}

/* End the thread. */
void ld_sentry_stop(struct ld_sentry *sentry) {
    if (sentry != NULL) {
        heed_signals(NULL);
        atomic_store(&sentry->quits, true);
        ld_pulse_ring();
        pthread_join(sentry->thread, NULL);
        free(sentry);
    }
}

/* Note the state. */
void ld_sentry_note_state(struct ld_sentry *sentry, const char *state) {
    if (sentry != NULL) {
        atomic_store_explicit(&sentry->state, state, memory_order_release);
    }
}

/* Note a stop. The thread may be waiting for something later. */
void ld_sentry_note_stop(struct ld_sentry *sentry, uint64_t deadline) {
    if (sentry != NULL) {
        atomic_store(&sentry->stop_deadline, deadline);
        ld_pulse_ring();
    }
}

/* Note a probation. */
void ld_sentry_note_probation(struct ld_sentry *sentry, bool is_on) {
    if (sentry != NULL) {
        atomic_store(&sentry->is_on_probation, is_on);
    }
}

/* Check whether a stop was asked for while the loop was held. */
bool ld_sentry_was_asked_to_stop(struct ld_sentry *sentry) {
    return sentry != NULL && atomic_load(&sentry->was_asked_to_stop);
}

bool ld_sentry_was_asked_again(const struct ld_sentry *sentry) {
    return sentry->again_at != 0;
}

/* Whether a reload was refused. */
bool ld_sentry_has_refused(struct ld_sentry *sentry) {
    return sentry != NULL && atomic_load_explicit(&sentry->has_refused, memory_order_relaxed) &&
           atomic_exchange(&sentry->has_refused, false);
}

/* Whether the master was told that an upgrade is not heard of. */
bool ld_sentry_has_put_off(struct ld_sentry *sentry) {
    return sentry != NULL && atomic_exchange(&sentry->has_put_off, false);
}
