/* lunad metrics: the text is made by Lua, which the exporter shares. */
#include <lauxlib.h>
#include <lualib.h>
#include <string.h>

#include "api/embedded.h"
#include "base/json.h"
#include "base/say.h"
#include "cli/client.h"
#include "cli/crew.h"
#include "cli/rundir.h"
#include "cli/target.h"
#include "cli/verbs.h"
#include "posix/paths.h"
#include "script/lua_json.h"

#define SECONDS       2.0  /* for an answer */
#define SCRIPT_MS     1000 /* of that, for the script */
#define SHORT_SECONDS 0.2  /* for an answer, after SILENT_MAX daemons did not give one */
#define SILENT_MAX    3
#define PORT_DIGITS   5

/* What is collected. */
struct harvest {
    const struct ld_rundir *dir;
    json_t *targets; /* [{name, worker, answer, error}], as openmetrics.lua takes them */
    int silent;      /* how many did not answer */
    int status;
};

/* Ask a daemon; what it did not answer is an error in what is noted. */
static void ask(struct harvest *harvest, struct ld_target *target) {
    struct ld_text why = {0};
    json_t *answer = NULL;
    json_t *body = json_pack("{s:f}", "timeout", SCRIPT_MS / 1e3);
    struct ld_request request = ld_target_request(
        target, "metrics", harvest->silent < SILENT_MAX ? SECONDS : SHORT_SECONDS);
    request.body = body;
    int rc = ld_client_ask(&request, &answer, &why);
    json_t *note = json_pack("{s:o, s:o*}", "name", ld_json_string(target->name), "answer", answer);
    if (rc < 0) {
        bool has_ended = ld_target_has_ended(target);
        json_object_set_new(note, "error",
                            ld_json_string(has_ended ? "it has ended" : ld_text_string(&why)));
        harvest->silent += !has_ended;
        harvest->status = 1;
    }
    unsigned worker = ld_crew_worker(harvest->dir, target->name);
    if (worker > 0) {
        json_object_set_new(note, "worker", json_integer((json_int_t)worker));
    }
    json_array_append_new(harvest->targets, note);
    json_decref(body);
    ld_text_fini(&why);
}

/* Note a daemon that does not run. */
static void note_dead(struct harvest *harvest, const struct ld_target *target) {
    struct ld_text text = {0};
    if (target->holder.state == LD_HOLDER_DEAD) {
        ld_text_puts(&text, "it has died");
    } else {
        ld_text_format(&text, "not running (%s)", ld_text_string(&target->dir->where));
    }
    ld_target_describe_death(target, &text);
    json_array_append_new(harvest->targets,
                          json_pack("{s:o, s:o}", "name", ld_json_string(target->name), "error",
                                    ld_json_string(ld_text_string(&text))));
    ld_text_fini(&text);
}

/* Ask a daemon of the directory, or note that it has died. */
static bool add_one(const char *name, void *arg) {
    struct harvest *harvest = arg;
    struct ld_target target = {.dir = harvest->dir};
    snprintf(target.name, sizeof target.name, "%s", name);
    if (ld_pidfile_inspect(&target.holder, harvest->dir->fd, name) < 0) {
        return true;
    }
    bool waits = target.holder.waiting && ld_crew_worker(harvest->dir, name) > 0;
    if (target.holder.state == LD_HOLDER_ALIVE && !waits) {
        ask(harvest, &target);
    } else if (target.holder.state == LD_HOLDER_DEAD) {
        note_dead(harvest, &target);
    }
    return true;
}

/* Whether a daemon was asked already, by another word for it. */
static bool is_known(const struct harvest *harvest, const char *name) {
    size_t index;
    const json_t *target;
    json_array_foreach(harvest->targets, index, target) {
        if (strcmp(json_string_value(json_object_get(target, "name")), name) == 0) {
            return true;
        }
    }
    return false;
}

/* Ask a worker, unless that was done. */
static int ask_worker(void *arg, struct ld_target *worker) {
    struct harvest *harvest = arg;
    if (!is_known(harvest, worker->name)) {
        ask(harvest, worker);
    }
    return 0;
}

/* Ask the daemon that a word of the command line means, and its workers; an exit status. */
static int add_named(struct harvest *harvest, const char *argument) {
    struct ld_target target;
    int status = ld_target_find(&target, harvest->dir, argument);
    if (status != 0 || is_known(harvest, target.name)) {
        return status;
    }
    harvest->status = 0;
    if (target.holder.state == LD_HOLDER_ALIVE) {
        ask(harvest, &target);
        int crew = ld_crew_count(&target) > 0 ? ld_crew_each(&target, ask_worker, harvest) : 0;
        return crew > harvest->status ? crew : harvest->status;
    }
    note_dead(harvest, &target);
    return 3;
}

/* Complain of what a list at the top of L has: daemons, and what is missing of them. */
static void complain(lua_State *L) {
    for (lua_Integer i = 1; i <= (lua_Integer)lua_rawlen(L, -1); i++) {
        lua_rawgeti(L, -1, i);
        lua_rawgeti(L, -1, 1);
        lua_rawgeti(L, -2, 2);
        ld_say_error("%s: %s", lua_tostring(L, -2), lua_tostring(L, -1));
        lua_pop(L, 3);
    }
}

/* Print the metrics of TARGETS, a light userdata. */
static int print(lua_State *L) {
    static const char file[] = "openmetrics.lua";
    const struct ld_embedded *chunk = ld_embedded;
    while (strcmp(chunk->name, file) != 0) {
        chunk++;
    }
    luaL_openlibs(L);
    if (luaL_loadbufferx(L, chunk->text, chunk->size, file, "t") != LUA_OK) {
        return lua_error(L);
    }
    lua_call(L, 0, 1);
    lx_push_json(L, lua_touserdata(L, 1));
    lua_pushboolean(L, 1);
    lua_call(L, 2, 2);
    struct ld_text text = {0};
    size_t size;
    const char *bytes = lua_tolstring(L, -2, &size);
    ld_text_add(&text, bytes, size > 0 ? size - 1 : 0); /* the last newline is added */
    ld_say_text(&text);
    ld_text_fini(&text);
    complain(L);
    return 0;
}

/* Make text of what was collected, and print it; an exit status. */
static int print_all(const json_t *targets) {
    lua_State *L = luaL_newstate();
    int rc = LUA_ERRMEM;
    if (L != NULL) {
        lua_pushcfunction(L, print);
        lua_pushlightuserdata(L, (json_t *)targets);
        rc = lua_pcall(L, 1, 0, 0);
    }
    if (rc != LUA_OK) {
        ld_say_error("metrics: %s", L != NULL ? lua_tostring(L, -1) : "not enough memory");
    }
    if (L != NULL) {
        lua_close(L);
    }
    return rc == LUA_OK ? 0 : 1;
}

/* Print the metrics of the daemons that were named, or of all. */
static int print_text(const struct ld_call *call) {
    struct ld_rundir dir;
    int worst = ld_rundir_open(&dir, call->options->run_dir);
    struct harvest harvest = {.dir = &dir, .targets = json_array()};
    char **words = call->argv + call->operand;
    bool is_all = *words == NULL;
    if (worst == 0 && is_all) {
        ld_rundir_each(&dir, add_one, &harvest);
    }
    for (bool is_open = worst == 0; is_open && *words != NULL; words++) {
        int status = add_named(&harvest, *words);
        worst = status > worst ? status : worst;
    }
    if (worst == 0 || json_array_size(harvest.targets) > 0) {
        int status = print_all(harvest.targets);
        worst = status > worst ? status : worst;
    }
    json_decref(harvest.targets);
    ld_rundir_close(&dir);
    return worst;
}

/* Run the exporter, in the foreground. It is a script that takes the run directory, the address and names. */
static int serve(const struct ld_call *call) {
    static char verb[] = "run";
    static char option[] = "--run-dir";
    static char chunk_option[] = "-e";
    static char chunk[] = "require('lunad.exporter').main(...)";
    static char end[] = "--";
    char **names = call->argv + call->operand;
    size_t count = 0;
    while (names[count] != NULL) {
        count++;
    }
    char *path = ld_paths_run_dir(call->options->run_dir);
    char **argv = calloc(count + 10, sizeof *argv);
    int status = 1;
    if (path == NULL || argv == NULL) {
        ld_say_error("metrics: %s", path == NULL ? ld_paths_why_not() : "not enough memory");
    } else {
        char *const head[] = {call->argv[-1],
                              verb,
                              option,
                              path,
                              chunk_option,
                              chunk,
                              end,
                              path,
                              (char *)call->options->exporter};
        memcpy(argv, head, sizeof head);
        memcpy(argv + LD_COUNT(head), names, count * sizeof *names);
        status = ld_verbs_call(&ld_verb_run, ld_verb_run.run, argv + 1, false);
    }
    free(argv);
    free(path);
    return status;
}

/* Print metrics, or serve them. */
static int run(const struct ld_call *call) {
    return call->options->exporter != NULL ? serve(call) : print_text(call);
}

const struct ld_verb ld_verb_metrics = {
    .name = "metrics",
    .operands = "[NAME...]",
    .summary = "print metrics of all or these daemons as OpenMetrics text, or serve them",
    .options = LD_OPTIONS_EXPORT,
    .least = 0,
    .most = -1,
    .run = run,
};
