#include "script/profile.h"

#include <errno.h>
#include <lua.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "base/base.h"
#include "base/text.h"
#include "script/interrupt.h"
#include "script/shot.h"
#include "script/trace.h"

#ifndef sigev_notify_thread_id
#define sigev_notify_thread_id _sigev_un._tid
#endif

#define PERIOD_NS  4990000L /* a little less than 5 ms: not in step with timers of whole ones */
#define CALLS_MAX  60       /* of one coroutine */
#define FRAMES_MAX 160      /* of all in each other */
#define FRAME_SIZE 200
#define BUCKETS    4096
#define TEXT_MOST  ((size_t)4 << 20) /* of all stacks; what does not fit is counted together */

/* A stack, and how often it was seen. */
struct stack {
    struct stack *next;
    uint64_t count;
    size_t size;
    char text[];
};

/* The calls that are being noted, the innermost first. */
struct frames {
    size_t count;
    bool skips_first;
    char texts[FRAMES_MAX][FRAME_SIZE];
};

static struct {
    bool is_made;
    bool is_on;
    timer_t timer;

    /* Of the handler and the hook. */
    volatile bool is_in_hook;
    volatile uint64_t due;  /* ticks whose stack is to be counted when the hook is called */
    lua_State *volatile co; /* it was set on */
    volatile unsigned long call;
    struct {
        lua_State *co; /* NULL: none */
        lua_Hook hook;
        int mask;
        int count;
    } before; /* the hook of the script that ours has replaced */

    volatile uint64_t outside;
    volatile uint64_t missed;
    uint64_t samples;
    struct stack *buckets[BUCKETS];
    uint64_t others; /* of stacks for which there is no room */
    size_t used;
} profile;

/* The number of the call that runs. */
static unsigned long current_call(void) {
    return atomic_load_explicit(&ld_interrupt_calls, memory_order_relaxed);
}

/* Find where a stack is counted. */
static struct stack **find(const char *text, size_t size) {
    unsigned long hash = 5381;
    for (size_t i = 0; i < size; i++) {
        hash = hash * 33 + (unsigned char)text[i];
    }
    struct stack **place = &profile.buckets[hash % BUCKETS];
    while (*place != NULL && ((*place)->size != size || memcmp((*place)->text, text, size) != 0)) {
        place = &(*place)->next;
    }
    return place;
}

/* Count a stack. */
static void count(const struct ld_text *text, uint64_t times) {
    struct stack **place = find(ld_text_string(text), text->size);
    size_t size = sizeof(struct stack) + text->size;
    profile.samples += times;
    if (*place == NULL && profile.used + size <= TEXT_MOST) {
        *place = calloc(1, size);
        if (*place != NULL) {
            (*place)->size = text->size;
            memcpy((*place)->text, ld_text_string(text), text->size);
            profile.used += size;
        }
    }
    if (*place != NULL) {
        (*place)->count += times;
    } else {
        profile.others += times;
    }
}

/* Note a call. */
static void note_call(void *arg, const struct ld_trace_call *call) {
    struct frames *frames = arg;
    bool is_first = call->coroutine == 0 && call->level == 0;
    if (frames->count == FRAMES_MAX || (is_first && frames->skips_first)) {
        return;
    }
    char *text = frames->texts[frames->count++];
    const char *name = call->name != NULL ? call->name : call->is_main ? "main chunk" : "function";
    if (call->begins > 0 || call->is_main) {
        const char *cut =
            strlen(call->path) > 120 ? call->path + strlen(call->path) - 120 : call->path;
        snprintf(text, FRAME_SIZE, call->is_main ? "%.60s %s" : "%.60s %s:%d", name, cut,
                 call->begins);
    } else {
        snprintf(text, FRAME_SIZE, "%.60s [C]", call->name != NULL ? call->name : "?");
    }
}

/* Add a frame: a semicolon would end it, and a control character a line. */
static void add_frame(struct ld_text *text, const char *frame) {
    size_t from = text->size;
    if (from > 0) {
        ld_text_putc(text, ';');
        from++;
    }
    ld_text_add_utf8(text, frame, strlen(frame));
    for (size_t i = from; i < text->size; i++) {
        unsigned char byte = (unsigned char)text->data[i];
        bool is_c1 = byte == 0xC2 && (unsigned char)text->data[i + 1] < 0xA0;
        if (byte < ' ' || byte == ';' || byte == 0x7F) {
            text->data[i] = '_';
        } else if (is_c1) {
            text->data[i] = '_';
            text->data[i + 1] = '_';
        }
    }
}

/* Add what runs: the outermost task, with its name. */
static void add_root(struct ld_text *text, const struct ld_script *script) {
    const struct ld_level *level = script->interruption.level;
    char root[FRAME_SIZE];
    while (level != NULL && level->outer != NULL) {
        level = level->outer;
    }
    const struct ld_task *task =
        level != NULL ? *(struct ld_task **)lua_getextraspace(level->co) : NULL;
    const char *what = task != NULL && task->what != NULL ? task->what : "lunad";
    const char *space = strchr(what, ' ');
    bool has_article = strncmp(what, "a ", 2) == 0 || strncmp(what, "an ", 3) == 0 ||
                       strncmp(what, "the ", 4) == 0;
    what = has_article && space != NULL ? space + 1 : what;
    bool is_named = task != NULL && task->name != NULL;
    snprintf(root, sizeof root, "%s%s%.120s", what, is_named ? " " : "",
             is_named ? task->name : "");
    add_frame(text, root);
}

/* Count what runs, TIMES; the call of a C function that has just called Lua is the second. */
static void take(const struct ld_script *script, bool skips_first, uint64_t times) {
    static struct frames frames;
    static struct ld_text text;
    frames.count = 0;
    frames.skips_first = skips_first;
    ld_trace_walk(script, CALLS_MAX, note_call, &frames);
    while (frames.count > 0 && strcmp(frames.texts[frames.count - 1], "? [C]") == 0) {
        frames.count--; /* our own first functions, or one without a name that they call */
    }
    ld_text_clear(&text);
    add_root(&text, script);
    for (size_t i = frames.count; i > 0; i--) {
        add_frame(&text, frames.texts[i - 1]);
    }
    count(&text, times);
}

/* Give the script its hook back. */
static void restore_hook(lua_State *L) {
    if (profile.before.co == L) {
        lua_sethook(L, profile.before.hook, profile.before.mask, profile.before.count);
        profile.before.co = NULL;
    } else {
        lua_sethook(L, NULL, 0, 0);
    }
}

/* Be called as a hook. A coroutine that was made meanwhile has it too, and so has one that was suspended
 * before it was called: then nothing is due for it. */
static void sample(lua_State *L, lua_Debug *ar) {
    const struct ld_script *script = ld_interrupt_current;
    bool calls = ar->event == LUA_HOOKCALL || ar->event == LUA_HOOKTAILCALL;
    profile.is_in_hook = true;
    atomic_fetch_add_explicit(&ld_interrupt_hits, 1, memory_order_relaxed);
    restore_hook(L);
    uint64_t due = profile.due;
    if (due > 0 && profile.co == L && script != NULL && profile.call == current_call()) {
        profile.due = 0;
        take(script, calls, due);
    }
    profile.is_in_hook = false;
}

/* Set the hook on what runs; false if that has a hook that cannot be put aside. */
static bool set_hook(lua_State *co) {
    lua_Hook hook = lua_gethook(co);
    if (ld_interrupt_has_hook(co) || ld_shot_has_hook(co)) {
        return false;
    }
    if (profile.before.co == co && hook != sample) {
        profile.before.co = NULL; /* the script has set another one meanwhile */
    }
    if (hook != NULL && hook != sample) {
        if (profile.before.co != NULL) {
            return false;
        }
        profile.before.hook = hook;
        profile.before.mask = lua_gethookmask(co);
        profile.before.count = lua_gethookcount(co);
        profile.before.co = co;
    }
    lua_sethook(co, sample, LUA_MASKCALL | LUA_MASKRET | LUA_MASKCOUNT, 1);
    return true;
}

/* Handle a tick of CPU time. */
static void on_tick(void) {
    const struct ld_script *script = ld_interrupt_current;
    lua_State *co = script != NULL ? script->interruption.running : NULL;
    if (!profile.is_on) {
        return;
    }
    if (profile.due > 0 && (profile.co != co || profile.call != current_call())) {
        profile.missed += profile.due; /* it never came to the hook */
        profile.due = 0;
    }
    if (co == NULL) {
        profile.outside++;
    } else if (profile.is_in_hook || !set_hook(co)) {
        profile.missed++;
    } else {
        profile.co = co;
        profile.call = current_call();
        profile.due++;
    }
}

/* Make the timer, once. */
static int make(void) {
    struct sigevent event = {.sigev_notify = SIGEV_THREAD_ID, .sigev_signo = SIGSTKFLT};
    event.sigev_value.sival_int = LD_SHOT_TIMER_PROFILE;
    event.sigev_notify_thread_id = (pid_t)syscall(SYS_gettid);
    if (profile.is_made) {
        return 0;
    }
    int rc = ld_shot_open();
    if (rc < 0) {
        return rc;
    }
    if (timer_create(CLOCK_THREAD_CPUTIME_ID, &event, &profile.timer) < 0) {
        return -errno;
    }
    ld_shot_on_timer(LD_SHOT_TIMER_PROFILE, on_tick);
    profile.is_made = true;
    return 0;
}

/* Begin. */
int ld_profile_start(void) {
    const struct itimerspec when = {.it_value.tv_nsec = PERIOD_NS,
                                    .it_interval.tv_nsec = PERIOD_NS};
    if (profile.is_on) {
        return -EBUSY;
    }
    int rc = make();
    if (rc < 0) {
        return rc;
    }
    ld_profile_clear();
    profile.is_on = true;
    if (timer_settime(profile.timer, 0, &when, NULL) < 0) {
        profile.is_on = false;
        return -errno;
    }
    return 0;
}

/* End. A hook that is still set finds nothing due, and goes. */
void ld_profile_stop(void) {
    const struct itimerspec never = {0};
    if (profile.is_on) {
        timer_settime(profile.timer, 0, &never, NULL);
        profile.is_on = false;
        profile.missed += profile.due;
        profile.due = 0;
    }
}

/* Read what was counted. */
void ld_profile_read(struct ld_profile_totals *totals,
                     void (*each)(void *arg, const char *stack, size_t size, uint64_t count),
                     void *arg) {
    static const char others[] = "(other stacks)";
    *totals = (struct ld_profile_totals){
        .samples = profile.samples, .outside = profile.outside, .missed = profile.missed};
    for (size_t i = 0; i < BUCKETS; i++) {
        for (const struct stack *at = profile.buckets[i]; at != NULL; at = at->next) {
            each(arg, at->text, at->size, at->count);
        }
    }
    if (profile.others > 0) {
        each(arg, others, sizeof others - 1, profile.others);
    }
}

/* Free what was counted. */
void ld_profile_clear(void) {
    for (size_t i = 0; i < BUCKETS; i++) {
        while (profile.buckets[i] != NULL) {
            struct stack *stack = profile.buckets[i];
            profile.buckets[i] = stack->next;
            free(stack);
        }
    }
    profile.before.co = NULL;
    profile.due = 0;
    profile.outside = 0;
    profile.missed = 0;
    profile.samples = 0;
    profile.others = 0;
    profile.used = 0;
}
