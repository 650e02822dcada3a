#include "daemon/options.h"

#include <getopt.h>
#include <sched.h>
#include <string.h>

#include "base/grow.h"
#include "base/likely.h"
#include "base/log.h"
#include "base/log_files.h"
#include "base/parse.h"
#include "base/time.h"
#include "posix/socket.h"

struct row;
typedef bool setter(struct ld_options *options, const struct row *row, const char *value);

/* An option: how it is written, its groups, what a good value is, and its help. */
struct row {
    const char *name; /* long, or NULL */
    char letter;      /* short, or 0 */
    const char *value;
    unsigned groups; /* it belongs to; EVERY_VERB: every verb takes it */
    setter *set;
    size_t offset;
    const char *wants; /* what a good value is; for a choice, the choices separated by "|" */
    const char *help;
};

/* The field of a row in OPTIONS. */
#define FIELD(type) ((type *)(void *)((char *)options + row->offset))

/* Set a flag. */
static bool set_flag(struct ld_options *options, const struct row *row, const char *value) {
    (void)value;
    *FIELD(bool) = true;
    return true;
}

/* Set a text that must not be empty. */
static bool set_text(struct ld_options *options, const struct row *row, const char *value) {
    *FIELD(const char *) = value;
    return value[0] != '\0';
}

/* Set a user and perhaps a group. */
static bool set_user(struct ld_options *options, const struct row *row, const char *value) {
    size_t size = strcspn(value, ":");
    *FIELD(const char *) = value;
    return size > 0 && (value[size] == '\0' || value[size + 1] != '\0');
}

/* Set the name of the daemon. */
static bool set_name(struct ld_options *options, const struct row *row, const char *value) {
    *FIELD(const char *) = value;
    return ld_parse_is_name(value);
}

/* Set a time. */
static bool set_seconds(struct ld_options *options, const struct row *row, const char *value) {
    return ld_parse_seconds(value, FIELD(double));
}

/* Set a time that must not be 0. */
static bool set_some_seconds(struct ld_options *options, const struct row *row, const char *value) {
    return ld_parse_seconds(value, FIELD(double)) && *FIELD(double) > 0;
}

/* Set a size that must not be 0. */
static bool set_some_size(struct ld_options *options, const struct row *row, const char *value) {
    return ld_parse_size(value, FIELD(uint64_t)) && *FIELD(uint64_t) > 0;
}

/* Set a descriptor that is not a standard one. */
static bool set_fd(struct ld_options *options, const struct row *row, const char *value) {
    long fd;
    bool is_fd = ld_parse_whole(value, 3, 1 << 20, &fd);
    *FIELD(int) = is_fd ? (int)fd : -1;
    return is_fd;
}

/* Set a count of processes; "auto" is one for each processor that this one may use. */
static bool set_workers(struct ld_options *options, const struct row *row, const char *value) {
    cpu_set_t cpus;
    long count = 1;
    bool is_auto = strcmp(value, "auto") == 0;
    if (is_auto && sched_getaffinity(0, sizeof cpus, &cpus) == 0) {
        count = CPU_COUNT(&cpus) < LD_WORKERS_MAX ? CPU_COUNT(&cpus) : LD_WORKERS_MAX;
    }
    bool is_count = is_auto || ld_parse_whole(value, 1, LD_WORKERS_MAX, &count);
    *FIELD(int) = is_count ? (int)count : 1;
    return is_count;
}

/* Set the file mode mask. */
static bool set_mask(struct ld_options *options, const struct row *row, const char *value) {
    return ld_parse_mask(value, FIELD(mode_t));
}

/* Set a count of lines. */
static bool set_lines(struct ld_options *options, const struct row *row, const char *value) {
    return ld_parse_whole(value, 0, 1000000000, FIELD(long));
}

/* Set a count of older log files. */
static bool set_keep(struct ld_options *options, const struct row *row, const char *value) {
    long count;
    bool is_count = ld_parse_whole(value, 1, LD_LOG_FILES_KEEP_MAX, &count);
    *FIELD(int) = is_count ? (int)count : 0;
    return is_count;
}

/* Set a moment, at the present time. */
static bool set_since(struct ld_options *options, const struct row *row, const char *value) {
    return ld_parse_moment(value, ld_time_real(), FIELD(int64_t));
}

/* Set a choice: the index of the value in the row's list. */
static bool set_choice(struct ld_options *options, const struct row *row, const char *value) {
    int index = 0;
    size_t length = strlen(value);
    for (const char *at = row->wants; length > 0; index++) {
        size_t size = strcspn(at, "|");
        if (size == length && strncmp(at, value, size) == 0) {
            *FIELD(int) = index;
            return true;
        }
        if (at[size] == '\0') {
            break;
        }
        at += size + 1;
    }
    return false;
}

/* Add a string to a list. */
static bool append(const char ***list, size_t *count, const char *value) {
    const char **grown = ld_grow(*list, *count, sizeof *grown);
    if (grown == NULL) {
        return false;
    }
    *list = grown;
    grown[(*count)++] = value;
    return true;
}

/* Add a KEY=VALUE to the environment. */
static bool add_env(struct ld_options *options, const struct row *row, const char *value) {
    (void)row;
    const char *equals = strchr(value, '=');
    if (equals == NULL || equals == value) {
        return false;
    }
    return append(&options->env, &options->env_count, value);
}

/* Add an address to listen on. */
static bool add_listen(struct ld_options *options, const struct row *row, const char *value) {
    struct ld_address address;
    (void)row;
    return ld_address_parse(value, &address) &&
           append(&options->listen, &options->listen_count, value);
}

/* Set where to serve metrics: a port alone is one of this machine. */
static bool set_exporter(struct ld_options *options, const struct row *row, const char *value) {
    struct ld_address address;
    long port;
    *FIELD(const char *) = value;
    return ld_parse_whole(value + (value[0] == ':'), 0, 65535, &port) ||
           ld_address_parse(value, &address);
}

/* Add the name of a service. */
static bool add_after(struct ld_options *options, const struct row *row, const char *value) {
    (void)row;
    return ld_parse_is_name(value) && append(&options->after, &options->after_count, value);
}

/* Add a resource limit; a later one for the same resource wins. */
static bool add_rlimit(struct ld_options *options, const struct row *row, const char *value) {
    (void)row;
    int resource;
    struct rlimit limit;
    size_t length = strcspn(value, "=");
    if (value[length] != '=' || !ld_parse_rlimit_name(value, length, &resource) ||
        !ld_parse_rlimit_value(value + length + 1, &limit)) {
        return false;
    }
    size_t slot = 0;
    while (slot < options->rlimit_count && options->rlimits[slot].resource != resource) {
        slot++;
    }
    LD_ASSERT(slot < LD_RLIMITS_MAX);
    options->rlimits[slot].text = value;
    options->rlimits[slot].resource = resource;
    options->rlimits[slot].limit = limit;
    options->rlimit_count += slot == options->rlimit_count;
    return true;
}

#define AT(field)  offsetof(struct ld_options, field)
#define SERVICE    LD_OPTIONS_SERVICE
#define EVERY_VERB (~0U)

static const char name_wants[] = "a name: 1 to 64 of A-Z a-z 0-9 . _ -, no leading dot or dash";
static const char seconds_wants[] = "a time in seconds, such as 2.5";
static const char some_seconds_wants[] = "a time in seconds above 0, such as 2.5";
static const char some_size_wants[] = "a size above 0, such as 64M";
static const char since_wants[] = "a time such as 10m, 2h, 2026-11-22 or 2026-11-22T10:11:12Z";
static const char workers_wants[] = "a count of processes from 1 to 256, or auto";
static const char path_wants[] = "a path";
static const char exporter_wants[] = "9100, 127.0.0.1:9100, [::1]:9100 or unix:/path";
static const char address_wants[] = "127.0.0.1:8080, [::1]:80 or unix:/path";

static const struct row rows[] = {
    {NULL, 'e', "CHUNK", LD_OPTIONS_CHUNK, set_text, AT(chunk), "a piece of Lua",
     "run this piece of Lua instead of a script"},
    {"config", 'c', "FILE", LD_OPTIONS_CONFIG, set_text, AT(config), path_wants,
     "a Lua file that returns options, or describes services; or a folder of them"},
    {"all", 0, NULL, LD_OPTIONS_ALL, set_flag, AT(all), NULL,
     "all daemons of the run directory, or all services of --config"},
    {"name", 'n', "NAME", SERVICE, set_name, AT(name), name_wants,
     "the daemon's name (default: the script's file name without .lua)"},
    {"user", 0, "USER[:GROUP]", SERVICE, set_user, AT(user), "USER[:GROUP]",
     "drop to this user, by name or number, with its supplementary groups"},
    {"chdir", 0, "DIR", SERVICE, set_text, AT(chdir), path_wants,
     "working directory (default: / for start, unchanged for run)"},
    {"umask", 0, "OCTAL", SERVICE, set_mask, AT(umask), "an octal mask such as 027",
     "file mode mask (default: 022)"},
    {"env", 0, "KEY=VALUE", SERVICE, add_env, 0, "KEY=VALUE",
     "add to the environment; may be given again"},
    {"clear-env", 0, NULL, SERVICE, set_flag, AT(clear_env), NULL,
     "start with an empty environment"},
    {"log", 0, "FILE|syslog|stderr|none", SERVICE, set_text, AT(log), path_wants,
     "where the log goes (default: NAME.log in the log directory; stderr for run)"},
    {"log-level", 0, "LEVEL", SERVICE, set_choice, AT(log_level), "debug|info|warn|error",
     "the least level that is logged: debug, info, warn or error (default: info)"},
    {"log-format", 0, "FORMAT", SERVICE, set_choice, AT(log_format), "text|json",
     "text or json (default: text)"},
    {"log-max-size", 0, "SIZE", SERVICE, set_some_size, AT(log_max_size), some_size_wants,
     "rotate the log file before it exceeds this: NAME.log.1, ... (default: off)"},
    {"log-keep", 0, "N", SERVICE, set_keep, AT(log_keep), "a count from 1 to 999",
     "how many rotated log files to keep (default: 5)"},
    {"rlimit", 0, "NAME=SOFT[:HARD]", SERVICE, add_rlimit, 0,
     "NAME=SOFT[:HARD], such as nofile=256:512",
     "a resource limit (nofile, core, as, nproc, ...); may be given again"},
    {"listen", 0, "ADDRESS", SERVICE, add_listen, 0, address_wants,
     "listen here before privileges are dropped, for lunad.listen; may be given again"},
    {"listen", 0, "ADDRESS", LD_OPTIONS_EXPORT, set_exporter, AT(exporter), exporter_wants,
     "serve them by HTTP, in the foreground, with a page for people; a port alone: 127.0.0.1"},
    {"memory-limit", 0, "SIZE", SERVICE, set_some_size, AT(memory_limit), some_size_wants,
     "the most that the script's Lua heap may have (default: no limit)"},
    {"recycle-every", 0, "SECONDS", SERVICE, set_some_seconds, AT(recycle_every),
     some_seconds_wants, "reload by itself when the running code is this old (default: off)"},
    {"recycle-memory", 0, "SIZE", SERVICE, set_some_size, AT(recycle_memory), some_size_wants,
     "reload by itself when the Lua heap has this size after a collection (default: off)"},
    {"state", 0, "FILE", SERVICE, set_text, AT(state), path_wants,
     "save what on_reload and lunad.keep hold here, for the next start, also after a crash"},
    {"state-every", 0, "SECONDS", SERVICE, set_some_seconds, AT(state_every), some_seconds_wants,
     "save it so often, besides at a stop and at each reload (default: 60)"},
    {"start-timeout", 0, "SECONDS", SERVICE, set_some_seconds, AT(start_timeout),
     some_seconds_wants, "time to become ready, at start and at reload (default: 30)"},
    {"stop-timeout", 0, "SECONDS", SERVICE, set_seconds, AT(stop_timeout), seconds_wants,
     "time for a graceful stop (default: 10)"},
    {"wait-ready", 0, NULL, SERVICE, set_flag, AT(wait_ready), NULL,
     "ready only when the script calls lunad.ready()"},
    {"no-new-privs", 0, NULL, SERVICE, set_flag, AT(no_new_privs), NULL,
     "no program that the script starts can gain rights (set-user-id, file capabilities)"},
    {"watch", 0, NULL, SERVICE, set_flag, AT(watch), NULL,
     "reload when the script or a file that it has loaded changes on disk"},
    {"stuck-after", 0, "SECONDS", SERVICE, set_seconds, AT(stuck_after), seconds_wants,
     "report a callback that holds the loop longer (default: 5; 0: none)"},
    {"probation", 0, "SECONDS", SERVICE, set_seconds, AT(probation), seconds_wants,
     "after each reload: go back to the code before if the new code fails so soon (default: off)"},
    {"slow", 0, "SECONDS", SERVICE, set_some_seconds, AT(slow), some_seconds_wants,
     "log and count a callback that takes longer, with its place (default: off)"},
    {"on-error", 0, "continue|exit", SERVICE, set_choice, AT(on_error), "continue|exit",
     "after an uncaught error in a callback (default: continue)"},
    {"hup", 0, "reload|ignore|stop", SERVICE, set_choice, AT(hup), "reload|ignore|stop",
     "what SIGHUP does if the script has no handler (default: reload)"},
    {"restart", 0, "no|on-failure|always", SERVICE, set_choice, AT(restart), "no|on-failure|always",
     "a keeper starts it again when it has failed, or also when it has finished (default: no)"},
    {"workers", 0, "N|auto", SERVICE, set_workers, AT(workers), workers_wants,
     "run N processes of it behind one name, or one for each processor (default: 1)"},
    {"workers", 0, "N|auto", LD_OPTIONS_TRIAL, set_workers, AT(workers), workers_wants,
     "have so many workers from now on (default: as many as now)"},
    {"notify-fd", 0, "FD", SERVICE, set_fd, AT(notify_fd), "a descriptor above 2",
     "write a newline to this inherited descriptor when ready (s6, dinit), and close it"},
    {"path", 0, "PATH", SERVICE | LD_OPTIONS_SEARCH, set_text, AT(path), path_wants,
     "put before package.path (a template, or a directory)"},
    {"cpath", 0, "PATH", SERVICE | LD_OPTIONS_SEARCH, set_text, AT(cpath), path_wants,
     "put before package.cpath (a template, or a directory)"},
    {"timeout", 0, "SECONDS", LD_OPTIONS_STOP, set_seconds, AT(timeout), seconds_wants,
     "kill after this time (default: the daemon's own --stop-timeout and a little)"},
    {"timeout", 0, "SECONDS", LD_OPTIONS_ASK, set_seconds, AT(timeout), seconds_wants,
     "wait no longer for the answer (default: the daemon's own limit and a little)"},
    {"check", 0, NULL, LD_OPTIONS_TRIAL, set_flag, AT(check), NULL,
     "only try: run the new code until it is ready, then discard it"},
    {"probation", 0, "SECONDS", LD_OPTIONS_TRIAL, set_seconds, AT(probation), seconds_wants,
     "go back to the code before if the new code fails so soon; wait for that (default: its own)"},
    {"json", 0, NULL, LD_OPTIONS_JSON, set_flag, AT(json), NULL, "print JSON"},
    {"watch", 0, NULL, LD_OPTIONS_LIVE, set_flag, AT(live), NULL,
     "show it again each second, until q or Ctrl-C"},
    {"full", 0, NULL, LD_OPTIONS_LIVE, set_flag, AT(full), NULL,
     "list all timers, children, tasks and the rest, not only the first 1,000"},
    {"svg", 0, "FILE", LD_OPTIONS_SVG, set_text, AT(svg), path_wants,
     "write a flame graph that a browser can search, instead of folded stacks"},
    {"for", 0, "MANAGER", LD_OPTIONS_UNIT, set_choice, AT(manager), "systemd|openrc|runit|s6",
     "the service manager: systemd, openrc, runit or s6 (default: systemd)"},
    {"socket", 0, NULL, LD_OPTIONS_UNIT, set_flag, AT(socket), NULL,
     "print the .socket unit that goes with it, for the addresses of --listen"},
    {"after", 0, "NAME", LD_OPTIONS_UNIT, add_after, 0, name_wants,
     "it is started after this service; may be given again"},
    {"follow", 'f', NULL, LD_OPTIONS_TAIL, set_flag, AT(follow), NULL,
     "go on with what is written, until Ctrl-C"},
    {"lines", 'n', "LINES", LD_OPTIONS_TAIL, set_lines, AT(lines), "a count of lines",
     "how many lines to show (default: 10; with --since all)"},
    {"since", 0, "TIME", LD_OPTIONS_TAIL, set_since, AT(since), since_wants,
     "show what was logged since then: 90s, 10m, 2h, 1d ago, or a time in UTC"},
    {"level", 0, "LEVEL", LD_OPTIONS_TAIL, set_choice, AT(level), "debug|info|warn|error",
     "the least level that is shown (default: all)"},
    {"filter", 0, "PATTERN", LD_OPTIONS_SPECS, set_text, AT(filter), "a Lua pattern",
     "run only the specs whose names match this Lua pattern"},
    {"output", 'o', "HANDLER", LD_OPTIONS_SPECS, set_text, AT(output),
     "an output handler of busted, such as TAP",
     "how results are shown: utfTerminal, plainTerminal, gtest, TAP, junit, json"},
    {"run-dir", 0, "DIR", EVERY_VERB, set_text, AT(run_dir), path_wants,
     "directory of pidfiles and sockets (default: $LUNAD_RUN_DIR, /run/lunad, ...)"},
    {"version", 0, NULL, EVERY_VERB, set_flag, AT(version), NULL, "show the version"},
    {"help", 'h', NULL, EVERY_VERB, set_flag, AT(help), NULL, "show this help"},
};

/* The tables of getopt_long for one verb. */
struct getopt_tables {
    struct option longs[LD_COUNT(rows) + 1];
    char shorts[2 * LD_COUNT(rows) + 3];
};

/* Check whether a verb that takes GROUPS takes the option of ROW. */
static bool belongs(const struct row *row, unsigned groups) {
    return row->groups == EVERY_VERB || (row->groups & groups) != 0;
}

/* Fill getopt's tables: the value of a row is its index + 256, or its letter. */
static void fill_tables(struct getopt_tables *tables, unsigned groups) {
    size_t count = 0;
    char *shorts = tables->shorts;
    if ((groups & (LD_OPTIONS_SERVICE | LD_OPTIONS_SPECS)) != 0) {
        *shorts++ = '+';
    }
    *shorts++ = ':';
    for (size_t i = 0; i < LD_COUNT(rows); i++) {
        if (!belongs(&rows[i], groups)) {
            continue;
        }
        int has_value = rows[i].value != NULL ? required_argument : no_argument;
        if (rows[i].name != NULL) {
            tables->longs[count++] = (struct option){rows[i].name, has_value, NULL, 256 + (int)i};
        }
        if (rows[i].letter != 0) {
            shorts += sprintf(shorts, "%c%s", rows[i].letter, has_value != 0 ? ":" : "");
        }
    }
    tables->longs[count] = (struct option){0};
    *shorts = '\0';
}

/* Find the row of what getopt_long returned. */
static const struct row *find_row(int code, unsigned groups) {
    if (code >= 256) {
        return &rows[code - 256];
    }
    for (size_t i = 0; i < LD_COUNT(rows); i++) {
        if (rows[i].letter == code && belongs(&rows[i], groups)) {
            return &rows[i];
        }
    }
    return NULL;
}

/* Complain about a value, naming option and value. */
static void complain_of_value(struct ld_text *why, const struct row *row, const char *value) {
    if (row->name != NULL) {
        ld_text_format(why, "--%s", row->name);
    } else {
        ld_text_format(why, "-%c", row->letter);
    }
    ld_text_puts(why, ": \"");
    ld_text_add_escaped(why, value, strlen(value), false);
    ld_text_format(why, "\" is not %s%s", row->set == set_choice ? "one of " : "", row->wants);
}

/* Suggest the long option that was probably meant by a WORD such as "--naem=x". */
static void suggest(struct ld_text *why, unsigned groups, const char *word) {
    char name[LD_LIKELY_MAX] = "";
    struct ld_likely likely = {.word = name};
    size_t dashes = strspn(word, "-");
    size_t length = strcspn(word + dashes, "=");
    if (dashes == 0 || length >= sizeof name) {
        return;
    }
    memcpy(name, word + dashes, length);
    for (size_t i = 0; i < LD_COUNT(rows); i++) {
        if (rows[i].name != NULL && belongs(&rows[i], groups)) {
            ld_likely_try(&likely, rows[i].name);
        }
    }
    if (likely.best != NULL) {
        ld_text_format(why, ": did you mean --%s?", likely.best);
    }
}

/* Complain about what getopt did not understand; WORD is the argument that contains it. */
static void complain_of_word(struct ld_text *why, int code, const char *word, unsigned groups) {
    if (code == ':') {
        ld_text_add_escaped(why, word, strlen(word), false);
        ld_text_puts(why, " needs a value");
    } else if (optopt >= 256) {
        ld_text_format(why, "--%s takes no value", rows[optopt - 256].name);
    } else if (optopt != 0) {
        const char letter = (char)optopt;
        ld_text_puts(why, "unknown option -");
        ld_text_add_escaped(why, &letter, 1, false);
    } else {
        ld_text_puts(why, "unknown option ");
        ld_text_add_escaped(why, word, strlen(word), false);
        suggest(why, groups, word);
    }
}

/* Count the arguments in ARGV. */
static int count_arguments(char **argv) {
    int count = 0;
    while (argv[count] != NULL) {
        count++;
    }
    return count;
}

int ld_options_parse(struct ld_options *options, unsigned groups, char **argv,
                     struct ld_text *why) {
    *options = (struct ld_options){.umask = LD_UMASK_DEFAULT,
                                   .log_level = LD_LOG_INFO,
                                   .log_keep = 5,
                                   .state_every = 60,
                                   .start_timeout = 30,
                                   .stop_timeout = 10,
                                   .notify_fd = -1,
                                   .stuck_after = 5,
                                   .probation = (groups & LD_OPTIONS_TRIAL) != 0 ? -1 : 0,
                                   .timeout = -1,
                                   .lines = -1};
    struct getopt_tables tables;
    fill_tables(&tables, groups);
    int count = count_arguments(argv);
    opterr = 0;
    optind = 0; /* glibc: start again */
    for (;;) {
        int before = optind == 0 ? 1 : optind;
        int code = getopt_long(count, argv, tables.shorts, tables.longs, NULL);
        if (code == -1) {
            return optind;
        }
        if (code == '?' || code == ':') {
            complain_of_word(why, code, argv[optind > before ? optind - 1 : before], groups);
            return -1;
        }
        const struct row *row = find_row(code, groups);
        if (!row->set(options, row, optarg)) {
            complain_of_value(why, row, optarg);
            return -1;
        }
    }
}

/* Copy the words of some options: getopt goes through them once more. */
size_t ld_options_copy_words(unsigned groups, unsigned kept, char **argv, const char **out) {
    struct getopt_tables tables;
    size_t copied = 0;
    fill_tables(&tables, groups);
    opterr = 0;
    optind = 0;
    for (int before = 1;; before = optind) {
        int code = getopt_long(count_arguments(argv), argv, tables.shorts, tables.longs, NULL);
        const struct row *row = code != -1 ? find_row(code, groups) : NULL;
        if (row == NULL) {
            return copied;
        }
        for (int i = before; i < optind && belongs(row, kept); i++) {
            out[copied++] = argv[i];
        }
    }
}

/* Call a visitor for the words of some options. */
void ld_options_visit(unsigned groups, unsigned kept, char **argv,
                      const struct ld_option_visitor *visitor) {
    struct getopt_tables tables;
    struct ld_option_facts facts;
    fill_tables(&tables, groups);
    opterr = 0;
    optind = 0;
    for (;;) {
        int code = getopt_long(count_arguments(argv), argv, tables.shorts, tables.longs, NULL);
        const struct row *row = code != -1 ? find_row(code, groups) : NULL;
        if (row == NULL) {
            return;
        }
        if ((row->groups & kept) != 0 && ld_options_describe((size_t)(row - rows), &facts) &&
            facts.name != NULL) {
            visitor->each(visitor->arg, &facts, row->value != NULL ? optarg : NULL);
        }
    }
}

/* Find the facts of an option. */
bool ld_options_describe(size_t index, struct ld_option_facts *facts) {
    static setter *const numbers[] = {set_seconds, set_some_seconds, set_some_size, set_fd,
                                      set_keep,    set_user,         set_workers};
    static char choice[64];
    if (index >= LD_COUNT(rows)) {
        return false;
    }
    const struct row *row = &rows[index];
    bool is_ours =
        (row->groups & SERVICE) != 0 || (row->groups == EVERY_VERB && row->value != NULL);
    *facts = (struct ld_option_facts){.name = is_ours ? row->name : NULL,
                                      .wants = row->wants,
                                      .is_path = row->wants == path_wants,
                                      .is_list = row->set == add_env || row->set == add_listen ||
                                                 row->set == add_rlimit};
    if (row->set == set_choice) {
        snprintf(choice, sizeof choice, "one of %s", row->wants);
        facts->wants = choice;
    }
    for (size_t i = 0; i < LD_COUNT(numbers); i++) {
        facts->takes_number = facts->takes_number || row->set == numbers[i];
    }
    return true;
}

/* Check whether an option takes a value. */
bool ld_options_accept(const char *name, const char *value) {
    struct ld_options options = {0};
    const struct row *row = rows;
    while (row < rows + LD_COUNT(rows) && (row->name == NULL || strcmp(row->name, name) != 0)) {
        row++;
    }
    bool accepts = row < rows + LD_COUNT(rows) && row->set(&options, row, value);
    ld_options_fini(&options);
    return accepts;
}

/* Free what the options own. */
void ld_options_fini(struct ld_options *options) {
    free(options->env);
    free(options->listen);
    free(options->after);
    *options = (struct ld_options){0};
}

/* Call EACH. */
void ld_options_each(unsigned groups, void (*each)(void *arg, const struct ld_option_form *option),
                     void *arg) {
    for (size_t i = 0; i < LD_COUNT(rows); i++) {
        if (belongs(&rows[i], groups)) {
            each(arg, &(struct ld_option_form){.name = rows[i].name,
                                               .letter = rows[i].letter,
                                               .value = rows[i].value,
                                               .choices = rows[i].set == set_choice ? rows[i].wants
                                                                                    : NULL});
        }
    }
}

/* Add a line of help for each option of a verb. */
void ld_options_add_help(struct ld_text *help, unsigned groups) {
    for (size_t i = 0; i < LD_COUNT(rows); i++) {
        const struct row *row = &rows[i];
        if (!belongs(row, groups)) {
            continue;
        }
        char left[64] = "    ";
        size_t used = 4;
        if (row->letter != 0) {
            snprintf(left, sizeof left, "-%c%s", row->letter, row->name != NULL ? ", " : "  ");
            used = strlen(left);
        }
        snprintf(left + used, sizeof left - used, "%s%s%s%s", row->name != NULL ? "--" : "",
                 row->name != NULL ? row->name : "", row->value != NULL ? " " : "",
                 row->value != NULL ? row->value : "");
        ld_text_format(help, "  %-34s %s\n", left, row->help);
    }
}
