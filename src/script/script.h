/* A script: one generation of it, that is, one Lua state and everything that it made.
 *
 * Only task.c calls into Lua from outside; what a callback does with the state, the pushing of
 * arguments too, happens inside that protected call. Nothing here calls upwards: a script that
 * wants something of its host says so in `wants`, and the host looks after the call. */
#ifndef LD_SCRIPT_SCRIPT_H
#define LD_SCRIPT_SCRIPT_H

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
#include "script/source.h"

struct ld_handle;
struct ld_task;

/* What a host lends to its scripts; it outlives them. */
struct ld_setup {
    uv_loop_t *loop;
    struct ld_children *children;
    struct ld_reaper *reaper;
    struct ld_lag *lag;
    struct ld_listeners *listeners;
    const struct ld_source *source;
    const char *name;   /* the daemon's */
    const char *place;  /* the script's path, "(command line)" or "stdin" */
    bool daemon;        /* not in the foreground */
    bool dropped;       /* a keeper has the rights that were given up */
    bool wait_ready;    /* ready only by lunad.ready() */
    char *const *words; /* the command line: the script's arguments follow words[script] */
    int script;         /* index of the script in words */
    const char *path;   /* before package.path, or NULL */
    const char *cpath;  /* before package.cpath, or NULL */
    lua_Alloc alloc;    /* NULL: the usual one */
    void *alloc_arg;
    lua_CFunction open_libraries; /* called with the script's state, all of lunad's in it */
    uint64_t *late_errors;        /* counts those of replaced scripts that are closing; or NULL */
    json_t *(*snapshot)(void *host); /* the status report, a new reference or NULL */
    void *host;
};

/* What a script asks of its host. */
enum ld_want { LD_WANT_RELOAD = 1, LD_WANT_STOP = 2, LD_WANT_EXIT = 4, LD_WANT_STATUS = 8 };

/* What a generation is to the host. */
enum ld_stage { LD_STAGE_NEW, LD_STAGE_SERVICE, LD_STAGE_REPLACED };

/* What is needed often lies on the stack of a coroutine that never runs, at these places: it is found
 * without a look into the registry. That stack is for passing values to tasks as well. */
enum ld_shelf {
    LD_SHELF_CALLBACKS = 1, /* a table of what timers call */
    LD_SHELF_TIMER_TYPE,    /* their metatable */
    LD_SHELF_SIGNALS,       /* a table of what handles signals */
    LD_SHELF_END,
};

struct ld_script {
    const struct ld_setup *setup;
    lua_State *L;
    unsigned generation;
    struct ld_timers *timers;
    lua_State *shelf;               /* see enum ld_shelf */
    const void *timer_type;         /* their metatable's address */
    struct ld_wall_clock *clock;    /* of cron timers, if there are any */
    struct ld_guest *guest;         /* of luv, if it is used */
    LIST_HEAD(, ld_handle) handles; /* the half of them that libuv knows */
    size_t heap;                    /* bytes that Lua has */
    size_t commands;                /* of lunad.exec that have not finished */
    size_t keepers;                 /* things that keep the script alive, beside timers and tasks */

    struct ld_task *root;       /* what stands for no task, in the main coroutine's place */
    LIST_HEAD(, ld_task) tasks; /* that are or were suspended, and have not ended */
    LIST_HEAD(, ld_task) idle;  /* whose coroutines can be used again */
    size_t idle_count;
    struct ld_task *woken; /* to go on when the current call is over, first and last */
    struct ld_task *woken_last;
    bool is_waking;                        /* those are going on now */
    struct ld_task *current;               /* the innermost that runs, or NULL */
    lua_State *volatile running;           /* the coroutine that runs; read by a signal handler */
    volatile bool interrupted;             /* its Lua code is being unwound */
    const char *volatile interrupt_reason; /* static */

    struct {
        uint32_t handlers;
        uint64_t count; /* deliveries */
    } signals[65];

    unsigned wants;  /* of enum ld_want */
    int exit_status; /* that it wants */
    bool chunk_done; /* its chunk has returned or failed */
    bool chunk_failed;
    bool gave_up;      /* a supervisor of it has */
    bool gave_control; /* its chunk has returned or yielded */
    bool said_ready;   /* lunad.ready() was called */
    bool is_service;   /* it has become ready, and was made the service */
    enum ld_stage stage;
    bool exited;             /* by os.exit: nothing of it runs any more */
    bool retired;            /* stopping, or closing: it may not start anything new */
    bool closing;            /* it is being closed: no task begins, nothing suspends */
    bool is_closed;          /* all but its state, which luv may still have a request for */
    const char *stop_reason; /* what on_stop functions are told */
    bool stop_done;          /* they have all run */

    int on_error;   /* reference to the function that sees errors, or LUA_NOREF */
    bool reporting; /* that function runs, and has not been suspended */
    uint64_t error_count;
    struct ld_text last_error;   /* without its traceback */
    double last_error_time;      /* Unix time */
    const struct ld_text *trace; /* during on_end of a task that failed: error and traceback */
    struct ld_text first_error;  /* with its traceback: why a start failed */
    struct ld_text status_text;  /* of lunad.status() */
};

/* Make a generation with its libraries; 0 or a negative errno with the reason in WHY. */
int ld_script_new(struct ld_script **out, const struct ld_setup *setup, unsigned generation,
                  struct ld_text *why);

/* Compile its source; 0 or a negative errno with the reason in WHY. */
int ld_script_load(struct ld_script *script, struct ld_text *why);

/* Run the chunk until it first gives control back. */
void ld_script_start(struct ld_script *script);

/* Whether it has become ready. */
bool ld_script_is_ready(const struct ld_script *script);

/* Whether anything of it is left that can still do something. */
bool ld_script_is_alive(const struct ld_script *script);

/* End all of its tasks, give up what it made, and close the state. Not from inside a call. Where
 * luv has requests in flight (files, names, threads) that cannot be taken back, the state is closed
 * when they are done; until then nothing of it runs. What tasks do at their end is interrupted after
 * a while. */
void ld_script_close(struct ld_script *script);

/* Let no client come to it any more: what it still listens on is closed, or deaf. */
void ld_script_deafen(struct ld_script *script);

/* How many scripts are closed but for such requests. */
size_t ld_script_pending(void);

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

/* Log an uncaught error, count it, and show it to the script's on_error function. WHAT says where
 * it happened ("a timer"), TRACE is the message with its traceback, MESSAGE_SIZE of it the message;
 * one that there was no memory for becomes an error that says so. */
void ld_task_report(struct ld_script *script, const char *what, const struct ld_text *trace,
                    size_t message_size);

#endif
