/* The Lua module: a table of parts, which the host walks at each step of a generation's life. A new part
 * is a file that defines a struct ld_part, and a row in module.c. */
#ifndef LD_API_MODULE_H
#define LD_API_MODULE_H

#include <jansson.h>
#include <lauxlib.h>
#include <lua.h>

#include "script/script.h"

/* What a status report that is made at once has of each kind at most, and of each text in bytes: the loop is held
 * while it is made. */
#define LD_REPORT_MOST  150
#define LD_REPORT_FIRST 1000 /* of each kind, where it is made in slices */
#define LD_REPORT_TEXT  8000

/* One part of the module. Every member but the name may be NULL. */
struct ld_part {
    const char *name;          /* and its member in the status report */
    const luaL_Reg *functions; /* for scripts, in the table `lunad` */
    const luaL_Reg *own;       /* for lunad's own Lua */
    /* Make what the part needs in a new Lua state. Called with the table `lunad`; may raise. */
    lua_CFunction open;
    /* Make what a new generation has claimed its own: it has become the service. */
    void (*take_over)(struct ld_script *script);
    /* End what OLD need not finish: it has been replaced by NEXT. */
    void (*retire)(struct ld_script *old, struct ld_script *next);
    /* End at once all that came of a generation that does not become the service. */
    void (*discard)(struct ld_script *script);
    /* Add the names of what a replaced generation has not finished, with ", " between. */
    void (*name_unfinished)(struct ld_script *script, struct ld_text *text);
    /* Report all that the part has, which is little, and count it in *TOTAL: a new reference, or NULL when memory
     * runs out. */
    json_t *(*report)(struct ld_script *script, size_t *total);
    /* For what there can be very much of: how many there are; and go on with a survey of it, which is the argument.
     * Runs protected. */
    size_t (*count)(const struct ld_script *script);
    lua_CFunction survey;
};

extern const struct ld_part ld_api_timer_cron_part;
extern const struct ld_part ld_api_timer_part;
extern const struct ld_part ld_api_signal_part;
extern const struct ld_part ld_api_life_part;
extern const struct ld_part ld_api_keep_part;
extern const struct ld_part ld_api_message_part;
extern const struct ld_part ld_api_parcel_part;
extern const struct ld_part ld_api_listen_part;
extern const struct ld_part ld_api_accept_part;
extern const struct ld_part ld_api_child_part;
extern const struct ld_part ld_api_task_part;
extern const struct ld_part ld_api_await_part;
extern const struct ld_part ld_api_wait_fd_part;
extern const struct ld_part ld_api_connection_part;
extern const struct ld_part ld_api_coroutine_part;
extern const struct ld_part ld_api_luv_part;
extern const struct ld_part ld_api_neighbours_part;
extern const struct ld_part ld_api_socket_part;
extern const struct ld_part ld_api_os_part;
extern const struct ld_part ld_api_log_part;
extern const struct ld_part ld_api_protected_part;
extern const struct ld_part ld_api_load_part;
extern const struct ld_part ld_api_written_part;
extern const struct ld_part ld_api_clock_part;
extern const struct ld_part ld_api_workers_part;

/* The parts with a survey. */
#define LD_API_MODULE_SURVEYED 3
extern const struct ld_part *const ld_api_module_surveyed[LD_API_MODULE_SURVEYED];

/* Open the module with all of its parts. For ld_setup.open_libraries. */
int ld_api_module_open(lua_State *L);

/* The steps of a generation's life, for all parts: see struct ld_part. */
void ld_api_module_take_over(struct ld_script *script);
void ld_api_module_retire(struct ld_script *old, struct ld_script *next);
void ld_api_module_discard(struct ld_script *script);
void ld_api_module_name_unfinished(struct ld_script *script, struct ld_text *text);

/* Add what parts report to a status report, and to its TOTALS how many there are; 0 or -ENOMEM. */
int ld_api_module_report(struct ld_script *script, json_t *report, json_t *totals);

#endif
