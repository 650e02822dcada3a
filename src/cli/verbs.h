/* The verbs of the command line. Each declares itself at the end of its own file; main.c lists
 * them. */
#ifndef LD_CLI_VERBS_H
#define LD_CLI_VERBS_H

#include <stdbool.h>

#include "daemon/options.h"

struct ld_config_service;

/* What a verb is called with: argv[0] is the verb itself (argv[-1] the program), its operands begin
 * at argv[operand]. */
struct ld_call {
    const struct ld_options *options;
    char **argv;
    int operand;
    const struct ld_config_service
        *service; /* what --config says of the one that the work is for now; NULL: nothing */
};

/* Does the work of a verb. The exit status: 0 done, 1 failed, 2 usage, 3 not running, 4 already
 * running; it has complained then. */
typedef int ld_verb_work(const struct ld_call *call);

struct ld_verb {
    const char *name;
    const char *operands; /* as --help shows them */
    const char *summary;  /* as --help shows it: "To SUMMARY." */
    unsigned options;     /* groups of them: enum ld_option_group */
    int least;            /* operands, unless there is -e */
    int most;             /* -1: any number */
    ld_verb_work *run;
    ld_verb_work *check; /* whether run could do its work, without starting anything; it may change
                            the user of the process. For restart; NULL for all but run and start */
};

extern const struct ld_verb ld_verb_run;
extern const struct ld_verb ld_verb_start;
extern const struct ld_verb ld_verb_stop;
extern const struct ld_verb ld_verb_reload;
extern const struct ld_verb ld_verb_restart;
extern const struct ld_verb ld_verb_upgrade;
extern const struct ld_verb ld_verb_status;
extern const struct ld_verb ld_verb_list;
extern const struct ld_verb ld_verb_logs;
extern const struct ld_verb ld_verb_reopen;
extern const struct ld_verb ld_verb_signal;
extern const struct ld_verb ld_verb_eval;
extern const struct ld_verb ld_verb_repl;
extern const struct ld_verb ld_verb_metrics;
extern const struct ld_verb ld_verb_check;
extern const struct ld_verb ld_verb_unit;
extern const struct ld_verb ld_verb_profile;
extern const struct ld_verb ld_verb_heap;
extern const struct ld_verb ld_verb_new;
extern const struct ld_verb ld_verb_test;
extern const struct ld_verb ld_verb_test_service; /* not shown: specs start services by it */

extern const struct ld_verb ld_verb_worker; /* not shown: a master starts its workers by it */

/* Parse the options that follow argv[0], the verb's name, and do WORK: the verb's run or check. With AGAIN
 * the words are from a record: descriptors that were inherited by the process that they started are not
 * here. Answers --help and --version itself. The exit status. */
int ld_verbs_call(const struct ld_verb *verb, ld_verb_work *work, char **argv, bool again);

#endif
