/* lunad test, and what it starts services by. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/log.h"
#include "base/say.h"
#include "cli/prepare.h"
#include "cli/verbs.h"
#include "daemon/launch.h"
#include "host/host.h"
#include "posix/inherit.h"

#define RUNNER        "require('lunad.test').main(...)"
#define INTERRUPTED   130 /* as a shell says of Ctrl-C */
#define TEN_YEARS     (3650 * 86400.0)
#define SPEC_VARIABLE "LUNAD_TEST_SPEC" /* the Lua to run before the script of a service */

/* The words for busted: a command line of `lunad test`, with its options as busted writes them. */
struct words {
    char **list;
    int count;
    char filter[4096];
};

/* Check that the operands before "--" are there, or the folder that is taken without one; 0, or 1 after
 * complaining. */
static int check_paths(char **operands) {
    if (*operands == NULL && access("spec", F_OK) < 0 && access(".busted", F_OK) < 0) {
        ld_say_error("test: there is no folder \"spec\" here: name the specs, or begin with "
                     "\"lunad new NAME\"");
        return 1;
    }
    for (char **at = operands; *at != NULL && strcmp(*at, "--") != 0; at++) {
        if (access(*at, F_OK) < 0) {
            ld_say_error("test: %s: there is no such file or directory", *at);
            return 1;
        }
    }
    return 0;
}

/* Collect the words; false if memory ran out. */
static bool collect(struct words *words, const struct ld_call *call) {
    const struct ld_options *options = call->options;
    char **operands = call->argv + call->operand;
    int count = 0;
    while (operands[count] != NULL) {
        count++;
    }
    words->list = calloc((size_t)count + 8, sizeof *words->list);
    if (words->list == NULL) {
        return false;
    }
    words->list[words->count++] = call->argv[-1];
    words->list[words->count++] = call->argv[0];
    if (options->output != NULL) {
        words->list[words->count++] = "-o";
        words->list[words->count++] = (char *)(size_t)options->output;
    }
    if (options->filter != NULL) {
        snprintf(words->filter, sizeof words->filter, "--filter=%s", options->filter);
        words->list[words->count++] = words->filter;
    }
    bool is_marked = false;
    for (int i = 0; i < count; i++) {
        bool is_mark = !is_marked && strcmp(operands[i], "--") == 0;
        is_marked = is_marked || is_mark;
        if (!is_mark) {
            words->list[words->count++] = operands[i];
        }
    }
    return true;
}

/* Run the specs that WORDS name. */
static int run_specs(const struct ld_call *call, char **words) {
    struct ld_service service = {.is_bare = true, .spec = ""};
    struct ld_options options = *call->options;
    struct ld_text why = {0};
    options.chunk = RUNNER;
    options.log = "none";
    options.stuck_after = 0;
    options.start_timeout = TEN_YEARS;
    int status = ld_service_init(&service, &options, words + 1, 1, &why);
    if (status != 0) {
        ld_say_error("%s", ld_text_string(&why));
    } else {
        service.text_title = "=lunad test";
        service.has_terminal = ld_inherit_has_terminal();
        service.needs_reader = true;
        ld_inherit_reset_signals();
        status = ld_launch_run(&service, ld_host_run);
        status = service.was_stopped ? INTERRUPTED : status;
    }
    ld_text_fini(&why);
    ld_service_fini(&service);
    return status;
}

/* Run specs. */
static int run(const struct ld_call *call) {
    struct words words = {0};
    bool is_marked = strcmp(call->argv[call->operand - 1], "--") == 0;
    int status = is_marked ? 0 : check_paths(call->argv + call->operand);
    if (status != 0 || ld_prepare_descriptors(call, true) != 0) {
        return status != 0 ? status : 2;
    }
    if (!collect(&words, call)) {
        ld_say_error("not enough memory");
        return 1;
    }
    status = run_specs(call, words.list);
    free(words.list);
    return status;
}

/* Run a service for a spec: as a daemon, but a child of the spec's process. */
static int run_service(const struct ld_call *call) {
    const char *spec = getenv(SPEC_VARIABLE);
    char *copy = spec != NULL ? strdup(spec) : NULL;
    struct ld_service service = {.daemon = true, .spec = copy};
    if (copy == NULL) {
        ld_say_error("%s: it is for lunad test alone", call->argv[0]);
        return 2;
    }
    unsetenv(SPEC_VARIABLE);
    int status = ld_prepare_descriptors(call, false);
    status = status == 0 ? ld_prepare_service(&service, call) : status;
    if (status == 0) {
        ld_inherit_reset_signals();
        status = ld_launch_run(&service, ld_host_run);
    }
    ld_service_fini(&service);
    free(copy);
    return status;
}

const struct ld_verb ld_verb_test = {
    .name = "test",
    .operands = "[PATH...] [-- BUSTED...]",
    .summary = "run busted specs inside a lunad loop",
    .options = LD_OPTIONS_SPECS,
    .most = -1,
    .run = run,
};

const struct ld_verb ld_verb_test_service = {
    .name = "test-service",
    .operands = "SCRIPT [ARG...]",
    .summary = "run a service for a spec",
    .options = LD_OPTIONS_SERVICE,
    .least = 1,
    .most = -1,
    .run = run_service,
};
