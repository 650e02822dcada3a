/* The keeper, and what it does while a host lives: serve it, pass signals on to it, notice its end. Only the
 * files of the keeper include this. */
#ifndef LD_DAEMON_KEEPER_HOST_H
#define LD_DAEMON_KEEPER_HOST_H

#include <stdbool.h>

#include "daemon/backoff.h"
#include "daemon/keeper_desk.h"
#include "daemon/service.h"
#include "daemon/start_report.h"

/* The state of the keeper. What is said of a host is said of the present one, or of the last. */
struct ld_keeper {
    struct ld_service *service;
    pid_t host;  /* 0 while there is none */
    int channel; /* to the host; -1 when it has closed its end */
    bool ready;
    bool reported; /* how the start went */
    bool ended;
    int status;      /* as from waitpid */
    double deadline; /* of a stop, in milliseconds; 0: none */
    bool killed;     /* by us */
    double born;     /* in seconds, as the following */
    double ready_at;
    struct ld_text failure; /* why it could not start; of one line */

    bool was_ready; /* a host was: from then on others may follow it */
    bool stopping;  /* a stop was asked for, by whomever: no host follows */
    bool waiting;   /* for the next start */
    bool gave_up;   /* there were too many */
    double due;     /* the next start */
    double fed;     /* the watchdog of the service manager; while there is no host */
    double hung_up; /* the terminal may go for a moment after a SIGHUP */
    struct ld_backoff backoff;
    struct ld_keeper_desk desk;
};

/* Whether hosts are restarted. */
bool ld_keeper_host_is_restarted(const struct ld_keeper *keeper);

/* Tell the starting process how the start went, once. */
void ld_keeper_host_report(struct ld_keeper *keeper, enum ld_start_report_kind kind,
                           const char *text);

/* Reap the host and its orphans. */
void ld_keeper_host_reap(struct ld_keeper *keeper);

/* Reopen the log, which the next host inherits; 0 or a negative errno. */
int ld_keeper_host_reopen_log(void);

/* Handle a signal to the keeper: it is meant for the host. ARG is the keeper. */
void ld_keeper_host_on_signal(void *arg, int signo, bool by_kernel);

/* Make removed files of the service again, and pass what is new to the host. */
void ld_keeper_host_look_after_files(struct ld_keeper *keeper);

/* Shorten how long poll may wait (below 0: for ever), if the service manager has not taken all that it was
 * told. */
int ld_keeper_host_cap_wait(int wait);

/* Serve the host until it ends. */
void ld_keeper_host_attend(struct ld_keeper *keeper);

/* Serve what the host has sent before its end, and close the channel. */
void ld_keeper_host_take_leave(struct ld_keeper *keeper);

/* Describe how the host ended, as what is said of it: "killed by SIGSEGV". */
void ld_keeper_host_describe_end(const struct ld_keeper *keeper, struct ld_text *how);

#endif
