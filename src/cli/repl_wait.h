/* What a console waits for beside its next key or answer: signals, and the output of its own host. Once a
 * process, as signal handlers are. */
#ifndef LD_CLI_REPL_WAIT_H
#define LD_CLI_REPL_WAIT_H

#include <poll.h>
#include <stdbool.h>

#include "cli/repl_host.h"

struct ld_repl_wait {
    struct ld_repl_host *host; /* NULL: there is none */
    /* Called before (BEGINS) and after output of the host is written; NULL: not. */
    void (*on_output)(void *arg, bool begins);
    void *arg;

    /* What has happened; to be cleared by who acts on it. */
    bool interrupted; /* Ctrl-C */
    bool resized;
    bool suspended; /* Ctrl-Z */
    int ended;      /* the signal by which the console is to end */
    bool is_over;   /* the host has ended */
    bool torn;      /* its last output was half a line */
    int signals;    /* readable when one has come */
};

/* Begin to catch signals; 0 or a negative errno. To be closed in either case. */
int ld_repl_wait_open(struct ld_repl_wait *wait);
void ld_repl_wait_close(struct ld_repl_wait *wait);

/* Wait for POLLER, as poll does, and write what the host prints. -1 with EINTR when something has happened. */
int ld_repl_wait_poll(struct ld_repl_wait *wait, struct pollfd *poller, int ms);

/* Stop this process, as Ctrl-Z asks. */
void ld_repl_wait_suspend(struct ld_repl_wait *wait);

#endif
