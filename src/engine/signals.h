/* Signals as events of the loop. A handler only sets a flag and wakes the loop, so a storm of one
 * signal is one event and can hide neither another signal nor a later one of its own. One set a
 * process. */
#ifndef LD_ENGINE_SIGNALS_H
#define LD_ENGINE_SIGNALS_H

#include <signal.h>
#include <stdbool.h>
#include <uv.h>

/* Called from the loop after SIGNO has arrived, at least once after the last arrival. BY_KERNEL:
 * at least one came from the kernel (a terminal's hang-up), none says the opposite. */
typedef void ld_signals_handler(void *arg, int signo, bool by_kernel);

/* Have FUNCTION called in the handler itself when SIGNO, which is caught, arrives: on any thread, at any
 * time. NULL: nothing. */
void ld_signals_on_arrival(int signo, void (*function)(int signo));

/* Begin to catch; 0 or a negative errno. In a forked child: begin anew, forgetting what had
 * arrived. */
int ld_signals_open(void);
void ld_signals_close(void);

/* Catch SIGNO; when it was released as often, it does its default again. 0 or a negative errno. */
int ld_signals_catch(int signo);
void ld_signals_release(int signo);

/* In a copy of the process: let everything that was caught do its default again. May do only what a
 * signal handler may. */
void ld_signals_give_up(void);

/* Do what sigaction does for another part of the process (libuv, for a script that uses it). The action for
 * a signal that we catch is only noted: our handler calls its handler. 0, or -1 with errno. */
int ld_signals_sigaction(int signo, const struct sigaction *action, struct sigaction *before);

/* Whether somebody else in this process (libuv, for a script that uses it) has asked for a signal
 * that we catch. */
bool ld_signals_is_shared(int signo);

/* The descriptor that is readable when something has arrived, and the delivery of it. */
int ld_signals_fd(void);
void ld_signals_deliver(ld_signals_handler *handler, void *arg);

/* Deliver from LOOP from now on; 0 or a negative errno. Detach before the loop is closed. */
int ld_signals_attach(uv_loop_t *loop, ld_signals_handler *handler, void *arg);
void ld_signals_detach(void);

#endif
