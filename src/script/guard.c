/* A POSIX timer sends the signal of shot.h to the thread that runs Lua; the handler only sets a hook. */
#include "script/guard.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "script/interrupt.h"
#include "script/shot.h"

#ifndef sigev_notify_thread_id
#define sigev_notify_thread_id _sigev_un._tid
#endif

#define AGAIN_NS 100000000L /* between tries: a C function may have been running */

static struct {
    bool made;
    timer_t timer;
    struct ld_script *volatile script;
    const struct ld_task *volatile task; /* NULL: any */
    char reason[96];
} guard;

/* Interrupt the guarded script. */
static void on_time(void) {
    struct ld_script *script = guard.script;
    const struct ld_task *task = guard.task;
    if (script != NULL && (task == NULL || task->state == LD_TASK_RUNNING)) {
        script->interruption.reason = guard.reason;
        ld_interrupt(script);
    }
}

/* Make the timer, once. */
static int make(void) {
    struct sigevent event = {.sigev_notify = SIGEV_THREAD_ID, .sigev_signo = SIGSTKFLT};
    event.sigev_value.sival_int = LD_SHOT_TIMER_GUARD;
    event.sigev_notify_thread_id = (pid_t)syscall(SYS_gettid);
    if (guard.made) {
        return 0;
    }
    int rc = ld_shot_open();
    if (rc < 0) {
        return rc;
    }
    if (timer_create(CLOCK_MONOTONIC, &event, &guard.timer) < 0) {
        return -errno;
    }
    ld_shot_on_timer(LD_SHOT_TIMER_GUARD, on_time);
    guard.made = true;
    return 0;
}

/* Begin to guard. */
int ld_guard_start(struct ld_script *script, const struct ld_task *task, double seconds,
                   const char *what) {
    int rc = make();
    if (rc < 0) {
        return rc;
    }
    snprintf(guard.reason, sizeof guard.reason, "interrupted: %s took longer than %.10g s", what,
             seconds);
    guard.task = task;
    guard.script = script;
    struct itimerspec when = {.it_interval = {.tv_nsec = AGAIN_NS}};
    when.it_value.tv_sec = (time_t)seconds;
    when.it_value.tv_nsec = (long)((seconds - (double)when.it_value.tv_sec) * 1e9) + 1;
    return timer_settime(guard.timer, 0, &when, NULL) < 0 ? -errno : 0;
}

/* Stop guarding. */
void ld_guard_stop(void) {
    const struct itimerspec never = {0};
    if (guard.script != NULL) {
        guard.script = NULL;
        timer_settime(guard.timer, 0, &never, NULL);
    }
}

/* Forget the timer, which fork has not copied. */
void ld_guard_renew(void) {
    guard.made = false;
    guard.script = NULL;
    ld_shot_renew();
}

/* Save what is guarded, and stop. */
void ld_guard_save(struct ld_guard_state *state) {
    state->script = guard.script;
    if (guard.script != NULL) {
        state->task = guard.task;
        memcpy(state->reason, guard.reason, sizeof state->reason);
        timer_gettime(guard.timer, &state->left);
        ld_guard_stop();
    }
}

/* Restore what was guarded. If its time ran out meanwhile, it is interrupted at once. */
void ld_guard_restore(const struct ld_guard_state *state) {
    ld_guard_stop();
    if (state->script == NULL) {
        return;
    }
    struct itimerspec when = state->left;
    if (when.it_value.tv_sec == 0 && when.it_value.tv_nsec == 0) {
        when.it_value.tv_nsec = 1;
    }
    memcpy(guard.reason, state->reason, sizeof guard.reason);
    guard.task = state->task;
    guard.script = state->script;
    timer_settime(guard.timer, 0, &when, NULL);
}
