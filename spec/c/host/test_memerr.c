/* Memory runs out at the n-th allocation, for n = 0, 1, 2, … until one more would change nothing:
 * once, for two in a row (Lua collects and tries again, so one failure does not reach a script), and
 * for as long as a trial lasts. Each time either what was tried has happened, or there is an error
 * that says so; and the script goes on. */
#include <errno.h>
#include <fcntl.h>
#include <lauxlib.h>
#include <lua.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "api/module.h"
#include "base/log.h"
#include "check.h"
#include "engine/signals.h"
#include "famine.h"
#include "host/host.h"
#include "host/internal.h"
#include "script/task.h"
#include "support.h"

#define TRIAL_SECONDS 5
#define FAMINE_NS     200000000 /* or until something has come of it */
#define HEAP_SLACK    (64 * 1024)
#define STRIDE        7 /* where there are thousands of allocations */
#define STEPS_MAX     20000

static long step = STRIDE; /* 1 with --all */

static const long lengths[] = {1, 2, FAMINE_FOR_GOOD};

/* The trial under way. */
static struct {
    struct ld_host *host;
    size_t mode;      /* index in lengths */
    long step;        /* from one trial to the next */
    long spared;      /* allocations before the famine */
    long done;        /* trials that are over */
    bool starving;    /* the famine has not ended */
    bool has_act;     /* the script has said what to try */
    bool running;     /* between its beginning and its verdict */
    bool effect;      /* what was tried has happened */
    bool problem;     /* or the script was told why not */
    long refused;     /* allocations */
    long failures;    /* trials with an error */
    uint64_t reloads; /* done, before it */
    uint64_t errors;  /* that nobody caught, before it */
    uint64_t began;
    size_t heap; /* after the third trial of all */
    size_t keepers;
    bool is_drained; /* the next famine begins without a coroutine in the pool */
    int64_t skew;    /* of the clock on the wall */
} trial;

static struct {
    int fd;
    char path[108];
} client = {.fd = -1};

static const char act_key; /* of what the script tries, in the registry */

int __real_ld_api_module_open(lua_State *L);
int __wrap_ld_api_module_open(lua_State *L);
void __real_ld_turn_on_prepare(uv_prepare_t *prepare);
void __wrap_ld_turn_on_prepare(uv_prepare_t *prepare);
int64_t __real_ld_time_real(void);
int64_t __wrap_ld_time_real(void);

/* The clock on the wall, as the test wants it. */
int64_t __wrap_ld_time_real(void) {
    return __real_ld_time_real() + trial.skew;
}

/* How many errors nobody caught, and how many reloads were refused. */
static uint64_t count_errors(void) {
    const struct ld_host *host = trial.host;
    return host->tally.count + host->reload.failed;
}

/* broken(what): what must not happen has. */
static int l_broken(lua_State *L) {
    printf("    broken: %s\n", lua_tostring(L, 1));
    CHECK(!"nothing broken");
    return 0;
}

/* starve([drained]): begin the famine. */
static int l_starve(lua_State *L) {
    trial.starving = true;
    trial.effect = false;
    trial.problem = false;
    trial.reloads = trial.host->reload.ok;
    trial.errors = count_errors();
    trial.began = now_ns();
    trial.is_drained = lua_toboolean(L, 1);
    famine_begin(trial.spared, lengths[trial.mode]);
    return 0;
}

/* effect(): what was tried has happened. */
static int l_effect(lua_State *L) {
    (void)L;
    trial.effect = true;
    return 0;
}

/* problem(message): the script was told why it has not. */
static int l_problem(lua_State *L) {
    trial.problem = true;
    CHECK(lua_type(L, 1) == LUA_TSTRING && lua_rawlen(L, 1) > 0);
    return 0;
}

/* Say where the trial is. */
static void say(const char *what) {
    printf("    %s: %ld spared, %ld refused, then %s\n", what, trial.spared, trial.refused,
           lengths[trial.mode] == 1   ? "plenty"
           : lengths[trial.mode] == 2 ? "plenty after two"
                                      : "none");
}

/* Check what the trial has left behind, with memory again. */
static void check_rest(void) {
    const struct ld_script *script = trial.host->script;
    lua_gc(script->L, LUA_GCCOLLECT);
    if (trial.done <= 3) { /* the first ones make what stays */
        trial.heap = script->heap.size;
    }
    bool is_lean = CHECK(script->heap.size < trial.heap + HEAP_SLACK);
    bool is_idle = CHECK(script->keepers == trial.keepers);
    if (!is_lean || !is_idle) {
        say("something is left");
        trial.heap = script->heap.size;
        trial.keepers = script->keepers;
    }
}

/* Whether something has come of the trial. */
static bool is_decided(void) {
    trial.effect = trial.effect || trial.host->reload.ok > trial.reloads;
    return trial.effect || trial.problem || count_errors() > trial.errors;
}

/* Whether the trial is over: that, and nothing of it is left. */
static bool is_over(void) {
    bool late = now_ns() - trial.began > TRIAL_SECONDS * 1000000000ULL;
    bool is_idle = trial.host->script->keepers <= trial.keepers;
    return late || (is_decided() && is_idle);
}

/* Judge the trial. */
static void judge(void) {
    bool failed = trial.problem || count_errors() > trial.errors;
    trial.failures += failed;
    if (!trial.effect && !failed) {
        CHECK(!"an effect or an error");
        say("nothing happened, and nobody was told");
    }
    check_rest();
    trial.done++;
    trial.spared += trial.step;
    if (trial.refused == 0 || trial.spared > STEPS_MAX) {
        CHECK(trial.effect || failed);
        trial.spared = 0;
        trial.mode++;
    }
}

/* Call what the script tries. */
static void try_again(struct ld_script *script) {
    struct ld_task *task = ld_task_take(script, "the trial");
    lua_rawgetp(script->L, LUA_REGISTRYINDEX, &act_key);
    if (CHECK(task != NULL) && lua_isnil(script->L, -1) == 0) {
        trial.began = now_ns();
        trial.running = true;
        lua_xmove(script->L, task->co, 1);
        ld_task_start(task, 0);
    }
}

/* Go on with the trials, in a turn of the loop with memory. */
static void go_on(struct ld_host *host) {
    if (host->state != LD_HOST_RUNNING || (trial.running && !is_over())) {
        return;
    }
    if (trial.running) {
        trial.running = false;
        judge();
    } else {
        trial.keepers = host->script->keepers;
    }
    if (trial.mode < LD_COUNT(lengths)) {
        try_again(host->script);
    } else {
        ld_stop_begin(host, "stop", 0);
    }
}

/* End the famine when something has come of it, or it has lasted for long, and go on. */
void __wrap_ld_turn_on_prepare(uv_prepare_t *prepare) {
    struct ld_host *host = LD_CONTAINER_OF(prepare, struct ld_host, turn);
    trial.host = host;
    __real_ld_turn_on_prepare(prepare);
    if (trial.starving && (now_ns() - trial.began > FAMINE_NS || is_decided())) {
        trial.starving = false;
        trial.refused = famine_end();
    }
    if (trial.has_act && !trial.starving) {
        go_on(host);
    }
    if (trial.starving && trial.is_drained) {
        ld_task_drain_pool(host->script);
    }
    if (trial.has_act) {
        ld_alarm_wake_at(host, uv_now(&host->loop) + 1);
    }
}

/* drive(act): try this, again and again. */
static int l_drive(lua_State *L) {
    lua_settop(L, 1);
    lua_rawsetp(L, LUA_REGISTRYINDEX, &act_key);
    trial.has_act = true;
    return 0;
}

/* before_minute(): set the clock on the wall to just before a full minute. */
static int l_before_minute(lua_State *L) {
    const int64_t minute = 60000000000;
    trial.skew += minute - __wrap_ld_time_real() % minute - 60000000;
    (void)L;
    return 0;
}

/* ask([verb]): send a request to the control socket, as a client. */
static int l_ask(lua_State *L) {
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    char request[64];
    int size =
        snprintf(request, sizeof request, "{\"verb\":\"%s\"}\n", luaL_optstring(L, 1, "status"));
    snprintf(address.sun_path, sizeof address.sun_path, "%s", client.path);
    client.fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    CHECK(connect(client.fd, (const struct sockaddr *)&address, sizeof address) == 0);
    CHECK(write(client.fd, request, (size_t)size) == size);
    return 0;
}

/* answer() -> the answer, "" when there is none, nil while none has come */
static int l_answer(lua_State *L) {
    static char bytes[65536];
    ssize_t size = read(client.fd, bytes, sizeof bytes);
    if (size < 0) {
        return 0;
    }
    close(client.fd);
    client.fd = -1;
    lua_pushlstring(L, bytes, (size_t)size);
    return 1;
}

static const luaL_Reg functions[] = {
    {"starve", l_starve}, {"effect", l_effect},
    {"broken", l_broken}, {"problem", l_problem},
    {"drive", l_drive},   {"ask", l_ask},
    {"answer", l_answer}, {"before_minute", l_before_minute},
    {NULL, NULL},
};

/* Open lunad's libraries, and the test's own. */
int __wrap_ld_api_module_open(lua_State *L) {
    int results = __real_ld_api_module_open(L);
    luaL_getsubtable(L, LUA_REGISTRYINDEX, LUA_LOADED_TABLE);
    luaL_newlib(L, functions);
    lua_setfield(L, -2, "trial");
    lua_pop(L, 1);
    return results;
}

/* Listen as the daemon's control socket. */
static int make_listener(void) {
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    snprintf(client.path, sizeof client.path, "%s", box_path("control"));
    snprintf(address.sun_path, sizeof address.sun_path, "%s", client.path);
    unlink(client.path);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    REQUIRE(bind(fd, (const struct sockaddr *)&address, sizeof address) == 0);
    REQUIRE(listen(fd, 8) == 0);
    return fd;
}

/* Run a script to its end as a host does; the exit status, with the reason in WHY. */
static int run_host(const char *script, const char *name, struct ld_text *why) {
    char *directory = strdup(box_path(""));
    char *words[] = {
        "lunad", "start", (char *)(uintptr_t)script, directory, (char *)(uintptr_t)name, NULL};
    struct ld_options options = {.start_timeout = 30, .stop_timeout = 10};
    struct ld_service service = {.options = &options,
                                 .daemon = true,
                                 .name = "memerr",
                                 .script = strdup(script),
                                 .text_title = "=",
                                 .words = words,
                                 .script_word = 2,
                                 .starter_uid = getuid(),
                                 .listener = make_listener(),
                                 .run_fd = -1,
                                 .notify_fd = -1,
                                 .log_place = {.dir = -1},
                                 .mailbox = -1,
                                 .memory_fd = -1,
                                 .pidfile = {.fd = -1},
                                 .claim = -1,
                                 .file_watch = -1,
                                 .channel = -1,
                                 .keeper = -1};
    int status = ld_host_run(&service, why);
    trial.refused += famine_end();
    if (service.listener >= 0) {
        close(service.listener);
    }
    free(service.script);
    free(directory);
    return status;
}

/* Begin a test with a log of its own. */
static void begin(long stride) {
    struct ld_log_config config = {.sink = LD_LOG_FILE, .path = box_path("log")};
    memset(&trial, 0, sizeof trial);
    trial.step = step < stride ? step : stride;
    famine_init();
    REQUIRE(ld_log_open(&config) == 0);
}

/* Run a script that makes trials; it must do well each time that there is memory. */
static void run_trials(const char *script, const char *name, long stride) {
    struct ld_text why = {0};
    begin(stride);
    CHECK_INT(0, run_host(script, name, &why));
    CHECK_STR("", ld_text_string(&why));
    CHECK_INT(LD_COUNT(lengths), trial.mode);
    printf("    %ld trials, %ld with an error\n", trial.done, trial.failures);
    ld_log_close();
    ld_text_fini(&why);
}

/* Reload again and again: either the new generation is the service, with the state that the old one
 * handed on, or the old one goes on. */
static void test_reload(void) {
    run_trials(MEMERR_DIRECTORY "/memerr_reload.lua", NULL, STRIDE);
}

/* Start again and again, with the famine from the beginning. */
static void check_start(size_t mode) {
    struct ld_text why = {0};
    trial.mode = mode;
    trial.spared = 0;
    do {
        trial.starving = true; /* until the first turn of the loop */
        trial.refused = 0;
        famine_begin(trial.spared, lengths[mode]);
        trial.spared += trial.step;
        trial.done++;
        int status = run_host(MEMERR_DIRECTORY "/memerr_start.lua", NULL, &why);
        CHECK(status == 0 || !ld_text_is_empty(&why));
        if (status != (ld_text_is_empty(&why) ? 0 : 1)) {
            say("the status is wrong");
        }
        trial.failures += status != 0;
        ld_text_fini(&why);
    } while (trial.refused > 0);
}

static void test_start(void) {
    begin(STRIDE);
    for (size_t mode = 0; mode < LD_COUNT(lengths); mode++) {
        check_start(mode);
    }
    CHECK(trial.failures > 0);
    printf("    %ld trials, %ld with an error\n", trial.done, trial.failures);
    ld_log_close();
}

/* Stop again and again; each stop comes to its end, whatever is missing. */
static void test_stop(void) {
    struct ld_text why = {0};
    begin(STRIDE);
    for (trial.mode = 0; trial.mode < LD_COUNT(lengths); trial.mode++) {
        trial.spared = 0;
        do {
            trial.refused = 0;
            int status = run_host(MEMERR_DIRECTORY "/memerr_stop.lua", NULL, &why);
            if (!CHECK(status == 0 && ld_text_is_empty(&why))) {
                say("the stop failed");
            }
            trial.starving = false;
            trial.spared += trial.step;
            trial.done++;
            ld_text_fini(&why);
        } while (trial.refused > 0);
    }
    printf("    %ld trials\n", trial.done);
    ld_log_close();
}

#define TRIALS_BY(name, stride)                                                                    \
    static void test_##name(void) {                                                                \
        run_trials(MEMERR_DIRECTORY "/memerr.lua", #name, stride);                                 \
    }
#define TRIALS(name) TRIALS_BY(name, 1)

TRIALS(after)
TRIALS(armed_after)
TRIALS(every)
TRIALS(again)
TRIALS(cron)
TRIALS(armed_cron)
TRIALS(cron_spec)
TRIALS(sleep)
TRIALS(woken)
TRIALS(task)
TRIALS(many_arguments)
TRIALS(failing_task)
TRIALS(cancelled_task)
TRIALS(coroutine)
TRIALS(signal)
TRIALS(new_signal)
TRIALS(spawn)
TRIALS(exit)
TRIALS(output)
TRIALS(by_line)
TRIALS(logged_output)
TRIALS(exec)
TRIALS(write)
TRIALS(wait)
TRIALS(supervise)
TRIALS(unknown_command)
TRIALS(listen)
TRIALS(new_listen)
TRIALS(popen)
TRIALS(execute)
TRIALS(stats)
TRIALS(say)
TRIALS(error)
TRIALS(seen_error)
TRIALS(on_stop)
TRIALS(control)
TRIALS(reopen)
TRIALS(luv)
TRIALS_BY(failing_line, STRIDE)
TRIALS_BY(restart, STRIDE)

static const struct check_case cases[] = {
    {"a start", test_start},
    {"a reload", test_reload},
    {"a stop", test_stop},
    {"after", test_after},
    {"armed after", test_armed_after},
    {"every", test_every},
    {"again", test_again},
    {"cron", test_cron},
    {"armed cron", test_armed_cron},
    {"cron spec", test_cron_spec},
    {"sleep", test_sleep},
    {"woken", test_woken},
    {"task", test_task},
    {"many arguments", test_many_arguments},
    {"failing task", test_failing_task},
    {"cancelled task", test_cancelled_task},
    {"coroutine", test_coroutine},
    {"signal", test_signal},
    {"new signal", test_new_signal},
    {"spawn", test_spawn},
    {"exit", test_exit},
    {"output", test_output},
    {"by line", test_by_line},
    {"logged output", test_logged_output},
    {"exec", test_exec},
    {"write", test_write},
    {"wait", test_wait},
    {"supervise", test_supervise},
    {"unknown command", test_unknown_command},
    {"listen", test_listen},
    {"new listen", test_new_listen},
    {"popen", test_popen},
    {"execute", test_execute},
    {"stats", test_stats},
    {"say", test_say},
    {"error", test_error},
    {"seen error", test_seen_error},
    {"on stop", test_on_stop},
    {"control", test_control},
    {"reopen", test_reopen},
    {"luv", test_luv},
    {"failing line", test_failing_line},
    {"restart", test_restart},
};

/* Run the cases; with --all, for every single allocation where there are thousands. What is opened once in a process is no case's. */
int main(int argc, char **argv) {
    REQUIRE(ld_signals_open() == 0);
    if (argc > 1 && strcmp(argv[1], "--all") == 0) {
        step = 1;
        argv++;
        argc--;
    }
    return check_main(argc, argv, cases, LD_COUNT(cases));
}
