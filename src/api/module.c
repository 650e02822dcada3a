#include "api/module.h"

#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include "api/core.h"

/* All parts, in the order of their members in the status report, and of what a replaced generation ends:
 * cron jobs that came due go to the next generation before the timers are dropped, and messages; then its on_stop
 * functions run, which may use its listeners and children, before those are closed and ended. */
const struct ld_part *const ld_api_module_surveyed[LD_API_MODULE_SURVEYED] = {
    &ld_api_timer_part, &ld_api_child_part, &ld_api_task_part};

static const struct ld_part *const parts[] = {
    &ld_api_timer_cron_part, &ld_api_timer_part,      &ld_api_signal_part,  &ld_api_message_part,
    &ld_api_life_part,       &ld_api_keep_part,       &ld_api_parcel_part,  &ld_api_accept_part,
    &ld_api_socket_part,     &ld_api_connection_part, &ld_api_listen_part,  &ld_api_child_part,
    &ld_api_task_part,       &ld_api_await_part,      &ld_api_wait_fd_part, &ld_api_coroutine_part,
    &ld_api_luv_part,        &ld_api_os_part,         &ld_api_log_part,     &ld_api_protected_part,
    &ld_api_load_part,       &ld_api_written_part,    &ld_api_clock_part,   &ld_api_neighbours_part,
    &ld_api_workers_part,
};

/* Push the templates for the folder of a file, with the folder in the place of DIR. */
static void push_templates(lua_State *L, const char *templates, const char *file) {
    lua_pushlstring(L, file, (size_t)(strrchr(file, '/') - file));
    luaL_gsub(L, templates, "DIR", lua_tostring(L, -1));
    lua_remove(L, -2);
}

/* Put FIRST (if it is not NULL) and the templates for the script's folder before what `package` has in
 * FIELD. A script that is called by a link has two folders: the link's comes first. */
static void extend_search(lua_State *L, const char *field, const char *first,
                          const char *folder_templates) {
    char real[PATH_MAX];
    const char *script = ld_state_script(L)->setup->source->path;
    lua_getglobal(L, "package");
    lua_pushstring(L, first != NULL ? first : "");
    lua_pushliteral(L, "");
    lua_pushliteral(L, "");
    if (script != NULL) {
        push_templates(L, folder_templates, script);
        lua_replace(L, -3);
        if (realpath(script, real) != NULL) {
            push_templates(L, folder_templates, real);
            lua_replace(L, -2);
        }
    }
    if (lua_rawequal(L, -1, -2)) {
        lua_pushliteral(L, "");
        lua_replace(L, -2);
    }
    lua_getfield(L, -4, field);
    lua_concat(L, 4);
    lua_setfield(L, -2, field);
    lua_pop(L, 1);
}

/* Open one part: its functions for scripts go to the table at MODULE, its own to the one at CORE. */
static void open_part(lua_State *L, const struct ld_part *part, int module, int core) {
    if (part->functions != NULL) {
        lua_pushvalue(L, module);
        luaL_setfuncs(L, part->functions, 0);
        lua_pop(L, 1);
    }
    if (part->own != NULL) {
        lua_pushvalue(L, core);
        luaL_setfuncs(L, part->own, 0);
        lua_pop(L, 1);
    }
    if (part->open != NULL) {
        lua_pushcfunction(L, part->open);
        lua_pushvalue(L, module);
        lua_call(L, 1, 0);
    }
}

/* Open the module. */
int ld_api_module_open(lua_State *L) {
    const struct ld_setup *setup = ld_state_script(L)->setup;
    lua_newtable(L);
    int module = lua_gettop(L);
    ld_api_core_open(L);
    int core = lua_gettop(L);
    for (size_t i = 0; i < LD_COUNT(parts); i++) {
        open_part(L, parts[i], module, core);
    }
    extend_search(L, "path", setup->path, "DIR/?.lua;DIR/?/init.lua;");
    extend_search(L, "cpath", setup->cpath, "DIR/?.so;");
    ld_api_core_run(L, module);
    luaL_getsubtable(L, LUA_REGISTRYINDEX, LUA_LOADED_TABLE);
    lua_pushvalue(L, module);
    lua_setfield(L, -2, "lunad");
    return 0;
}

/* Take over in every part. */
void ld_api_module_take_over(struct ld_script *script) {
    for (size_t i = 0; i < LD_COUNT(parts); i++) {
        if (parts[i]->take_over != NULL) {
            parts[i]->take_over(script);
        }
    }
}

/* Retire in every part. */
void ld_api_module_retire(struct ld_script *old, struct ld_script *next) {
    for (size_t i = 0; i < LD_COUNT(parts); i++) {
        if (parts[i]->retire != NULL) {
            parts[i]->retire(old, next);
        }
    }
}

/* Discard in every part. */
void ld_api_module_discard(struct ld_script *script) {
    for (size_t i = 0; i < LD_COUNT(parts); i++) {
        if (parts[i]->discard != NULL) {
            parts[i]->discard(script);
        }
    }
}

/* Name what is unfinished in every part. */
void ld_api_module_name_unfinished(struct ld_script *script, struct ld_text *text) {
    for (size_t i = 0; i < LD_COUNT(parts); i++) {
        if (parts[i]->name_unfinished != NULL) {
            parts[i]->name_unfinished(script, text);
        }
    }
}

/* Add every part's member to the report. */
int ld_api_module_report(struct ld_script *script, json_t *report, json_t *totals) {
    for (size_t i = 0; i < LD_COUNT(parts); i++) {
        size_t total = 0;
        json_t *list = parts[i]->report != NULL ? parts[i]->report(script, &total) : NULL;
        if (parts[i]->report != NULL &&
            (json_object_set_new(report, parts[i]->name, list) < 0 ||
             json_object_set_new(totals, parts[i]->name, json_integer((json_int_t)total)) < 0)) {
            return -ENOMEM;
        }
    }
    return 0;
}
