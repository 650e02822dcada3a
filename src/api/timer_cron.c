/* lunad.cron. A cron timer is armed on the monotonic clock for a moment of the wall clock, and checks
 * the wall clock when it is due; when that clock is set or the zone changes, all of them are armed again. */
#include "api/timer_cron.h"

#include <lauxlib.h>
#include <string.h>
#include <uv.h>

#include "api/module.h"
#include "api/timer_box.h"
#include "engine/clock.h"
#include "engine/cron.h"
#include "script/luax.h"

#define SECOND 1000000000LL

/* What a cron timer does. Its user values are the function, and the specification. */
struct job {
    struct ld_cron cron;
    time_t next;
    time_t seen;    /* when that was worked out */
    long zone[2];   /* how far local time was ahead of UTC then, at SEEN and at NEXT */
    int64_t offset; /* of the wall clock from the monotonic one, when it was armed */
    bool held;      /* a moment has come while the generation was loaded */
    bool taken;     /* it is the twin of a job of the generation before */
};

/* The present offset of the wall clock. */
static int64_t offset_now(void) {
    return ld_clock_real() - (int64_t)ld_clock_now();
}

/* The wall clock in seconds. */
static time_t now_in_seconds(void) {
    return (time_t)(ld_clock_real() / SECOND);
}

/* Set the next moment of a job, worked out at NOW, and the zone that was in force. */
static void set_next(struct job *job, time_t next, time_t now) {
    job->next = next;
    job->seen = now;
    job->zone[0] = ld_cron_offset(now);
    job->zone[1] = ld_cron_offset(next);
}

/* Whether the zone has changed since the next moment was worked out. */
static bool has_zone_changed(const struct job *job) {
    return ld_cron_offset(job->seen) != job->zone[0] || ld_cron_offset(job->next) != job->zone[1];
}

/* Arm a timer for its job's next moment. */
static void arm_at(struct ld_script *script, ld_timer timer, struct job *job) {
    job->offset = offset_now();
    int64_t due = (int64_t)job->next * SECOND - job->offset;
    int64_t now = (int64_t)ld_clock_now();
    ld_timers_info(script->timers, timer)->by_clock = true;
    ld_timers_arm(script->timers, timer, (uint64_t)(due > now ? due : now), 0);
}

/* Arm a timer for the moment after now. */
void ld_api_timer_cron_arm(lua_State *L, ld_timer timer) {
    struct job *job = lua_touserdata(L, -1);
    time_t now = now_in_seconds();
    set_next(job, ld_cron_next(&job->cron, now), now);
    arm_at(ld_state_script(L), timer, job);
}

/* Put the function in the place of the job at the top of the stack. */
void ld_api_timer_cron_unwrap(lua_State *L) {
    lua_getiuservalue(L, -1, 1);
    lua_replace(L, -2);
}

/* The job of a timer. */
static struct job *job_of(struct ld_script *script, ld_timer timer) {
    ld_api_timer_box_push_callback(script, timer);
    struct job *job = lua_touserdata(script->shelf, -1);
    lua_pop(script->shelf, 1);
    return job;
}

/* Call the function of a timer, unless its last call still runs. */
static void run(struct ld_script *script, ld_timer timer, struct ld_timer_info *info) {
    if (info->busy) {
        ld_timers_history(script->timers, timer, info)->missed++;
        return;
    }
    ld_api_timer_box_push_callback(script, timer);
    ld_api_timer_cron_unwrap(script->shelf);
    ld_api_timer_box_call(script, timer, info);
}

/* Whether the moment that a job was armed for has come; if not, its next moment is corrected. The wall
 * clock may not have reached it, or a new zone may have moved it. */
static bool has_come(struct job *job) {
    time_t now = now_in_seconds();
    if (now < job->next) {
        return false;
    }
    if (has_zone_changed(job)) {
        time_t next = ld_cron_next(&job->cron, job->seen);
        if (next > now) {
            set_next(job, next, now);
            return false;
        }
    }
    return true;
}

/* Whether the generation is being loaded while another one is the service. */
static bool is_loading(const struct ld_script *script) {
    return ld_stage_is_new(script->stage) && script->generation > 1;
}

/* Handle a timer that is due. While a generation is loaded, the previous one runs the jobs of both. */
void ld_api_timer_cron_due(struct ld_script *script, ld_timer timer, struct ld_timer_info *info) {
    struct job *job = job_of(script, timer);
    if (!has_come(job)) {
        arm_at(script, timer, job);
        return;
    }
    ld_api_timer_box_push_callback(script, timer);
    ld_api_timer_cron_arm(script->shelf, timer);
    lua_pop(script->shelf, 1);
    if (is_loading(script)) {
        job->held = true;
    } else {
        run(script, timer, info);
    }
}

/* Describe a cron timer. */
void ld_api_timer_cron_describe(struct ld_script *script, ld_timer timer, struct ld_text *spec,
                                int64_t *next) {
    lua_State *shelf = script->shelf;
    *next = (int64_t)job_of(script, timer)->next;
    ld_api_timer_box_push_callback(script, timer);
    lua_getiuservalue(shelf, -1, 2);
    ld_text_puts(spec, lua_tostring(shelf, -1));
    lua_pop(shelf, 2);
}

/* The cron timer after another (0: the first), and information about it; 0 at the end. */
static ld_timer next_cron(struct ld_script *script, ld_timer previous,
                          struct ld_timer_info **info) {
    ld_timer timer = previous;
    do {
        timer = ld_timers_next(script->timers, timer);
        *info = timer != 0 ? ld_timers_info(script->timers, timer) : NULL;
    } while (timer != 0 && !(*info)->by_clock);
    return timer;
}

/* Find the next moment of a job after the clock was set or the zone changed. */
static void catch_up(struct job *job) {
    time_t now = now_in_seconds();
    time_t before = (time_t)(((int64_t)ld_clock_now() + job->offset) / SECOND);
    if (has_zone_changed(job)) {
        set_next(job, ld_cron_next(&job->cron, now), now);
    } else {
        set_next(job, ld_cron_after_jump(&job->cron, job->next, before, now), now);
    }
}

/* Arm every cron timer again after the clock was set, or the zone has changed. */
static void on_clock_changed(void *arg) {
    struct ld_script *script = arg;
    struct ld_timer_info *info;
    ld_timer timer = 0;
    ld_cron_reload_zone();
    while ((timer = next_cron(script, timer, &info)) != 0) {
        struct job *job = job_of(script, timer);
        catch_up(job);
        arm_at(script, timer, job);
    }
}

/* The timer of a generation with the same moments as a job of the one before, which is not taken by
 * another; 0 if there is none. */
static ld_timer find_twin(struct ld_script *script, const struct job *job, bool taken) {
    struct ld_timer_info *info;
    ld_timer timer = 0;
    while ((timer = next_cron(script, timer, &info)) != 0) {
        const struct job *twin = job_of(script, timer);
        if (ld_cron_equal(&twin->cron, &job->cron) && (taken || !twin->taken)) {
            return timer;
        }
    }
    return 0;
}

/* Have the new generation run a job that the old one did not get to: at once, unless its own timer is
 * due as well. */
static void run_twin(struct ld_script *script, ld_timer timer) {
    struct job *job = job_of(script, timer);
    job->taken = true;
    job->held = false;
    if (job->next > now_in_seconds()) {
        run(script, timer, ld_timers_info(script->timers, timer));
    }
}

/* Run the jobs that came due while NEXT was loaded and that neither generation has run. */
static void hand_over(struct ld_script *old, struct ld_script *next) {
    struct ld_timer_info *info;
    ld_timer timer = 0;
    if (next == NULL) { /* it is in another program by now, which does this */
        return;
    }
    while ((timer = next_cron(old, timer, &info)) != 0) {
        const struct job *job = job_of(old, timer);
        if (job->next > now_in_seconds()) {
            continue;
        }
        ld_timer twin = find_twin(next, job, false);
        if (twin != 0) {
            run_twin(next, twin);
        } else {
            ld_api_timer_cron_due(old, timer, info);
        }
    }
    while ((timer = next_cron(next, timer, &info)) != 0) {
        struct job *job = job_of(next, timer);
        bool was_held = job->held;
        job->held = false;
        if (was_held && find_twin(old, job, true) == 0) {
            run(next, timer, info);
        }
    }
}

/* Run the jobs that no generation before has run. */
void ld_api_timer_cron_run_held(struct ld_script *script) {
    struct ld_timer_info *info;
    ld_timer timer = 0;
    while ((timer = next_cron(script, timer, &info)) != 0) {
        struct job *job = job_of(script, timer);
        if (job->held) {
            job->held = false;
            run(script, timer, info);
        }
    }
}

/* Watch the clock, once in a script that has cron timers. */
static void watch_clock(lua_State *L) {
    struct ld_script *script = ld_state_script(L);
    if (script->clock == NULL) {
        int rc = ld_wall_clock_open(&script->clock, script->setup->loop, on_clock_changed, script);
        if (rc < 0) {
            lx_error(L, "cron: the clock cannot be watched: %s", uv_strerror(rc));
        }
    }
}

/* Whether a moment of a new job has gone by while no generation ran. */
static bool was_silent(const struct ld_script *script, const struct job *job) {
    time_t since = (time_t)(script->setup->silent_since / SECOND);
    return since > 0 && is_loading(script) && ld_cron_next(&job->cron, since) <= job->seen;
}

/* Parse the specification in argument 1; raises with what is wrong. */
static void check_spec(lua_State *L, struct ld_cron *cron) {
    char words[200];
    struct ld_text why = {0};
    size_t size;
    const char *spec = luaL_checklstring(L, 1, &size);
    luaL_argcheck(L, strlen(spec) == size, 1, "it has a zero byte in it");
    bool ok = ld_cron_parse(cron, spec, &why);
    snprintf(words, sizeof words, "%s", ld_text_string(&why));
    ld_text_fini(&why);
    if (!ok) {
        luaL_argerror(L, 1, words);
    }
}

/* cron(spec, fn) -> timer */
static int l_cron(lua_State *L) {
    struct ld_cron cron;
    ld_state_check_current(L, "cron");
    check_spec(L, &cron);
    lx_check_callable(L, 2);
    lua_settop(L, 2);
    watch_clock(L);
    struct job *job = lua_newuserdatauv(L, sizeof *job, 2);
    *job = (struct job){.cron = cron};
    lua_pushvalue(L, 2);
    lua_setiuservalue(L, -2, 1);
    lua_pushvalue(L, 1);
    lua_setiuservalue(L, -2, 2);
    struct ld_timer_box *box = ld_api_timer_box_new(L, 3);
    box->kind = LD_TIMER_CRON;
    lua_pushvalue(L, 3);
    ld_api_timer_cron_arm(L, box->timer);
    lua_pop(L, 1);
    job->held = was_silent(ld_state_script(L), job);
    return 1;
}

static const luaL_Reg functions[] = {
    {"cron", l_cron},
    {NULL, NULL},
};

const struct ld_part ld_api_timer_cron_part = {
    .name = "cron",
    .functions = functions,
    .retire = hand_over,
};
