#include "cli/verbs.h"

#include <stdio.h>

#include "base/say.h"
#include "base/version.h"

/* Print the help of a verb. */
static void print_help(const struct ld_verb *verb) {
    struct ld_text text = {0};
    const char *space = verb->operands[0] != '\0' ? " " : "";
    ld_text_format(&text, "Usage: lunad %s [OPTION...]%s%s\n\nTo %s.\n\nOptions:\n", verb->name,
                   space, verb->operands, verb->summary);
    ld_options_add_help(&text, verb->options);
    ld_say_text(&text);
    ld_text_fini(&text);
}

/* Check the number of operands. */
static bool check_operands(const struct ld_verb *verb, const struct ld_call *call) {
    int count = 0;
    while (call->argv[call->operand + count] != NULL) {
        count++;
    }
    const struct ld_options *options = call->options;
    int least = options->chunk != NULL || options->config != NULL || options->all ? 0 : verb->least;
    if (options->all && count > 0) {
        ld_say_error("%s: --all takes the place of names", verb->name);
        return false;
    }
    if (count >= least && (verb->most < 0 || count <= verb->most)) {
        return true;
    }
    ld_say_error("%s: %s; usage: lunad %s [OPTION...] %s", verb->name,
                 count < least ? "an argument is missing" : "too many arguments", verb->name,
                 verb->operands);
    return false;
}

/* Do WORK, or what --help or --version asks for. */
static int call_parsed(const struct ld_verb *verb, ld_verb_work *work, const struct ld_call *call) {
    if (call->options->help) {
        print_help(verb);
        return 0;
    }
    if (call->options->version) {
        ld_say("lunad %s", ld_version_text);
        return 0;
    }
    return check_operands(verb, call) ? work(call) : 2;
}

/* Parse the options of a verb and do its work. */
int ld_verbs_call(const struct ld_verb *verb, ld_verb_work *work, char **argv, bool again) {
    struct ld_options options;
    struct ld_text why = {0};
    int status = 2;
    int operand = ld_options_parse(&options, verb->options, argv, &why);
    if (operand < 0) {
        ld_say_error("%s: %s (lunad %s --help)", verb->name, ld_text_string(&why), verb->name);
    } else {
        options.notify_fd = again ? -1 : options.notify_fd;
        const struct ld_call call = {.options = &options, .argv = argv, .operand = operand};
        status = call_parsed(verb, work, &call);
    }
    ld_text_fini(&why);
    ld_options_fini(&options);
    return status;
}
