/* lunad.after, lunad.every, lunad.sleep and lunad.now, the methods of a timer, and the report of all. */
#include <lauxlib.h>

#include "api/module.h"
#include "api/name.h"
#include "api/survey.h"
#include "api/timer_box.h"
#include "api/timer_cron.h"
#include "api/timer_due.h"
#include "base/json.h"
#include "base/time.h"
#include "engine/clock.h"
#include "engine/turn.h"
#include "script/laps.h"
#include "script/luax.h"
#include "script/task.h"

#define UPVALUES_MAX 254

static const char *const kinds[] = {"after", "every", "cron"};

/* End a packed call that had been suspended. */
static int packed_resumed(lua_State *L, int status, lua_KContext context) {
    (void)L;
    (void)status;
    (void)context;
    return 0;
}

/* Let a function of lunad's own Lua go on where the script has used up its memory. */
static void lend(lua_State *L) {
    struct ld_task *task = ld_task_of(L);
    if (task != NULL && ld_heap_limit(task->script) > 0 && lx_is_own(L, lua_upvalueindex(1))) {
        task->heap_user = LD_HEAP_HOST;
    }
}

/* Call the first upvalue with the others. */
static int call_packed(lua_State *L) {
    int count = 0;
    lend(L);
    luaL_checkstack(L, UPVALUES_MAX, "too many arguments");
    while (!lua_isnone(L, lua_upvalueindex(count + 1))) {
        lua_pushvalue(L, lua_upvalueindex(++count));
    }
    lua_callk(L, count - 1, 0, 0, packed_resumed);
    return 0;
}

/* Replace the function at index 2 and the arguments after it by one value to call. */
static void pack_arguments(lua_State *L) {
    int values = lua_gettop(L) - 1;
    if (values > UPVALUES_MAX) {
        lx_error(L, "too many arguments for the function: at most %d", UPVALUES_MAX - 1);
    }
    if (values > 1) {
        lua_pushcclosure(L, call_packed, values);
    }
}

/* Check the arguments: seconds, function, its arguments, which become one value at index 2. The seconds in
 * nanoseconds. */
static uint64_t check_arguments(lua_State *L, bool repeats) {
    ld_state_check_active(L);
    uint64_t period = lx_check_seconds(L, 1, repeats);
    lx_check_callable(L, 2);
    pack_arguments(L);
    return period;
}

/* Make a timer and its userdata from the arguments, armed. */
static int start(lua_State *L, bool repeats) {
    uint64_t period = check_arguments(L, repeats);
    ld_api_timer_box_start(L, 2, period, repeats);
    return 1;
}

/* after(seconds, fn, ...) -> timer */
static int l_after(lua_State *L) {
    return start(L, false);
}

/* The same for lunad's own Lua: a timer that the script has not made. */
static int l_own_after(lua_State *L) {
    struct ld_timers *timers = ld_state_script(L)->timers;
    uint64_t period = check_arguments(L, false);
    struct ld_timer_box *box = ld_api_timer_box_new(L, 2);
    struct ld_timer_info *info = ld_timers_info(timers, box->timer);
    box->period = period;
    info->hidden = true;
    ld_timers_restart(timers, box->timer, info, period, false);
    return 1;
}

/* every(seconds, fn, ...) -> timer */
static int l_every(lua_State *L) {
    return start(L, true);
}

/* now() -> seconds */
static int l_now(lua_State *L) {
    lua_pushnumber(L, (lua_Number)ld_clock_now() / 1e9);
    return 1;
}

/* Stop what wakes a sleeping task. */
static void abandon_sleep(struct ld_task *task) {
    ld_api_timer_box_end_wake(task->script, task->timer);
}

/* Return from sleep. */
static int sleep_resumed(lua_State *L, int status, lua_KContext context) {
    (void)status;
    (void)context;
    ld_task_check_cancelled(L);
    return 0;
}

/* Suspend the task of L for NS; to be called like ld_task_suspend. */
static int suspend_for(lua_State *L, uint64_t ns, lua_KFunction resumed) {
    struct ld_task *task = ld_task_check(L, "sleep");
    task->timer = ld_api_timer_box_wake(L, task, ns);
    return ld_task_suspend(L, "sleep", abandon_sleep, resumed);
}

/* sleep(seconds) */
static int l_sleep(lua_State *L) {
    return suspend_for(L, lx_check_seconds(L, 1, false), sleep_resumed);
}

/* Return from give_way, with the time. */
static int way_given(lua_State *L, int status, lua_KContext context) {
    sleep_resumed(L, status, context);
    lua_pushinteger(L, (lua_Integer)ld_time_coarse());
    return 1;
}

/* For lunad's own Lua, where it calls many functions of the script in a row: give_way([start]) -> the
 * start to pass next time. If a turn's time has passed since then and the caller is a task, it is
 * suspended for one turn of the loop. */
static int l_give_way(lua_State *L) {
    uint64_t now = ld_time_coarse();
    uint64_t start = (uint64_t)luaL_optinteger(L, 1, (lua_Integer)now);
    const struct ld_task *task = ld_task_of(L);
    bool can_wait = task != NULL && lua_isyieldable(L) &&
                    !ld_stage_is_ending(task->script->stage) && !task->cancelled;
    if (now < start + LD_TURN_NS || !can_wait) {
        lua_pushinteger(L, (lua_Integer)start);
        return 1;
    }
    return suspend_for(L, 0, way_given);
}

/* Information about a box's timer; NULL if it has fired or was stopped. */
static struct ld_timer_info *find_info(lua_State *L, const struct ld_timer_box *box) {
    struct ld_timers *timers = ld_state_script(L)->timers;
    return timers != NULL ? ld_timers_info(timers, box->timer) : NULL;
}

/* How many beats a timer has missed. */
static uint64_t missed_by(lua_State *L, const struct ld_timer_box *box,
                          struct ld_timer_info *info) {
    return info->has_history
               ? ld_timers_history(ld_state_script(L)->timers, box->timer, info)->missed
               : 0;
}

/* timer:stop() */
static int m_stop(lua_State *L) {
    struct ld_timer_box *box = ld_api_timer_box_check(L);
    struct ld_timer_info *info = find_info(L, box);
    if (info != NULL) {
        box->missed = (uint32_t)missed_by(L, box, info);
        if (info->busy) { /* again() must know that its function still runs */
            ld_timers_disarm(ld_state_script(L)->timers, box->timer);
        } else {
            ld_api_timer_box_free(ld_state_script(L), box->timer);
        }
    }
    return 0;
}

/* Make the timer of the box in argument 1 again, which has fired or was stopped. */
static struct ld_timer_info *remake(lua_State *L, struct ld_timer_box *box) {
    lua_getiuservalue(L, 1, 1);
    box->timer = ld_api_timer_box_make(L, -1);
    if (ld_api_name_push(L, 1)) {
        ld_api_timer_box_set_name(L, box->timer);
    }
    return ld_timers_info(ld_state_script(L)->timers, box->timer);
}

/* timer:again([seconds]) */
static int m_again(lua_State *L) {
    struct ld_timer_box *box = ld_api_timer_box_check(L);
    struct ld_timers *timers = ld_state_script(L)->timers;
    ld_state_check_active(L);
    if (box->kind == LD_TIMER_CRON) {
        ld_state_check_current(L, "cron");
    }
    if (!lua_isnoneornil(L, 2)) {
        luaL_argcheck(L, box->kind != LD_TIMER_CRON, 2, "a cron timer takes no interval");
        box->period = lx_check_seconds(L, 2, box->kind == LD_TIMER_EVERY);
    }
    struct ld_timer_info *info = find_info(L, box);
    if (info == NULL) {
        info = remake(L, box);
    }
    box->missed = 0;
    if (info->has_history) {
        ld_timers_history(timers, box->timer, info)->missed = 0;
    }
    if (box->kind == LD_TIMER_CRON) {
        lua_getiuservalue(L, 1, 1);
        ld_api_timer_cron_arm(L, box->timer);
    } else {
        ld_timers_restart(timers, box->timer, info, box->period, box->kind == LD_TIMER_EVERY);
    }
    return 0;
}

/* timer:active() -> boolean */
static int m_active(lua_State *L) {
    const struct ld_timer_info *info = find_info(L, ld_api_timer_box_check(L));
    lua_pushboolean(L, info != NULL && info->armed);
    return 1;
}

/* timer:due() -> seconds | nil */
static int m_due(lua_State *L) {
    const struct ld_timer_info *info = find_info(L, ld_api_timer_box_check(L));
    if (info == NULL || !info->armed) {
        return 0;
    }
    uint64_t now = ld_clock_now();
    lua_pushnumber(L, info->due > now ? (lua_Number)(info->due - now) / 1e9 : 0);
    return 1;
}

/* timer:missed() -> count */
static int m_missed(lua_State *L) {
    const struct ld_timer_box *box = ld_api_timer_box_check(L);
    struct ld_timer_info *info = find_info(L, box);
    lua_pushinteger(L, (lua_Integer)(info != NULL ? missed_by(L, box, info) : box->missed));
    return 1;
}

/* timer:name(text) -> timer; timer:name() -> text | nil */
static int m_name(lua_State *L) {
    const struct ld_timer_box *box = ld_api_timer_box_check(L);
    if (lua_isnone(L, 2)) {
        return ld_api_name_push(L, 1);
    }
    ld_api_name_set(L, 1);
    if (find_info(L, box) != NULL) {
        ld_api_timer_box_set_name(L, box->timer);
    }
    lua_settop(L, 1);
    return 1;
}

/* A timer as text. */
static int mt_tostring(lua_State *L) {
    const struct ld_timer_box *box = ld_api_timer_box_check(L);
    const struct ld_timer_info *info = find_info(L, box);
    lua_pushfstring(L, "timer (%s, %s)", kinds[box->kind],
                    info != NULL && info->armed ? "active" : "stopped");
    return 1;
}

/* Replace what a timer calls, at the top of the stack, by the script's own function. */
static void unwrap(lua_State *L, const struct ld_timer_info *info) {
    if (info->by_clock) {
        ld_api_timer_cron_unwrap(L);
    } else if (lua_tocfunction(L, -1) == call_packed) {
        lua_getupvalue(L, -1, 1);
        lua_replace(L, -2);
    }
}

/* Add to the report of a cron timer its moments, and the next of them. */
static void report_cron(json_t *item, struct ld_script *script, ld_timer timer) {
    int64_t next = 0;
    struct ld_text spec = {0};
    ld_api_timer_cron_describe(script, timer, &spec, &next);
    json_object_set_new(item, "spec", ld_json_text(ld_text_string(&spec), spec.size));
    json_object_set_new(item, "next", json_integer(next));
    ld_text_fini(&spec);
}

/* The kind of a timer. */
static const char *kind_of(const struct ld_timer_info *info) {
    return kinds[info->by_clock ? LD_TIMER_CRON : info->repeats ? LD_TIMER_EVERY : LD_TIMER_AFTER];
}

/* Make the JSON of a timer; the script's function that it calls is at the top of the stack, and NAME is taken over. */
static json_t *report_timer(lua_State *L, const struct ld_survey *survey, ld_timer at,
                            json_t *name) {
    struct ld_timer_info *info = ld_timers_info(survey->script->timers, at);
    const struct ld_timer_history *history = ld_timers_history(survey->script->timers, at, info);
    uint64_t now = ld_clock_now();
    char where[LD_ERROR_WHERE] = "?";
    lx_find_function_place(L, -1, where, sizeof where);
    const struct ld_lap_place *lap = ld_laps_find(survey->script->setup->laps, where, "a timer");
    json_t *timer = json_pack(
        "{s:o, s:s, s:o, s:f, s:I, s:I, s:I, s:o}", "where", ld_json_string(where), "kind",
        kind_of(info), "interval",
        info->repeats ? json_real((double)info->interval / 1e9) : json_null(), "due",
        info->due > now ? (double)(info->due - now) / 1e9 : 0.0, "runs", (json_int_t)history->runs,
        "missed", (json_int_t)history->missed, "errors", (json_int_t)history->errors, "name", name);
    ld_laps_report(lap, timer);
    if (info->by_clock) {
        report_cron(timer, survey->script, at);
    }
    return timer;
}

/* Count a timer, and tell it if that is wanted; the script's function that it calls is at the top of the stack. */
static void survey_timer(lua_State *L, struct ld_survey *survey, ld_timer at) {
    const struct ld_timer_info *info = ld_timers_info(survey->script->timers, at);
    lua_Debug ar;
    struct ld_group_key key = {.file = "?", .size = 1, .kind = kind_of(info)};
    if (info->named) {
        key.name = ld_api_timer_box_name(survey->script, at);
    }
    lua_pushvalue(L, -1);
    if (!lua_isfunction(L, -1)) {
        lua_pop(L, 1);
    } else if (lua_getinfo(L, ">S", &ar) != 0 && ar.linedefined > 0) {
        key.file = ld_api_describe_file(&ar, &key.size);
        key.line = ar.linedefined;
    }
    const struct ld_group *group = ld_api_survey_count(survey, L, &key);
    if (ld_api_survey_wants(survey)) {
        json_t *name = ld_api_survey_name(survey, L, group, key.name);
        ld_api_survey_tell(survey, report_timer(L, survey, at, name));
    }
}

/* Go on with a survey of the timers. Runs protected. */
static int survey_timers(lua_State *L) {
    struct ld_survey *survey = lua_touserdata(L, 1);
    struct ld_timers *timers = survey->script->timers;
    ld_timer at;
    while (ld_api_survey_goes_on(survey)) {
        survey->is_over = !ld_timers_look(timers, &survey->at, &at);
        if (at != 0) {
            ld_api_timer_box_push_callback(survey->script, at);
            lua_xmove(survey->script->shelf, L, 1);
            unwrap(L, ld_timers_info(timers, at));
            survey_timer(L, survey, at);
            lua_pop(L, 1);
        }
    }
    return 0;
}

/* How many timers there are. */
static size_t count_timers(const struct ld_script *script) {
    return ld_timers_shown(script->timers);
}

/* End the timers of a generation that has been replaced. */
static void retire(struct ld_script *script, struct ld_script *next) {
    (void)next;
    ld_api_timer_box_drop_all(script);
}

static const luaL_Reg functions[] = {
    {"after", l_after}, {"every", l_every}, {"sleep", l_sleep}, {"now", l_now}, {NULL, NULL},
};

static const luaL_Reg own[] = {
    {"after", l_own_after},
    {"give_way", l_give_way},
    {NULL, NULL},
};

static const luaL_Reg methods[] = {
    {"stop", m_stop},     {"again", m_again}, {"active", m_active}, {"due", m_due},
    {"missed", m_missed}, {"name", m_name},   {NULL, NULL},
};

/* Make the type of timers, and the script's queue of them. */
static int set_up(lua_State *L) {
    struct ld_script *script = ld_state_script(L);
    lx_new_type(L, LD_TIMER_TYPE, methods);
    lua_pushcfunction(L, mt_tostring);
    lua_setfield(L, -2, "__tostring");
    ld_api_timer_box_open(L);
    ld_api_name_open(L);
    script->timers =
        ld_timers_new(script->setup->loop, ld_api_timer_due, script, script->setup->lag);
    if (script->timers == NULL) {
        return luaL_error(L, "not enough memory");
    }
    return 0;
}

const struct ld_part ld_api_timer_part = {
    .name = "timers",
    .functions = functions,
    .own = own,
    .open = set_up,
    .retire = retire,
    .count = count_timers,
    .survey = survey_timers,
};
