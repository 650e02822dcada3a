#include "cli/apart.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/base.h"
#include "base/say.h"
#include "posix/process.h"

static volatile sig_atomic_t child; /* that works */
static volatile sig_atomic_t was_interrupted;

/* Pass an interruption on to the child. */
static void on_interrupt(int signo) {
    was_interrupted = 1;
    ld_process_kill((pid_t)child, signo);
}

/* Set HANDLER for the signals that may interrupt us. */
static void handle_interrupts(void (*handler)(int)) {
    static const int signals[] = {SIGINT, SIGTERM, SIGHUP, SIGQUIT};
    const struct sigaction action = {.sa_handler = handler, .sa_flags = SA_RESTART};
    for (size_t i = 0; i < LD_COUNT(signals); i++) {
        sigaction(signals[i], &action, NULL);
    }
}

/* Fork the child. Signals are blocked meanwhile, so that none is lost. */
static pid_t fork_child(void) {
    sigset_t all;
    sigset_t before;
    sigfillset(&all);
    sigprocmask(SIG_SETMASK, &all, &before);
    pid_t pid = fork();
    if (pid > 0) {
        child = pid;
        handle_interrupts(on_interrupt);
    }
    sigprocmask(SIG_SETMASK, &before, NULL);
    return pid;
}

/* Work in a child. */
int ld_apart_call(int (*work)(void *arg), void *arg, const char *verb) {
    int result = 0;
    fflush(NULL);
    signal(SIGCHLD, SIG_DFL); /* with SIG_IGN waitpid would return no exit status */
    pid_t pid = fork_child();
    if (pid < 0) {
        ld_say_error("%s: fork: %s", verb, strerror(errno));
        return 1;
    }
    if (pid == 0) {
        int status = work(arg);
        fflush(NULL);
        _exit(status);
    }
    while (waitpid(pid, &result, 0) < 0 && errno == EINTR) {
    }
    handle_interrupts(SIG_DFL);
    return WIFEXITED(result) ? WEXITSTATUS(result) : 1;
}

/* Check whether the work was interrupted. */
bool ld_apart_was_interrupted(void) {
    return was_interrupted != 0;
}
