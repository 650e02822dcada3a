/* The methods of a timer, and the report of all. */
#include <lauxlib.h>
#include <uv.h>

#include "api/module.h"
#include "api/timer.h"
#include "base/json.h"
#include "script/luax.h"

static const char *const kinds[] = {"after", "every", "cron"};

/* What is known of a box's timer; NULL if it has fired or was stopped. */
static struct ld_timer_info *find_info(lua_State *L, const struct ld_timer_box *box) {
    struct ld_timers *timers = ld_state_script(L)->timers;
    return timers != NULL ? ld_timers_info(timers, box->timer) : NULL;
}

/* timer:stop() */
static int m_stop(lua_State *L) {
    struct ld_timer_box *box = ld_api_timer_check_box(L);
    const struct ld_timer_info *info = find_info(L, box);
    if (info != NULL) {
        box->missed = info->missed;
        if (info->busy) { /* again() must know that its function still runs */
            ld_timers_disarm(ld_state_script(L)->timers, box->timer);
        } else {
            ld_api_timer_free(ld_state_script(L), box->timer);
        }
    }
    return 0;
}

/* timer:again([seconds]) */
static int m_again(lua_State *L) {
    struct ld_timer_box *box = ld_api_timer_check_box(L);
    struct ld_timers *timers = ld_state_script(L)->timers;
    ld_state_check_active(L);
    if (box->kind == LD_TIMER_CRON) {
        ld_state_check_current(L, "cron");
    }
    if (!lua_isnoneornil(L, 2)) {
        luaL_argcheck(L, box->kind != LD_TIMER_CRON, 2, "a cron timer goes by the clock alone");
        box->period = lx_check_seconds(L, 2, box->kind == LD_TIMER_EVERY);
    }
    if (find_info(L, box) == NULL) {
        lua_getiuservalue(L, 1, 1);
        box->timer = ld_api_timer_make(L, -1);
    }
    box->missed = 0;
    ld_timers_info(timers, box->timer)->missed = 0;
    if (box->kind == LD_TIMER_CRON) {
        lua_getiuservalue(L, 1, 1);
        ld_api_cron_arm(L, box->timer);
    } else {
        ld_timers_arm(timers, box->timer, uv_hrtime() + box->period,
                      box->kind == LD_TIMER_EVERY ? box->period : 0);
    }
    return 0;
}

/* timer:active() -> boolean */
static int m_active(lua_State *L) {
    const struct ld_timer_info *info = find_info(L, ld_api_timer_check_box(L));
    lua_pushboolean(L, info != NULL && info->armed);
    return 1;
}

/* timer:due() -> seconds | nil */
static int m_due(lua_State *L) {
    const struct ld_timer_info *info = find_info(L, ld_api_timer_check_box(L));
    if (info == NULL || !info->armed) {
        return 0;
    }
    uint64_t now = uv_hrtime();
    lua_pushnumber(L, info->due > now ? (lua_Number)(info->due - now) / 1e9 : 0);
    return 1;
}

/* timer:missed() -> count */
static int m_missed(lua_State *L) {
    const struct ld_timer_box *box = ld_api_timer_check_box(L);
    const struct ld_timer_info *info = find_info(L, box);
    lua_pushinteger(L, (lua_Integer)(info != NULL ? info->missed : box->missed));
    return 1;
}

/* A timer as text. */
static int mt_tostring(lua_State *L) {
    const struct ld_timer_box *box = ld_api_timer_check_box(L);
    const struct ld_timer_info *info = find_info(L, box);
    lua_pushfstring(L, "timer (%s, %s)", kinds[box->kind],
                    info != NULL && info->armed ? "active" : "stopped");
    return 1;
}

/* What a report is made into. */
struct report {
    struct ld_script *script;
    json_t *list;
};

/* Put the script's own function in the place of what a timer calls, at the top of the stack. */
static void unwrap(lua_State *L, const struct ld_timer_info *info) {
    if (info->by_clock) {
        ld_api_cron_unwrap(L);
    } else if (ld_api_timer_is_packed(lua_tocfunction(L, -1))) {
        lua_getupvalue(L, -1, 1);
        lua_replace(L, -2);
    }
}

/* Add one timer to a report; the script's function that it calls is at the top of the stack. */
static void report_timer(lua_State *L, json_t *list, const struct ld_timer_info *info) {
    uint64_t now = uv_hrtime();
    enum ld_timer_kind kind = info->by_clock       ? LD_TIMER_CRON
                              : info->interval > 0 ? LD_TIMER_EVERY
                                                   : LD_TIMER_AFTER;
    lx_push_function_place(L, -1);
    json_t *timer = json_pack(
        "{s:o, s:s, s:o, s:f, s:I, s:I, s:I}", "where", ld_json_string(lua_tostring(L, -1)), "kind",
        kinds[kind], "interval",
        info->interval > 0 ? json_real((double)info->interval / 1e9) : json_null(), "due",
        info->due > now ? (double)(info->due - now) / 1e9 : 0.0, "runs", (json_int_t)info->runs,
        "missed", (json_int_t)info->missed, "errors", (json_int_t)info->errors);
    json_array_append_new(list, timer);
    lua_pop(L, 1);
}

/* Report all timers. Runs protected. */
static int report_all(lua_State *L) {
    const struct report *report = lua_touserdata(L, 1);
    struct ld_timers *timers = report->script->timers;
    for (ld_timer at = ld_timers_next(timers, 0); at != 0; at = ld_timers_next(timers, at)) {
        bool is_callback = ld_api_timer_push(report->script, at) != LUA_TLIGHTUSERDATA;
        lua_xmove(report->script->shelf, L, 1);
        if (is_callback) {
            unwrap(L, ld_timers_info(timers, at));
        }
        if (is_callback && !lx_is_own(L, -1)) {
            report_timer(L, report->list, ld_timers_info(timers, at));
        }
        lua_pop(L, 1);
    }
    return 0;
}

/* The timers, for the status report. */
json_t *ld_api_timer_report(struct ld_script *script) {
    struct report report = {.script = script, .list = json_array()};
    ld_state_protect(script, report_all, &report, NULL);
    return report.list;
}

static const luaL_Reg methods[] = {
    {"stop", m_stop}, {"again", m_again},   {"active", m_active},
    {"due", m_due},   {"missed", m_missed}, {NULL, NULL},
};

/* Push the metatable of timers with its methods. */
void ld_api_timer_set_methods(lua_State *L) {
    lx_new_type(L, LD_TIMER_TYPE, methods);
    lua_pushcfunction(L, mt_tostring);
    lua_setfield(L, -2, "__tostring");
}
