/* A service: what is to run, and how, after the command line and the system have been asked. */
#ifndef LD_SERVICE_H
#define LD_SERVICE_H

#include <stdbool.h>
#include <sys/types.h>

#include "log.h"
#include "options.h"
#include "pidfile.h"
#include "place.h"
#include "record.h"
#include "socket.h"
#include "text.h"
#include "user.h"

/* Everything but OPTIONS and the words is owned by this. */
struct ld_service {
    const struct ld_options *options;
    bool daemon;       /* start, not run */
    bool has_terminal; /* of its own, which may go while it runs */
    bool needs_reader; /* of stdout: it stops without one */
    bool ignores_hup;  /* as whoever called it wanted, by nohup or the like */
    char *name;
    char *run_dir;
    int run_fd;
    char *script;           /* absolute; NULL for a given text */
    struct ld_text text;    /* given by -e or on stdin */
    const char *text_title; /* "=(command line)", "=stdin" or "=/dev/fd/63" */
    char fd_title[32];      /* the latter */
    char **words;           /* the command line, and where the script stands in it */
    int script_word;
    char *log_path; /* of a file sink */
    int log_fd;     /* of a sink that is open already */
    enum ld_log_sink sink;
    char *path; /* --path and --cpath as templates, or NULL */
    char *cpath;
    bool has_user;
    struct ld_user user;

    /* How it was started, for `restart`. */
    uid_t starter_uid;
    gid_t starter_gid;
    char *cwd; /* NULL: it has been removed */
    char **environment;

    long instance;       /* among supervised ones; 0: it is alone */
    char *notify_socket; /* what a service manager said, or NULL */
    double watchdog;     /* seconds, or 0 */

    /* Listening sockets that were there before the script: passed by a service manager (named), or
     * made for --listen. */
    struct ld_service_socket {
        char *name;          /* or NULL */
        const char *address; /* or NULL */
        int fd;
        struct ld_socket_file file; /* ours to remove, if it was made for --listen */
    } * sockets;
    size_t socket_count;

    /* What is held while it runs. */
    struct ld_place log_place; /* if privileges are dropped; else no directory is open */
    struct ld_pidfile pidfile;
    int claim;                         /* -1: none */
    json_t *record;                    /* what NAME.start says; NULL: not ours to write */
    struct ld_socket_file socket_file; /* of the control socket */
    int listener;                      /* of the control socket; -1: none yet, or handed on */
    int file_watch;                    /* readable when a file of ours may have gone; -1: none */
    int channel; /* to the process that a person started; -1 in the foreground */
    int keeper;  /* to the keeper; -1: there is none */
};

/* Find out about the script and everything else that the options name: 0, or the exit status to
 * take, with the reason in WHY. argv[OPERAND] is the script, unless there is -e; argv[-1] is the
 * program. To be freed in either case. */
int ld_service_init(struct ld_service *service, const struct ld_options *options, char **argv,
                    int operand, struct ld_text *why);
void ld_service_fini(struct ld_service *service);

/* Add a listening socket, which is taken over with its name and its file; false when memory ran out. */
bool ld_service_add_socket(struct ld_service *service, const struct ld_service_socket *socket);

/* The user whose rights the host will have, or NULL if that gives none up. */
const struct ld_user *ld_service_lesser(const struct ld_service *service);

/* Take hold of log, directory, pidfile, record, control socket and sockets (steps 9 to 13). 0, or the
 * exit status to take, with the reason in WHY. */
int ld_service_hold(struct ld_service *service, struct ld_text *why);

/* Check that ld_service_hold and ld_service_drop could succeed but for the name, which may be held: the
 * log can be opened, the directory be gone to, the user be become. Leaves no file that was not there;
 * this process has the rights of the service afterwards. Likewise. */
int ld_service_check(struct ld_service *service, struct ld_text *why);

/* Say in the pidfile that we are the daemon, and become what the script runs as (step 14); likewise.
 * Where rights are given up, every descriptor is closed that only the keeper needs. */
int ld_service_drop(struct ld_service *service, struct ld_text *why);

/* Open the log file, as the log's opener: through a way that the user dropped to can bend only with
 * that user's rights. ARG is the service. A descriptor or a negative errno. */
int ld_service_open_log(void *arg);

/* When file_watch is readable: make pidfile (of the host, HOST), record and control socket again if
 * one was removed, or the run directory with them. Then service->listener may be a new socket. */
void ld_service_look_after_files(struct ld_service *service, pid_t host);

/* Remove the files and let go; the record stays of one that DIED. */
void ld_service_release(struct ld_service *service, bool died);

/* The path of the control socket of NAME; -ENAMETOOLONG if no socket can have it. */
int ld_service_socket_path(char *path, size_t size, const char *run_dir, const char *name);

#endif
