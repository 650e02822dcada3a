#include "engine/crash.h"

#include <errno.h>
#include <setjmp.h>
#include <stdatomic.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "base/base.h"
#include "engine/libc.h"
#include "engine/signals.h"

#define STACK_SIZE    ((size_t)64 * 1024)
#define PARTS_SECONDS 3 /* for the whole report */
#define END_SECONDS   2 /* for its end, if a part took too long */
#define STOP_LOOKS    100
#define STOP_LOOK_NS  1000000L

static const int fatal[] = {SIGSEGV, SIGABRT, SIGBUS, SIGILL, SIGFPE};

static struct {
    const struct ld_crash_config *config; /* NULL: closed */
    pid_t process;
    pid_t thread;
    char *stack; /* with a page before it that cannot be touched */
    size_t guard;
    stack_t stack_before;
    struct sigaction before[LD_COUNT(fatal)];
    struct sigaction abort_action; /* that a library has set */

    atomic_int owner;        /* the thread that reports its crash; 0: none */
    atomic_bool has_stopped; /* the main thread */
    struct ld_crash crash;
    void (*divert)(int signo);
    jmp_buf recovery;             /* out of the part that is being written */
    volatile sig_atomic_t inside; /* a part */
} state;

/* The index of a signal in FATAL, or -1. */
static int index_of(int signo) {
    for (size_t i = 0; i < LD_COUNT(fatal); i++) {
        if (fatal[i] == signo) {
            return (int)i;
        }
    }
    return -1;
}

/* Whether a thread of this process has sent the signal to itself, as abort does. */
static bool is_own(const siginfo_t *info) {
    return info->si_code == SI_TKILL && info->si_pid == getpid();
}

/* Whether the signal was sent to the process, and not to one of its threads nor by a fault of one. */
static bool is_sent(const siginfo_t *info) {
    return info->si_code <= 0 && !is_own(info);
}

/* Block all signals in this thread but SIGNO (0: but none). */
static void block_all_but(int signo) {
    sigset_t mask;
    sigfillset(&mask);
    if (signo != 0) {
        sigdelset(&mask, signo);
    }
    sigprocmask(SIG_SETMASK, &mask, NULL);
}

/* Take the signals of crashes out of a mask. */
void ld_crash_spare(sigset_t *mask) {
    for (size_t i = 0; i < LD_COUNT(fatal); i++) {
        sigdelset(mask, fatal[i]);
    }
}

/* Block all signals but those that end a part of the report. */
static void unblock_faults(void) {
    sigset_t mask;
    sigfillset(&mask);
    sigdelset(&mask, SIGALRM);
    ld_crash_spare(&mask);
    sigprocmask(SIG_SETMASK, &mask, NULL);
}

/* Let the process die of the signal when the handler returns: the signal is sent again, with all that
 * is known of it, and is delivered where it arose. */
static void let_die(int signo, siginfo_t *info) {
    int index = index_of(signo);
    block_all_but(0);
    ld_libc_sigaction(signo, &state.before[index], NULL);
    if (syscall(SYS_rt_tgsigqueueinfo, getpid(), gettid(), signo, info) < 0) {
        syscall(SYS_tgkill, getpid(), gettid(), signo);
    }
}

/* End the process now, by the signal of its crash. */
_Noreturn static void die(void) {
    const struct sigaction dfl = {.sa_handler = SIG_DFL};
    int signo = state.crash.signo;
    ld_libc_sigaction(signo, &dfl, NULL);
    block_all_but(signo);
    syscall(SYS_tgkill, getpid(), gettid(), signo);
    _exit(128 + signo);
}

/* Do nothing any more, while another thread reports its crash. */
_Noreturn static void wait_for_end(void) {
    block_all_but(0);
    if (gettid() == state.thread) {
        atomic_store(&state.has_stopped, true);
    }
    for (;;) {
        pause();
    }
}

/* Handle a signal that comes while this thread reports: what was sent from outside changes nothing, a
 * fault ends the part that is being written. */
static void interrupt_report(const siginfo_t *info) {
    if (is_sent(info)) {
        return;
    }
    if (!state.inside) {
        die();
    }
    longjmp(state.recovery, 1);
}

/* End a report that takes too long. The signal may have come to another thread. */
static void on_late(int signo) {
    (void)signo;
    int owner = atomic_load(&state.owner);
    if (owner != gettid()) {
        syscall(SYS_tgkill, getpid(), owner, SIGALRM);
    } else if (state.inside) {
        longjmp(state.recovery, 2);
    } else {
        die();
    }
}

/* Begin the time that the report may take. */
static void set_deadline(void) {
    struct sigaction action = {.sa_handler = on_late, .sa_flags = SA_ONSTACK};
    sigfillset(&action.sa_mask);
    ld_libc_sigaction(SIGALRM, &action, NULL);
    alarm(PARTS_SECONDS);
}

/* Write one part: false if it was left. */
static bool write_part(ld_crash_part *part) {
    int how = setjmp(state.recovery);
    if (how == 0) {
        state.inside = 1;
        part(&state.crash, state.config->arg);
        state.inside = 0;
        return true;
    }
    state.inside = 0;
    unblock_faults(); /* the handler that has jumped here had blocked them */
    state.crash.is_late = how == 2;
    if (how == 2) {
        alarm(END_SECONDS);
    }
    return false;
}

/* Write the report. */
static void report(void) {
    const struct ld_crash_config *config = state.config;
    set_deadline();
    unblock_faults();
    for (size_t i = 0; config->parts[i] != NULL && !state.crash.is_late; i++) {
        if (!write_part(config->parts[i])) {
            config->left(&state.crash, config->arg);
        }
    }
    config->finish(&state.crash, config->arg);
    alarm(0);
}

/* Whether the signal is an ABRT from outside that the script or a library handles. */
static bool is_handled(int signo, siginfo_t *info, void *context) {
    const struct sigaction *action = &state.abort_action;
    bool is_caught = ld_signals_is_caught(SIGABRT);
    if (signo != SIGABRT || is_own(info)) {
        return false;
    }
    if ((action->sa_flags & SA_SIGINFO) != 0) {
        action->sa_sigaction(signo, info, context);
        return true;
    }
    if (action->sa_handler != SIG_DFL && action->sa_handler != SIG_IGN) {
        action->sa_handler(signo);
        return true;
    }
    return is_caught || action->sa_handler == SIG_IGN;
}

/* Pass a signal to the main thread. The kernel gives it to another one while that has it blocked, as in
 * the handler. Only a queued signal may name another process as its sender. */
static void pass_to_main(int signo, const siginfo_t *info) {
    siginfo_t queued = *info;
    queued.si_code = SI_QUEUE;
    syscall(SYS_rt_tgsigqueueinfo, state.process, state.thread, signo, &queued);
}

/* Handle a crash. A process that shares our memory, or has a copy of it, is not the daemon. */
static void on_crash(int signo, siginfo_t *info, void *context) {
    int saved = errno;
    int nobody = 0;
    pid_t self = gettid();
    if (getpid() != state.process || state.config == NULL) {
        let_die(signo, info);
    } else if (is_handled(signo, info, context)) {
        errno = saved;
    } else if (is_sent(info) && self != state.thread) {
        pass_to_main(signo, info);
        errno = saved;
    } else if (state.divert != NULL && self != atomic_load(&state.owner)) {
        void (*divert)(int) = state.divert;
        state.divert = NULL;
        divert(signo);
        let_die(signo, info); /* there was no other way */
    } else if (atomic_compare_exchange_strong(&state.owner, &nobody, self)) {
        state.crash = (struct ld_crash){.signo = signo,
                                        .info = info,
                                        .context = context,
                                        .thread = self,
                                        .is_main = self == state.thread};
        report();
        let_die(signo, info);
    } else if (nobody == self) {
        interrupt_report(info);
    } else {
        wait_for_end();
    }
}

/* Stop the main thread. */
bool ld_crash_stop_main(const struct ld_crash *crash) {
    const struct timespec look = {.tv_nsec = STOP_LOOK_NS};
    if (crash->is_main) {
        return true;
    }
    syscall(SYS_tgkill, getpid(), state.thread, crash->signo);
    for (int looks = 0; looks < STOP_LOOKS && !atomic_load(&state.has_stopped); looks++) {
        nanosleep(&look, NULL);
    }
    return atomic_load(&state.has_stopped);
}

/* Make the stack of the handler, and use it on this thread. */
static int make_stack(void) {
    size_t guard = (size_t)sysconf(_SC_PAGESIZE);
    char *stack = mmap(NULL, guard + STACK_SIZE, PROT_READ | PROT_WRITE,
                       MAP_PRIVATE | MAP_ANONYMOUS | MAP_STACK, -1, 0);
    if (stack == MAP_FAILED) {
        return -errno;
    }
    const stack_t use = {.ss_sp = stack + guard, .ss_size = STACK_SIZE};
    if (mprotect(stack, guard, PROT_NONE) < 0 || sigaltstack(&use, &state.stack_before) < 0) {
        int rc = -errno;
        munmap(stack, guard + STACK_SIZE);
        return rc;
    }
    state.stack = stack;
    state.guard = guard;
    return 0;
}

/* Do something else than to report. */
void ld_crash_divert(void (*function)(int signo)) {
    state.divert = function;
}

/* Restore the actions. */
void ld_crash_give_up(void) {
    if (state.config != NULL) {
        for (size_t i = 0; i < LD_COUNT(fatal); i++) {
            ld_libc_sigaction(fatal[i], &state.before[i], NULL);
        }
        state.config = NULL;
    }
}

/* Stop handling crashes. */
void ld_crash_close(void) {
    ld_crash_give_up();
    if (state.stack != NULL) {
        sigaltstack(&state.stack_before, NULL);
        munmap(state.stack, state.guard + STACK_SIZE);
        state.stack = NULL;
    }
}

/* Handle crashes. The handler begins with all signals blocked: a storm would fill the stack with the
 * frames of handlers before the first of them runs. */
int ld_crash_open(const struct ld_crash_config *config) {
    struct sigaction action = {.sa_sigaction = on_crash, .sa_flags = SA_SIGINFO | SA_ONSTACK};
    int rc = make_stack();
    if (rc < 0) {
        return rc;
    }
    sigfillset(&action.sa_mask);
    state.config = config;
    state.process = getpid();
    state.thread = gettid();
    state.abort_action = (struct sigaction){.sa_handler = SIG_DFL};
    for (size_t i = 0; i < LD_COUNT(fatal); i++) {
        ld_libc_sigaction(fatal[i], &action, &state.before[i]);
    }
    return 0;
}

/* Do what sigaction does for one of the signals. */
bool ld_crash_sigaction(int signo, const struct sigaction *action, struct sigaction *before,
                        int *result) {
    int index = index_of(signo);
    if (state.config == NULL || index < 0) {
        return false;
    }
    *result = 0;
    if (signo == SIGABRT) {
        if (before != NULL) {
            *before = state.abort_action;
        }
        state.abort_action = action != NULL ? *action : state.abort_action;
        return true;
    }
    if (action == NULL || (action->sa_flags & SA_SIGINFO) != 0 || action->sa_handler == SIG_DFL) {
        return false;
    }
    errno = EINVAL;
    *result = -1;
    return true;
}
