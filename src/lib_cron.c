/* lunad.cron. A cron timer is armed by the monotonic clock for a moment of the clock on the wall, and
 * looks at that one when it is due; when somebody sets the clock, all of them are armed anew. */
#include <lauxlib.h>
#include <uv.h>

#include "cron.h"
#include "lib_parts.h"
#include "lib_timer.h"
#include "luax.h"

#define SECOND 1000000000LL

/* What a cron timer does. Its user value is the function. */
struct job {
    struct ld_cron cron;
    time_t next;
    int64_t offset; /* of the clock on the wall from the monotonic one, when it was armed */
};

/* The offset of the clock on the wall. */
static int64_t offset_now(void) {
    return ld_clock_now() - (int64_t)uv_hrtime();
}

/* Arm a timer for its job's next moment. */
static void arm_at(struct ld_script *script, ld_timer timer, struct job *job) {
    job->offset = offset_now();
    int64_t due = (int64_t)job->next * SECOND - job->offset;
    int64_t now = (int64_t)uv_hrtime();
    ld_timers_info(script->timers, timer)->by_clock = true;
    ld_timers_arm(script->timers, timer, (uint64_t)(due > now ? due : now), 0);
}

/* Arm a timer for the moment after now. */
void ld_lib_cron_arm(lua_State *L, ld_timer timer) {
    struct job *job = lua_touserdata(L, -1);
    job->next = ld_cron_next(&job->cron, (time_t)(ld_clock_now() / SECOND));
    arm_at(ld_script_of(L), timer, job);
}

/* Put the function in the place of the job at the top of the stack. */
void ld_lib_cron_unwrap(lua_State *L) {
    lua_getiuservalue(L, -1, 1);
    lua_replace(L, -2);
}

/* Handle a timer that is due: perhaps not yet, by the clock on the wall. */
void ld_lib_cron_due(struct ld_script *script, ld_timer timer, struct ld_timer_info *info) {
    ld_lib_timer_push(script, timer);
    struct job *job = lua_touserdata(script->shelf, -1);
    if (ld_clock_now() < (int64_t)job->next * SECOND) {
        arm_at(script, timer, job);
        lua_pop(script->shelf, 1);
        return;
    }
    ld_lib_cron_arm(script->shelf, timer);
    if (info->busy) {
        info->missed++;
        lua_pop(script->shelf, 1);
        return;
    }
    ld_lib_cron_unwrap(script->shelf);
    ld_lib_timer_call(script, timer, info);
}

/* Arm every cron timer anew after the clock was set. */
static void on_clock_changed(void *arg) {
    struct ld_script *script = arg;
    ld_timer next = ld_timers_next(script->timers, 0);
    while (next != 0) {
        ld_timer timer = next;
        next = ld_timers_next(script->timers, timer);
        if (ld_timers_info(script->timers, timer)->by_clock) {
            ld_lib_timer_push(script, timer);
            struct job *job = lua_touserdata(script->shelf, -1);
            lua_pop(script->shelf, 1);
            time_t before = (time_t)(((int64_t)uv_hrtime() + job->offset) / SECOND);
            time_t now = (time_t)(ld_clock_now() / SECOND);
            job->next = ld_cron_after_jump(&job->cron, job->next, before, now);
            arm_at(script, timer, job);
        }
    }
}

/* Watch the clock, once in a script that has cron timers. */
static void watch_clock(lua_State *L) {
    struct ld_script *script = ld_script_of(L);
    if (script->clock == NULL) {
        int rc = ld_clock_open(&script->clock, script->env->loop, on_clock_changed, script);
        if (rc < 0) {
            lx_error(L, "cron: the clock cannot be watched: %s", uv_strerror(rc));
        }
    }
}

/* Parse the specification in argument 1; raises with what is wrong. */
static void check_spec(lua_State *L, struct ld_cron *cron) {
    char words[200];
    struct ld_text why = {0};
    bool ok = ld_cron_parse(cron, luaL_checkstring(L, 1), &why);
    snprintf(words, sizeof words, "%s", ld_text_string(&why));
    ld_text_fini(&why);
    if (!ok) {
        luaL_argerror(L, 1, words);
    }
}

/* cron(spec, fn) -> timer */
static int l_cron(lua_State *L) {
    struct ld_cron cron;
    ld_script_check_current(L, "cron");
    check_spec(L, &cron);
    lx_check_callable(L, 2);
    lua_settop(L, 2);
    watch_clock(L);
    struct job *job = lua_newuserdatauv(L, sizeof *job, 1);
    *job = (struct job){.cron = cron};
    lua_pushvalue(L, 2);
    lua_setiuservalue(L, -2, 1);
    struct ld_timer_box *box = ld_lib_timer_push_box(L, 3);
    box->kind = LD_TIMER_CRON;
    lua_pushvalue(L, 3);
    ld_lib_cron_arm(L, box->timer);
    lua_pop(L, 1);
    return 1;
}

static const luaL_Reg functions[] = {
    {"cron", l_cron},
    {NULL, NULL},
};

/* Open this part. */
int luaopen_lunad_cron(lua_State *L) {
    luaL_setfuncs(L, functions, 0);
    return 0;
}
