/* The command line: what its first word asks for. */
#include <string.h>
#include <unistd.h>

#include "base/likely.h"
#include "base/say.h"
#include "base/version.h"
#include "cli/completion.h"
#include "cli/image.h"
#include "cli/stand_in.h"
#include "cli/verbs.h"
#include "posix/inherit.h"
#include "posix/paths.h"
#include "posix/title.h"

static int print_completion(const struct ld_call *call);

static const struct ld_verb completion = {
    .name = "completion",
    .operands = "bash|zsh",
    .summary = "print a script that completes command lines, for a shell",
    .least = 1,
    .most = 1,
    .run = print_completion,
};

/* In the order of --help. */
static const struct ld_verb *const verbs[] = {
    &ld_verb_run,     &ld_verb_start,  &ld_verb_stop, &ld_verb_reload, &ld_verb_restart,
    &ld_verb_upgrade, &ld_verb_status, &ld_verb_list, &ld_verb_logs,   &ld_verb_reopen,
    &ld_verb_signal,  &ld_verb_eval,   &ld_verb_repl, &completion,     &ld_verb_check,
    &ld_verb_profile, &ld_verb_heap,   &ld_verb_new,  &ld_verb_test,   &ld_verb_metrics,
    &ld_verb_unit,
};

/* Add what lunad can do. */
static void add_help(struct ld_text *help) {
    ld_text_puts(help, "lunad runs Lua 5.4 scripts as daemons.\n\nUsage:\n");
    for (size_t i = 0; i < LD_COUNT(verbs); i++) {
        ld_text_format(help, "  lunad %-10s %-28s %s\n", verbs[i]->name, verbs[i]->operands,
                       verbs[i]->summary);
    }
    ld_text_puts(
        help,
        "\nNAME is a daemon's name or its script's path.\n"
        "lunad VERB --help shows the options of a verb; lunad --version shows the version.\n\n"
        "Exit status: 0 done, 1 failed, 2 usage, 3 not running, 4 already running.");
}

/* Print a completion script, or, for such a script, the names of what runs. */
static int print_completion(const struct ld_call *call) {
    return ld_completion_print(call, verbs, LD_COUNT(verbs));
}

/* Find a verb. */
static const struct ld_verb *find_verb(const char *name) {
    for (size_t i = 0; i < LD_COUNT(verbs); i++) {
        if (strcmp(verbs[i]->name, name) == 0) {
            return verbs[i];
        }
    }
    return strcmp(name, ld_verb_test_service.name) == 0 ? &ld_verb_test_service
           : strcmp(name, ld_verb_worker.name) == 0     ? &ld_verb_worker
                                                        : NULL;
}

#define WORD_MAX 16 /* no verb is as long */

/* Find the verb that WORD resembles or is a prefix of; NULL if there is none. */
static const struct ld_verb *find_similar(const char *word) {
    struct ld_likely likely = {.word = word, .prefixes = true};
    for (size_t i = 0; i < LD_COUNT(verbs); i++) {
        ld_likely_try(&likely, verbs[i]->name);
    }
    return likely.best != NULL ? find_verb(likely.best) : NULL;
}

/* Suggest what was probably meant by a command line that does not begin with a verb. */
static void blame_verb(char **argv) {
    const char *word = argv[1];
    size_t length = strcspn(word, " \t");
    const struct ld_verb *similar = find_similar(word);
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

/* Copy the arguments, because the memory of the originals becomes the title of the process. */
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

/* Show the help: on stdout if it was asked for, else as a complaint; the exit status STATUS. */
static int show_help(int status) {
    struct ld_text help = {0};
    add_help(&help);
    if (status == 0) {
        ld_say_text(&help);
    } else {
        fprintf(stderr, "%s\n", ld_text_string(&help));
    }
    ld_text_fini(&help);
    return status;
}

/* Run the verb that the first word names. */
static int dispatch(int argc, char **argv) {
    if (argc < 2) {
        return show_help(2);
    }
    if (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0) {
        return show_help(0);
    }
    if (strcmp(argv[1], "--version") == 0) {
        ld_say("lunad %s", ld_version_text);
        return 0;
    }
    if (ld_image_has(argv[1])) {
        return ld_image_run(argc, argv);
    }
    if (strcmp(argv[1], LD_STAND_IN_WORD) == 0) {
        return ld_stand_in_run(argv + 2);
    }
    const struct ld_verb *verb = find_verb(argv[1]);
    if (verb == NULL) {
        blame_verb(argv);
        return 2;
    }
    return ld_verbs_call(verb, verb->run, argv + 1, false);
}

/* Start here. */
int main(int argc, char **argv) {
    ld_inherit_fill_std();
    ld_title_init(argc, argv);
    ld_paths_fix_environment();
    char **copy = copy_arguments(argc, argv);
    int status = dispatch(argc, copy);
    if (status == 0 && ld_say_has_lost()) {
        status = 1;
    }
    for (int i = 0; i < argc; i++) {
        free(copy[i]);
    }
    free(copy);
    return status;
}
