/* Connections of libraries that know nothing of the loop, for lunad's own Lua: while one is open, a generation
 * that was replaced is not closed, as with those of luv. */
#include <lauxlib.h>
#include <netdb.h>
#include <sys/socket.h>

#include "api/module.h"
#include "script/luax.h"

#define CONNECTION_TYPE "lunad.connection"
#define NAMES_MAX       10 /* connections named one by one in the log */

/* A connection that is made or open; in a userdata. */
struct ld_connection {
    LIST_ENTRY(ld_connection) link; /* of the script's, while `is_held` */
    int fd;                         /* -1: it has none yet */
    bool is_held;
};

/* Let go of a connection; twice does nothing. */
static void release(struct ld_connection *connection) {
    if (connection->is_held) {
        connection->is_held = false;
        LIST_REMOVE(connection, link);
    }
}

/* hold_connection(fd | -1) -> connection, until it is released or collected */
static int l_hold_connection(lua_State *L) {
    int fd = (int)luaL_checkinteger(L, 1);
    struct ld_connection *connection = lua_newuserdatauv(L, sizeof *connection, 0);
    *connection = (struct ld_connection){.fd = fd, .is_held = true};
    LIST_INSERT_HEAD(&ld_state_script(L)->connections, connection, link);
    luaL_setmetatable(L, CONNECTION_TYPE);
    return 1;
}

/* release_connection(connection) */
static int l_release_connection(lua_State *L) {
    release(luaL_checkudata(L, 1, CONNECTION_TYPE));
    return 0;
}

/* Name the other side of a connection. */
static void name(const struct ld_connection *connection, struct ld_text *text) {
    struct sockaddr_storage peer = {0};
    socklen_t size = sizeof peer;
    char host[NI_MAXHOST];
    char port[NI_MAXSERV];
    ld_text_puts(text, ld_text_is_empty(text) ? "" : ", ");
    if (getpeername(connection->fd, (struct sockaddr *)&peer, &size) < 0) {
        ld_text_puts(text, "connection that is being made");
    } else if (getnameinfo((struct sockaddr *)&peer, size, host, sizeof host, port, sizeof port,
                           NI_NUMERICHOST | NI_NUMERICSERV) != 0 ||
               peer.ss_family == AF_UNIX) {
        ld_text_puts(text, "connection by a pipe or Unix socket");
    } else {
        bool six = peer.ss_family == AF_INET6;
        ld_text_format(text, "connection with %s%s%s:%s", six ? "[" : "", host, six ? "]" : "",
                       port);
    }
}

/* Name the connections of a replaced script that are open. */
static void name_unfinished(struct ld_script *script, struct ld_text *text) {
    const struct ld_connection *connection;
    size_t count = 0;
    LIST_FOREACH(connection, &script->connections, link) {
        if (count++ < NAMES_MAX) {
            name(connection, text);
        }
    }
    if (count > NAMES_MAX) {
        ld_text_format(text, " and %zu connections more", count - NAMES_MAX);
    }
}

static const luaL_Reg own[] = {
    {"hold_connection", l_hold_connection},
    {"release_connection", l_release_connection},
    {NULL, NULL},
};

/* Open this part. */
static int set_up(lua_State *L) {
    luaL_newmetatable(L, CONNECTION_TYPE);
    lua_pushcfunction(L, l_release_connection);
    lua_setfield(L, -2, "__gc");
    return 0;
}

const struct ld_part ld_api_connection_part = {
    .name = "connections",
    .own = own,
    .open = set_up,
    .name_unfinished = name_unfinished,
};
