/* The host's own parts. Each file calls only those before it:
 *
 *     crash             the report of a crash
 *     alarm, disk       when the loop has to turn; whether the code is that of the disk
 *     saving, snapshot  --state; the status report,
 *     inquiry           and how clients get it
 *     probation         whether new code has failed
 *     in_force          what the keeper makes the next host from
 *     hand_on           what a generation gives to the next
 *     retired, reload   generations that were replaced; the swap
 *     recycling, watching when the service reloads itself
 *     mailing           messages between workers
 *     crew, master      the workers: during an upgrade, and otherwise
 *     metrics, evals    what clients get to count; chunks that they run in the service
 *     profiling         where its time goes, and
 *     heap_copy         what its heap holds, for clients
 *     master_estate     what is left to another program in this process: of the workers,
 *     estate            and of all else
 *     stop              the end of the service
 *     watchman          the thread that watches the loop
 *     remnant, upgrade  what goes on beside that program; becoming it
 *     start             the beginning of the service
 *     actions           what a signal or a request makes the host do
 *     signals, requests where those come from
 *     turn, host        once in a turn of the loop; around all of it
 *
 * Callbacks only note what has happened; once in a turn of the loop, outside of any call into a
 * script, each part checks whether it can continue. */
#ifndef LD_HOST_INTERNAL_H
#define LD_HOST_INTERNAL_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/queue.h>
#include <uv.h>

#include "daemon/handover.h"
#include "daemon/service.h"
#include "engine/lag.h"
#include "engine/mail.h"
#include "engine/parcels.h"
#include "engine/path_watch.h"
#include "engine/readiness.h"
#include "engine/reaper.h"
#include "host/control.h"
#include "host/copy.h"
#include "host/lobby.h"
#include "host/recycle.h"
#include "host/sentry.h"
#include "script/laps.h"
#include "script/memory.h"
#include "script/script.h"
#include "script/tally.h"
#include "script/written.h"

enum ld_host_state {
    LD_HOST_STARTING, /* the script is not ready */
    LD_HOST_RUNNING,
    LD_HOST_STOPPING,
    LD_HOST_ENDED, /* the loop is about to be left */
};

enum ld_reload_phase {
    LD_RELOAD_NONE,
    LD_RELOAD_ASKING,  /* the old generation is asked for its state */
    LD_RELOAD_LOADING, /* the new generation is not ready */
    LD_RELOAD_HELD,    /* it is ready, and waits for the word of the holder */
};

enum ld_stop_phase {
    LD_STOP_ASKING,   /* the on_reload function runs, for --state */
    LD_STOP_SCRIPT,   /* on_stop functions run */
    LD_STOP_CHILDREN, /* children have got SIGTERM */
    LD_STOP_KILL,     /* everything has got SIGKILL */
};

/* A generation that has been replaced, until its on_stop functions are done, its clients gone and its
 * commands finished. */
struct ld_retired {
    struct ld_script *script;
    uint64_t deadline; /* uv_now */
    uint64_t look_at;  /* uv_now: when it is looked at again whether it has finished */
    struct ld_retired *next;
};

struct ld_reload {
    enum ld_reload_phase phase;
    bool asked;       /* a reload that has not begun */
    bool is_trial;    /* the one under way: the new generation is discarded when it is ready */
    bool is_rollback; /* the one under way: it goes back to the code before a failed one */
    bool keeps_code;  /* the one under way makes the new generation of what this one is made of */
    bool later_keeps_code; /* the next one, if all that was asked for is one of these */
    double
        probation; /* that the one under way was asked for, in seconds; below 0: nothing was said */
    double later_probation;          /* the same of the next one */
    bool answered;                   /* the old generation has given its state, or failed to */
    struct ld_task *asking;          /* runs the on_reload function */
    struct ld_script *next;          /* the new generation */
    uint64_t started;                /* uv_hrtime */
    uint64_t asked_at;               /* when the state was asked for; uv_hrtime */
    uint64_t deadline;               /* uv_now */
    uint64_t shown_by;               /* uv_now; a ready script that is not over by then serves */
    struct ld_text why;              /* not empty: it has failed */
    struct ld_waiter *waiters;       /* of the reload under way */
    struct ld_waiter *later_waiters; /* of the next one */
    struct ld_waiter *holder; /* of the waiters, the one whose word is waited for; NULL: none */
    struct ld_waiter *later_holder; /* the same of the next one, which was asked for by this */
    bool go;                        /* the holder has given its word */
    struct ld_memory *refused;      /* what the last one had loaded, if it was refused; or NULL */
    struct ld_waiter
        *trial_waiters;   /* of the next trial, which was asked for unless this is NULL */
    uint64_t ok;          /* one on probation is counted when that is over */
    uint64_t failed;      /* refused, or undone: */
    uint64_t rolled_back; /* of them */
    uint64_t ends;        /* how many have ended, in whatever way, but trials */
    bool last_ok;
    double last_time; /* Unix time; 0: none yet */
    double last_ms;
    struct ld_text last_error;
};

enum ld_probation_phase {
    LD_PROBATION_NONE,
    LD_PROBATION_ON,   /* the generation that is the service has to prove itself */
    LD_PROBATION_BACK, /* it has failed: the code before it becomes the service again */
};

struct ld_probation {
    enum ld_probation_phase phase;
    double seconds;
    uint64_t started;         /* uv_hrtime */
    uint64_t until;           /* uv_now */
    struct ld_memory *good;   /* what the last code that has proved itself is made of */
    unsigned good_generation; /* that */
    lua_State *copy;          /* of the state and the values that it has handed on, or NULL */
    bool from_copy;           /* go back with those */
    uint64_t allowed;         /* uncaught errors */
    size_t heap;              /* of the good code */
    uint64_t heap_look_at;    /* uv_now: its garbage was collected not long before */
    bool by_master; /* the verdict is that of all workers: the master says when it has passed */
    bool is_over;   /* likewise: the time is over, and the master knows */
    double failed_after;       /* seconds */
    unsigned wants;            /* of the failed code, enum ld_want */
    struct ld_text why;        /* it has failed */
    struct ld_waiter *waiters; /* for the verdict */
};

/* What was seen of a file when it was compared. */
struct ld_disk_seen {
    ino_t inode; /* 0: that says nothing */
    off_t size;
    struct timespec modified;
    struct timespec changed;
    bool differs;
};

struct ld_disk {
    struct ld_memory *memory; /* whose files these are */
    struct ld_disk_seen *seen;
    size_t count;
    size_t next;  /* the last one that was looked at */
    size_t found; /* the last one that differed */
};

struct ld_stop {
    enum ld_stop_phase phase;
    const char *reason;
    uint64_t deadline; /* uv_now */
};

/* What --state saves; see saving.c. */
struct ld_saving {
    struct ld_task *asking;   /* runs the on_reload function, or NULL */
    struct ld_copy *copy;     /* writes, or NULL */
    struct ld_script *script; /* for the copy: what it packs */
    bool is_barred;           /* nothing is written any more */
    bool is_last;             /* the daemon stops */
    bool has_last;            /* what is written at the end is on the shelf of the script */
    uint64_t due;             /* uv_now; 0: not known yet */
    uint64_t deadline;        /* uv_now; of what is under way */
    uint64_t started;         /* ld_time_monotonic */
    uint64_t size;            /* of the file, in bytes */
    double time;              /* when it was right; Unix time; 0: there is none yet */
    double ms;                /* how long the last one took */
    double fork_ms;           /* and for how much of it the service stood still */
    struct ld_text error;     /* why the last one failed; empty: it did not */
};

/* What --watch watches; see watching.c. */
struct ld_watching {
    struct ld_path_watch *paths; /* NULL: nothing */
    struct ld_watching_file **files;
    size_t count;
    size_t loaded;       /* of them: the others are missing */
    void *by_path;       /* a tree of them */
    size_t taken;        /* how many files of the memory of the service are among them */
    bool is_from_memory; /* the service: the disk may have other code */
    uint64_t ends;       /* of reloads that were seen, and 1 */
    uint64_t look_at;    /* uv_now: when to see what has changed; 0: nothing has */
    int error;           /* that was logged: not all of them can be watched */
};

enum ld_upgrade_phase {
    LD_UPGRADE_NONE,
    LD_UPGRADE_ASKED,  /* it has not begun */
    LD_UPGRADE_TRIAL,  /* the other program says whether it could take over */
    LD_UPGRADE_HELD,   /* a worker: it could, and waits for the word of the master */
    LD_UPGRADE_CREW,   /* a master: its workers become the program, one after the other */
    LD_UPGRADE_UNDO,   /* a master: those that did so become the old one again, and it is refused */
    LD_UPGRADE_QUIET,  /* what cannot be handed on is waited for, for a moment */
    LD_UPGRADE_ASKING, /* the generation is asked for its state */
};

/* An upgrade: this process becomes another program. */
struct ld_upgrade {
    enum ld_upgrade_phase phase;
    char *path; /* of the program, as its client named it */
    dev_t device;
    ino_t inode;
    int program;                /* O_PATH; -1: not open */
    struct ld_children *trials; /* the set of the trial */
    struct ld_child *trial;     /* NULL: it has ended */
    char token[33];             /* that the trial must say */
    struct ld_text said;
    struct ld_task *asking; /* runs the on_reload function */
    bool answered;
    struct ld_handover *handover; /* what is being written */
    struct ld_text why;           /* not empty: it is refused */
    struct ld_waiter *waiters;
    unsigned long order; /* a worker: the number of the request of its master; 0: none */
    int code;            /* a worker: an image of what it is to be made of there; -1: the disk */
    bool is_back;        /* the code is from memory only because an upgrade has failed */
    int beside;       /* the box that the process beside the program sends messages to; -1: none */
    uint64_t started; /* uv_hrtime */
    uint64_t frozen;  /* uv_hrtime: since then no process serves */
    int64_t frozen_real; /* ld_time_real */
    uint64_t deadline;   /* uv_now */
};

enum ld_crew_phase {
    LD_CREW_NONE,
    LD_CREW_TRIAL, /* each worker tries the program */
    LD_CREW_GO,    /* each becomes it */
    LD_CREW_BACK,  /* those that did become the old one again */
};

/* The workers of a master during its upgrade; see crew.c. */
struct ld_crew {
    enum ld_crew_phase phase;
    int at;  /* the worker that was asked; 0: none */
    bool go; /* it was asked to become the program, not only to try it */
    enum { LD_CREW_SILENT, LD_CREW_YES, LD_CREW_NO } answer;
    struct ld_text said;  /* why not */
    unsigned long number; /* of the request */
    uint64_t deadline;    /* uv_now */
    unsigned asked;       /* how often one was */
    unsigned looks;       /* in a row that found it stopped by a signal */
    uint64_t look_at;     /* uv_now; next */
    int program;          /* what they become again; -1: not open */
};

/* The chunks that clients run; see evals.c. */
TAILQ_HEAD(ld_evals, ld_eval_call);

struct ld_heap_copy;
struct ld_inquiry;
struct ld_mailboxes;

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
    struct {
        uv_poll_t poll;
        int fd;           /* inotify; -1: the log is not rotated */
        uint64_t count;   /* of files opened, as the one that is watched was */
        uint64_t look_at; /* uv_now; 0: the file has not been modified */
    } log_watch;
    bool has_signals;
    struct ld_reaper *reaper;
    struct ld_children *children;
    struct ld_listeners *listeners;
    struct ld_readiness *readiness;
    struct ld_parcels *parcels; /* connections on their way to the next generation */
    struct {
        struct ld_mail *mail;
        struct ld_mail_drafts *drafts;
        uint64_t unheard; /* messages for whose topic there was no function */
    } mailing;
    struct ld_control *control;
    struct ld_lobby *lobby;   /* of the control socket */
    struct ld_sentry *sentry; /* NULL: there is none */
    struct ld_lag lag;
    struct ld_source source;
    struct ld_texts *texts;     /* of the files that generations are made of */
    struct ld_written *written; /* of files that they write; NULL: --watch is not given */
    struct ld_setup setup;
    enum ld_host_state state;
    struct ld_script *script; /* the generation that is the service */
    unsigned
        code; /* the generation whose code that is; 0: it came from disk, or from another process */
    struct ld_retired *retired;
    struct ld_reload reload;
    struct ld_probation probation;
    struct ld_disk disk;
    struct ld_upgrade upgrade;
    bool remnant_stops; /* it was told to */
    bool
        is_remnant; /* it serves the clients of a generation whose process has become another program */
    struct {
        struct ld_memory *told; /* to the keeper: what the next host is made from; NULL: the disk */
        size_t count;           /* of its files */
        bool is_known;          /* the keeper was told, by this program */
        unsigned long changes;  /* of what is known of workers: it was told of so many */
        int workers;            /* and of so many workers; 0: of nothing yet */
        bool is_late;           /* it could not be told the last time */
        uint64_t again_at;      /* uv_now: when it is told again */
    } in_force;
    struct ld_stop stop;
    struct ld_recycle recycle;
    struct ld_saving saving;
    struct ld_watching watch;
    struct ld_evals evals;
    struct {
        struct ld_waiter *waiter; /* NULL: no profile is made */
        int fd;                   /* of its client */
        uint64_t started;         /* ld_time_monotonic */
        uint64_t deadline;        /* uv_now */
    } profiling;
    struct ld_heap_copy *heap_copy; /* NULL: no walk over the heap is under way */
    struct {
        TAILQ_HEAD(, ld_inquiry)
        list; /* of clients that wait for a status, the next to be served first */
        struct ld_inquiry *current; /* that is being served */
        uint64_t spent;             /* ns, in this turn of the loop */
    } inquiries;
    struct {
        struct ld_workers *channels; /* NULL: this is no master */
        struct ld_mailboxes *boxes;  /* with messages for the workers */
        struct ld_master_worker *workers;
        struct ld_shares *shares;
        int inherited;     /* an image of what workers are made of, of the host before; -1: none */
        bool from_disk;    /* a worker that is started now is not made from a memory */
        bool wants_reload; /* a worker has asked for it */
        int unproved_count; /* workers whose code has yet to do well until the end of its probation */
        bool has_passed;    /* the code of all, and they are to be told */
        struct ld_text unproved; /* not empty: why the code of a worker has failed its probation */
        struct ld_text warnings; /* of workers that are ready, for the starting process */
        struct ld_crew crew;
        char prepare[48]; /* what workers are told when they are to prepare */
        int wanted; /* how many workers there are to be after the next reload; 0: as many as now */
    } master;
    struct {
        struct ld_waiter waiter; /* for the reload that the master has asked for */
        unsigned long number;    /* of the request */
        bool is_asked;           /* it is under way */
        bool is_held;            /* the new generation is ready */
        bool was_told;           /* to commit it */
        bool is_said_by_master;  /* why the reload is refused */
        bool has_proved;         /* its code has done well, and the master is to be told */
        bool has_put_off;        /* the next order of an upgrade: the master knows */
        struct ld_text
            unproved; /* not empty: the code has failed its probation, and the master does not know */
        int before;   /* how many workers there were */
        char later[48]; /* not empty: what the master has asked for since, once this one is over */
        unsigned long later_number;
        size_t told; /* how many files the memory had that the master was told of */
    } worker;
    uint64_t started;        /* uv_hrtime */
    uint64_t start_deadline; /* uv_now */
    uint64_t
        terminal_until; /* uv_now: check after a SIGHUP whether the terminal has gone; 0: do not */
    uint64_t
        echo_until; /* uv_now: the next SIGTERM or SIGINT is one that the keeper has passed on; 0: no */
    int exit_status;
    bool was_ready;
    bool asked_to_stop; /* by a person or a signal, not by the script alone */
    bool said_started;  /* in the log */
    bool failed_start;
    struct ld_text *why;   /* why the start failed */
    struct ld_tally tally; /* of uncaught errors */
    struct ld_laps laps;   /* how long callbacks take */
    uint64_t seen_errors;  /* of them, for --on-error */
};

/* alarm.c */

/* Have the loop turn at DEADLINE (uv_now) at the latest. */
void ld_alarm_wake_at(struct ld_host *host, uint64_t deadline);

/* The time SECONDS from now (uv_now), as a deadline. */
uint64_t ld_alarm_deadline(struct ld_host *host, double seconds);

/* disk.c */

/* The path of a file whose text on disk is not what the service is made of, or NULL. Valid until the next call. */
const char *ld_disk_differs(struct ld_host *host);

/* Whether the disk has code that was undone: the service is made from memory, and so is what follows it unasked. */
bool ld_disk_is_undone(const struct ld_host *host);

void ld_disk_close(struct ld_host *host);

/* crash.c */

/* Report crashes of the host from now on, until it ends. */
void ld_host_crash_open(struct ld_host *host);
void ld_host_crash_close(void);

/* mailing.c */

/* Make the end of this worker for messages; 0 or -ENOMEM. To be closed in either case, when no script is left. */
int ld_mailing_open(struct ld_host *host);
void ld_mailing_close(struct ld_host *host);

/* Deliver messages that have come, for a moment, or hold them back. */
void ld_mailing_step(struct ld_host *host);

/* Hold back messages in this turn, or do not, as things are now; true if there are some for the next one. */
bool ld_mailing_settle(struct ld_host *host);

/* Report what was sent and received, a new reference; NULL when memory ran out. */
json_t *ld_mailing_report(const struct ld_host *host);

/* saving.c */

/* Give the first generation, which has not run yet, what is in the file of --state. 0, or -1 with the reason in WHY:
 * then it may not start. */
int ld_saving_load(struct ld_host *host, struct ld_script *script, struct ld_text *why);

/* Save when it is time. */
void ld_saving_step(struct ld_host *host);

/* At a reload: keep the first of the RESULTS of the on_reload function, at the top of CO; and when the reload is
 * committed, save that and what OLD keeps. */
void ld_saving_hold(const struct ld_host *host, lua_State *co, int results);
void ld_saving_commit(struct ld_host *host, struct ld_script *old);

/* At a stop: ask for the state; whether that is still under way (with IS_LATE it is given up); and at the very end,
 * when nothing of the script runs any more, write it. */
void ld_saving_begin_last(struct ld_host *host);
bool ld_saving_is_asking(struct ld_host *host, bool is_late);
void ld_saving_finish(struct ld_host *host);

/* Give up what is under way. */
void ld_saving_abandon(struct ld_host *host);

/* Report on the file, a new reference: null without --state; NULL when memory ran out. */
json_t *ld_saving_report(const struct ld_host *host);

/* snapshot.c */

/* The status report, a new reference; NULL when memory ran out. It is made at once, so its lists have at most LD_REPORT_MOST
 * each, and where there is very much, only some of it is counted in groups. */
json_t *ld_snapshot_take(struct ld_host *host);

/* The same without what can be long: the timers, children and tasks, the listening sockets and the retiring. GROUPS are
 * taken over; OWN of the tasks are lunad's own. */
json_t *ld_snapshot_head(struct ld_host *host, json_t *groups, size_t own);

/* Lists of the listening sockets, and of the generations that are retiring: at most MOST after the first SKIPPED. */
json_t *ld_snapshot_listeners(const struct ld_host *host, size_t skipped, size_t most);
json_t *ld_snapshot_retiring(const struct ld_host *host, size_t skipped, size_t most);

/* inquiry.c */

/* Answer a REQUEST for the status: true with the line in ANSWER; else WAITER is told in a later turn of the loop. */
bool ld_inquiry_ask(struct ld_host *host, struct ld_waiter *waiter, const json_t *request,
                    struct ld_text *answer);
void ld_inquiry_forget(struct ld_host *host, const struct ld_waiter *waiter);

/* Go on with all, for a slice of this turn. */
void ld_inquiry_step(struct ld_host *host);

/* Leave the script, which is about to be replaced or to end: what has been told of it is torn, and what was only counted is
 * counted anew; and end all, because the daemon ends or is upgraded. */
void ld_inquiry_leave(struct ld_host *host);
void ld_inquiry_abandon(struct ld_host *host);

/* The name of the state, static. */
const char *ld_snapshot_state(const struct ld_host *host);

/* in_force.c */

/* Tell the keeper what the next host is to be made from, if that has changed. */
void ld_in_force_step(struct ld_host *host);
void ld_in_force_forget(struct ld_host *host);

/* hand_on.c */

/* Ask the old generation what it hands on; reload->answered is set when it has answered, at once or later. */
void ld_hand_on_ask(struct ld_host *host);

/* At a rollback: stop waiting for the answer, and take what the good code had handed on; or take that without having
 * asked. */
void ld_hand_on_give_up(struct ld_host *host);
void ld_hand_on_take_copy(struct ld_host *host);

/* Hand on what is kept by name. A failure is noted in reload->why. */
void ld_hand_on_kept(struct ld_host *host);

/* probation.c */

/* How long the reload under way puts its code on probation; 0: not at all. */
double ld_probation_seconds(const struct ld_host *host);

/* The new generation is the service, in the place of OLD: it is on probation, and those who wait for the reload wait
 * for the verdict; or it is not, and a probation under way is over without one. */
void ld_probation_begin(struct ld_host *host, struct ld_script *old);
void ld_probation_skip(struct ld_host *host);

/* What the code in force is made of: that of the service, or while it is on probation the code before. NULL: not known. */
struct ld_memory *ld_probation_in_force(const struct ld_host *host);

/* Check how the code on probation does, once in a turn. */
void ld_probation_step(struct ld_host *host);

/* Decide that it has passed; or that it has failed, WHY: true if the service goes back now or did so before. */
void ld_probation_pass(struct ld_host *host);
bool ld_probation_fail(struct ld_host *host, const char *why);

/* In a worker: do what the master says of the code of all workers: it has failed, and WHY; NULL: it has passed. */
void ld_probation_hear(struct ld_host *host, const char *why);

/* Whether the way back is open: reload.c goes it, and says how that ended: the good code is the service, or could not
 * be loaded, WHY. */
bool ld_probation_is_back(const struct ld_host *host);
void ld_probation_add_verdict(const struct ld_host *host, struct ld_text *text);
void ld_probation_end_back(struct ld_host *host, const struct ld_text *verdict);
void ld_probation_fail_back(struct ld_host *host, const struct ld_text *why);

/* Log WHY the state of the failed code cannot be had. */
void ld_probation_log_fallback(const struct ld_host *host, const struct ld_text *why);

/* Drop the copy of what the good code has handed on. */
void ld_probation_forget_copy(struct ld_host *host);

/* Give it up, because the host stops. */
void ld_probation_abandon(struct ld_host *host);

/* retired.c */

/* Begin to end SCRIPT, which has been replaced: it is closed at once if it has nothing to finish. */
void ld_retired_begin(struct ld_host *host, struct ld_script *script);

/* Close generations that have finished, or have had their time. */
void ld_retired_step(struct ld_host *host);

/* Close all of them, done or not. */
void ld_retired_close_all(struct ld_host *host);

/* Let none of them start anything new, because the daemon stops. */
void ld_retired_restrain(struct ld_host *host);

/* Whether on_stop functions of one of them still run. */
bool ld_retired_is_stopping(const struct ld_host *host);

/* reload.c */

/* Ask for a reload; it begins in the next turn. WAITER may be NULL. */
void ld_reload_ask(struct ld_host *host, struct ld_waiter *waiter);

/* Note that the code of the next reload is to be on probation for SECONDS at least, 0: not, if nothing else was said. */
void ld_reload_note_probation(struct ld_host *host, double seconds);

/* Ask for a reload, as ld_reload_ask without a waiter, but if the code is from memory, since that of the disk was undone,
 * it stays. */
void ld_reload_ask_again(struct ld_host *host);

/* Ask whether a reload would succeed: the new generation is made, and discarded when it is ready. */
void ld_reload_ask_trial(struct ld_host *host, struct ld_waiter *waiter);

/* Ask for a reload that is held when the new generation is ready: nothing has changed by then, and WAITER is told
 * a part of its answer with "held": true, "generation" and "ms". It gives its word by ld_reload_commit, or gives the
 * reload up by ld_reload_forget. Held new code that fails is refused at once, and WAITER told so; so it is when
 * the word does not come within twice the --start-timeout and 2 s. False if another one waits to be held. */
bool ld_reload_ask_held(struct ld_host *host, struct ld_waiter *waiter);

/* Let the new generation that is held for WAITER become the service in the next turn; false if none is. */
bool ld_reload_commit(struct ld_host *host, const struct ld_waiter *waiter);

/* Whether a reload was asked for that has not begun. */
bool ld_reload_is_asked(const struct ld_host *host);

/* Forget a waiter. */
void ld_reload_forget(struct ld_host *host, struct ld_waiter *waiter);

/* Continue a reload, or begin one that was asked for. */
void ld_reload_step(struct ld_host *host);

/* Note that a reload was refused before it began, because the loop was held. */
void ld_reload_note_refused(struct ld_host *host);

/* Give up the reload under way, because the host stops. */
void ld_reload_abandon(struct ld_host *host);

/* estate.c */

/* Write what the host leaves to another program. Takes signals and unfinished lines, which can be given back. */
void ld_estate_write(struct ld_host *host, struct ld_handover *handover);
void ld_estate_give_back(struct ld_host *host, struct ld_handover *handover);

/* Take over what an earlier program has left, before the script is loaded: 0, or -1 with the reason in the
 * handover. Until the next call it is not used up. */
int ld_estate_restore(struct ld_host *host);

/* Make it all our own, because the script is the service, or because the daemon stops: there is no way back. */
void ld_estate_settle(struct ld_host *host);

/* recycling.c */

/* Ask for a reload if the generation is old, or its heap too large. */
void ld_recycling_step(struct ld_host *host);

/* watching.c */

/* Ask for a reload if a file that the service is made of has changed on disk. */
void ld_watching_step(struct ld_host *host);
void ld_watching_close(struct ld_host *host);

/* metrics.c */

/* Make the answer to a request for metrics, a new reference: the status and the lag of the loop, with what the
 * script counts, as its VERDICT has it (an answer of an eval, which is taken over). */
json_t *ld_metrics_answer(struct ld_host *host, json_t *verdict);

/* evals.c */

/* Run the chunk of a REQUEST of the client on FD in a turn of the loop; WAITER is told how that ended. Or
 * refuse: a new reference to the answer. */
json_t *ld_evals_ask(struct ld_host *host, struct ld_waiter *waiter, const json_t *request, int fd);

/* Interrupt the chunk of a waiter that is suspended or not begun, unless its client has gone: then it goes on.
 * One that holds the loop is interrupted by the thread that watches that. */
void ld_evals_interrupt(struct ld_host *host, const struct ld_waiter *waiter);

/* The same for a REQUEST for metrics, which the script's own functions collect. The answer is given in any case,
 * if need be without what the script counts. */
json_t *ld_evals_ask_metrics(struct ld_host *host, struct ld_waiter *waiter, const json_t *request,
                             int fd);

/* Forget a waiter. What its chunk has begun goes on. */
void ld_evals_forget(struct ld_host *host, const struct ld_waiter *waiter);

/* Begin what was asked for, and tell clients how theirs ended, or that their time is over. */
void ld_evals_step(struct ld_host *host);

/* Tell all clients that the daemon has stopped. */
void ld_evals_abandon(struct ld_host *host);

/* profiling.c */

/* Make a profile for the seconds of a REQUEST of the client on FD; WAITER is told in a turn of the loop. Or refuse: a new reference
 * to the answer. */
json_t *ld_profiling_ask(struct ld_host *host, struct ld_waiter *waiter, const json_t *request,
                         int fd);
void ld_profiling_forget(struct ld_host *host, const struct ld_waiter *waiter);
void ld_profiling_step(struct ld_host *host);

/* Tell the client what there is, because the daemon ends. */
void ld_profiling_abandon(struct ld_host *host);

/* heap_copy.c */

/* Walk over the heap in a copy of the process. Likewise. */
json_t *ld_heap_copy_ask(struct ld_host *host, struct ld_waiter *waiter, int fd);
void ld_heap_copy_forget(struct ld_host *host, const struct ld_waiter *waiter);
void ld_heap_copy_step(struct ld_host *host);
void ld_heap_copy_abandon(struct ld_host *host);

/* stop.c */

/* Stop for a reason ("stop", "exit"); a stop under way stays as it is. */
void ld_stop_begin(struct ld_host *host, const char *reason, int status);

/* The same because nothing is left to wait for; WHY is logged. */
void ld_stop_finish(struct ld_host *host, const char *why, int status);

/* Stop without waiting for anything. */
void ld_stop_now(struct ld_host *host, int status);

/* Kill every process that came from the script, but what was detached. */
void ld_stop_kill_left(void);

/* Continue the stop. */
void ld_stop_step(struct ld_host *host);

/* Log that all is over, unless the log says already that the script has finished. */
void ld_stop_log_end(const struct ld_host *host);

/* watchman.c */

/* Begin to watch the loop by a thread; 0 or a negative errno, and then none does. */
int ld_watchman_open(struct ld_host *host);

/* remnant.c */

/* Whether something of the service has to go on beside the next program: clients, on_stop functions, generations
 * that were replaced. */
bool ld_remnant_is_needed(const struct ld_host *host);

/* In the process forked for that: wait until the exec has happened, which closes the other end of GO, and begin
 * to end. PARENT is the process of the service. */
void ld_remnant_begin(struct ld_host *host, int go, pid_t parent);

/* Continue, and leave the process when all is done. */
void ld_remnant_step(struct ld_host *host);

/* upgrade.c */

/* In a worker, as its master says: by the request NUMBER try PROGRAM, which is taken over, and hold it; by another one
 * become it; or forget it. The code is that of the disk, or of the image that came before. */
void ld_upgrade_hold(struct ld_host *host, unsigned long number, int program);
void ld_upgrade_take_code(struct ld_host *host, int image);
void ld_upgrade_go(struct ld_host *host, unsigned long number);
void ld_upgrade_drop(struct ld_host *host);

/* Become the program of a REQUEST; as ld_evals_ask. */
json_t *ld_upgrade_ask(struct ld_host *host, struct ld_waiter *waiter, const json_t *request);
void ld_upgrade_forget(struct ld_host *host, const struct ld_waiter *waiter);

/* Begin to try the program; it is over when upgrade->trial is NULL, with the reason in upgrade->why if it failed. And end
 * it, if it runs, and forget it. */
void ld_upgrade_trial_begin(struct ld_host *host);
void ld_upgrade_trial_drop(struct ld_upgrade *upgrade);

/* Continue. In the process that is forked here, host->is_remnant is set when this returns. */
void ld_upgrade_step(struct ld_host *host);

/* Say how it ended, in the program that has taken over: HANDOVER is what was left to it. */
void ld_upgrade_finish(struct ld_host *host, const struct ld_handover *handover);

/* Give it up, because the host ends. */
void ld_upgrade_abandon(struct ld_host *host);

/* start.c */

/* Make the first generation and run its chunk. */
void ld_start_begin(struct ld_host *host);

/* Check whether it has become ready, or cannot. */
void ld_start_step(struct ld_host *host);

/* actions.c */

/* Note that a stop was asked for, by whomever: the keeper shall not start the service again. */
void ld_actions_note_stop(struct ld_host *host);

/* Stop on request; at the second request, stop now. */
void ld_actions_stop(struct ld_host *host);

/* Do what SIGHUP does without a handler. */
void ld_actions_hang_up(struct ld_host *host);

/* Stop, after a SIGHUP, if the terminal has gone. */
void ld_actions_watch_terminal(struct ld_host *host);

/* Reopen the log, here and in all workers, and say so in it; 0 or a negative errno. */
int ld_actions_reopen_log(struct ld_host *host);

/* Rotate the log: its rotator. ARG is the service. */
int ld_actions_rotate_log(void *arg);

/* Write the status report, or the traceback of everything that is suspended, to the log. */
void ld_actions_log_status(struct ld_host *host);
void ld_actions_log_traceback(struct ld_host *host);

/* log_watch.c */

/* Begin to watch the size of a log that is rotated; 0 or a negative errno. To be closed in either case. */
int ld_log_watch_open(struct ld_host *host);
void ld_log_watch_close(struct ld_host *host);

/* Have the log rotated if others have made it large enough. */
void ld_log_watch_step(struct ld_host *host);

/* signals.c */

/* Catch the signals that the host acts on, and unblock all; 0 or a negative errno. */
int ld_host_signals_open(struct ld_host *host);

/* Stop as the keeper, or the master, asks; SIGTERM may come to this process as well. */
void ld_host_signals_on_stop(struct ld_host *host);

/* Handle a message of the keeper. */
void ld_host_signals_on_keeper(uv_poll_t *poll, int status, int events);

/* Interrupt a script that keeps writing to a stdout without a reader; NULL: stop watching. */
void ld_host_signals_watch_reader(struct ld_host *host);

/* requests.c */

/* Serve requests on the control socket. */
void ld_requests_serve(struct ld_host *host);

/* turn.c */

/* Continue every part, once in a turn of the loop. */
void ld_turn_on_prepare(uv_prepare_t *prepare);

#endif
