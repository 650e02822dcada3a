#include "api/child_report.h"

#include <lauxlib.h>
#include <string.h>

#include "api/child_box.h"
#include "api/core.h"
#include "api/module.h"
#include "base/json.h"
#include "base/parse.h"

#define COMMAND_MOST 1000 /* bytes of a command */

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
static json_t *report_child(const struct ld_child *child) {
    struct ld_child_facts facts;
    ld_child_describe(child, &facts);
    return json_pack("{s:s, s:i, s:o, s:s, s:f, s:o, s:i, s:b, s:o}", "name", facts.name, "pid",
                     (int)facts.pid, "command", report_command(facts.command), "state",
                     !facts.running ? "exited"
                     : facts.parked ? "held"
                                    : "running",
                     "seconds", facts.seconds, "ready",
                     facts.ready == LD_READY_UNKNOWN ? json_null()
                                                     : json_boolean(facts.ready == LD_READY_NOW),
                     "restarts", (int)facts.restarts, "keep", facts.keep, "last_exit",
                     facts.has_last ? report_exit(&facts.last) : json_null());
}

/* Push a member of the table at the top, as text. */
static const char *member(lua_State *L, const char *name) {
    lua_getfield(L, -1, name);
    const char *text = luaL_tolstring(L, -1, NULL);
    lua_remove(L, -2);
    lua_insert(L, -2);
    return text;
}

/* Add a child that waits to be restarted; the table at the top describes it. */
static void report_waiting_one(lua_State *L, json_t *list) {
    lua_getfield(L, -1, "last");
    const struct ld_child_box *last = luaL_testudata(L, -1, LD_CHILD_TYPE);
    lua_pop(L, 1);
    lua_getfield(L, -1, "restarts");
    lua_getfield(L, -2, "keep");
    int restarts = (int)lua_tointeger(L, -2);
    int keep = lua_toboolean(L, -1);
    lua_pop(L, 2);
    const char *name = member(L, "name");
    const char *command = member(L, "command");
    json_array_append_new(list, json_pack("{s:s, s:n, s:o, s:s, s:f, s:b, s:i, s:b, s:o}", "name",
                                          name, "pid", "command", report_command(command), "state",
                                          "waiting", "seconds", 0.0, "ready", 0, "restarts",
                                          restarts, "keep", keep, "last_exit",
                                          last != NULL ? report_exit(&last->exit) : json_null()));
    lua_pop(L, 3);
}

/* The list of a report, and how many there are. */
struct report {
    json_t *list;
    size_t total;
};

/* Add the children that wait to be restarted to the report in the argument. Runs protected. */
static int report_waiting(lua_State *L) {
    struct report *report = lua_touserdata(L, 1);
    ld_api_core_push(L);
    if (lua_getfield(L, -1, "waiting") == LUA_TNIL) {
        return 0; /* the script does not use supervise */
    }
    lua_pushinteger(L, LD_REPORT_MOST - (lua_Integer)json_array_size(report->list));
    lua_call(L, 1, 2);
    report->total += (size_t)lua_tointeger(L, -1);
    lua_pop(L, 1);
    int waiting = lua_gettop(L);
    for (lua_Integer i = 1; lua_rawgeti(L, waiting, i) == LUA_TTABLE; i++) {
        report_waiting_one(L, report->list);
    }
    return 0;
}

/* The children, for the status report. */
json_t *ld_api_child_report(struct ld_script *script, size_t *total) {
    struct ld_children *children = script->setup->children;
    struct report report = {.list = json_array(), .total = ld_children_count(children)};
    struct ld_child *child = NULL;
    while (json_array_size(report.list) < LD_REPORT_MOST &&
           (child = ld_children_next(children, child)) != NULL) {
        json_array_append_new(report.list, report_child(child));
    }
    ld_state_protect(script, report_waiting, &report, NULL);
    *total = report.total;
    return report.list;
}
