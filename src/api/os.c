/* os.execute and io.popen, in place of Lua's: their programs are started by engine/spawn, inherit only
 * the standard streams, are reaped by nothing else, and end with the daemon. */
#include <errno.h>
#include <fcntl.h>
#include <lauxlib.h>
#include <lualib.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include "api/module.h"
#include "posix/process.h"
#include "script/luax.h"
#include "script/script.h"

/* The program behind a stream of io.popen; it may outlive the stream. */
struct program {
    struct ld_watch watch;
    struct ld_reaper *reaper;
    bool dropped; /* the stream is gone */
    bool ended;
    bool same_group; /* as ours: in the foreground, where there may be a terminal */
    struct ld_exit exit;
};

/* A stream of io.popen. Lua's library knows the first member. */
struct stream {
    luaL_Stream base;
    struct program *program;
};

/* Start the shell with COMMAND and the given standard streams. */
static int start_shell(const char *command, const int std[3], bool same_group, pid_t *pid,
                       int *pidfd) {
    const char *const argv[] = {"/bin/sh", "-c", command, NULL};
    const struct ld_spawn_fd fds[3] = {{0, std[0]}, {1, std[1]}, {2, std[2]}};
    struct ld_spawn spawn = {.argv = (char *const *)(uintptr_t)argv,
                             .envp = environ,
                             .fds = fds,
                             .fd_count = 3,
                             .same_group = same_group,
                             .mask = -1,
                             .identity = {(uid_t)-1, (gid_t)-1, NULL, -1}};
    const char *step;
    return ld_spawn_start(&spawn, pid, pidfd, &step);
}

/* Return what Lua returns for a process that has ended. */
static int push_exit(lua_State *L, const struct ld_exit *exit) {
    int status = exit->signaled ? exit->status : (exit->status & 0xFF) << 8;
    errno = 0; /* else luaL_execresult means it */
    return luaL_execresult(L, status);
}

/* os.execute([command]). The loop does not turn until it returns, so nothing else reaps the program. */
static int l_execute(lua_State *L) {
    static const int std[3] = {0, 1, 2};
    const char *command = luaL_optstring(L, 1, NULL);
    int status;
    pid_t pid;
    if (command == NULL) {
        lua_pushboolean(L, access("/bin/sh", X_OK) == 0);
        return 1;
    }
    fflush(NULL);
    int rc = start_shell(command, std, !ld_state_script(L)->setup->daemon, &pid, NULL);
    if (rc < 0) {
        errno = -rc;
        return luaL_fileresult(L, 0, NULL);
    }
    while (waitpid(pid, &status, 0) < 0 && errno == EINTR) {
    }
    errno = 0; /* else luaL_execresult means it */
    return luaL_execresult(L, status);
}

/* Record the end of a program. */
static void on_program_exit(struct ld_watch *watch, const struct ld_exit *exit) {
    struct program *program = LD_CONTAINER_OF(watch, struct program, watch);
    program->ended = true;
    program->exit = *exit;
    if (program->dropped) {
        free(program);
    }
}

/* Whether a stream is being closed by the collector, and not by the script. */
static bool is_collected(lua_State *L) {
    lua_Debug ar;
    if (lua_gettop(L) != 1 || !lua_getstack(L, 0, &ar)) {
        return false;
    }
    lua_getinfo(L, "f", &ar);
    luaL_getmetafield(L, 1, "__gc");
    bool same = lua_rawequal(L, -1, -2);
    lua_pop(L, 2);
    return same;
}

/* Stop watching a program; the reaper still reaps it. */
static void drop_program(lua_State *L, struct program *program) {
    if (program->ended) {
        free(program);
        return;
    }
    program->dropped = true;
    if (ld_stage_is_closing(ld_state_script(L)->stage)) {
        (program->same_group ? ld_process_kill : ld_process_kill_group)(program->watch.pid,
                                                                        SIGTERM);
    }
}

/* Close a stream: wait for the program, but never in the collector. */
static int close_stream(lua_State *L) {
    struct stream *stream = luaL_checkudata(L, 1, LUA_FILEHANDLE);
    struct program *program = stream->program;
    bool collected = is_collected(L);
    fclose(stream->base.f);
    if (collected) {
        drop_program(L, program);
        return 0;
    }
    struct ld_exit exit = program->exit;
    if (!program->ended) {
        ld_reaper_wait(program->reaper, &program->watch, &exit);
    }
    free(program);
    return push_exit(L, &exit);
}

/* Start the program of a stream, with a pipe; 0 or a negative errno. */
static int start_program(struct stream *stream, const char *command, bool reading) {
    struct program *program = stream->program;
    int ends[2];
    pid_t pid = 0;
    int pidfd = -1;
    if (pipe2(ends, O_CLOEXEC) < 0) {
        return -errno;
    }
    int ours = ends[reading ? 0 : 1];
    int theirs = ends[reading ? 1 : 0];
    const int std[3] = {reading ? 0 : theirs, reading ? theirs : 1, 2};
    FILE *file =
        fdopen(ours, reading ? "r" : "w"); /* before the program is started, as it can fail */
    int rc = file != NULL ? start_shell(command, std, program->same_group, &pid, &pidfd) : -errno;
    close(theirs);
    if (rc == 0) {
        program->watch.on_exit = on_program_exit;
        rc = ld_reaper_watch(program->reaper, &program->watch, pid, pidfd);
    }
    if (rc == 0) {
        stream->base.f = file;
    } else if (file != NULL) {
        fclose(file);
    } else {
        close(ours);
    }
    return rc;
}

/* io.popen(command [, mode]) */
static int l_popen(lua_State *L) {
    const char *command = luaL_checkstring(L, 1);
    const char *mode = luaL_optstring(L, 2, "r");
    luaL_argcheck(L, (mode[0] == 'r' || mode[0] == 'w') && mode[1] == '\0', 2, "invalid mode");
    if (ld_stage_is_closing(ld_state_script(L)->stage)) { /* the stream would never be closed */
        lx_error(L, "io.popen: %s", ld_state_over);
    }
    struct stream *stream = lua_newuserdatauv(L, sizeof *stream, 0);
    *stream = (struct stream){0}; /* a closed stream, until closef is set */
    luaL_setmetatable(L, LUA_FILEHANDLE);
    stream->program = calloc(1, sizeof *stream->program);
    if (stream->program == NULL) {
        return luaL_error(L, "not enough memory");
    }
    stream->program->reaper = ld_state_script(L)->setup->reaper;
    stream->program->same_group = !ld_state_script(L)->setup->daemon;
    fflush(NULL);
    int rc = start_program(stream, command, mode[0] == 'r');
    if (rc < 0) {
        free(stream->program);
        errno = -rc;
        return luaL_fileresult(L, 0, command);
    }
    stream->base.closef = close_stream;
    return 1;
}

/* Open this part: it replaces functions of Lua's libraries. */
static int set_up(lua_State *L) {
    lua_getglobal(L, "os");
    lua_pushcfunction(L, l_execute);
    lua_setfield(L, -2, "execute");
    lua_getglobal(L, "io");
    lua_pushcfunction(L, l_popen);
    lua_setfield(L, -2, "popen");
    return 0;
}

const struct ld_part ld_api_os_part = {
    .name = "os",
    .open = set_up,
};
