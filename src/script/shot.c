#include "script/shot.h"

#include <errno.h>
#include <lua.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/base.h"
#include "base/log.h"
#include "base/time.h"
#include "script/allow.h"
#include "script/caller.h"
#include "script/interrupt.h"

static const char stuck_reason[] =
    "interrupted, as it held the loop while its code is on probation";

/* Who may use the trace. */
enum owner { SHOOTER_HAS_NONE, SHOOTER_HAS_ONE };

static struct {
    bool is_open;
    pid_t thread; /* that runs Lua */
    void (*volatile on_timer[LD_SHOT_TIMERS])(void);

    /* Written by the other thread. */
    atomic_uint wants;
    atomic_ulong call;
    atomic_ullong since;
    _Atomic(const char *) reason;

    /* The last trace: the thread that runs Lua writes it, the other one fetches it. */
    atomic_int owner;
    struct ld_sight sight;

    /* Of the thread that runs Lua, and its handler. */
    volatile bool is_in_hook;
    unsigned long last_call; /* that was shot at */
    unsigned long last_hits;
    lua_Alloc allocator; /* that ours has replaced */
    struct {
        lua_State *co; /* NULL: none */
        lua_Hook hook;
        int mask;
        int count;
    } before; /* the hook of the script that ours has replaced */
} shot;

/* Log what holds the loop, and since when. */
static void log_sight(const struct ld_sight *sight) {
    struct ld_text text = {0};
    const struct ld_sight_call *place = ld_sight_place(sight);
    uint64_t held = ld_time_monotonic() - atomic_load(&shot.since);
    if (place != NULL) {
        ld_text_format(&text, "%s%s:%d",
                       sight->is_c ? ", in a C function that was called at " : " at ", place->path,
                       place->line);
    } else if (sight->count == 0) {
        ld_text_puts(&text, ", and no Lua code runs");
    }
    if (sight->count > 0) {
        ld_sight_add(&text, sight);
    }
    ld_log_with(LD_LOG_WARN, &text, "%s has held the loop for %.1f s",
                sight->what != NULL ? sight->what : "something", (double)held / LD_TIME_SECOND);
    ld_text_fini(&text);
}

/* Claim the wants in SET that are still to be done. */
static unsigned claim(unsigned set) {
    return atomic_fetch_and(&shot.wants, ~set) & set;
}

/* Hand where SCRIPT is to the other thread, unless it has not fetched the last one. */
static void hand_over(const struct ld_script *script, bool is_c) {
    if (atomic_load(&shot.owner) == SHOOTER_HAS_ONE) {
        return;
    }
    ld_sight_take(&shot.sight, script, is_c);
    atomic_store(&shot.owner, SHOOTER_HAS_ONE);
}

/* Whether the call that is meant still runs. */
static bool is_meant(void) {
    return atomic_load_explicit(&ld_interrupt_calls, memory_order_relaxed) ==
           atomic_load(&shot.call);
}

/* Give the script its hook back. */
static void restore_hook(lua_State *L) {
    if (shot.before.co == L) {
        lua_sethook(L, shot.before.hook, shot.before.mask, shot.before.count);
        shot.before.co = NULL;
    } else {
        lua_sethook(L, NULL, 0, 0);
    }
}

/* Look at Lua code that runs, and continue it. */
static void look(lua_State *L, lua_Debug *ar) {
    static struct ld_sight sight; /* the other thread may not have fetched the last one */
    (void)ar;
    shot.is_in_hook = true;
    atomic_fetch_add_explicit(&ld_interrupt_hits, 1, memory_order_relaxed);
    restore_hook(L);
    const struct ld_script *script = ld_interrupt_current;
    if (script != NULL && is_meant()) {
        unsigned wants = claim(LD_SHOT_TRACE | LD_SHOT_REPORT);
        if (wants != 0) {
            hand_over(script, false);
        }
        if ((wants & LD_SHOT_REPORT) != 0) {
            ld_sight_take(&sight, script, false);
            log_sight(&sight);
        }
    }
    shot.is_in_hook = false;
}

/* Whether a coroutine has our hook. */
bool ld_shot_has_hook(lua_State *co) {
    return lua_gethook(co) == look;
}

/* Set our hook, unless the code is being interrupted, or runs in a hook of the script. */
static void set_hook(lua_State *co) {
    lua_Hook hook = lua_gethook(co);
    if (ld_interrupt_has_hook(co) || (hook != NULL && hook != look && !ld_allow_has_hooks(co))) {
        return;
    }
    if (hook != NULL && hook != look) {
        shot.before.hook = hook;
        shot.before.mask = lua_gethookmask(co);
        shot.before.count = lua_gethookcount(co);
        shot.before.co = co;
    }
    lua_sethook(co, look, LUA_MASKCOUNT, 1);
    ld_allow_hooks(co);
}

/* Lua's allocator while a C function is watched that may be moving Lua's stacks: what it does here shows
 * that they are whole now. */
static void *allocate(void *arg, void *block, size_t old_size, size_t new_size) {
    struct ld_script *script = arg;
    lua_setallocf(script->L, shot.allocator, script);
    bool moves =
        block != NULL && new_size > 0; /* perhaps a stack, which some versions take apart before */
    if (!moves && script == ld_interrupt_current && is_meant()) {
        hand_over(script, true);
    }
    return shot.allocator(script, block, old_size, new_size);
}

/* Describe the Lua code that has called a C function: at once, if nothing has been allocated since the last
 * shot, or else when something is. */
static void look_at_c(struct ld_script *script) {
    void *arg;
    lua_Alloc allocator = lua_getallocf(script->L, &arg);
    if (allocator == allocate) {
        lua_setallocf(script->L, shot.allocator, script);
        hand_over(script, true);
    } else {
        shot.allocator = allocator;
        lua_setallocf(script->L, allocate, script);
    }
}

/* The reason to interrupt what runs, if it is wanted; NULL: do not. */
static const char *find_reason(const struct ld_script *script, unsigned wants) {
    const struct ld_caller *caller = ld_interrupt_caller(script);
    if ((wants & LD_SHOT_CALLER) != 0 && caller != NULL && atomic_load(&caller->is_due)) {
        return caller->reason;
    }
    if ((wants & LD_SHOT_INTERRUPT) != 0) {
        return atomic_load(&shot.reason);
    }
    return (wants & LD_SHOT_STUCK) != 0 && script->on_probation ? stuck_reason : NULL;
}

/* Be shot. */
static void be_shot(void) {
    struct ld_script *script = ld_interrupt_current;
    unsigned wants = atomic_load(&shot.wants);
    if (wants == 0 || shot.is_in_hook || !is_meant()) {
        return;
    }
    if (script == NULL) {
        hand_over(NULL, false);
        return;
    }
    unsigned long hits = atomic_load_explicit(&ld_interrupt_hits, memory_order_relaxed);
    bool is_c = shot.last_call == atomic_load(&shot.call) && hits == shot.last_hits;
    const char *reason = find_reason(script, wants);
    if (reason != NULL) {
        script->was_stuck = script->was_stuck || reason == stuck_reason;
        script->interruption.reason = reason;
        ld_interrupt(script);
    } else if (script->interruption.running != NULL) {
        set_hook(script->interruption.running);
    }
    if (is_c) {
        look_at_c(script);
    }
    shot.last_call = atomic_load(&shot.call);
    shot.last_hits = hits;
}

/* Handle the signal. */
static void on_signal(int signo, siginfo_t *info, void *context) {
    int saved = errno;
    (void)signo;
    (void)context;
    if (info->si_code == SI_TIMER) {
        unsigned timer = (unsigned)info->si_value.sival_int;
        if (timer < LD_SHOT_TIMERS && shot.on_timer[timer] != NULL) {
            shot.on_timer[timer]();
        }
    } else if (gettid() == shot.thread) {
        be_shot();
    }
    errno = saved;
}

/* Catch the signal. System calls that can be continued are. A fault in the handler is to be reported like any
 * other: one that is blocked ends the process without a word. */
int ld_shot_open(void) {
    static const int faults[] = {SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGABRT};
    struct sigaction action = {.sa_sigaction = on_signal, .sa_flags = SA_SIGINFO | SA_RESTART};
    sigfillset(&action.sa_mask);
    for (size_t i = 0; i < LD_COUNT(faults); i++) {
        sigdelset(&action.sa_mask, faults[i]);
    }
    if (!shot.is_open) {
        if (sigaction(SIGSTKFLT, &action, NULL) < 0) {
            return -errno;
        }
        shot.thread = gettid();
        shot.is_open = true;
    }
    return 0;
}

/* Aim at this thread. */
void ld_shot_renew(void) {
    shot.thread = gettid();
}

/* Have a function called for a timer. */
void ld_shot_on_timer(enum ld_shot_timer timer, void (*function)(void)) {
    shot.on_timer[timer] = function;
}

/* Shoot. */
void ld_shot_send(const struct ld_shot *aim) {
    atomic_store(&shot.since, aim->since);
    atomic_store(&shot.reason, aim->reason);
    atomic_store(&shot.call, aim->call);
    atomic_fetch_or(&shot.wants, aim->wants);
    syscall(SYS_tgkill, getpid(), shot.thread, SIGSTKFLT);
}

/* Give up what has not been done. */
void ld_shot_cancel(void) {
    claim(~0U);
}

/* Fetch a trace. */
bool ld_shot_fetch(struct ld_sight *sight) {
    if (atomic_load(&shot.owner) != SHOOTER_HAS_ONE) {
        return false;
    }
    *sight = shot.sight;
    bool is_lua = sight->count > 0 && !sight->is_c;
    if (!is_lua) {
        if ((claim(LD_SHOT_TRACE | LD_SHOT_REPORT) & LD_SHOT_REPORT) != 0) {
            log_sight(sight);
        }
    }
    atomic_store(&shot.owner, SHOOTER_HAS_NONE);
    return true;
}
