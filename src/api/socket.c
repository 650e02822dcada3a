/* Sockets by their descriptors, for lunad's own Lua: what luv cannot do. */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <lauxlib.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>
#include <uv.h>

#include "api/module.h"
#include "posix/address.h"
#include "posix/fds.h"
#include "script/luax.h"

/* Push an address as lunad.listen takes it. */
static int push_address(lua_State *L, const struct sockaddr_storage *address, socklen_t size) {
    char text[INET6_ADDRSTRLEN];
    if (address->ss_family == AF_INET) {
        const struct sockaddr_in *in = (const struct sockaddr_in *)address;
        inet_ntop(AF_INET, &in->sin_addr, text, sizeof text);
        lua_pushfstring(L, "%s:%d", text, (int)ntohs(in->sin_port));
    } else if (address->ss_family == AF_INET6) {
        const struct sockaddr_in6 *in = (const struct sockaddr_in6 *)address;
        inet_ntop(AF_INET6, &in->sin6_addr, text, sizeof text);
        lua_pushfstring(L, "[%s]:%d", text, (int)ntohs(in->sin6_port));
    } else {
        const struct sockaddr_un *un = (const struct sockaddr_un *)address;
        bool is_named =
            size > (socklen_t)offsetof(struct sockaddr_un, sun_path) && un->sun_path[0] != '\0';
        lua_pushfstring(L, "unix:%s", is_named ? un->sun_path : "");
    }
    return 1;
}

/* socket_address(fd) -> where it is bound, is_unix | nil, error, code */
static int l_socket_address(lua_State *L) {
    int fd = (int)luaL_checkinteger(L, 1);
    struct sockaddr_storage address = {0};
    socklen_t size = sizeof address;
    if (getsockname(fd, (struct sockaddr *)&address, &size) < 0) {
        return lx_fail(L, -errno, "descriptor %d", fd);
    }
    push_address(L, &address, size);
    lua_pushboolean(L, address.ss_family == AF_UNIX);
    return 2;
}

/* tune_listener(fd, seconds): let the connections of a TCP socket send at once, and have the kernel ask
 * whether the other side is still there after that many seconds of silence (0: never). They inherit it. */
static int l_tune_listener(lua_State *L) {
    int fd = (int)luaL_checkinteger(L, 1);
    int seconds = (int)luaL_checkinteger(L, 2);
    const int on = 1;
    const int off = 0;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, seconds > 0 ? &on : &off, sizeof on);
    if (seconds > 0) {
        setsockopt(fd, IPPROTO_TCP, TCP_KEEPIDLE, &seconds, sizeof seconds);
    }
    return 0;
}

/* dup_socket(fd) -> another descriptor of it, which the caller owns | nil, error, code */
static int l_dup_socket(lua_State *L) {
    int fd = (int)luaL_checkinteger(L, 1);
    int copy = fcntl(fd, F_DUPFD_CLOEXEC, STDERR_FILENO + 1);
    if (copy < 0) {
        return lx_fail(L, -errno, "descriptor %d", fd);
    }
    lua_pushinteger(L, copy);
    return 1;
}

/* takes_data(fd) -> whether a write of some bytes would not have to wait */
static int l_takes_data(lua_State *L) {
    struct pollfd now = {.fd = (int)luaL_checkinteger(L, 1), .events = POLLOUT};
    lua_pushboolean(L, poll(&now, 1, 0) == 1 && (now.revents & POLLOUT) != 0);
    return 1;
}

/* socket_error(fd) -> the code of the error that a socket has met, or nothing. EPIPE is none: it says that the
 * connection was reset when the other side had ended it already. */
static int l_socket_error(lua_State *L) {
    int code = 0;
    socklen_t size = sizeof code;
    int fd = (int)luaL_checkinteger(L, 1);
    if (getsockopt(fd, SOL_SOCKET, SO_ERROR, &code, &size) < 0 || code == 0 || code == EPIPE) {
        return 0;
    }
    lua_pushstring(L, uv_err_name(-code));
    return 1;
}

/* reset_at_close(fd): have the close of a TCP socket reset the connection, so that the other side does not take
 * it for a good end. */
static int l_reset_at_close(lua_State *L) {
    const struct linger now = {.l_onoff = 1};
    setsockopt((int)luaL_checkinteger(L, 1), SOL_SOCKET, SO_LINGER, &now, sizeof now);
    return 0;
}

/* shut_socket(fd): end both sides of a connection, whoever else has it open. */
static int l_shut_socket(lua_State *L) {
    shutdown((int)luaL_checkinteger(L, 1), SHUT_RDWR);
    return 0;
}

/* prepare_fd(fd): make a descriptor that a library has opened fit for the loop, so that calls on it do not block
 * and no other program inherits it -> true | nil, error, code */
static int l_prepare_fd(lua_State *L) {
    int fd = (int)luaL_checkinteger(L, 1);
    if (ld_fds_owner(fd) == LD_FD_HOST) {
        return lx_fail(L, -EBADF, "descriptor %d is not the script's", fd);
    }
    int flags = fcntl(fd, F_GETFL);
    if (flags < 0 || fcntl(fd, F_SETFD, FD_CLOEXEC) < 0 ||
        ((flags & O_NONBLOCK) == 0 && fcntl(fd, F_SETFL, flags | O_NONBLOCK) < 0)) {
        return lx_fail(L, -errno, "descriptor %d", fd);
    }
    lua_pushboolean(L, 1);
    return 1;
}

/* address_fault(text) -> what is wrong with an address for lunad.listen, or nil */
static int l_address_fault(lua_State *L) {
    const char *text = luaL_checkstring(L, 1);
    struct ld_address address;
    if (strncmp(text, "fd:", 3) == 0 || ld_address_parse(text, &address)) {
        return 0;
    }
    lua_pushstring(L, ld_address_fault(text));
    return 1;
}

static const luaL_Reg own[] = {
    {"address_fault", l_address_fault}, {"socket_address", l_socket_address},
    {"tune_listener", l_tune_listener}, {"dup_socket", l_dup_socket},
    {"takes_data", l_takes_data},       {"reset_at_close", l_reset_at_close},
    {"socket_error", l_socket_error},   {"shut_socket", l_shut_socket},
    {"prepare_fd", l_prepare_fd},       {NULL, NULL},
};

const struct ld_part ld_api_socket_part = {
    .name = "socket",
    .own = own,
};
