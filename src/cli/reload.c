/* lunad reload */
#include <errno.h>
#include <string.h>

#include "base/base.h"
#include "base/say.h"
#include "cli/client.h"
#include "cli/config.h"
#include "cli/target.h"
#include "cli/verbs.h"
#include "daemon/record.h"

#define DEFAULT_SECONDS 65.0 /* where no record says the daemon's own limit */
#define SLACK_SECONDS   5.0  /* "and a little" */

static const char rolled_back[] = "rolled back after ";  /* begins such an answer */
static const char stopping[] = "the daemon is stopping"; /* the same */

/* Compute how long a reload may take: the old code returns its state, then the new code becomes
 * ready, each within the --start-timeout of the record; with a PROBATION (below 0: that of the record), so long, and
 * the way back. */
static double reload_seconds(const struct ld_target *target, double probation) {
    struct ld_record record;
    double seconds = DEFAULT_SECONDS;
    if (ld_record_load(&record, target->dir->fd, target->name) == 0) {
        seconds = 2 * record.start_timeout + SLACK_SECONDS;
        probation = probation < 0 ? record.probation : probation;
        ld_record_fini(&record);
    }
    return probation > 0 ? 2 * seconds + probation : seconds;
}

/* Say how a reload, or its trial, succeeded. */
static void say_success(const struct ld_target *target, const json_t *answer) {
    int generation = (int)json_integer_value(json_object_get(answer, "generation"));
    double ms = json_number_value(json_object_get(answer, "ms"));
    if (json_is_true(json_object_get(answer, "check"))) {
        ld_say("%s: would reload, ready in %.1f ms; generation %d keeps running", target->name, ms,
               generation);
    } else if (json_is_number(json_object_get(answer, "probation"))) {
        ld_say("%s: reloaded, generation %d in %.1f ms; passed its probation of %.10g s",
               target->name, generation, ms,
               json_number_value(json_object_get(answer, "probation")));
    } else {
        int untried = (int)json_integer_value(json_object_get(answer, "untried"));
        struct ld_text rest = {0};
        if (untried > 0) {
            ld_text_format(&rest,
                           "; not yet tried by %d worker%s, which had no process: see lunad status",
                           untried, untried > 1 ? "s" : "");
        }
        ld_say("%s: reloaded, generation %d in %.1f ms%s", target->name, generation, ms,
               ld_text_string(&rest));
        ld_text_fini(&rest);
    }
}

/* Say why there was none: RC is that of ld_client_ask. */
static void say_failure(const struct ld_target *target, bool check, int rc, const char *why) {
    static const char *const words[][2] = {{"not reloaded", "not checked"},
                                           {"not reloaded, the old code keeps running",
                                            "would not reload, the old code keeps running"},
                                           {"not reloaded yet", "not checked yet"}};
    size_t row = target->holder.waiting ? 0 : rc == -EREMOTEIO ? 1 : rc == -ETIMEDOUT ? 2 : 0;
    if (rc == -EREMOTEIO && strncmp(why, rolled_back, strlen(rolled_back)) == 0) {
        ld_say_error("%s: %s", target->name, why);
        return;
    }
    if (strncmp(why, stopping, strlen(stopping)) == 0) {
        row = 0; /* no code keeps running */
    }
    ld_say_error("%s: %s: %s", target->name, words[row][check], why);
}

/* Add what the config says now of how a reload is to be, where the command line says nothing: all else of it is for the next
 * start. Its values are sound. */
static void add_config(struct ld_options *options, const struct ld_config_service *service) {
    static const char *const prefixes[] = {"--workers=", "--probation="};
    char *words[LD_COUNT(prefixes) + 2] = {(char *)(size_t) "reload"};
    struct ld_options said;
    struct ld_text why = {0};
    size_t count = 1;
    for (size_t i = 0; i < LD_COUNT(prefixes); i++) {
        char **at = service->words;
        while (*at != NULL && strncmp(*at, prefixes[i], strlen(prefixes[i])) != 0) {
            at++;
        }
        words[count] = *at;
        count += *at != NULL;
    }
    if (ld_options_parse(&said, LD_OPTIONS_TRIAL, words, &why) >= 0) {
        options->workers = options->workers > 0 ? options->workers : said.workers;
        options->probation = options->probation >= 0 ? options->probation : said.probation;
    }
    ld_options_fini(&said);
    ld_text_fini(&why);
}

/* Make the body of the request. */
static json_t *make_body(const struct ld_options *options) {
    json_t *body = json_pack("{s:b}", "check", options->check);
    if (options->workers > 0) {
        json_object_set_new(body, "workers", json_integer(options->workers));
    }
    if (options->probation >= 0 && !options->check) {
        json_object_set_new(body, "probation", json_real(options->probation));
    }
    return body;
}

/* Reload a daemon, or only try. It answers when that is over. */
static int reload_one(const struct ld_call *call, const struct ld_rundir *dir,
                      const char *argument) {
    struct ld_options options = *call->options; /* the lists stay the caller's */
    struct ld_target target;
    struct ld_text why = {0};
    json_t *answer;
    int status = ld_target_find_running(&target, dir, argument);
    if (status != 0) {
        return status;
    }
    if (call->service != NULL) {
        add_config(&options, call->service);
    }
    json_t *body = make_body(&options);
    struct ld_request request = ld_target_timed_request(call, &target, "reload",
                                                        reload_seconds(&target, options.probation));
    request.body = body;
    int rc = ld_client_ask(&request, &answer, &why);
    if (rc == 0) {
        say_success(&target, answer);
        json_decref(answer);
    } else {
        say_failure(&target, options.check, rc, ld_text_string(&why));
        status = 1;
    }
    json_decref(body);
    ld_text_fini(&why);
    return status;
}

/* Reload daemons. */
static int run(const struct ld_call *call) {
    return ld_target_each_of(call, LD_TARGET_RUNNING, reload_one);
}

const struct ld_verb ld_verb_reload = {
    .name = "reload",
    .operands = "NAME...",
    .summary = "load the script again without losing the process, and say how that went",
    .options = LD_OPTIONS_ASK | LD_OPTIONS_TRIAL | LD_OPTIONS_CONFIG | LD_OPTIONS_ALL,
    .least = 1,
    .most = -1,
    .run = run,
};
