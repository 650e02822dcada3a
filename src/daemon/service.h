/* A service: what to run and how, as the command line and the system say. */
#ifndef LD_DAEMON_SERVICE_H
#define LD_DAEMON_SERVICE_H

#include <stdbool.h>
#include <sys/types.h>

#include "base/log.h"
#include "base/text.h"
#include "daemon/options.h"
#include "daemon/record.h"
#include "posix/pidfile.h"
#include "posix/place.h"
#include "posix/socket.h"
#include "posix/user.h"

struct ld_handover;

/* Everything but OPTIONS and the words is owned by this. */
struct ld_service {
    const struct ld_options *options;
    bool daemon;      /* start, not run */
    bool was_stopped; /* as a signal or a person asked, not by itself; known at the end */
    bool is_bare;     /* it has no name to others: no run directory, lock, control socket, record */
    const char *spec; /* the Lua that lunad test runs in each generation before the script; "": the
                          generation runs specs; NULL: this is no test */
    bool has_terminal; /* of its own, which may disappear while it runs */
    bool needs_reader; /* of stdout: it stops without one */
    bool ignores_hup;  /* because the caller did, as nohup does */
    bool is_console;   /* of a person, who knows that it runs: it goes on when its script is over */
    char *name;
    char *run_dir;
    int run_fd;
    char *script;           /* absolute; NULL for a given text */
    struct ld_text text;    /* given by -e or on stdin */
    const char *text_title; /* "=(command line)", "=stdin" or "=/dev/fd/63" */
    char fd_title[32];      /* the latter */
    char **words;           /* the command line, and the index of the script in it */
    int script_word;
    char *log_path;   /* of a file sink */
    int log_fd;       /* of a sink that is open already */
    char *state_path; /* of --state, absolute, or NULL */
    enum ld_log_sink sink;
    char *path; /* --path and --cpath as templates, or NULL */
    char *cpath;
    bool has_user;
    struct ld_user user;

    /* How it was started, for `restart`. */
    uid_t starter_uid;
    char *cwd; /* NULL: it has been removed */
    char **environment;

    /* With --workers this is the master: its host runs lunad's own chunk, which keeps the workers. Each
     * of those is a host of its own, below the master's as that may be below a keeper. */
    bool is_master;
    struct ld_options
        master_options;           /* of its own host; the workers have those of the command line */
    struct ld_hold_worker **held; /* the files of workers; see hold_worker.h */
    size_t held_count;
    bool has_new_files;  /* of workers: they do not know yet */
    char **worker_words; /* what a worker is started by, but for its name */
    int worker;          /* which of the workers this is, from 1 on; 0: none */
    int mailbox;         /* for messages of other workers, until the host reads it; -1: none yet */
    int memory_fd; /* an image of the memory that the first generation is made from (script/memory_image.h); -1: none */
    struct ld_text facts; /* of workers, from the host before a master to it; empty: none */
    int workers;          /* how many there are: 1 without a master */
    int generation;       /* of a master, as its workers know it too */
    char *master;         /* of a worker: its name */
    bool is_dropped;      /* of a worker: a keeper has the rights that were given up */

    long instance;       /* among supervised ones; 0: it is alone */
    char *notify_socket; /* of a service manager, or NULL */
    double watchdog;     /* seconds, or 0 */
    bool
        manager_knows; /* which process runs the script, since a moment ago: a keeper has told it */
    int notify_fd;     /* of --notify-fd, until the service is ready; -1: none */

    /* What a host knows of those before it, which the keeper had to start again. */
    struct ld_restarts {
        unsigned count;
        struct ld_text message; /* how the last one ended */
        const char *report;     /* the path of the report of its crash, or NULL; borrowed */
        double seconds;         /* how long it had lived */
        double time;            /* when; Unix time */
    } restarts;

    /* Listening sockets that exist before the script runs: passed by a service manager (with a
     * name), or made for --listen. */
    struct ld_service_socket {
        char *name;          /* or NULL */
        const char *address; /* or NULL */
        int worker;          /* which one it is bound for, and does not listen yet; 0: none */
        int fd;
        struct ld_socket_file file; /* ours to remove, if it was made for --listen */
    } * sockets;
    size_t socket_count;

    /* Of a crash; see crash_file.h. */
    char *crash_path;                 /* where the report goes; NULL: to the log */
    struct ld_crash_page *crash_page; /* shared by keeper and host, or NULL */
    int crash_fd;                     /* of that memory; -1: none */

    /* What is held while it runs. */
    struct ld_place log_place; /* if privileges are dropped; else no directory is open */
    struct ld_pidfile pidfile;
    int claim;                         /* -1: none */
    json_t *record;                    /* the contents of NAME.start; NULL: not ours to write */
    struct ld_socket_file socket_file; /* of the control socket */
    int listener;                      /* of the control socket; -1: none yet, or handed on */
    int file_watch; /* readable when a file of ours may have been removed; -1: none */
    int channel;    /* to the process that a person started; -1 in the foreground */
    int keeper;     /* to the keeper; -1: there is none */

    struct ld_handover *
        handover; /* what an earlier program in this process has left, until the script is ready; or NULL */
};

/* Look up the script and everything else that the options name. 0, or the exit status to take, with
 * the reason in WHY. argv[OPERAND] is the script, unless -e is given; argv[-1] is the program. The
 * caller sets service->daemon, is_bare and spec before, and frees SERVICE in either case. */
int ld_service_init(struct ld_service *service, const struct ld_options *options, char **argv,
                    int operand, struct ld_text *why);
void ld_service_fini(struct ld_service *service);

/* Make this the service of a master: what the options say about the script is for its workers. */
void ld_service_make_master(struct ld_service *service);

/* A step towards a running service: 0, or the exit status to take, with the reason in WHY. */
typedef int ld_service_step(struct ld_service *service, struct ld_text *why);

/* Take STEPS, which end with NULL, until one fails; what the last one returned. */
int ld_service_take_steps(struct ld_service *service, ld_service_step *const *steps,
                          struct ld_text *why);

/* Add a listening socket, and take over its name, descriptor and file; false, and nothing is taken
 * over, if memory ran out. */
bool ld_service_add_socket(struct ld_service *service, const struct ld_service_socket *socket);

/* Write a newline to the descriptor of --notify-fd, which means "ready", and close it: once, later calls
 * do nothing. Never waits. */
void ld_service_announce(struct ld_service *service);

/* Whether a keeper stays behind: with --user and with --restart. */
bool ld_service_has_keeper(const struct ld_service *service);

/* Whether --restart means a host that ends by itself with STATUS: as an exit status, not 0 if a signal
 * killed it. A host that was asked to stop is not restarted. */
bool ld_service_restarts(const struct ld_service *service, int status);

/* Make the report on restarts for status, a new reference; DUE: in how many seconds the next one is, below
 * 0 for none. */
json_t *ld_service_report_restarts(const struct ld_service *service, double due);

/* The user whose rights the host will have, or NULL if it keeps those of the starter. */
const struct ld_user *ld_service_lesser(const struct ld_service *service);

#endif
