/* One generation of a script: its struct, and its Lua state. What works on it is in the files
 * above: errors, interrupt, guard, handle, task, script. */
#ifndef LD_SCRIPT_STATE_H
#define LD_SCRIPT_STATE_H

#include <jansson.h>
#include <lua.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/queue.h>
#include <uv.h>

#include "engine/child.h"
#include "engine/guest.h"
#include "engine/listener.h"
#include "engine/timers.h"
#include "engine/wall_clock.h"
#include "script/errors.h"
#include "script/heap.h"
#include "script/memory.h"
#include "script/source.h"
#include "script/stage.h"

struct ld_timer_due;
struct ld_caller;
struct ld_handle;
struct ld_mail;
struct ld_mail_drafts;
struct ld_parcels;
struct ld_script;
struct ld_shares;
struct ld_slices;
struct ld_workers;
struct ld_written;

/* What a host gives its scripts; it outlives them. */
struct ld_setup {
    uv_loop_t *loop;
    struct ld_children *children;
    struct ld_reaper *reaper;
    struct ld_lag *lag;
    struct ld_listeners *listeners;
    struct ld_readiness *readiness;
    struct ld_parcels *parcels;
    struct ld_mail *mail; /* messages between workers; NULL once the host closes */
    struct ld_mail_drafts *mail_drafts;
    const struct ld_source *source;
    const char *name;            /* the daemon's */
    const char *run_dir;         /* of its pidfile; NULL: none */
    const char *place;           /* the script's path, "(command line)" or "stdin" */
    int worker;                  /* which of the workers this is, from 1 on; 1 without workers */
    int workers;                 /* how many there are, or are to be with the next generation */
    struct ld_workers *channels; /* of a master to its workers; NULL for all others */
    const char *prepare;         /* of a master: what workers are told when they are to prepare */
    const bool *is_rollback;     /* of a master: the next generation goes back to the code before */
    bool
        takes_over; /* of a master: the next generation goes on with workers of an earlier program */
    struct ld_text *unproved; /* of a master: why the code of a worker has failed its probation */
    bool *from_disk; /* of a master: set: a worker that is started now is not made from a memory */
    struct ld_shares *shares; /* of a master: the sockets of its workers */
    int workers_now; /* of a master: how many there are until the next generation is the service */
    const struct ld_text
        *text; /* of a master: the script, if it is neither a file nor one of the words; or NULL */
    char *const *worker_words; /* of a master: what a worker is started by */
    bool daemon;               /* not in the foreground */
    bool
        holds_kept; /* the children that a generation keeps and the next did not ask for are held */
    bool dropped;   /* a keeper has the rights that were given up */
    bool wait_ready;            /* ready only by lunad.ready() */
    char *const *words;         /* the command line: the script's arguments follow words[script] */
    int script;                 /* index of the script in words */
    const char *path;           /* before package.path, or NULL */
    const char *cpath;          /* before package.cpath, or NULL */
    struct ld_texts *texts;     /* of the files that they are made of */
    struct ld_written *written; /* of files that they write; NULL: --watch is not given */
    struct ld_tally *tally;     /* of uncaught errors */
    struct ld_laps *laps;       /* how long callbacks take; NULL: that is not measured */
    int64_t silent_since;  /* ld_time_real; no generation has run a cron job since then, because the
                                   process became another program; 0: one runs */
    uint64_t memory_limit; /* of the Lua heap of each, in bytes; 0: none */
    lua_Alloc alloc;       /* NULL: the usual one */
    void *alloc_arg;
    lua_CFunction open_libraries; /* called with the script's state, after Lua's own are open */
    const char
        *spec; /* the Lua to run before the script, of a service that a spec runs; "": specs run
                         here; NULL: neither */
    json_t *(*snapshot)(void *host); /* the status report, a new reference or NULL */
    void *host;
};

/* What a script asks of its host. */
enum ld_want { LD_WANT_RELOAD = 1, LD_WANT_STOP = 2, LD_WANT_EXIT = 4, LD_WANT_STATUS = 8 };

/* How far the main chunk is. */
enum ld_chunk { LD_CHUNK_RUNS, LD_CHUNK_RETURNED, LD_CHUNK_FAILED };

/* What is needed often is on the stack of a coroutine that never runs, at these places: it is found
 * without a search in the registry. That stack also passes values to tasks. */
enum ld_shelf {
    LD_SHELF_CALLBACKS = 1, /* a table of what timers call */
    LD_SHELF_TIMER_TYPE,    /* their metatable */
    LD_SHELF_SIGNALS,       /* a table of what handles signals */
    LD_SHELF_TIMER_NAMES,   /* a table of the names of timers, by the timer */
    LD_SHELF_BOX_NAMES,     /* a table of the names of what scripts hold, by that; weak */
    LD_SHELF_HANDED,        /* what on_reload has returned, until it is saved; or nil */
    LD_SHELF_ANCHORS,       /* a table of what keeps the coroutines of tasks, by `anchor` */
    LD_SHELF_TASK_TYPE,     /* the metatable of what scripts hold of tasks */
    LD_SHELF_END,
};

enum ld_task_state { LD_TASK_IDLE, LD_TASK_RUNNING, LD_TASK_SUSPENDED };

/* How a task ended. */
enum ld_outcome { LD_OUTCOME_OK, LD_OUTCOME_FAILED, LD_OUTCOME_CANCELLED };

/* Suspended tasks that wait for one thing, in the order they came. */
TAILQ_HEAD(ld_task_queue, ld_task);

/* A coroutine that runs a callback; see task.h. */
struct ld_task {
    struct ld_script *script;
    lua_State *co;
    uint32_t anchor; /* the index of what keeps co: itself, or the owner that keeps it */
    enum ld_task_state state : 8;
    enum ld_heap_user heap_user : 8; /* what it may allocate */
    bool cancelled;                  /* the error is still to be raised */
    bool was_cancelled;              /* it was raised */
    bool is_listed;                  /* among the script's tasks: it was suspended once */
    bool is_known;                   /* the script has seen its coroutine, and may keep it */
    bool is_late;             /* the script began it when it had been replaced: its end is logged */
    bool has_failed;          /* its coroutine has ended by an error */
    const char *what;         /* for messages: "a timer", "the script" */
    char *name;               /* that the script gave it or its timer, or NULL; its own copy */
    const char *waits_for;    /* while suspended: "sleep", … */
    struct ld_caller *caller; /* the client that it runs for, or NULL */
    union {
        /* Undo what the suspended task waits for, before it is cancelled; NULL if it is only in a queue. */
        void (*abandon)(struct ld_task *task);
        /* During on_end after an error: the message and the traceback. */
        const struct ld_text *trace;
    };
    /* Told, if set, when the task has ended. Its results, RESULTS of them, or the error message
     * are on the top of co. Errors are reported if this returns false. Must not raise. */
    bool (*on_end)(struct ld_task *task, enum ld_outcome outcome, int results);
    union { /* on_end's */
        void *owner;
        uint64_t number;
    };
    union {
        uint64_t timer; /* abandon's too, while it sleeps */
        void *awaited;  /* the same, while it waits for something else */
    };
    uint64_t since;              /* ld_time_coarse when it was suspended */
    LIST_ENTRY(ld_task) link;    /* of the script's tasks, if it is listed, or of the idle ones */
    struct ld_task_queue *queue; /* the one that the suspended task is in, or NULL */
    TAILQ_ENTRY(ld_task) place;  /* in that */
};

/* A walk over the tasks of a script that are listed, see ld_task_cursor_begin. */
struct ld_task_cursor {
    struct ld_task *next;
    LIST_ENTRY(ld_task_cursor) link;
};

/* The tasks of a script. */
struct ld_tasks {
    struct ld_task root;            /* the main coroutine, which runs no callback */
    LIST_HEAD(, ld_task) suspended; /* that are or were suspended, and have not ended */
    size_t suspended_count;
    LIST_HEAD(, ld_task_cursor) cursors;
    LIST_HEAD(, ld_task) idle; /* whose coroutines can be used again */
    size_t idle_count;
    uint32_t anchors;           /* how many indices there are; 0 is none */
    uint32_t free_anchor;       /* one that keeps nothing, and has the next of those in its place */
    struct ld_task_queue woken; /* to go on when the current call is over */
    bool is_waking;             /* those are going on now */
    struct ld_task *current;    /* the innermost that runs, or NULL */
};

/* A coroutine that runs, and the level that has resumed it (NULL: the host). On the C stack of who
 * resumes it. */
struct ld_level {
    lua_State *co;
    struct ld_level *outer;
    struct ld_script *before; /* the script whose code ran before, or NULL */
};

/* The interruption of a script; a signal handler reads and writes it. */
struct ld_interruption {
    struct ld_level *volatile level; /* of the coroutine that runs, or NULL */
    lua_State *volatile running;     /* the coroutine that runs, or NULL */
    volatile bool is_under_way;      /* the Lua code is being unwound */
    const char *volatile reason;     /* static */
};

struct ld_script {
    const struct ld_setup *setup;
    lua_State *L;
    unsigned generation;
    struct ld_memory *memory; /* what it is made of */
    struct ld_memory *recall; /* what it is made from, in the place of the disk, or NULL */
    enum ld_stage stage;
    struct ld_timers *timers;
    struct ld_timer_due *due;    /* what the function of a task that begins is to call, or NULL */
    lua_State *shelf;            /* see enum ld_shelf */
    const void *timer_type;      /* their metatable's address */
    int64_t loaded_at;           /* ld_time_real before its text was read */
    struct ld_wall_clock *clock; /* of cron timers, if there are any */
    struct ld_guest *guest;      /* of luv, if it is used */
    LIST_HEAD(, ld_handle) handles;         /* the half of them that libuv knows */
    LIST_HEAD(, ld_accept) accepts;         /* calls that wait for a client */
    LIST_HEAD(, ld_connection) connections; /* of other libraries than luv */
    struct ld_heap heap;
    size_t commands; /* of lunad.exec that have not finished */
    size_t keepers;  /* things that keep the script alive, beside timers and tasks */
    struct ld_tasks tasks;
    struct ld_interruption interruption;
    struct ld_errors errors;

    struct {
        uint32_t handlers;
        uint64_t count; /* deliveries */
    } signals[65];

    struct {
        unsigned self;     /* which worker it is of */
        int workers;       /* how many there are, as it knows it */
        size_t topics;     /* that have functions */
        size_t running;    /* calls of those that have not ended */
        size_t unheard;    /* topics that were logged as having none */
        bool was_replaced; /* by a generation that "next" is */
    } messages;

    enum ld_chunk chunk;
    bool said_ready;         /* lunad.ready() was called */
    bool gave_up;            /* a supervisor of it has */
    bool is_being_replaced;  /* a reload is under way: what it hands on is not read */
    bool on_probation;       /* the service, until it has proved itself; read by a signal handler */
    volatile bool was_stuck; /* then: a callback was interrupted, as it held the loop */
    bool exited;             /* by os.exit, in whatever stage: nothing of it runs from then on */
    bool halted; /* nothing of it is called until it is closed: the loop turns for the last time */
    unsigned wants;  /* of enum ld_want */
    int exit_status; /* that it wants */
    struct {
        const char *reason; /* what on_stop functions are told */
        bool done;          /* they have all run */
    } on_stop;
    struct ld_text status_text; /* of lunad.status() */

    struct ld_slices *slices; /* in which its state is closed, or NULL */
    bool finalizers_over;     /* of its state, all of them: the rest of its end is freeing memory */
    TAILQ_ENTRY(ld_script) in_slices; /* of the scripts whose states are */
};

/* Make the Lua state of a script, with all libraries; 0 or -ENOMEM, with the reason in WHY. It is to be
 * closed in either case. */
int ld_state_open(struct ld_script *script, struct ld_text *why);

/* Collect garbage: once, and if the heap has more than ENOUGH bytes then, once more, which frees what had a
 * finalizer. Outside of any task. */
void ld_state_collect(struct ld_script *script, size_t enough);

/* Close it, if there is one. */
void ld_state_close(struct ld_script *script);

/* The script that a state, or any coroutine of it, belongs to. */
struct ld_script *ld_state_script(lua_State *L);

/* Put the value at the top, which is popped, on the shelf; push it from there. */
void ld_state_shelve(lua_State *L, enum ld_shelf place);
void ld_state_push_shelved(lua_State *L, enum ld_shelf place);

/* Raise unless the script may start something new, which ends with it. The error has the text
 * ld_state_over in it. */
extern const char ld_state_over[];
void ld_state_check_active(lua_State *L);

/* The same for WHAT is only for a script that has not been replaced. */
void ld_state_check_current(lua_State *L, const char *what);

/* Call FUNCTION with ARG as light userdata, protected, outside of any task. 0, or -1 with the
 * message in WHY (which may be NULL). */
int ld_state_protect(struct ld_script *script, lua_CFunction function, void *arg,
                     struct ld_text *why);

/* The same, on behalf of what runs: with no more memory than that may have. */
int ld_state_protect_as_is(struct ld_script *script, lua_CFunction function, void *arg,
                           struct ld_text *why);

#endif
