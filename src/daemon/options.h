/* The command line: one table of options, from which parsing and --help are made. */
#ifndef LD_DAEMON_OPTIONS_H
#define LD_DAEMON_OPTIONS_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/resource.h>
#include <sys/types.h>

#include "base/text.h"

/* The options that a verb can take, in groups; every verb takes --run-dir, --version and --help. */
enum ld_option_group {
    LD_OPTIONS_SERVICE = 1 << 0, /* what to run, and how; the first operand ends these options */
    LD_OPTIONS_CHUNK = 1 << 1,   /* -e */
    LD_OPTIONS_STOP = 1 << 2,    /* --timeout before SIGKILL */
    LD_OPTIONS_ASK = 1 << 3,     /* --timeout for an answer */
    LD_OPTIONS_JSON = 1 << 4,    /* --json */
    LD_OPTIONS_TAIL = 1 << 5,    /* --follow, --lines, --since and --level */
    LD_OPTIONS_TRIAL = 1 << 6,   /* --check, and --probation of reload */
    LD_OPTIONS_CONFIG = 1 << 7,  /* --config */
    LD_OPTIONS_ALL = 1 << 8,     /* --all */
    LD_OPTIONS_SEARCH = 1 << 9,  /* --path and --cpath, which are of LD_OPTIONS_SERVICE too */
    LD_OPTIONS_EXPORT = 1 << 10, /* --listen of metrics */
    LD_OPTIONS_SVG = 1 << 12,    /* --svg */
    LD_OPTIONS_LIVE = 1 << 13,   /* --watch and --full of status */
    LD_OPTIONS_UNIT = 1 << 15,   /* --for, --socket and --after */
    LD_OPTIONS_SPECS = 1 << 16,  /* --filter and --output; the first operand ends these options */
};

enum ld_on_error { LD_ON_ERROR_CONTINUE, LD_ON_ERROR_EXIT };
enum ld_restart { LD_RESTART_NO, LD_RESTART_ON_FAILURE, LD_RESTART_ALWAYS };
enum ld_hup { LD_HUP_RELOAD, LD_HUP_IGNORE, LD_HUP_STOP };

enum ld_manager { LD_MANAGER_SYSTEMD, LD_MANAGER_OPENRC, LD_MANAGER_RUNIT, LD_MANAGER_S6 };

#define LD_WORKERS_MAX   256
#define LD_RLIMITS_MAX   16
#define LD_UMASK_DEFAULT 022

/* The options of a command line. The strings belong to argv; the lists env, listen and after
 * belong to this. */
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
    int log_format;        /* 0 text, 1 json */
    uint64_t log_max_size; /* bytes; 0: the log is not rotated */
    int log_keep;          /* older files */
    struct {
        const char *text;
        int resource;
        struct rlimit limit;
    } rlimits[LD_RLIMITS_MAX];
    size_t rlimit_count;
    uint64_t memory_limit;   /* bytes; 0: none */
    double recycle_every;    /* seconds; 0: not */
    uint64_t recycle_memory; /* bytes; 0: not */
    const char *state;       /* the file, or NULL */
    double state_every;      /* seconds */
    double start_timeout;
    double stop_timeout;
    double stuck_after; /* 0: report nothing */
    double slow;        /* 0: nothing is slow */
    double
        probation; /* of new code, in seconds; 0: none; of the verb reload below 0: the daemon's own */
    bool wait_ready;
    bool watch;
    bool no_new_privs;
    int on_error;  /* enum ld_on_error */
    int hup;       /* enum ld_hup */
    int restart;   /* enum ld_restart */
    int workers;   /* processes behind one name; 0: not given */
    int notify_fd; /* -1: none */
    const char *path;
    const char *cpath;
    const char *chunk; /* -e */
    double timeout;    /* of stop, reload and reopen; below 0: the daemon's own */
    const char *config;
    bool all;             /* in place of names */
    bool check;           /* only whether a reload would succeed */
    const char *exporter; /* the address where metrics are served; NULL: they are printed */
    bool json;
    bool full;          /* show all */
    bool live;          /* show it again and again */
    int manager;        /* --for: enum ld_manager */
    bool socket;        /* the unit of the sockets */
    const char **after; /* names of services */
    size_t after_count;
    const char *svg; /* the file for a flame graph, or NULL */
    bool follow;
    long lines;         /* below 0: not given */
    int64_t since;      /* Unix time in nanoseconds; 0: from the beginning */
    int level;          /* the least that is shown; enum ld_log_level */
    const char *filter; /* a Lua pattern that the names of specs match, or NULL */
    const char *output; /* how the results of specs are shown, or NULL */
};

/* Parse argv[1...] into OPTIONS (initialised here) for a verb that takes GROUPS. The index of the
 * first operand, or -1 with a complaint in WHY. With LD_OPTIONS_SERVICE the first operand ends the
 * options. */
int ld_options_parse(struct ld_options *options, unsigned groups, char **argv, struct ld_text *why);
void ld_options_fini(struct ld_options *options);

/* Copy the words of argv[1...] that are options of the groups KEPT, --run-dir among them, to OUT, which has room
 * for as many as there are in ARGV. GROUPS are those of the verb that ARGV was parsed for, without a fault. How many there are. */
size_t ld_options_copy_words(unsigned groups, unsigned kept, char **argv, const char **out);

/* An option that a config may have. */
struct ld_option_facts {
    const char *name; /* long */
    const char
        *wants; /* what a good value is, "one of a|b"; NULL for a flag. Valid until the next call */
    bool takes_number; /* such as a time; else it is a text */
    bool is_path;      /* a relative one is made absolute */
    bool is_list;      /* it may be given again, and each counts */
};

/* Find the facts of an option, the INDEX-th of the table; false after the last. NAME is NULL if a config cannot
 * have it. */
bool ld_options_describe(size_t index, struct ld_option_facts *facts);

/* Call EACH for every word of argv[1...] that is an option of the groups KEPT, in order; VALUE is NULL for a
 * flag. GROUPS are those of the verb that ARGV was parsed for, without a fault. */
typedef void ld_option_visit(void *arg, const struct ld_option_facts *facts, const char *value);
struct ld_option_visitor {
    ld_option_visit *each;
    void *arg;
};
void ld_options_visit(unsigned groups, unsigned kept, char **argv,
                      const struct ld_option_visitor *visitor);

/* Whether the option NAME, which takes a value, takes this one. */
bool ld_options_accept(const char *name, const char *value);

/* An option as it is written. The strings are static. */
struct ld_option_form {
    const char *name;    /* long, or NULL */
    char letter;         /* short, or 0 */
    const char *value;   /* what --help calls its value; NULL: it has none */
    const char *choices; /* "a|b|c" if the value is one of these; else NULL */
};

/* Call EACH for each option of a verb that takes GROUPS. */
void ld_options_each(unsigned groups, void (*each)(void *arg, const struct ld_option_form *option),
                     void *arg);

/* Add a line of help for each option of a verb that takes GROUPS. */
void ld_options_add_help(struct ld_text *help, unsigned groups);

#endif
