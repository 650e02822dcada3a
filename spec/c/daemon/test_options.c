#include <ctype.h>
#include <string.h>

#include "base/log.h"
#include "check.h"
#include "daemon/options.h"
#include "support.h"

#define WORDS_MAX 8

/* The groups of options that the verbs take. */
#define RUN    (LD_OPTIONS_SERVICE | LD_OPTIONS_CHUNK)
#define START  LD_OPTIONS_SERVICE
#define STOP   LD_OPTIONS_STOP
#define STATUS LD_OPTIONS_JSON
#define LOGS   LD_OPTIONS_TAIL
#define ASK    LD_OPTIONS_ASK
#define OTHER  0

static const unsigned verbs[] = {RUN, START, STOP, STATUS, LOGS, ASK, OTHER};

/* Parse words for a verb; the complaint must be REASON ("": none). The index of the
 * first operand among the words, or -1. */
static int parse(struct ld_options *options, unsigned verb, const char *const *words,
                 const char *reason) {
    static char *argv[WORDS_MAX + 2];
    static char copies[WORDS_MAX][128];
    static char program[] = "lunad";
    struct ld_text why = {0};
    int count = 0;
    argv[count++] = program;
    for (; words[count - 1] != NULL; count++) {
        snprintf(copies[count - 1], sizeof copies[0], "%s", words[count - 1]);
        argv[count] = copies[count - 1];
    }
    argv[count] = NULL;
    int operand = ld_options_parse(options, verb, argv, &why);
    CHECK_STR(reason, ld_text_string(&why));
    CHECK_INT(reason[0] != '\0', operand < 0);
    ld_text_fini(&why);
    return operand < 0 ? -1 : operand - 1;
}

/* Parse a list of words. */
#define PARSE(options, verb, reason, ...)                                                          \
    parse((options), (verb), (const char *const[]){__VA_ARGS__, NULL}, (reason))

static void test_defaults(void) {
    struct ld_options options;
    for (size_t i = 0; i < LD_COUNT(verbs); i++) {
        CHECK_INT(0, parse(&options, verbs[i], (const char *const[]){NULL}, ""));
        CHECK(!options.help && !options.version && !options.clear_env && !options.wait_ready);
        CHECK(!options.json && !options.follow);
        CHECK(options.name == NULL && options.user == NULL && options.chdir == NULL);
        CHECK(options.run_dir == NULL && options.log == NULL && options.path == NULL);
        CHECK(options.cpath == NULL && options.chunk == NULL && options.env == NULL);
        CHECK_INT(022, options.umask);
        CHECK_INT(LD_LOG_INFO, options.log_level);
        CHECK_INT(0, options.log_format);
        CHECK_INT(0, options.rlimit_count);
        CHECK(options.start_timeout == 30 && options.stop_timeout == 10 && options.timeout < 0);
        CHECK_INT(LD_ON_ERROR_CONTINUE, options.on_error);
        CHECK_INT(LD_HUP_RELOAD, options.hup);
        CHECK_INT(-1, options.lines);
        ld_options_fini(&options);
    }
}

/* Parse "--NAME VALUE", "--NAME=VALUE", and check a string field. */
#define CHECK_STRING_OPTION(verb, option, field)                                                   \
    do {                                                                                           \
        struct ld_options set;                                                                     \
        CHECK_INT(2, PARSE(&set, (verb), "", (option), "a value"));                                \
        CHECK_STR("a value", set.field);                                                           \
        CHECK_INT(1, PARSE(&set, (verb), "", option "=a=value"));                                  \
        CHECK_STR("a=value", set.field);                                                           \
        CHECK_INT(4, PARSE(&set, (verb), "", (option), "one", (option), "two"));                   \
        CHECK_STR("two", set.field);                                                               \
    } while (0)

static void test_strings(void) {
    for (size_t i = 0; i < 2; i++) {
        unsigned verb = verbs[i];
        CHECK_STRING_OPTION(verb, "--user", user);
        CHECK_STRING_OPTION(verb, "--chdir", chdir);
        CHECK_STRING_OPTION(verb, "--log", log);
        CHECK_STRING_OPTION(verb, "--path", path);
        CHECK_STRING_OPTION(verb, "--cpath", cpath);
    }
    for (size_t i = 0; i < LD_COUNT(verbs); i++) {
        CHECK_STRING_OPTION(verbs[i], "--run-dir", run_dir);
    }
}

static void test_name(void) {
    struct ld_options options;
    static const char wants[] = "a name: 1 to 64 of A-Z a-z 0-9 . _ -, no leading dot or dash";
    static const char *const bad[] = {"a/b", "", ".x", "-x", "a b"};
    CHECK_INT(2, PARSE(&options, RUN, "", "--name", "beat"));
    CHECK_STR("beat", options.name);
    CHECK_INT(2, PARSE(&options, START, "", "-n", "beat"));
    CHECK_STR("beat", options.name);
    CHECK_INT(1, PARSE(&options, START, "", "-nbeat"));
    CHECK_STR("beat", options.name);
    for (size_t i = 0; i < LD_COUNT(bad); i++) {
        char reason[128];
        snprintf(reason, sizeof reason, "--name: \"%s\" is not %s", bad[i], wants);
        CHECK_INT(-1, PARSE(&options, RUN, reason, "--name", bad[i]));
    }
}

static void test_flags(void) {
    struct ld_options options;
    CHECK_INT(2, PARSE(&options, RUN, "", "--clear-env", "--wait-ready"));
    CHECK(options.clear_env && options.wait_ready);
    CHECK_INT(2, PARSE(&options, START, "", "--clear-env", "--clear-env"));
    CHECK(options.clear_env && !options.wait_ready);
    CHECK_INT(1, PARSE(&options, STATUS, "", "--json"));
    CHECK(options.json);
    CHECK_INT(1, PARSE(&options, LOGS, "", "-f"));
    CHECK(options.follow);
    CHECK_INT(1, PARSE(&options, LOGS, "", "--follow"));
    CHECK(options.follow);
    for (size_t i = 0; i < LD_COUNT(verbs); i++) {
        CHECK_INT(1, PARSE(&options, verbs[i], "", "--help"));
        CHECK(options.help && !options.version);
        CHECK_INT(1, PARSE(&options, verbs[i], "", "-h"));
        CHECK(options.help);
        CHECK_INT(1, PARSE(&options, verbs[i], "", "--version"));
        CHECK(options.version && !options.help);
    }
}

static void test_seconds(void) {
    struct ld_options options;
    CHECK_INT(4, PARSE(&options, RUN, "", "--start-timeout", "2.5", "--stop-timeout", "0"));
    CHECK(options.start_timeout == 2.5 && options.stop_timeout == 0);
    CHECK_INT(1, PARSE(&options, STOP, "", "--timeout=0"));
    CHECK(options.timeout == 0);
    CHECK_INT(-1, PARSE(&options, RUN,
                        "--start-timeout: \"0\" is not a time in seconds above 0, such as 2.5",
                        "--start-timeout", "0"));
    CHECK_INT(-1,
              PARSE(&options, START, "--stop-timeout: \"-1\" is not a time in seconds, such as 2.5",
                    "--stop-timeout", "-1"));
    CHECK_INT(-1, PARSE(&options, STOP, "--timeout: \"soon\" is not a time in seconds, such as 2.5",
                        "--timeout=soon"));
}

static void test_mask(void) {
    struct ld_options options;
    CHECK_INT(2, PARSE(&options, RUN, "", "--umask", "027"));
    CHECK_INT(027, options.umask);
    CHECK_INT(1, PARSE(&options, START, "", "--umask=0"));
    CHECK_INT(0, options.umask);
    CHECK_INT(-1, PARSE(&options, RUN, "--umask: \"99\" is not an octal mask such as 027",
                        "--umask", "99"));
}

static void test_choices(void) {
    static const char *const levels[] = {"debug", "info", "warn", "error"};
    static const char *const hups[] = {"reload", "ignore", "stop"};
    struct ld_options options;
    for (int i = 0; i < 4; i++) {
        CHECK_INT(2, PARSE(&options, RUN, "", "--log-level", levels[i]));
        CHECK_INT(i, options.log_level);
    }
    for (int i = 0; i < 3; i++) {
        CHECK_INT(2, PARSE(&options, START, "", "--hup", hups[i]));
        CHECK_INT(i, options.hup);
    }
    CHECK_INT(1, PARSE(&options, RUN, "", "--log-format=text"));
    CHECK_INT(0, options.log_format);
    CHECK_INT(1, PARSE(&options, RUN, "", "--log-format=json"));
    CHECK_INT(1, options.log_format);
    CHECK_INT(1, PARSE(&options, RUN, "", "--on-error=continue"));
    CHECK_INT(LD_ON_ERROR_CONTINUE, options.on_error);
    CHECK_INT(1, PARSE(&options, RUN, "", "--on-error=exit"));
    CHECK_INT(LD_ON_ERROR_EXIT, options.on_error);
    CHECK_INT(1, PARSE(&options, RUN, "", "--restart=on-failure"));
    CHECK_INT(LD_RESTART_ON_FAILURE, options.restart);
    CHECK_INT(1, PARSE(&options, START, "", "--restart=always"));
    CHECK_INT(LD_RESTART_ALWAYS, options.restart);
}

static void test_bad_choices(void) {
    static const char *const bad[] = {"", "debu", "debugs", "INFO", "debug|info", "|", "info|warn"};
    struct ld_options options;
    for (size_t i = 0; i < LD_COUNT(bad); i++) {
        char reason[128];
        snprintf(reason, sizeof reason, "--log-level: \"%s\" is not one of debug|info|warn|error",
                 bad[i]);
        CHECK_INT(-1, PARSE(&options, RUN, reason, "--log-level", bad[i]));
    }
    CHECK_INT(-1, PARSE(&options, RUN, "--hup: \"x\" is not one of reload|ignore|stop", "--hup=x"));
    CHECK_INT(-1, PARSE(&options, RUN, "--restart: \"yes\" is not one of no|on-failure|always",
                        "--restart=yes"));
    CHECK_INT(
        -1, PARSE(&options, RUN, "--on-error: \"x\" is not one of continue|exit", "--on-error=x"));
    CHECK_INT(
        -1, PARSE(&options, RUN, "--log-format: \"x\" is not one of text|json", "--log-format=x"));
}

static void test_env(void) {
    struct ld_options options;
    CHECK_INT(6, PARSE(&options, RUN, "", "--env", "A=1", "--env", "B=", "--env", "A=x=y"));
    CHECK_INT(3, options.env_count);
    CHECK_STR("A=1", options.env[0]);
    CHECK_STR("B=", options.env[1]);
    CHECK_STR("A=x=y", options.env[2]);
    ld_options_fini(&options);
    CHECK_INT(0, options.env_count);
    ld_options_fini(&options);
    CHECK_INT(-1, PARSE(&options, RUN, "--env: \"A\" is not KEY=VALUE", "--env", "A"));
    CHECK_INT(-1, PARSE(&options, RUN, "--env: \"=1\" is not KEY=VALUE", "--env", "=1"));
    CHECK_INT(-1,
              PARSE(&options, RUN, "--env: \"\" is not KEY=VALUE", "--env", "B=2", "--env", ""));
    ld_options_fini(&options); /* of those before the bad one */
}

static void test_rlimits(void) {
    struct ld_options options;
    CHECK_INT(6, PARSE(&options, RUN, "", "--rlimit", "nofile=64", "--rlimit", "core=0:1K",
                       "--rlimit", "nofile=128:256"));
    CHECK_INT(2, options.rlimit_count);
    CHECK_INT(RLIMIT_NOFILE, options.rlimits[0].resource);
    CHECK_INT(128, options.rlimits[0].limit.rlim_cur); /* the later one */
    CHECK_INT(256, options.rlimits[0].limit.rlim_max);
    CHECK_STR("nofile=128:256", options.rlimits[0].text);
    CHECK_INT(RLIMIT_CORE, options.rlimits[1].resource);
    CHECK_INT(1024, options.rlimits[1].limit.rlim_max);
    static const char *const bad[] = {"nofile", "nofile=", "=5", "files=5", "nofile=5:4", ""};
    for (size_t i = 0; i < LD_COUNT(bad); i++) {
        char reason[128];
        snprintf(reason, sizeof reason,
                 "--rlimit: \"%s\" is not NAME=SOFT[:HARD], such as nofile=256:512", bad[i]);
        CHECK_INT(-1, PARSE(&options, START, reason, "--rlimit", bad[i]));
    }
}

static void test_every_rlimit(void) {
    static const char *const names[] = {
        "as",   "core",   "cpu",   "data", "fsize",  "locks",  "memlock", "msgqueue",
        "nice", "nofile", "nproc", "rss",  "rtprio", "rttime", "stack",   "sigpending"};
    static char words[LD_COUNT(names)][32];
    static char program[] = "lunad";
    char *argv[LD_COUNT(names) + 2] = {program};
    struct ld_options options;
    struct ld_text why = {0};
    for (size_t i = 0; i < LD_COUNT(names); i++) {
        snprintf(words[i], sizeof words[0], "--rlimit=%s=%zu", names[i], i);
        argv[i + 1] = words[i];
    }
    CHECK_INT(LD_COUNT(names) + 1, ld_options_parse(&options, RUN, argv, &why));
    CHECK_INT(LD_COUNT(names), options.rlimit_count);
}

static void test_lines_and_chunk(void) {
    struct ld_options options;
    CHECK_INT(2, PARSE(&options, LOGS, "", "-n", "0"));
    CHECK_INT(0, options.lines);
    CHECK_INT(1, PARSE(&options, LOGS, "", "--lines=25"));
    CHECK_INT(25, options.lines);
    CHECK_INT(-1, PARSE(&options, LOGS, "--lines: \"-1\" is not a count of lines", "-n", "-1"));
    CHECK_INT(-1, PARSE(&options, LOGS, "--lines: \"x\" is not a count of lines", "-nx"));
    CHECK_INT(2, PARSE(&options, RUN, "", "-e", "print(1)"));
    CHECK_STR("print(1)", options.chunk);
    CHECK_INT(-1, PARSE(&options, RUN, "-e: \"\" is not a piece of Lua", "-e", ""));
    CHECK_INT(-1, PARSE(&options, START, "unknown option -e", "-e", "print(1)"));
}

static void test_empty_values(void) {
    static const char *const names[] = {"chdir", "log", "path", "cpath", "run-dir"};
    struct ld_options options;
    for (size_t i = 0; i < LD_COUNT(names); i++) {
        char option[32];
        char reason[64];
        snprintf(option, sizeof option, "--%s", names[i]);
        snprintf(reason, sizeof reason, "--%s: \"\" is not a path", names[i]);
        CHECK_INT(-1, PARSE(&options, RUN, reason, option, ""));
    }
    CHECK_INT(-1, PARSE(&options, RUN, "--user: \"\" is not USER[:GROUP]", "--user="));
}

static void test_missing_values(void) {
    static const char *const names[] = {
        "--name",          "--user",         "--chdir",      "--umask",        "--env",
        "--log",           "--log-level",    "--log-format", "--rlimit",       "--start-timeout",
        "--path",          "--cpath",        "--on-error",   "--stop-timeout", "--hup",
        "--run-dir",       "--memory-limit", "--restart",    "--notify-fd",    "--recycle-every",
        "--recycle-memory"};
    struct ld_options options;
    for (size_t i = 0; i < LD_COUNT(names); i++) {
        char reason[64];
        snprintf(reason, sizeof reason, "%s needs a value", names[i]);
        CHECK_INT(-1, PARSE(&options, RUN, reason, names[i]));
        CHECK_INT(-1, PARSE(&options, START, reason, "--clear-env", names[i]));
    }
    CHECK_INT(-1, PARSE(&options, RUN, "-e needs a value", "-e"));
    CHECK_INT(-1, PARSE(&options, STOP, "--timeout needs a value", "x", "--timeout"));
    CHECK_INT(-1, PARSE(&options, LOGS, "-n needs a value", "x", "-n"));
}

static void test_unknown(void) {
    struct ld_options options;
    for (size_t i = 0; i < LD_COUNT(verbs); i++) {
        CHECK_INT(-1, PARSE(&options, verbs[i], "unknown option --frobnicate", "--frobnicate"));
        CHECK_INT(-1, PARSE(&options, verbs[i], "unknown option -x", "-x"));
        CHECK_INT(-1, PARSE(&options, verbs[i], "unknown option -x", "-hx"));
    }
    CHECK_INT(-1, PARSE(&options, RUN, "unknown option --bad=5", "--bad=5"));
    CHECK_INT(-1, PARSE(&options, RUN, "unknown option --\\x1B[1m\\x0A", "--\x1B[1m\n"));
    CHECK_INT(-1, PARSE(&options, STOP, "unknown option -\\x1B", "-\x1B"));
    CHECK_INT(-1, PARSE(&options, STOP, "unknown option -\\xC3", "-\xC3\xA9"));
    CHECK_INT(-1, PARSE(&options, STOP, "unknown option --bad", "a", "--bad", "b"));
    CHECK_INT(-1, PARSE(&options, STATUS, "--json takes no value", "--json=1"));
    CHECK_INT(-1, PARSE(&options, RUN, "--help takes no value", "--help=yes"));
    CHECK_INT(-1, PARSE(&options, RUN,
                        "--name: \"a\\x0A\\x1B\" is not a name: 1 to 64 of "
                        "A-Z a-z 0-9 . _ -, no leading dot or dash",
                        "--name", "a\n\x1B")); /* control bytes are escaped */
}

static void test_where_they_belong(void) {
    static const char *const service[] = {
        "--name=a",          "--user=a",           "--chdir=/",         "--umask=0",
        "--env=A=1",         "--clear-env",        "--log=none",        "--log-level=info",
        "--log-format=text", "--rlimit=core=0",    "--start-timeout=1", "--stop-timeout=1",
        "--wait-ready",      "--on-error=exit",    "--hup=stop",        "--path=a",
        "--cpath=a",         "--memory-limit=1M",  "--restart=always",  "--notify-fd=4",
        "--recycle-every=1", "--recycle-memory=1M"};
    struct ld_options options;
    for (size_t v = 2; v < LD_COUNT(verbs); v++) {
        for (size_t i = 0; i < LD_COUNT(service); i++) {
            char reason[64];
            snprintf(reason, sizeof reason, "unknown option %s", service[i]);
            CHECK_INT(-1, PARSE(&options, verbs[v], reason, service[i]));
        }
    }
    CHECK_INT(-1, PARSE(&options, RUN, "unknown option --timeout=1", "--timeout=1"));
    CHECK_INT(-1, PARSE(&options, RUN, "unknown option --json", "--json"));
    CHECK_INT(-1, PARSE(&options, STATUS, "unknown option -f", "-f"));
    CHECK_INT(-1, PARSE(&options, OTHER, "unknown option -n", "-n", "1"));
}

static void test_operand_ends_options(void) {
    struct ld_options options;
    CHECK_INT(2, PARSE(&options, RUN, "", "-n", "x", "s.lua", "--bad", "-n", "y"));
    CHECK_STR("x", options.name);
    CHECK_INT(0, PARSE(&options, START, "", "s.lua", "--clear-env"));
    CHECK(!options.clear_env);
    CHECK_INT(1, PARSE(&options, RUN, "", "--", "--clear-env"));
    CHECK(!options.clear_env);
    CHECK_INT(0, PARSE(&options, RUN, "", "-", "--clear-env")); /* stdin */
    CHECK_INT(2, PARSE(&options, RUN, "", "-e", "x", "an", "--argument"));
}

static void test_operands_anywhere(void) {
    struct ld_options options;
    CHECK_INT(2, PARSE(&options, STOP, "", "a", "--timeout", "3", "b"));
    CHECK(options.timeout == 3);
    CHECK_INT(1, PARSE(&options, STATUS, "", "a", "--json"));
    CHECK(options.json);
    CHECK_INT(1, PARSE(&options, STATUS, "", "--", "--json"));
    CHECK(!options.json);
}

static void test_help(void) {
    for (size_t v = 0; v < LD_COUNT(verbs); v++) {
        struct ld_text help = {0};
        struct ld_options options;
        char option[32];
        ld_options_add_help(&help, verbs[v]);
        CHECK(strstr(ld_text_string(&help), "--help") != NULL);
        CHECK(strstr(ld_text_string(&help), "--version") != NULL);
        CHECK(strstr(ld_text_string(&help), "--run-dir DIR") != NULL);
        for (const char *at = help.data; *at != '\0'; at = strchr(at, '\n') + 1) {
            const char *dashes = strstr(at, "--");
            if (dashes == NULL || dashes - at > 8) {
                continue; /* an option without a long name */
            }
            size_t length = strspn(dashes, "-abcdefghijklmnopqrstuvwxyz");
            struct ld_text why = {0};
            char *argv[] = {option, option, NULL};
            snprintf(option, sizeof option, "%.*s", (int)length, dashes);
            ld_options_parse(&options, verbs[v], argv, &why); /* each option in the help is known */
            CHECK(strstr(ld_text_string(&why), "unknown") == NULL);
            ld_text_fini(&why);
        }
        ld_text_fini(&help);
    }
}

static void test_help_is_whole(void) {
    static const char *const names[] = {"-n, --name NAME",
                                        "--user USER[:GROUP]",
                                        "--chdir DIR",
                                        "--umask OCTAL",
                                        "--env KEY=VALUE",
                                        "--clear-env",
                                        "--run-dir DIR",
                                        "--log FILE|syslog|stderr|none",
                                        "--log-level",
                                        "--log-format",
                                        "--rlimit NAME=SOFT[:HARD]",
                                        "--memory-limit SIZE",
                                        "--recycle-every SECONDS",
                                        "--recycle-memory SIZE",
                                        "--start-timeout",
                                        "--stop-timeout",
                                        "--wait-ready",
                                        "--watch",
                                        "--stuck-after SECONDS",
                                        "--on-error continue|exit",
                                        "--hup reload|ignore|stop",
                                        "--restart no|on-failure|always",
                                        "--notify-fd FD",
                                        "--path",
                                        "--cpath"};
    static const char *const later[] = {"--config"};
    struct ld_text help = {0};
    ld_options_add_help(&help, START);
    for (size_t i = 0; i < LD_COUNT(names); i++) {
        CHECK_STR(names[i], strstr(help.data, names[i]) != NULL ? names[i] : "");
    }
    for (size_t i = 0; i < LD_COUNT(later); i++) {
        CHECK_STR("", strstr(help.data, later[i]) != NULL ? later[i] : "");
    }
    ld_text_fini(&help);
}

static const struct check_case cases[] = {
    {"defaults", test_defaults},
    {"texts", test_strings},
    {"the name", test_name},
    {"flags", test_flags},
    {"times", test_seconds},
    {"the mask", test_mask},
    {"choices", test_choices},
    {"values that are not among the choices", test_bad_choices},
    {"the environment", test_env},
    {"resource limits; the later one wins", test_rlimits},
    {"every resource limit at once", test_every_rlimit},
    {"lines and the chunk", test_lines_and_chunk},
    {"empty values are refused by name", test_empty_values},
    {"missing values are refused by name", test_missing_values},
    {"unknown options are refused by name", test_unknown},
    {"options belong to their verbs", test_where_they_belong},
    {"the script ends the options of run and start", test_operand_ends_options},
    {"names stand anywhere for the other verbs", test_operands_anywhere},
    {"help shows options that are known", test_help},
    {"help shows every option, and no other", test_help_is_whole},
};

CHECK_MAIN(cases)
