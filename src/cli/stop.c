/* lunad stop */
#include "base/say.h"
#include "cli/target.h"
#include "cli/verbs.h"

/* Stop a daemon, or say that it does not run. */
static int stop_one(const struct ld_call *call, const struct ld_rundir *dir, const char *argument) {
    struct ld_target target;
    int status = ld_target_find(&target, dir, argument);
    if (status != 0) {
        return status;
    }
    if (target.holder.state != LD_HOLDER_ALIVE) {
        bool stale = target.holder.state == LD_HOLDER_DEAD;
        struct ld_text death = {0};
        ld_target_describe_death(&target, &death);
        if (stale || !ld_text_is_empty(&death)) {
            ld_target_clear(&target);
        }
        ld_say("%s: not running (%s%s)%s", target.name,
               stale ? "a stale pidfile was removed; " : "", ld_text_string(&dir->where),
               ld_text_string(&death));
        ld_text_fini(&death);
        return 0;
    }
    status = ld_target_stop(&target, call->options->timeout);
    if (status == 0) {
        ld_say("%s: stopped", target.name);
    }
    return status;
}

/* Stop daemons. */
static int run(const struct ld_call *call) {
    return ld_target_each_of(call, LD_TARGET_LAST_FIRST, stop_one);
}

const struct ld_verb ld_verb_stop = {
    .name = "stop",
    .operands = "NAME...",
    .summary = "stop gracefully, then by SIGKILL after the time is up",
    .options = LD_OPTIONS_STOP | LD_OPTIONS_CONFIG | LD_OPTIONS_ALL,
    .least = 1,
    .most = -1,
    .run = run,
};
