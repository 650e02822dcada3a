/* lunad profile */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/grow.h"
#include "base/parse.h"
#include "base/say.h"
#include "cli/client.h"
#include "cli/crew.h"
#include "cli/flame.h"
#include "cli/target.h"
#include "cli/verbs.h"

#define DEFAULT_SECONDS 10.0
#define SECONDS_MOST    3600.0
#define SLACK_SECONDS   5.0 /* of a loop that is held when the time is over */

/* A stack of the answer. */
struct stack {
    const char *text;
    size_t size;
    uint64_t count;
};

/* What the daemon has answered. */
struct profile {
    struct stack *stacks;
    size_t count;
    uint64_t samples;
    uint64_t outside;
    double seconds;
};

/* Compare stacks. */
static int compare(const void *a, const void *b) {
    return strcmp(((const struct stack *)a)->text, ((const struct stack *)b)->text);
}

/* Add an answer, into which the stacks point; a negative errno if it is not one. */
static int read_answer(struct profile *profile, const json_t *answer) {
    static const char outside[] = "(lunad, no Lua)";
    const json_t *list = json_object_get(answer, "stacks");
    size_t size = json_array_size(list);
    if (!json_is_array(list)) {
        return -EPROTO;
    }
    struct stack *grown =
        realloc(profile->stacks, (profile->count + size + 1) * sizeof *profile->stacks);
    if (grown == NULL) {
        return -ENOMEM;
    }
    profile->stacks = grown;
    for (size_t i = 0; i < size; i++) {
        const json_t *pair = json_array_get(list, i);
        const json_t *text = json_array_get(pair, 0);
        json_int_t count = json_integer_value(json_array_get(pair, 1));
        bool is_text =
            json_is_string(text) && strlen(json_string_value(text)) == json_string_length(text);
        if (!is_text || count <= 0) {
            return -EPROTO;
        }
        profile->stacks[profile->count++] =
            (struct stack){json_string_value(text), json_string_length(text), (uint64_t)count};
    }
    json_int_t left = json_integer_value(json_object_get(answer, "outside"));
    if (left > 0) {
        profile->stacks[profile->count++] =
            (struct stack){outside, sizeof outside - 1, (uint64_t)left};
    }
    profile->samples += (uint64_t)json_integer_value(json_object_get(answer, "samples")) +
                        (uint64_t)(left > 0 ? left : 0);
    double seconds = json_number_value(json_object_get(answer, "seconds"));
    profile->seconds = seconds > profile->seconds ? seconds : profile->seconds;
    return 0;
}

/* Sort the stacks, and sum up those of several processes that are the same. */
static void sum_up(struct profile *profile) {
    size_t kept = 0;
    if (profile->count > 0) {
        qsort(profile->stacks, profile->count, sizeof *profile->stacks, compare);
    }
    for (size_t i = 0; i < profile->count; i++) {
        if (kept > 0 && compare(&profile->stacks[kept - 1], &profile->stacks[i]) == 0) {
            profile->stacks[kept - 1].count += profile->stacks[i].count;
        } else {
            profile->stacks[kept++] = profile->stacks[i];
        }
    }
    profile->count = kept;
}

/* Print the stacks, a line each. */
static void print_folded(const struct profile *profile) {
    struct ld_text text = {0};
    for (size_t i = 0; i < profile->count; i++) {
        const struct stack *stack = &profile->stacks[i];
        ld_text_add_escaped(&text, stack->text, stack->size, false);
        ld_text_format(&text, " %llu%s", (unsigned long long)stack->count,
                       i + 1 < profile->count ? "\n" : "");
    }
    if (profile->count > 0) {
        ld_say_text(&text);
    }
    ld_text_fini(&text);
}

/* Write all bytes; 0 or a negative errno. */
static int write_all(int fd, const char *bytes, size_t size) {
    while (size > 0) {
        ssize_t done = write(fd, bytes, size);
        if (done < 0 && errno != EINTR) {
            return -errno;
        }
        bytes += done > 0 ? done : 0;
        size -= done > 0 ? (size_t)done : 0;
    }
    return 0;
}

/* Write a flame graph on FD; 0 or a negative errno. */
static int write_svg(int fd, const struct profile *profile, const char *name) {
    struct ld_text title = {0};
    struct ld_text svg = {0};
    struct ld_flame *flame = ld_flame_new();
    int rc = -ENOMEM;
    ld_text_format(&title, "%s: %llu samples of CPU time in %.1f s", name,
                   (unsigned long long)profile->samples, profile->seconds);
    if (flame != NULL) {
        for (size_t i = 0; i < profile->count; i++) {
            const struct stack *stack = &profile->stacks[i];
            ld_flame_add(flame, stack->text, stack->size, stack->count);
        }
        ld_flame_write(flame, ld_text_string(&title), &svg);
        rc = svg.failed ? -ENOMEM : write_all(fd, ld_text_string(&svg), svg.size);
    }
    ld_flame_free(flame);
    ld_text_fini(&title);
    ld_text_fini(&svg);
    return rc;
}

/* Show the profile: the exit status, after complaining. */
static int show(const struct ld_call *call, const struct profile *profile, const char *name,
                int fd) {
    if (profile->samples == 0) {
        ld_say_error("%s: it used too little CPU time in %.1f s to be seen", name,
                     profile->seconds);
    }
    if (fd < 0) {
        print_folded(profile);
        return 0;
    }
    int rc = write_svg(fd, profile, name);
    if (rc < 0) {
        ld_say_error("%s: %s", call->options->svg, strerror(-rc));
        return 1;
    }
    ld_say("%s: %llu samples in %.1f s, in %s", name, (unsigned long long)profile->samples,
           profile->seconds, call->options->svg);
    return 0;
}

/* One process of those that are asked, all at once. */
struct asked {
    struct ld_target target;
    double seconds;
    pthread_t thread;
    bool has_thread;
    json_t *answer;
    struct ld_text why;
    int rc;
};

/* The processes. */
struct crowd {
    struct asked *list;
    size_t count;
    double seconds;
};

/* Add a process to those that are asked. */
static int add_target(void *arg, struct ld_target *target) {
    struct crowd *crowd = arg;
    struct asked *grown = ld_grow(crowd->list, crowd->count, sizeof *grown);
    if (grown == NULL) {
        ld_say_error("%s: %s", target->name, strerror(ENOMEM));
        return 1;
    }
    crowd->list = grown;
    grown[crowd->count++] = (struct asked){.target = *target, .seconds = crowd->seconds};
    return 0;
}

/* Have a process make a profile. */
static void *ask(void *arg) {
    struct asked *asked = arg;
    json_t *body = json_pack("{s:f}", "seconds", asked->seconds);
    struct ld_request request =
        ld_target_request(&asked->target, "profile", asked->seconds + SLACK_SECONDS);
    request.body = body;
    asked->rc = ld_client_ask(&request, &asked->answer, &asked->why);
    json_decref(body);
    return NULL;
}

/* Have all processes make one at the same time. */
static void ask_all(struct crowd *crowd) {
    for (size_t i = 1; i < crowd->count; i++) {
        struct asked *asked = &crowd->list[i];
        asked->has_thread = pthread_create(&asked->thread, NULL, ask, asked) == 0;
    }
    for (size_t i = 0; i < crowd->count; i++) {
        if (crowd->list[i].has_thread) {
            pthread_join(crowd->list[i].thread, NULL);
        } else {
            ask(&crowd->list[i]);
        }
    }
}

/* Add what a process has answered to the profile; false after complaining. */
static bool add_answer(struct profile *profile, struct asked *asked) {
    int rc = asked->rc;
    if (rc == 0) {
        rc = read_answer(profile, asked->answer);
        ld_text_puts(&asked->why, rc == -EPROTO   ? "it does not answer as a lunad does"
                                  : rc == -ENOMEM ? "not enough memory"
                                                  : "");
    }
    if (rc < 0) {
        ld_say_error("%s: %s", asked->target.name, ld_text_string(&asked->why));
    }
    return rc == 0;
}

/* Make a profile of a daemon, of all workers if it has some, and show it; FD is of the file, or -1. */
static int profile_all(const struct ld_call *call, struct ld_target *target, double seconds,
                       int fd) {
    struct crowd crowd = {.seconds = seconds};
    struct profile profile = {0};
    int status = ld_crew_each(target, add_target, &crowd);
    bool any = false;
    ask_all(&crowd);
    for (size_t i = 0; i < crowd.count; i++) {
        bool is_added = add_answer(&profile, &crowd.list[i]);
        any = any || is_added;
        status = is_added ? status : 1;
    }
    if (any) {
        sum_up(&profile);
        int shown = show(call, &profile, target->name, fd);
        status = shown > status ? shown : status;
    }
    for (size_t i = 0; i < crowd.count; i++) {
        json_decref(crowd.list[i].answer);
        ld_text_fini(&crowd.list[i].why);
    }
    free(crowd.list);
    free(profile.stacks);
    return status;
}

/* Read how long it is to take; false after complaining. */
static bool read_seconds(const char *word, double *seconds) {
    *seconds = DEFAULT_SECONDS;
    if (word == NULL ||
        (ld_parse_seconds(word, seconds) && *seconds > 0 && *seconds <= SECONDS_MOST)) {
        return true;
    }
    ld_say_error("profile: \"%s\" is not a time in seconds above 0, up to 3600", word);
    return false;
}

/* Make a profile of a daemon. The file is opened first: what cannot be written is said at once. */
static int run(const struct ld_call *call) {
    struct ld_rundir dir;
    struct ld_target target;
    double seconds;
    int fd = -1;
    if (!read_seconds(call->argv[call->operand + 1], &seconds)) {
        return 2;
    }
    int status = ld_rundir_open(&dir, call->options->run_dir);
    if (status == 0) {
        status = ld_target_find_running(&target, &dir, call->argv[call->operand]);
    }
    if (status == 0 && call->options->svg != NULL) {
        fd = open(call->options->svg, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOCTTY, 0666);
        if (fd < 0) {
            ld_say_error("%s: %s", call->options->svg, strerror(errno));
            status = 1;
        }
    }
    if (status == 0) {
        status = profile_all(call, &target, seconds, fd);
    }
    if (fd >= 0 && close(fd) < 0 && status == 0) {
        ld_say_error("%s: %s", call->options->svg, strerror(errno));
        status = 1;
    }
    ld_rundir_close(&dir);
    return status;
}

const struct ld_verb ld_verb_profile = {
    .name = "profile",
    .operands = "NAME [SECONDS]",
    .summary = "show where the live script spends its CPU time",
    .options = LD_OPTIONS_SVG,
    .least = 1,
    .most = 2,
    .run = run,
};
