#include "api/spawn_options.h"

#include <lauxlib.h>
#include <stdio.h>
#include <string.h>

#include "api/listen.h"
#include "check.h"
#include "support.h"

static lua_State *L;
static struct ld_spawn_request request;

/* Read the options in the Lua expression TEXT into the request. */
static void read_options(const char *text) {
    lua_settop(L, 0);
    lua_pushfstring(L, "return %s", text);
    REQUIRE(luaL_loadstring(L, lua_tostring(L, -1)) == LUA_OK);
    REQUIRE(lua_pcall(L, 0, 1, 0) == LUA_OK);
    ld_api_spawn_options_read(L, -1, false, LD_READY_UNTOLD, &request);
}

static void test_rows(void) {
    const struct ld_child_config *config = &request.config;
    L = luaL_newstate();
    REQUIRE(L != NULL);
    read_options("{ 'true', name = 'n', cwd = '/', clear_env = true, timeout = 0.5, kill_after = 2,"
                 " detach = true, umask = '027', nice = -3, keep = true, user = 0, group = 'root',"
                 " stdin = 'pipe', stdout = 'null', stderr = 'stdout', fds = { [3] = 0 },"
                 " rlimit = { core = 0 } }");
    CHECK_STR("n", request.name);
    CHECK_STR("/", config->spawn.cwd);
    CHECK(request.clear_env);
    CHECK_INT(500, config->timeout_ms);
    CHECK_INT(2000, config->kill_after_ms);
    CHECK(config->spawn.session);
    CHECK_INT(027, config->spawn.mask);
    CHECK_INT(-3, config->spawn.nice);
    CHECK(request.keep);
    CHECK_STR("0", request.user);
    CHECK_STR("root", request.group);
    CHECK_INT(LD_STREAM_PIPE, config->streams[0].kind);
    CHECK_INT(LD_STREAM_NULL, config->streams[1].kind);
    CHECK_INT(LD_STREAM_JOIN, config->streams[2].kind);
    CHECK_INT(1, config->spawn.fd_count);
    CHECK_INT(1, config->spawn.rlimit_count);
    lua_close(L);
}

static void test_defaults(void) {
    L = luaL_newstate();
    REQUIRE(L != NULL);
    read_options("{ '/bin/true' }");
    CHECK_STR("true", request.name);
    CHECK(request.config.spawn.cwd == NULL);
    CHECK_INT(0, request.config.timeout_ms);
    CHECK_INT(LD_KILL_AFTER_MS, request.config.kill_after_ms);
    CHECK_INT(-1, request.config.spawn.mask);
    CHECK_INT(LD_STREAM_LOG, request.config.streams[1].kind);
    lua_close(L);
}

/* Print the names of some rows, each with the function that takes them. */
static void print_rows(const char *function, const struct lx_row *row) {
    for (; row->name != NULL; row++) {
        printf("%s %s\n", function, row->name);
    }
}

static const struct check_case cases[] = {
    {"each row sets its member", test_rows},
    {"what is not given has its default", test_defaults},
};

/* Run the tests, or print the names of all options: the specs compare those with the documents. */
int main(int argc, char **argv) {
    if (argc > 1 && strcmp(argv[1], "names") == 0) {
        print_rows("spawn", ld_api_spawn_options_rows);
        print_rows("listen", ld_api_listen_rows);
        return 0;
    }
    return check_main(argc, argv, cases, LD_COUNT(cases));
}
