/* lunad.listen. */
#include <errno.h>
#include <lauxlib.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "api/listen.h"
#include "api/module.h"
#include "engine/listener.h"
#include "engine/mute.h"
#include "posix/fds.h"
#include "script/luax.h"
#include "script/script.h"

#define AT(member) .offset = offsetof(struct ld_listen_options, member)

const struct lx_row ld_api_listen_rows[] = {
    {"backlog", LX_INTEGER, AT(backlog), .min = 1, .max = 1 << 30},
    {"mode", LX_MODE, AT(mode)},
    {"reuse_port", LX_BOOLEAN, AT(reuse_port)},
    {.name = NULL},
};

/* A hint to add to an error of "fd:NAME" or "fd:NUMBER", or "". */
static const char *explain_inherited(const char *text, int code) {
    if (code == -ENOENT) {
        return ": no such socket was passed (LISTEN_FDNAMES)";
    }
    if (code == -EOPNOTSUPP) {
        return ": this socket does not listen";
    }
    if (code != -EBADF) {
        return "";
    }
    return ld_fds_owner(atoi(text + strlen("fd:"))) == LD_FD_HOST
               ? ": it is lunad's own (start keeps of what it is given only LISTEN_FDS, with "
                 "LISTEN_PID)"
               : ": this process was not started with it (start keeps only those of LISTEN_FDS, "
                 "with LISTEN_PID)";
}

/* A hint to add to an error, or "". */
static const char *explain(const struct ld_script *script, const char *text, int code) {
    if (strncmp(text, "fd:", 3) == 0) {
        return explain_inherited(text, code);
    }
    return code == -EACCES && script->setup->dropped
               ? ": start it with --listen, which is bound before privileges are dropped"
               : "";
}

/* listen(address [, options]) -> fd | nil, error, code */
static int l_listen(lua_State *L) {
    struct ld_script *script = ld_state_script(L);
    struct ld_listeners *listeners = script->setup->listeners;
    struct ld_listen_options options = {.mode = -1};
    struct ld_address address;
    ld_state_check_current(L, "listen");
    const char *text = luaL_checkstring(L, 1);
    bool is_named = strncmp(text, "fd:", 3) == 0;
    if (!is_named && !ld_address_parse(text, &address)) {
        luaL_argerror(L, 1, lua_pushfstring(L, "'%s': %s", text, ld_address_fault(text)));
    }
    if (!lua_isnoneornil(L, 2)) {
        luaL_checktype(L, 2, LUA_TTABLE);
        lx_read_options(L, 2, ld_api_listen_rows, &options, "listen");
    }
    int fd = ld_listeners_ask(listeners, text, &options, ld_stage_is_new(script->stage));
    if (fd >= 0) {
        int rc = ld_listeners_issue(listeners, fd, script);
        if (rc == 0 && ld_stage_is_new(script->stage)) {
            rc = ld_mute_start(fd);
        }
        if (rc < 0) {
            close(fd);
            fd = rc;
        }
    }
    if (fd < 0) {
        return lx_fail(L, fd, "%s%s", text, explain(script, text, fd));
    }
    lua_pushinteger(L, fd);
    return 1;
}

/* Stop a replaced generation from accepting clients, where on_stop has not closed its sockets. */
static void deafen(struct ld_script *old, struct ld_script *next) {
    (void)next;
    ld_script_deafen(old);
}

static const luaL_Reg functions[] = {
    {"listen", l_listen},
    {NULL, NULL},
};

const struct ld_part ld_api_listen_part = {
    .name = "listen",
    .functions = functions,
    .retire = deafen,
};
