#include "cli/services.h"

#include <stdlib.h>
#include <string.h>

#include "base/say.h"
#include "cli/apart.h"
#include "cli/config.h"
#include "cli/target.h"
#include "posix/paths.h"

/* A service that is about to be started. */
struct job {
    const struct ld_verb *verb; /* run, start or unit */
    ld_verb_work *work;         /* its run or check */
    const struct ld_config_service *service;
    const struct ld_call *call;
    unsigned options;   /* groups of the verb that was called */
    const char *script; /* NULL with -e */
    char **args;
};

/* Count the strings of a list. */
static size_t count_list(char **list) {
    size_t count = 0;
    while (list[count] != NULL) {
        count++;
    }
    return count;
}

/* Add the options of the config, but addresses if the command line has some: it wins. */
static size_t add_options(const struct job *job, const char **words) {
    static const char listen[] = "--listen=";
    size_t count = 0;
    for (char **at = job->service->words; *at != NULL; at++) {
        bool is_listen = strncmp(*at, listen, sizeof listen - 1) == 0;
        if (!is_listen || job->call->options->listen_count == 0) {
            words[count++] = *at;
        }
    }
    return count;
}

/* Do the work of a job, with the words of a command line that is whole without its config: so the record of the
 * start remembers it as it was. */
static int do_job(void *arg) {
    const struct job *job = arg;
    const struct ld_call *call = job->call;
    size_t most = count_list(job->service->words) + count_list(call->argv) + count_list(job->args);
    bool is_unit = (job->verb->options & LD_OPTIONS_UNIT) != 0;
    most += 2 * count_list(job->service->after);
    const char **words = calloc(most + 5, sizeof *words);
    if (words == NULL) {
        ld_say_error("%s: not enough memory", job->verb->name);
        return 1;
    }
    size_t count = 0;
    words[count++] = call->argv[-1];
    words[count++] = job->verb->name;
    count += add_options(job, words + count);
    count +=
        ld_options_copy_words(job->options, LD_OPTIONS_SERVICE | LD_OPTIONS_CHUNK | LD_OPTIONS_UNIT,
                              call->argv, words + count);
    for (char **at = job->service->after; is_unit && *at != NULL; at++) {
        words[count++] = "--after";
        words[count++] = *at;
    }
    if (job->script == NULL || (job->script[0] == '-' && job->script[1] != '\0')) {
        words[count++] = "--";
    }
    if (job->script != NULL) {
        words[count++] = job->script;
    }
    memcpy(words + count, job->args, count_list(job->args) * sizeof *words);
    int status = ld_verbs_call(job->verb, job->work, (char **)words + 1, false);
    free(words);
    return status;
}

/* Whether a service with the NAME was to be started, and is not running. */
static bool has_failed(const struct ld_config *config, const bool *failed, const char *name) {
    for (size_t i = 0; i < config->chosen_count; i++) {
        if (failed[i] && strcmp(config->chosen[i]->name, name) == 0) {
            return true;
        }
    }
    return false;
}

/* Say why a service is not started, if it is not; whether that is so. */
static bool is_left_out(const struct ld_config *config, const bool *failed, size_t index) {
    const struct ld_config_service *service = config->chosen[index];
    if (ld_apart_was_interrupted()) {
        ld_say_error("%s: not started: interrupted", service->name);
        return true;
    }
    for (char **after = service->after; *after != NULL; after++) {
        if (has_failed(config, failed, *after)) {
            ld_say_error("%s: not started, because it comes after %s, which does not run",
                         service->name, *after);
            return true;
        }
    }
    return false;
}

/* Make the job of a service that was chosen. */
static struct job job_of(const struct job *start, const struct ld_config_service *service) {
    struct job job = *start;
    job.service = service;
    job.script = service->script;
    job.args = service->args;
    return job;
}

/* Start a service that was chosen; the exit status. */
static int start_service(const struct job *start, const struct ld_config_service *service) {
    struct job job = job_of(start, service);
    int status = ld_apart_call(do_job, &job, job.verb->name);
    if (status != 0 && status != 4) { /* 4: it runs already */
        ld_say_error("%s: not started", service->name);
    }
    return status;
}

/* Start the services that were chosen, one after the other. FAILED says of each whether it is to be left
 * out, and afterwards whether it does not run. The worst exit status. */
static int start_chosen(const struct ld_config *config, const struct job *start, bool *failed) {
    int worst = 0;
    for (size_t i = 0; i < config->chosen_count; i++) {
        bool is_out = failed[i] || is_left_out(config, failed, i);
        int status = is_out ? 1 : start_service(start, config->chosen[i]);
        failed[i] = status != 0 && status != 4;
        worst = status > worst ? status : worst;
    }
    return worst;
}

/* Start a set of services, or the one that the command line names. */
static int start_set(struct ld_config *config, const struct ld_call *call, struct job *job) {
    bool is_alone = (job->verb->options & LD_OPTIONS_ALL) == 0; /* run and unit */
    int status = ld_config_choose(config, call, false);
    if (status != 0) {
        return status;
    }
    if (config->chosen_count == 1) {
        *job = job_of(job, config->chosen[0]);
        job->script = call->options->chunk == NULL ? job->script : NULL;
        return do_job(job);
    }
    if (is_alone || call->options->name != NULL || call->options->notify_fd >= 0) {
        ld_say_error("%s: %s is for one service; name it", job->verb->name,
                     is_alone                      ? job->verb->name
                     : call->options->name != NULL ? "--name"
                                                   : "--notify-fd");
        return 2;
    }
    bool *failed = calloc(config->chosen_count, sizeof *failed);
    status = failed != NULL ? start_chosen(config, job, failed) : 1;
    free(failed);
    return status;
}

/* Start the one service of a config: the operands are its name, or a script, and arguments. */
static int start_one(const struct ld_config *config, const struct ld_call *call, struct job *job) {
    const struct ld_config_service *service = &config->services[0];
    char **operands = call->argv + call->operand;
    job->service = service;
    if (call->options->chunk == NULL) {
        const char *script = operands[0];
        bool is_name = script != NULL && service->script != NULL && !ld_paths_is_script(script) &&
                       strcmp(script, service->name) == 0;
        job->script = script == NULL || is_name ? service->script : script;
        operands += script != NULL;
        if (job->script == NULL) {
            ld_say_error("%s: there is no script, neither on the command line nor in %s",
                         job->verb->name, service->file);
            return 2;
        }
    }
    job->args = operands[0] != NULL ? operands : service->args;
    return do_job(job);
}

/* Start by a config. */
int ld_services_start(const struct ld_call *call, const struct ld_verb *verb) {
    struct ld_config config;
    struct job job = {.verb = verb, .work = verb->run, .call = call, .options = verb->options};
    int status = ld_config_load(&config, call->options->config, verb->name);
    if (status == 0) {
        status = config.is_set ? start_set(&config, call, &job) : start_one(&config, call, &job);
    }
    ld_config_fini(&config);
    return status;
}

/* Check that all services that were chosen can be started. */
static int check_chosen(const struct ld_config *config, const struct job *start) {
    int worst = 0;
    for (size_t i = 0; i < config->chosen_count; i++) {
        struct job job = job_of(start, config->chosen[i]);
        job.work = job.verb->check;
        int status = 2;
        if (job.script == NULL) {
            ld_say_error("restart: %s names no script", job.service->file);
        } else {
            status = ld_apart_call(do_job, &job, "restart");
        }
        worst = status > worst ? status : worst;
    }
    return worst;
}

/* Stop a service if it runs; the exit status. */
static int stop_one(const struct ld_config_service *service, const struct ld_call *call) {
    struct ld_rundir dir;
    struct ld_target target;
    int status = ld_rundir_open(&dir, ld_config_run_dir(service, call));
    if (status == 0) {
        status = ld_target_find(&target, &dir, service->name);
    }
    if (status == 0 && target.holder.state == LD_HOLDER_ALIVE) {
        status = ld_target_stop(&target, -1);
    }
    ld_rundir_close(&dir);
    return status;
}

/* Stop the services that were chosen, then start them, but for those that could not be stopped. */
static int restart_chosen(const struct ld_config *config, const struct ld_call *call,
                          const struct job *job) {
    bool *failed = calloc(config->chosen_count, sizeof *failed);
    int worst = failed != NULL ? 0 : 1;
    for (size_t i = config->chosen_count; failed != NULL && i-- > 0;) {
        int status = stop_one(config->chosen[i], call);
        failed[i] = status != 0;
        worst = status > worst ? status : worst;
    }
    if (failed != NULL) {
        int status = start_chosen(config, job, failed);
        worst = status > worst ? status : worst;
    }
    free(failed);
    return worst;
}

/* Restart by a config. */
int ld_services_restart(const struct ld_call *call, const struct ld_verb *verb) {
    struct ld_config config;
    const struct job job = {.verb = verb,
                            .work = verb->run,
                            .call = call,
                            .options = LD_OPTIONS_CONFIG | LD_OPTIONS_ALL};
    int status = ld_config_load(&config, call->options->config, "restart");
    if (status == 0) {
        status = ld_config_choose(&config, call, false);
    }
    if (status == 0) {
        status = check_chosen(&config, &job);
        if (status != 0) {
            ld_say_error("restart: nothing was stopped");
        } else {
            status = restart_chosen(&config, call, &job);
        }
    }
    ld_config_fini(&config);
    return status;
}
