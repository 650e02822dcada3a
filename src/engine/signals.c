#include "engine/signals.h"

#include <errno.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdint.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/time.h"
#include "engine/libc.h"
#include "engine/turn.h"

static struct {
    int fd; /* an eventfd: readable when a flag is set that the loop must be woken for */
    atomic_ullong from_user;
    atomic_ullong from_kernel;
    atomic_bool asleep; /* a handler that sets a flag must wake the loop, which may be polling */
    bool drained;       /* since it fell asleep */
    int next; /* the signal to check first, so that low numbers do not starve the others */
    unsigned users[65];
    uv_poll_t poll;
    uv_prepare_t prepare;
    uv_check_t check;
    ld_signals_handler *handler;
    void *arg;
    struct sigaction others[65]; /* actions that libraries have set */
    void (*volatile on_arrival[65])(int signo);
} state = {.fd = -1, .asleep = true, .next = 1};

/* The flag of a signal: 1 to 64. */
static unsigned long long flag(int signo) {
    return 1ULL << (signo - 1);
}

/* Set the action of a signal; for one that we catch, only note it. */
int ld_signals_sigaction(int signo, const struct sigaction *action, struct sigaction *before) {
    if (signo < 1 || signo > 64 || state.users[signo] == 0) {
        return ld_libc_sigaction(signo, action, before);
    }
    if (before != NULL) {
        *before = state.others[signo];
    }
    if (action != NULL) {
        state.others[signo] = *action;
    }
    return 0;
}

/* Whether a signal is caught. */
bool ld_signals_is_caught(int signo) {
    return state.users[signo] > 0;
}

/* Whether a library has a handler for a signal that we catch. */
bool ld_signals_is_shared(int signo) {
    const struct sigaction *other = &state.others[signo];
    return state.users[signo] > 0 && other->sa_handler != SIG_DFL && other->sa_handler != SIG_IGN;
}

/* Call the handler of a library. */
static void pass_on(int signo, siginfo_t *info, void *context) {
    const struct sigaction *other = &state.others[signo];
    if ((other->sa_flags & SA_SIGINFO) != 0) {
        other->sa_sigaction(signo, info, context);
    } else {
        other->sa_handler(signo);
    }
}

/* Make the descriptor readable. */
static void wake(void) {
    const uint64_t one = 1;
    if (write(state.fd, &one, sizeof one) < 0) {
        /* Only a full counter refuses, and that one is readable. */
    }
}

/* Note a signal. Runs at any time on any thread: only atomics and write, and errno is kept. Flags
 * that were set before have woken the loop already. */
static void note(int signo, siginfo_t *info, void *context) {
    int saved = errno;
    if (ld_signals_is_shared(signo)) {
        pass_on(signo, info, context);
    }
    atomic_ullong *flags = info->si_code == SI_KERNEL ? &state.from_kernel : &state.from_user;
    if (atomic_fetch_or(flags, flag(signo)) == 0 && atomic_load(&state.asleep)) {
        wake();
    }
    if (state.on_arrival[signo] != NULL) {
        state.on_arrival[signo](signo);
    }
    errno = saved;
}

/* Have a function called in the handler. */
void ld_signals_on_arrival(int signo, void (*function)(int signo)) {
    state.on_arrival[signo] = function;
}

/* Start catching. */
int ld_signals_open(void) {
    int fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (fd < 0) {
        return -errno;
    }
    ld_signals_close();
    atomic_store(&state.from_user, 0);
    atomic_store(&state.from_kernel, 0);
    atomic_store(&state.asleep, true);
    state.fd = fd;
    return 0;
}

/* Close the descriptor; the caller has released or blocked what it caught. */
void ld_signals_close(void) {
    if (state.fd >= 0) {
        close(state.fd);
        state.fd = -1;
    }
}

/* Catch a signal. System calls are restarted after it, so that no library sees EINTR because of
 * us. */
int ld_signals_catch(int signo) {
    if (state.users[signo]++ > 0) {
        return 0;
    }
    struct sigaction action = {.sa_sigaction = note, .sa_flags = SA_SIGINFO | SA_RESTART};
    sigfillset(&action.sa_mask);
    if (ld_libc_sigaction(signo, &action, &state.others[signo]) < 0) {
        state.users[signo]--;
        return -errno;
    }
    return 0;
}

/* Restore the default of a signal after the last user has released it. */
void ld_signals_release(int signo) {
    if (--state.users[signo] == 0) {
        ld_libc_sigaction(signo, &state.others[signo], NULL);
    }
}

/* Stop catching, and let sigaction set actions again. */
void ld_signals_give_up(void) {
    const struct sigaction dfl = {.sa_handler = SIG_DFL};
    for (int signo = 1; signo <= 64; signo++) {
        if (state.users[signo] > 0) {
            ld_libc_sigaction(signo, &dfl, NULL);
            state.users[signo] = 0;
        }
    }
}

/* The descriptor to wait for. */
int ld_signals_fd(void) {
    return state.fd;
}

/* Reset the counter. */
static void drain(void) {
    uint64_t counter;
    state.drained = true;
    if (read(state.fd, &counter, sizeof counter) < 0) {
        /* It was 0 already. */
    }
}

/* Whether something waits for delivery. */
static bool is_pending(void) {
    return atomic_load(&state.from_user) != 0 || atomic_load(&state.from_kernel) != 0;
}

/* Whether a signal waits for delivery. */
bool ld_signals_is_waiting(int signo) {
    return ((atomic_load(&state.from_user) | atomic_load(&state.from_kernel)) & flag(signo)) != 0;
}

/* Forget a signal. */
void ld_signals_forget(int signo) {
    atomic_fetch_and(&state.from_kernel, ~flag(signo));
    atomic_fetch_and(&state.from_user, ~flag(signo));
}

/* Take what has arrived. */
struct ld_signals_set ld_signals_take(void) {
    return (struct ld_signals_set){.from_user = atomic_exchange(&state.from_user, 0),
                                   .from_kernel = atomic_exchange(&state.from_kernel, 0)};
}

/* Give it back. */
void ld_signals_give(struct ld_signals_set set) {
    atomic_fetch_or(&state.from_user, set.from_user);
    atomic_fetch_or(&state.from_kernel, set.from_kernel);
    if (is_pending()) {
        wake();
    }
}

/* The first of a set of signals, starting at the one whose turn it is. */
static int first_of(unsigned long long set) {
    unsigned long long later = set & ~(flag(state.next) - 1);
    return __builtin_ctzll(later != 0 ? later : set) + 1;
}

/* Hand on what has arrived, but not after END (ld_time_coarse): false if the time did not
 * suffice. */
static bool hand_on(ld_signals_handler *handler, void *arg, uint64_t end) {
    unsigned long long arrived = atomic_load(&state.from_user) | atomic_load(&state.from_kernel);
    while (arrived != 0) {
        int signo = first_of(arrived);
        arrived &= ~flag(signo);
        state.next = signo % 64 + 1;
        bool by_kernel = (atomic_fetch_and(&state.from_kernel, ~flag(signo)) & flag(signo)) != 0;
        atomic_fetch_and(&state.from_user, ~flag(signo));
        handler(arg, signo, by_kernel);
        if (ld_time_coarse() >= end) {
            return false;
        }
    }
    return true;
}

/* Deliver what has arrived. The counter is reset before the flags are taken: a handler that
 * sets one after that makes the descriptor readable again, and so do we if flags are still set. */
void ld_signals_deliver(ld_signals_handler *handler, void *arg) {
    drain();
    hand_on(handler, arg, UINT64_MAX);
    if (is_pending()) {
        wake();
    }
}

/* Before the loop polls: signals from now on must wake it, and so must earlier ones. */
static void on_prepare(uv_prepare_t *prepare) {
    (void)prepare;
    state.drained = false;
    atomic_store(&state.asleep, true);
    if (is_pending()) {
        wake();
    }
}

/* Handle the end of a sleep. */
static void on_readable(uv_poll_t *poll, int status, int events) {
    (void)poll;
    (void)status;
    (void)events;
    drain();
}

/* After the loop has polled: deliver, and do not wake a loop that is awake. */
static void on_check(uv_check_t *check) {
    (void)check;
    atomic_store(&state.asleep, false);
    if (is_pending() && !state.drained) {
        drain(); /* it came as the loop woke: the next poll need not report it */
    }
    if (is_pending()) {
        uint64_t end = ld_time_coarse() + LD_TURN_NS;
        while (hand_on(state.handler, state.arg, end) && is_pending()) {
            /* A handler has sent another signal. */
        }
    }
}

/* Deliver from LOOP from now on. */
int ld_signals_attach(uv_loop_t *loop, ld_signals_handler *handler, void *arg) {
    state.handler = handler;
    state.arg = arg;
    int rc = uv_poll_init(loop, &state.poll, state.fd);
    if (rc < 0) {
        return rc;
    }
    uv_prepare_init(loop, &state.prepare);
    uv_check_init(loop, &state.check);
    rc = uv_poll_start(&state.poll, UV_READABLE, on_readable);
    uv_prepare_start(&state.prepare, on_prepare);
    uv_check_start(&state.check, on_check);
    uv_unref((uv_handle_t *)&state.poll);
    uv_unref((uv_handle_t *)&state.prepare);
    uv_unref((uv_handle_t *)&state.check);
    return rc;
}

/* Stop delivering; the loop must turn once to close the handles. */
void ld_signals_detach(void) {
    atomic_store(&state.asleep, true);
    uv_close((uv_handle_t *)&state.poll, NULL);
    uv_close((uv_handle_t *)&state.prepare, NULL);
    uv_close((uv_handle_t *)&state.check, NULL);
}
