/* Crashes: the signals SEGV, ABRT, BUS, ILL and FPE, which end the process. Their handler runs on a
 * stack of its own, has functions of the host write what is known, and then lets the signal do what it
 * would have done without it, where it arose: the exit status and the core are the same. */
#ifndef LD_ENGINE_CRASH_H
#define LD_ENGINE_CRASH_H

#include <signal.h>
#include <stdbool.h>
#include <sys/types.h>

/* A crash, as the handler knows it. */
struct ld_crash {
    int signo;
    const siginfo_t *info;
    const void *context; /* the ucontext_t of what was interrupted */
    pid_t thread;
    bool is_main; /* the thread is the one that has called ld_crash_open */
    bool is_late; /* the report takes too long */
};

/* A part of the report. It may call only what a signal handler may. */
typedef void ld_crash_part(const struct ld_crash *crash, void *arg);

struct ld_crash_config {
    /* Called in this order, which ends with NULL: first what is sure to work. Each may fault, and is
     * left then; each has the time that is left of 3 s. */
    ld_crash_part *const *parts;
    ld_crash_part *left;   /* called after a part that has faulted or taken too long */
    ld_crash_part *finish; /* called at the end; if that faults, the process ends at once */
    void *arg;
};

/* Handle crashes from now on; CONFIG is borrowed. 0 or a negative errno. A copy of the process that fork
 * has made dies of its crashes without a word. */
int ld_crash_open(const struct ld_crash_config *config);

/* Stop handling them. */
void ld_crash_close(void);

/* In a copy of the process: restore what was before. Async-signal-safe. */
void ld_crash_give_up(void);

/* Take the signals of crashes out of MASK, the set of signals that a thread of lunad's own is to block:
 * while they are blocked a crash kills without a report. */
void ld_crash_spare(sigset_t *mask);

/* For a part: stop the main thread, if the crash is on another one; false if it does not stop. */
bool ld_crash_stop_main(const struct ld_crash *crash);

/* Do what sigaction does if SIGNO is one of these signals, and a library must not just replace our
 * handler: false if it may. *RESULT is then the result of sigaction, with errno. A handler of ABRT is
 * called for what is sent from outside; one for a fault that cannot know where the fault was (it does
 * not ask for SA_SIGINFO) could only return to it, for ever, and is refused. */
bool ld_crash_sigaction(int signo, const struct sigaction *action, struct sigaction *before,
                        int *result);

/* In place of the report of the next crash, call FUNCTION in its handler, which need not return; NULL: report. */
void ld_crash_divert(void (*function)(int signo));

#endif
