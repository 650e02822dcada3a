/* The verbs of the command line. */
#include <ctype.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

#include "base/say.h"
#include "base/version.h"
#include "cli/verbs.h"
#include "posix/inherit.h"
#include "posix/paths.h"
#include "posix/title.h"

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

#define WORD_MAX 16 /* of those that may be a verb */

/* The least of three numbers. */
static size_t least_of(size_t a, size_t b, size_t c) {
    size_t least = a < b ? a : b;
    return least < c ? least : c;
}

/* Whether the first two letters of A are those of B in the other order. */
static bool is_exchanged(const char *a, const char *b) {
    return (tolower)((unsigned char)a[0]) == b[1] && (tolower)((unsigned char)a[1]) == b[0];
}

/* How many letters must be put in, left out, changed or exchanged with their neighbour to make one word
 * of another, whatever the case of A; both shorter than WORD_MAX. */
static size_t distance(const char *a, const char *b) {
    size_t known[WORD_MAX + 1][WORD_MAX + 1]; /* of their beginnings */
    size_t rows = strlen(a);
    size_t columns = strlen(b);
    for (size_t i = 0; i <= rows; i++) {
        known[i][0] = i;
    }
    for (size_t j = 0; j <= columns; j++) {
        known[0][j] = j;
    }
    for (size_t at = 0; at < rows * columns; at++) {
        size_t i = at / columns + 1;
        size_t j = at % columns + 1;
        size_t changed = (tolower)((unsigned char)a[i - 1]) != b[j - 1];
        size_t least =
            least_of(known[i - 1][j] + 1, known[i][j - 1] + 1, known[i - 1][j - 1] + changed);
        if (i > 1 && j > 1 && is_exchanged(a + i - 2, b + j - 2)) {
            least = least_of(least, known[i - 2][j - 2] + 1, least);
        }
        known[i][j] = least;
    }
    return known[rows][columns];
}

/* The verb that WORD is nearly, or the beginning of; NULL if there is none. */
static const struct verb *find_similar(const char *word) {
    const struct verb *best = NULL;
    size_t length = strlen(word);
    size_t best_distance = length < 4 ? 2 : 3; /* too far already */
    for (size_t i = 0; length > 1 && length < WORD_MAX && i < LD_COUNT(verbs); i++) {
        bool begins = strncasecmp(verbs[i].name, word, length) == 0;
        size_t far = begins ? 0 : distance(word, verbs[i].name);
        if (far < best_distance) {
            best = &verbs[i];
            best_distance = far;
        }
    }
    return best;
}

/* Say what was probably meant by words that begin with no verb. */
static void blame_verb(char **argv) {
    const char *word = argv[1];
    size_t length = strcspn(word, " \t");
    const struct verb *similar = find_similar(word);
    char first[WORD_MAX] = "";
    if (length < sizeof first) {
        memcpy(first, word, length);
    }
    if (word[0] == '-') {
        ld_say_error("an option follows its verb: lunad run %s ... (lunad --help)", word);
    } else if (word[length] != '\0' && find_verb(first) != NULL) {
        ld_say_error(
            "there is no verb \"%s\": it is one word here, as in a first line with #!; there "
            "write: #!/usr/bin/env -S lunad %s",
            word, word);
    } else if (ld_paths_is_script(word) || (similar == NULL && access(word, F_OK) == 0)) {
        ld_say_error(
            "there is no verb \"%s\": did you mean \"lunad run %s\", or \"lunad start %s\"?", word,
            word, word);
    } else if (similar != NULL) {
        ld_say_error("there is no verb \"%s\": did you mean \"lunad %s\"?", word, similar->name);
    } else {
        ld_say_error("there is no verb \"%s\" (lunad --help)", word);
    }
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
    ld_say_error("%s: %s; usage: lunad %s [OPTION...] %s", verb->name,
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
        ld_say_error("%s: %s (lunad %s --help)", verb->name, ld_text_string(&why), verb->name);
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
        ld_say_error("not enough memory");
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
        blame_verb(argv);
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
        ld_say_error("it was not started by run or start");
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
    ld_inherit_fill_std();
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
