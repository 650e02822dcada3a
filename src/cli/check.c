/* lunad check */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/excerpt.h"
#include "base/file.h"
#include "base/say.h"
#include "cli/config.h"
#include "cli/modules.h"
#include "cli/verbs.h"
#include "posix/paths.h"
#include "script/source.h"

/* Check whether the text that a descriptor gives compiles, and take it. */
static int check_stream(int fd, char *title, size_t size, struct ld_text *text,
                        struct ld_text *why) {
    snprintf(title, size, "=stdin");
    if (fd != STDIN_FILENO) {
        snprintf(title, size, "=/dev/fd/%d", fd);
    }
    int rc = ld_file_read(fd, text);
    if (rc < 0) {
        ld_text_format(why, "%s: %s", title + 1, strerror(-rc));
        return rc;
    }
    const struct ld_source source = {
        .text = ld_text_string(text), .size = text->size, .title = title};
    return ld_source_check(&source, why);
}

/* Check whether a script compiles, and what it requires; whether that is so, after complaining. */
static bool check_script(const char *operand, const struct ld_options *options) {
    struct ld_text why = {0};
    struct ld_text text = {0};
    char title[32];
    int fd = strcmp(operand, "-") == 0 ? STDIN_FILENO : ld_paths_descriptor(operand);
    char *path = fd < 0 ? ld_paths_absolute(operand) : NULL;
    int rc = path != NULL ? ld_source_check(&(struct ld_source){.path = path}, &why)
             : fd >= 0    ? check_stream(fd, title, sizeof title, &text, &why)
                          : -ENOMEM;
    int faults = rc != 0;
    if (rc != 0) {
        ld_say_error("%s", !ld_text_is_empty(&why) ? ld_text_string(&why) : strerror(-rc));
        ld_excerpt_print(ld_text_string(&why), path);
    }
    if (path != NULL && (rc == 0 || rc == -EINVAL)) {
        ld_file_load(path, &text); /* what it requires is of interest too if it does not compile */
    }
    const struct ld_modules_script script = {.text = &text,
                                             .title = path != NULL ? path : title + 1,
                                             .path = path,
                                             .lua = options->path,
                                             .c = options->cpath};
    if (text.size > 0 && ld_text_string(&text)[0] != LUA_SIGNATURE[0]) {
        faults += ld_modules_check(&script);
    }
    ld_text_fini(&why);
    ld_text_fini(&text);
    free(path);
    return faults == 0;
}

/* Check the script of a service, with the options of its config. */
static bool check_service(const struct ld_config_service *service) {
    struct ld_options options;
    struct ld_text why = {0};
    size_t count = 0;
    while (service->words[count] != NULL) {
        count++;
    }
    char **words = calloc(count + 2, sizeof(void *));
    bool is_good = words != NULL;
    if (is_good) {
        memcpy(words + 1, service->words, count * sizeof(void *));
        words[0] = "start";
        ld_options_parse(&options, LD_OPTIONS_SERVICE, words, &why); /* the config was checked */
        is_good = service->script == NULL || check_script(service->script, &options);
        ld_options_fini(&options);
    }
    ld_text_fini(&why);
    free(words);
    return is_good;
}

/* Check a config and the scripts of its services. */
static int check_config(const struct ld_call *call) {
    struct ld_config config;
    int status = ld_config_load(&config, call->options->config, "check");
    for (size_t i = 0; i < config.count; i++) {
        status = check_service(&config.services[i]) ? status : 1;
    }
    if (status == 0) {
        ld_say("%s: ok", call->options->config);
    }
    ld_config_fini(&config);
    return status;
}

/* Say whether a script compiles, with its modules. */
static int run(const struct ld_call *call) {
    const char *script = call->argv[call->operand];
    if (call->options->config != NULL && script != NULL) {
        ld_say_error("check: a script or --config, not both");
        return 2;
    }
    if (call->options->config != NULL) {
        return check_config(call);
    }
    if (!check_script(script, call->options)) {
        return 1;
    }
    ld_say("%s: ok", script);
    return 0;
}

const struct ld_verb ld_verb_check = {
    .name = "check",
    .operands = "SCRIPT",
    .summary = "say whether a script and the modules that it requires compile",
    .options = LD_OPTIONS_CONFIG | LD_OPTIONS_SEARCH,
    .least = 1,
    .most = 1,
    .run = run,
};
