/* lunad unit */
#include <ctype.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/grow.h"
#include "base/parse.h"
#include "base/say.h"
#include "cli/services.h"
#include "cli/unit_line.h"
#include "cli/unit_script.h"
#include "cli/unit_systemd.h"
#include "cli/verbs.h"
#include "posix/paths.h"
#include "script/source.h"

/* Whether a value of --log is a word for something else than a file. */
static bool is_log_word(const char *value) {
    return strcmp(value, "stderr") == 0 || strcmp(value, "syslog") == 0 ||
           strcmp(value, "none") == 0;
}

/* Copy the value of an option so that it means the same in another directory; NULL without memory. */
static char *copy_value(const struct ld_option_facts *facts, const char *value) {
    if (strcmp(facts->name, "path") == 0) {
        return ld_paths_search(value, "DIR/?.lua;DIR/?/init.lua");
    }
    if (strcmp(facts->name, "cpath") == 0) {
        return ld_paths_search(value, "DIR/?.so");
    }
    bool is_word = strcmp(facts->name, "log") == 0 && is_log_word(value);
    return facts->is_path && !is_word ? ld_paths_absolute(value) : strdup(value);
}

/* Find the place of an option: that of an earlier one which it replaces, or a new one; NULL without memory. */
static struct ld_unit_option *make_place(struct ld_unit *unit,
                                         const struct ld_option_facts *facts) {
    for (size_t i = 0; !facts->is_list && i < unit->given_count; i++) {
        if (strcmp(unit->given[i].name, facts->name) == 0) {
            return &unit->given[i];
        }
    }
    struct ld_unit_option *grown = ld_grow(unit->given, unit->given_count, sizeof *grown);
    if (grown == NULL) {
        return NULL;
    }
    unit->given = grown;
    grown[unit->given_count] = (struct ld_unit_option){.name = facts->name};
    return &grown[unit->given_count++];
}

/* Note an option of the service. */
static void note_option(void *arg, const struct ld_option_facts *facts, const char *value) {
    struct ld_unit *unit = arg;
    if (strcmp(facts->name, "run-dir") == 0) {
        return; /* there is always one */
    }
    unit->has_restart = unit->has_restart || strcmp(facts->name, "restart") == 0;
    struct ld_unit_option *place = make_place(unit, facts);
    char *copy = value != NULL ? copy_value(facts, value) : NULL;
    unit->failed = unit->failed || place == NULL || (value != NULL && copy == NULL);
    if (place != NULL) {
        free(place->value);
        place->value = copy;
    } else {
        free(copy);
    }
}

/* Find what is wrong with the options for the manager that they name; NULL if nothing is. */
static const char *blame_options(const struct ld_options *options) {
    bool is_systemd = options->manager == LD_MANAGER_SYSTEMD;
    if (options->socket && !is_systemd) {
        return "--socket is for systemd";
    }
    if (options->socket && options->listen_count == 0) {
        return "--socket: there is no address: give --listen";
    }
    if (options->notify_fd >= 0 && options->manager != LD_MANAGER_S6) {
        return "--notify-fd is for s6: no other of these managers passes a descriptor for it";
    }
    const char *log = options->log;
    if (options->manager == LD_MANAGER_OPENRC && log != NULL &&
        (strcmp(log, "stderr") == 0 || ld_paths_descriptor(log) >= 0)) {
        return "--log: with openrc it is a daemon, which has no terminal: give a file, syslog or "
               "none";
    }
    return NULL;
}

/* Find our own path; NULL if it is not known. */
static char *find_program(void) {
    static const char deleted[] = " (deleted)"; /* by an upgrade, which has put another there */
    char path[PATH_MAX];
    ssize_t length = readlink("/proc/self/exe", path, sizeof path - 1);
    if (length <= 0) {
        return NULL;
    }
    path[length] = '\0';
    size_t end = sizeof deleted - 1;
    if ((size_t)length > end && access(path, F_OK) < 0 &&
        strcmp(path + length - end, deleted) == 0) {
        path[(size_t)length - end] = '\0';
    }
    return strdup(path);
}

/* Find the run directory; NULL as of ld_paths_run_dir. Not that of the user who asks, but that of the service: one of
 * its own if systemd lets it have no rights to make it in root's. */
static char *find_run_dir(const struct ld_options *options, const char *name) {
    const char *wanted = getenv("LUNAD_RUN_DIR");
    char *own = NULL;
    if (options->run_dir != NULL || (wanted != NULL && wanted[0] != '\0')) {
        return ld_paths_run_dir(options->run_dir);
    }
    if (options->user == NULL || options->manager != LD_MANAGER_SYSTEMD) {
        return strdup("/run/lunad");
    }
    return asprintf(&own, "/run/lunad-%s", name) >= 0 ? own : NULL;
}

/* Find the name; 0, or an exit status after complaining. */
static int find_name(struct ld_unit *unit, const char *script) {
    unit->name =
        unit->options->name != NULL ? strdup(unit->options->name) : ld_paths_script_name(script);
    if (unit->name == NULL || ld_parse_is_name(unit->name)) {
        unit->failed = unit->failed || unit->name == NULL;
        return 0;
    }
    ld_say_error("unit: \"%s\" cannot be a daemon's name (1 to 64 of A-Z a-z 0-9 . _ -, no leading "
                 "dot or dash): give one by --name",
                 unit->name);
    return 2;
}

/* Find the script and check that it compiles; 0, or an exit status after complaining. */
static int find_script(struct ld_unit *unit, const char *script) {
    struct ld_text why = {0};
    unit->script = ld_paths_absolute(script);
    if (unit->script == NULL) {
        ld_say_error("unit: %s: %s", script, ld_paths_why_not());
        return 1;
    }
    const struct ld_source source = {.path = unit->script,
                                     .as_root = unit->options->user == NULL && geteuid() == 0};
    int rc = ld_source_check(&source, &why);
    if (rc < 0) {
        ld_say_error("%s", !ld_text_is_empty(&why) ? ld_text_string(&why) : strerror(-rc));
    }
    ld_text_fini(&why);
    return rc < 0 ? 1 : 0;
}

/* Check that a path can stand in every place of a unit or script; else complain. */
static bool check_path(const char *path) {
    for (const char *at = path; *at != '\0'; at++) {
        if (iscntrl((unsigned char)*at)) {
            ld_say_error("unit: %s: a path with control characters is not for service managers",
                         path);
            return false;
        }
    }
    return true;
}

/* Find the paths of program and run directory; 0, or an exit status after complaining. */
static int find_paths(struct ld_unit *unit) {
    char path[sizeof((struct sockaddr_un *)0)->sun_path];
    unit->program = find_program();
    unit->run_dir = find_run_dir(unit->options, unit->name);
    if (unit->program == NULL || unit->run_dir == NULL) {
        ld_say_error("unit: %s: %s", unit->program == NULL ? "/proc/self/exe" : "run directory",
                     ld_paths_why_not());
        return 1;
    }
    if (ld_paths_socket(path, sizeof path, unit->run_dir, unit->name) < 0) {
        ld_say_error("unit: %s/%s" LD_PATHS_SOCKET
                     ": a socket's path can have at most %zu bytes: choose a shorter --run-dir or "
                     "--name",
                     unit->run_dir, unit->name, sizeof path - 1);
        return 1;
    }
    return check_path(unit->program) && check_path(unit->run_dir) ? 0 : 1;
}

/* Find everything out; 0, or an exit status after complaining. */
static int find_all(struct ld_unit *unit, const struct ld_call *call) {
    const char *script = call->argv[call->operand];
    const char *wrong = blame_options(call->options);
    if (strcmp(script, "-") == 0 || ld_paths_descriptor(script) >= 0) {
        ld_say_error("unit: a service's script must be a file: \"%s\" is for run", script);
        return 2;
    }
    if (wrong != NULL) {
        ld_say_error("unit: %s", wrong);
        return 2;
    }
    int status = find_name(unit, script);
    status = status == 0 ? find_script(unit, script) : status;
    return status == 0 && !unit->failed ? find_paths(unit) : status;
}

/* Print it. */
static int print(const struct ld_unit *unit) {
    struct ld_text text = {0};
    struct ld_text why = {0};
    int status = 0;
    switch (unit->options->manager) {
    case LD_MANAGER_OPENRC:
        ld_unit_script_openrc(&text, unit);
        break;
    case LD_MANAGER_RUNIT:
        ld_unit_script_runit(&text, unit);
        break;
    case LD_MANAGER_S6:
        ld_unit_script_s6(&text, unit);
        break;
    default:
        status = ld_unit_systemd_print(&text, unit, &why);
    }
    if (status != 0) {
        ld_say_error("unit: %s", ld_text_string(&why));
    } else if (text.failed || fwrite(text.data, 1, text.size, stdout) != text.size ||
               fflush(stdout) != 0) {
        ld_say_error("unit: it could not be written");
        status = 1;
    }
    ld_text_fini(&text);
    ld_text_fini(&why);
    return status;
}

/* Free it. */
static void fini(struct ld_unit *unit) {
    for (size_t i = 0; i < unit->given_count; i++) {
        free(unit->given[i].value);
    }
    free(unit->given);
    free(unit->program);
    free(unit->name);
    free(unit->script);
    free(unit->run_dir);
}

/* Print a unit. */
static int run(const struct ld_call *call) {
    if (call->options->config != NULL) {
        return ld_services_start(call, &ld_verb_unit);
    }
    struct ld_unit unit = {.options = call->options, .args = call->argv + call->operand + 1};
    const struct ld_option_visitor visitor = {.each = note_option, .arg = &unit};
    ld_options_visit(ld_verb_unit.options, LD_OPTIONS_SERVICE, call->argv, &visitor);
    int status = find_all(&unit, call);
    if (status == 0 && unit.failed) {
        ld_say_error("unit: not enough memory");
        status = 1;
    }
    status = status == 0 ? print(&unit) : status;
    fini(&unit);
    return status;
}

const struct ld_verb ld_verb_unit = {
    .name = "unit",
    .operands = "SCRIPT [ARG...]",
    .summary = "print a systemd unit that runs a script, or the file of another service manager",
    .options = LD_OPTIONS_SERVICE | LD_OPTIONS_CONFIG | LD_OPTIONS_UNIT,
    .least = 1,
    .most = -1,
    .run = run,
};
