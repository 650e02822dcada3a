/* Signals as events of the loop. A handler only sets a flag and wakes the loop, so a storm of
 * one signal is one event and hides neither another signal nor a later one of the same number.
 * One set a process. */
#ifndef LD_ENGINE_SIGNALS_H
#define LD_ENGINE_SIGNALS_H

#include <signal.h>
#include <stdbool.h>
#include <uv.h>

/* Called from the loop after SIGNO has arrived, at least once after the last arrival. BY_KERNEL:
 * whether at least one came from the kernel (a terminal's hang-up). */
typedef void ld_signals_handler(void *arg, int signo, bool by_kernel);

/* Have FUNCTION called in the handler itself when SIGNO, which is caught, arrives: on any
 * thread, at any time. NULL: nothing. */
void ld_signals_on_arrival(int signo, void (*function)(int signo));

/* Whether SIGNO has arrived and was not delivered yet; forget it. From any thread. */
bool ld_signals_is_waiting(int signo);
void ld_signals_forget(int signo);

/* Signals that have arrived, a bit each, 1 << (SIGNO - 1). */
struct ld_signals_set {
    unsigned long long from_user;
    unsigned long long from_kernel;
};

/* Take what has arrived and was not delivered, with all signals blocked; give it back, also to another
 * program in this process: it is delivered. */
struct ld_signals_set ld_signals_take(void);
void ld_signals_give(struct ld_signals_set set);

/* Start catching; 0 or a negative errno. In a forked child: start again, and forget what had
 * arrived. */
int ld_signals_open(void);
void ld_signals_close(void);

/* Catch SIGNO, and release it: its default returns when it was released as often as caught. 0 or a
 * negative errno. */
int ld_signals_catch(int signo);
void ld_signals_release(int signo);

/* In a copy of the process: restore the default of everything that was caught.
 * Async-signal-safe. */
void ld_signals_give_up(void);

/* Do what sigaction does for another part of the process (libuv, for a script that uses it). The
 * action for a signal that we catch is only noted: our handler calls its handler. 0, or -1 with
 * errno. */
int ld_signals_sigaction(int signo, const struct sigaction *action, struct sigaction *before);

/* Whether SIGNO is caught. */
bool ld_signals_is_caught(int signo);

/* Whether a library in this process (libuv, for a script that uses it) has a handler for a
 * signal that we catch. Ours calls it. */
bool ld_signals_is_shared(int signo);

/* The descriptor that is readable when something has arrived, and the delivery of it. */
int ld_signals_fd(void);
void ld_signals_deliver(ld_signals_handler *handler, void *arg);

/* Deliver from LOOP from now on; 0 or a negative errno. Detach before the loop is closed. */
int ld_signals_attach(uv_loop_t *loop, ld_signals_handler *handler, void *arg);
void ld_signals_detach(void);

#endif
