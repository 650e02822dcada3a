/* lunad upgrade */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/json.h"
#include "base/say.h"
#include "cli/client.h"
#include "cli/crew.h"
#include "cli/target.h"
#include "cli/verbs.h"
#include "daemon/record.h"

#define DEFAULT_SECONDS 95.0 /* where no record says the daemon's own limit */
#define SLACK_SECONDS   10.0

/* Compute how long an upgrade may take: the trial, the old code, and the new code, each within the
 * --start-timeout of the record. That of a master is as long as those of a worker together. */
static double upgrade_seconds(const struct ld_target *target) {
    struct ld_record record;
    double seconds = DEFAULT_SECONDS;
    if (ld_record_load(&record, target->dir->fd, target->name) == 0) {
        seconds = (3 + ld_crew_count(target)) * record.start_timeout + SLACK_SECONDS;
        ld_record_fini(&record);
    }
    return seconds;
}

/* Name this program, and which file it is; NULL after complaining. */
static json_t *name_program(void) {
    char path[4096];
    struct stat own;
    struct stat there;
    ssize_t size = readlink("/proc/self/exe", path, sizeof path - 1);
    if (size < 0 || stat("/proc/self/exe", &own) < 0) {
        ld_say_error("upgrade: /proc/self/exe: %s", strerror(errno));
        return NULL;
    }
    path[size] = '\0';
    if (stat(path, &there) < 0 || there.st_dev != own.st_dev || there.st_ino != own.st_ino) {
        ld_say_error(
            "upgrade: the file of this program, %s, was removed or replaced: call the new one",
            path);
        return NULL;
    }
    return json_pack("{s:o, s:I, s:I}", "program", ld_json_bytes(path), "device",
                     (json_int_t)own.st_dev, "inode", (json_int_t)own.st_ino);
}

/* Say how it went. */
static void say_success(const struct ld_target *target, const json_t *answer) {
    ld_say("%s: upgraded, lunad %s (was %s), generation %d in %.1f ms", target->name,
           json_string_value(json_object_get(answer, "version")),
           json_string_value(json_object_get(answer, "was")),
           (int)json_integer_value(json_object_get(answer, "generation")),
           json_number_value(json_object_get(answer, "ms")));
}

/* Have a daemon become this program. It answers when that is over. */
static int upgrade_one(const struct ld_call *call, const struct ld_rundir *dir,
                       const char *argument) {
    struct ld_target target;
    struct ld_text why = {0};
    json_t *answer;
    int status = ld_target_find_running(&target, dir, argument);
    if (status != 0) {
        return status;
    }
    json_t *body = name_program();
    if (body == NULL) {
        return 1;
    }
    struct ld_request request =
        ld_target_timed_request(call, &target, "upgrade", upgrade_seconds(&target));
    request.body = body;
    int rc = ld_client_ask(&request, &answer, &why);
    if (rc == 0) {
        say_success(&target, answer);
        json_decref(answer);
    } else {
        ld_say_error("%s: %s: %s", target.name,
                     rc == -EREMOTEIO && !target.holder.waiting
                         ? "not upgraded, the old program keeps running"
                     : rc == -ETIMEDOUT ? "not upgraded yet"
                                        : "not upgraded",
                     ld_text_string(&why));
        status = 1;
    }
    json_decref(body);
    ld_text_fini(&why);
    return status;
}

/* Upgrade daemons. */
static int run(const struct ld_call *call) {
    return ld_target_each_of(call, LD_TARGET_RUNNING, upgrade_one);
}

const struct ld_verb ld_verb_upgrade = {
    .name = "upgrade",
    .operands = "NAME...",
    .summary = "have a daemon go on as this program, in the same process, and say how that went",
    .options = LD_OPTIONS_ASK | LD_OPTIONS_CONFIG | LD_OPTIONS_ALL,
    .least = 1,
    .most = -1,
    .run = run,
};
