/* The command line: one table of options, from which parsing and --help are made. */
#ifndef LD_DAEMON_OPTIONS_H
#define LD_DAEMON_OPTIONS_H

#include <stdbool.h>
#include <sys/resource.h>
#include <sys/types.h>

#include "base/text.h"

/* A bit for each verb that takes options, so that a row can say where it belongs. */
enum ld_verb {
    LD_VERB_RUN = 1 << 0,
    LD_VERB_START = 1 << 1,
    LD_VERB_STOP = 1 << 2,
    LD_VERB_STATUS = 1 << 3,
    LD_VERB_LIST = 1 << 4,
    LD_VERB_LOGS = 1 << 5,
    LD_VERB_ASK = 1 << 7,   /* reload and reopen */
    LD_VERB_OTHER = 1 << 6, /* verbs with the common options only */
};

enum ld_on_error { LD_ON_ERROR_CONTINUE, LD_ON_ERROR_EXIT };
enum ld_hup { LD_HUP_RELOAD, LD_HUP_IGNORE, LD_HUP_STOP };

#define LD_RLIMITS_MAX   16
#define LD_UMASK_DEFAULT 022

/* What the command line said. Strings belong to argv, env to this. */
struct ld_options {
    bool help;
    bool version;
    const char *name;
    const char *user;
    const char *chdir;
    mode_t umask;
    const char **env; /* KEY=VALUE */
    size_t env_count;
    const char **listen; /* addresses */
    size_t listen_count;
    bool clear_env;
    const char *run_dir;
    const char *log;
    int log_level;
    int log_format; /* 0 text, 1 json */
    struct {
        const char *text;
        int resource;
        struct rlimit limit;
    } rlimits[LD_RLIMITS_MAX];
    size_t rlimit_count;
    double start_timeout;
    double stop_timeout;
    bool wait_ready;
    bool no_new_privs;
    int on_error; /* enum ld_on_error */
    int hup;      /* enum ld_hup */
    const char *path;
    const char *cpath;
    const char *chunk; /* -e */
    double timeout;    /* of stop, reload and reopen; below 0: the daemon's own */
    bool json;
    bool follow;
    long lines;
};

/* Parse argv[1…] for VERB into OPTIONS (initialised here). The index of the first operand, or -1
 * with a complaint in WHY. The first operand of run and start ends the options. */
int ld_options_parse(struct ld_options *options, enum ld_verb verb, char **argv,
                     struct ld_text *why);
void ld_options_fini(struct ld_options *options);

/* Add a line of help for each option of VERB. */
void ld_options_help(struct ld_text *help, enum ld_verb verb);

#endif
