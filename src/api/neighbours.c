/* The daemons of a run directory, for lunad's own Lua: who they are, and what they answer. */
#include <errno.h>
#include <jansson.h>
#include <lauxlib.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "api/module.h"
#include "base/parse.h"
#include "daemon/record.h"
#include "posix/paths.h"
#include "posix/pidfile.h"
#include "script/lua_json.h"
#include "script/luax.h"

/* Open the run directory that is CHOSEN; a descriptor, with the owner of the directory in *UID, or -1 with the
 * reason in WHY. */
static int open_run_dir(const char *chosen, uid_t *uid, char why[256]) {
    struct ld_text text = {0};
    struct stat facts;
    char *path = ld_paths_run_dir(chosen);
    int fd = path != NULL ? ld_paths_open_run_dir(path, false, &text) : -1;
    if (fd >= 0 && fstat(fd, &facts) == 0) {
        *uid = facts.st_uid;
    } else {
        snprintf(why, 256, "%s", path != NULL ? ld_text_string(&text) : ld_paths_why_not());
    }
    ld_text_fini(&text);
    free(path);
    return fd;
}

/* open_run_dir([path]) -> a descriptor, which the caller owns, and the user of the directory | nil, why. The default
 * is that of this daemon. */
static int l_open_run_dir(lua_State *L) {
    char why[256] = "";
    uid_t uid = 0;
    int fd = open_run_dir(luaL_optstring(L, 1, ld_state_script(L)->setup->run_dir), &uid, why);
    if (fd < 0) {
        lua_pushnil(L);
        lua_pushstring(L, why);
    } else {
        lua_pushinteger(L, fd);
        lua_pushinteger(L, uid);
    }
    return 2;
}

/* Which worker the daemon NAME is, as its record says; 0: none. */
static unsigned find_worker(int dir, const char *name) {
    struct ld_record record;
    if (ld_record_load(&record, dir, name) < 0) {
        return 0;
    }
    unsigned worker = ld_record_worker(&record, name);
    ld_record_fini(&record);
    return worker;
}

/* inspect_daemon(fd of the run directory, name) -> "alive" | "dead" | nil, which worker it is | nil */
static int l_inspect_daemon(lua_State *L) {
    int dir = (int)luaL_checkinteger(L, 1);
    const char *name = luaL_checkstring(L, 2);
    struct ld_holder holder;
    if (!ld_parse_is_name(name) || ld_pidfile_inspect(&holder, dir, name) < 0 ||
        holder.state == LD_HOLDER_NONE) {
        return 0;
    }
    lua_pushstring(L, holder.state == LD_HOLDER_ALIVE ? "alive" : "dead");
    unsigned worker = find_worker(dir, name);
    if (worker == 0) {
        return 1;
    }
    lua_pushinteger(L, (lua_Integer)worker);
    return 2;
}

/* peer_uid(fd of a connected Unix socket) -> the user who listens there | nil */
static int l_peer_uid(lua_State *L) {
    struct ucred peer;
    socklen_t size = sizeof peer;
    int fd = (int)luaL_checkinteger(L, 1);
    if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &size) < 0) {
        return 0;
    }
    lua_pushinteger(L, peer.uid);
    return 1;
}

/* Push the JSON value in argument 1, a light userdata. */
static int l_push_json(lua_State *L) {
    lx_push_json(L, lua_touserdata(L, 1));
    return 1;
}

/* decode_json(text) -> the object in it as a table, null as nil | nil */
static int l_decode_json(lua_State *L) {
    size_t size;
    const char *text = luaL_checklstring(L, 1, &size);
    lua_pushcfunction(L, l_push_json);
    json_t *value = json_loadb(text, size, JSON_ALLOW_NUL, NULL);
    if (!json_is_object(value)) {
        json_decref(value);
        return 0;
    }
    lua_pushlightuserdata(L, value);
    int status = lua_pcall(L, 1, 1, 0);
    json_decref(value);
    return status == LUA_OK ? 1 : lua_error(L);
}

static const luaL_Reg own[] = {
    {"decode_json", l_decode_json},
    {"inspect_daemon", l_inspect_daemon},
    {"open_run_dir", l_open_run_dir},
    {"peer_uid", l_peer_uid},
    {NULL, NULL},
};

const struct ld_part ld_api_neighbours_part = {
    .name = "neighbours",
    .own = own,
};
