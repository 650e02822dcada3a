/* The verbs of the command line. */
#include <string.h>

#include "cmd.h"
#include "daemon.h"
#include "paths.h"
#include "say.h"
#include "title.h"
#include "version.h"

struct verb {
    const char *name;
    enum ld_verb options; /* which it takes */
    const char *operands;
    const char *summary;
    int least; /* operands, after -e */
    int most;  /* -1: any number */
    int (*run)(const struct ld_call *call);
};

static const struct verb verbs[] = {
    {"run", LD_VERB_RUN, "SCRIPT|-|-e CHUNK [ARG...]", "run a script in the foreground", 1, -1,
     ld_cmd_run},
    {"start", LD_VERB_START, "SCRIPT [ARG...]",
     "run a script as a daemon; it returns when the script is ready, or says why not", 1, -1,
     ld_cmd_start},
    {"stop", LD_VERB_STOP, "NAME...", "stop gracefully, then by SIGKILL after the time is up", 1,
     -1, ld_cmd_stop},
    {"reload", LD_VERB_ASK, "NAME...",
     "load the script anew without losing the process, and say how that went", 1, -1,
     ld_cmd_reload},
    {"restart", LD_VERB_OTHER, "NAME...", "stop, then start as it was started", 1, -1,
     ld_cmd_restart},
    {"status", LD_VERB_STATUS, "NAME...", "show how daemons are doing", 1, -1, ld_cmd_status},
    {"list", LD_VERB_LIST, "", "list the running daemons", 0, 0, ld_cmd_list},
    {"logs", LD_VERB_LOGS, "NAME", "show the end of a daemon's log", 1, 1, ld_cmd_logs},
    {"reopen", LD_VERB_ASK, "NAME...", "reopen the log file after a rotation", 1, -1,
     ld_cmd_reopen},
    {"signal", LD_VERB_OTHER, "NAME SIGNAL", "send a signal, by name or number", 2, 2,
     ld_cmd_signal},
    {"check", LD_VERB_OTHER, "SCRIPT", "say whether a script compiles", 1, 1, ld_cmd_check},
};

/* Print what lunad can do. */
static void print_help(FILE *out) {
    fputs("lunad runs Lua 5.4 scripts as daemons.\n\nUsage:\n", out);
    for (size_t i = 0; i < LD_COUNT(verbs); i++) {
        fprintf(out, "  lunad %-8s %-28s %s\n", verbs[i].name, verbs[i].operands, verbs[i].summary);
    }
    fputs("\nNAME is a daemon's name or its script's path.\n"
          "lunad VERB --help shows the options of a verb; lunad --version shows the version.\n\n"
          "Exit status: 0 done, 1 failed, 2 usage, 3 not running, 4 already running.\n",
          out);
}

/* Print what a verb can do. */
static void print_verb_help(const struct verb *verb) {
    struct ld_text text = {0};
    const char *space = verb->operands[0] != '\0' ? " " : "";
    ld_text_format(&text, "Usage: lunad %s [OPTION...]%s%s\n\nTo %s.\n\nOptions:\n", verb->name,
                   space, verb->operands, verb->summary);
    ld_options_help(&text, verb->options);
    fputs(ld_text_string(&text), stdout);
    ld_text_fini(&text);
}

/* Find a verb. */
static const struct verb *find_verb(const char *name) {
    for (size_t i = 0; i < LD_COUNT(verbs); i++) {
        if (strcmp(verbs[i].name, name) == 0) {
            return &verbs[i];
        }
    }
    return NULL;
}

/* Check the number of operands. */
static bool check_operands(const struct verb *verb, const struct ld_call *call) {
    int count = 0;
    while (call->argv[call->operand + count] != NULL) {
        count++;
    }
    int least = call->options->chunk != NULL ? 0 : verb->least;
    if (count >= least && (verb->most < 0 || count <= verb->most)) {
        return true;
    }
    ld_complain("%s: %s; usage: lunad %s [OPTION...] %s", verb->name,
                count < least ? "an argument is missing" : "too many arguments", verb->name,
                verb->operands);
    return false;
}

/* Run a verb with its parsed options. */
static int run_verb(const struct verb *verb, struct ld_options *options, char **argv) {
    struct ld_text why = {0};
    int status = 2;
    int operand = ld_options_parse(options, verb->options, argv, &why);
    const struct ld_call call = {.options = options, .argv = argv, .operand = operand};
    if (operand < 0) {
        ld_complain("%s: %s (lunad %s --help)", verb->name, ld_text_string(&why), verb->name);
    } else if (options->help) {
        print_verb_help(verb);
        status = 0;
    } else if (options->version) {
        ld_say("lunad %s", LD_VERSION);
        status = 0;
    } else if (check_operands(verb, &call)) {
        status = verb->run(&call);
    }
    ld_text_fini(&why);
    return status;
}

/* Copy the arguments: the memory of the originals will show the title of the process. */
static char **copy_arguments(int argc, char **argv) {
    char **copy = calloc((size_t)argc + 1, sizeof *copy);
    bool ok = copy != NULL;
    for (int i = 0; ok && i < argc; i++) {
        copy[i] = strdup(argv[i]);
        ok = copy[i] != NULL;
    }
    if (!ok) {
        ld_complain("not enough memory");
        exit(1);
    }
    return copy;
}

/* Do what the first word says. */
static int dispatch(int argc, char **argv) {
    if (argc < 2) {
        print_help(stderr);
        return 2;
    }
    if (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0) {
        print_help(stdout);
        return 0;
    }
    if (strcmp(argv[1], "--version") == 0) {
        ld_say("lunad %s", LD_VERSION);
        return 0;
    }
    const struct verb *verb = find_verb(argv[1]);
    if (verb == NULL) {
        ld_complain("there is no verb \"%s\" (lunad --help)", argv[1]);
        return 2;
    }
    struct ld_options options;
    int status = run_verb(verb, &options, argv + 1);
    ld_options_fini(&options);
    return status;
}

/* How many words a command line has. */
static int count_words(char **words) {
    int count = 0;
    while (words[count] != NULL) {
        count++;
    }
    return count;
}

/* Parse a command line and run its verb. */
int ld_cmd_again(char **words) {
    return dispatch(count_words(words), words);
}

/* Check a command line of run or start. */
int ld_cmd_check_again(char **words) {
    const struct verb *verb = count_words(words) > 1 ? find_verb(words[1]) : NULL;
    if (verb == NULL || (verb->options != LD_VERB_RUN && verb->options != LD_VERB_START)) {
        ld_complain("it was not started by run or start");
        return 1;
    }
    struct verb check = *verb;
    struct ld_options options;
    check.run = ld_cmd_check_start;
    int status = run_verb(&check, &options, words + 1);
    ld_options_fini(&options);
    return status;
}

/* Start here. */
int main(int argc, char **argv) {
    ld_daemon_fill_std();
    ld_title_init(argc, argv);
    ld_paths_fix_environment();
    char **copy = copy_arguments(argc, argv);
    int status = dispatch(argc, copy);
    for (int i = 0; i < argc; i++) {
        free(copy[i]);
    }
    free(copy);
    return status;
}
