#include "api/child_report.h"

#include <ctype.h>
#include <lauxlib.h>
#include <string.h>

#include "api/child_box.h"
#include "api/core.h"
#include "api/module.h"
#include "api/survey.h"
#include "base/json.h"
#include "base/parse.h"

#define COMMAND_MOST 1000 /* bytes of a command */
#define NAME_MOST    64
#define SLOTS_MOST   50 /* of supervisors, in one look */

static const char state_waiting[] = "waiting";

/* The JSON of how a child ended. */
static json_t *report_exit(const struct ld_exit *exit) {
    return exit->signaled
               ? json_pack("{s:b, s:s}", "ok", 0, "signal", ld_parse_signal_name(exit->status))
               : json_pack("{s:b, s:i}", "ok", exit->status == 0, "code", exit->status);
}

/* The JSON of a command. */
static json_t *report_command(const char *command) {
    return ld_json_cut(command, strlen(command), COMMAND_MOST);
}

/* The report of one child. */
static json_t *report_child(const struct ld_child_facts *facts, const char *state) {
    return json_pack("{s:s, s:i, s:o, s:s, s:f, s:o, s:i, s:b, s:o}", "name", facts->name, "pid",
                     (int)facts->pid, "command", report_command(facts->command), "state", state,
                     "seconds", facts->seconds, "ready",
                     facts->ready == LD_READY_UNKNOWN ? json_null()
                                                      : json_boolean(facts->ready == LD_READY_NOW),
                     "restarts", (int)facts->restarts, "keep", facts->keep, "last_exit",
                     facts->has_last ? report_exit(&facts->last) : json_null());
}

/* Count a child that is in a STATE. Those that a supervisor has numbered are of one name. */
static void count_child(struct ld_survey *survey, const char *state, const char *name) {
    char stem[NAME_MOST + 1];
    size_t size = strnlen(name, sizeof stem - 1);
    size_t digits = 0;
    while (digits < size && (isdigit)((unsigned char)name[size - digits - 1]) != 0) {
        digits++;
    }
    bool is_numbered = digits > 0 && digits + 1 < size && name[size - digits - 1] == '-';
    size -= is_numbered ? digits + 1 : 0;
    memcpy(stem, name, size);
    stem[size] = '\0';
    const struct ld_group_key key = {.kind = state, .name = stem};
    ld_api_survey_count(survey, NULL, &key);
}

/* Count a child, and tell it if that is wanted. */
static void survey_child(struct ld_survey *survey, const struct ld_child *child) {
    struct ld_child_facts facts;
    ld_child_describe(child, &facts);
    const char *state = !facts.running ? "exited" : facts.parked ? "held" : "running";
    count_child(survey, state, facts.name);
    if (ld_api_survey_wants(survey)) {
        ld_api_survey_tell(survey, report_child(&facts, state));
    }
}

/* Push a member of the table at the top, as text. */
static const char *member(lua_State *L, const char *name) {
    lua_getfield(L, -1, name);
    const char *text = luaL_tolstring(L, -1, NULL);
    lua_remove(L, -2);
    lua_insert(L, -2);
    return text;
}

/* The report of a child that waits to be restarted; the table at the top describes it, and NAME is of it. */
static json_t *report_waiting(lua_State *L, const char *name) {
    lua_getfield(L, -1, "last");
    const struct ld_child_box *last = luaL_testudata(L, -1, LD_CHILD_TYPE);
    lua_pop(L, 1);
    lua_getfield(L, -1, "restarts");
    lua_getfield(L, -2, "keep");
    int restarts = (int)lua_tointeger(L, -2);
    int keep = lua_toboolean(L, -1);
    lua_pop(L, 2);
    const char *command = member(L, "command");
    json_t *item = json_pack("{s:s, s:n, s:o, s:s, s:f, s:b, s:i, s:b, s:o}", "name", name, "pid",
                             "command", report_command(command), "state", state_waiting, "seconds",
                             0.0, "ready", 0, "restarts", restarts, "keep", keep, "last_exit",
                             last != NULL ? report_exit(&last->exit) : json_null());
    lua_remove(L, -2);
    return item;
}

/* Count a child that waits to be restarted, and tell it if that is wanted; the table at the top describes it. */
static void survey_waiting_one(lua_State *L, struct ld_survey *survey) {
    const char *name = member(L, "name");
    count_child(survey, state_waiting, name);
    if (ld_api_survey_wants(survey)) {
        ld_api_survey_tell(survey, report_waiting(L, name));
    }
    lua_remove(L, -2);
}

/* Go on with the children that wait to be restarted. What walks over them is made at the first. */
static void survey_waiting(lua_State *L, struct ld_survey *survey) {
    int top = lua_gettop(L);
    if (survey->waiting == LUA_NOREF) {
        ld_api_core_push(L);
        if (lua_getfield(L, -1, "walk_waiting") == LUA_TNIL) {
            survey->is_over = true; /* the script does not use supervise */
            lua_settop(L, top);
            return;
        }
        lua_call(L, 0, 1);
        survey->waiting = luaL_ref(L, LUA_REGISTRYINDEX);
        lua_settop(L, top);
    }
    lua_rawgeti(L, LUA_REGISTRYINDEX, survey->waiting);
    lua_pushinteger(L, SLOTS_MOST);
    lua_call(L, 1, 2);
    survey->is_over = !lua_toboolean(L, -1);
    lua_pop(L, 1);
    for (lua_Integer i = 1; lua_rawgeti(L, top + 1, i) == LUA_TTABLE; i++) {
        survey_waiting_one(L, survey);
        lua_settop(L, top + 1);
    }
    lua_settop(L, top);
}

/* Go on with a survey of the children. Runs protected. */
int ld_api_child_report_survey(lua_State *L) {
    struct ld_survey *survey = lua_touserdata(L, 1);
    while (ld_api_survey_goes_on(survey)) {
        const struct ld_child *child =
            survey->is_waiting ? NULL : ld_child_cursor_next(&survey->child);
        if (child != NULL) {
            survey_child(survey, child);
        } else {
            survey->is_waiting = true;
            survey_waiting(L, survey);
        }
    }
    return 0;
}

/* Count the children that wait to be restarted in the argument. Runs protected. */
static int count_waiting(lua_State *L) {
    size_t *total = lua_touserdata(L, 1);
    ld_api_core_push(L);
    if (lua_getfield(L, -1, "count_waiting") != LUA_TNIL) {
        lua_call(L, 0, 1);
        *total += (size_t)lua_tointeger(L, -1);
    }
    return 0;
}

/* How many children there are. */
size_t ld_api_child_report_count(const struct ld_script *script) {
    size_t total = ld_children_count(script->setup->children);
    ld_state_protect((struct ld_script *)(uintptr_t)script, count_waiting, &total, NULL);
    return total;
}
