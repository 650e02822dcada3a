/* The verbs. Each takes options that are parsed already and returns the exit status: 0 done, 1
 * failed, 2 usage, 3 not running, 4 already running. */
#ifndef LD_CLI_VERBS_H
#define LD_CLI_VERBS_H

#include "daemon/options.h"

/* What a verb is called with: argv[0] is the verb itself (argv[-1] the program), operands follow
 * from argv[operand]. */
struct ld_call {
    const struct ld_options *options;
    char **argv;
    int operand;
};

/* Parse WORDS, a whole command line, and run its verb; the exit status. */
int ld_cmd_again(char **words);

/* Check, without starting anything, that the command line WORDS of run or start could do its work; the
 * exit status it would have failed with. Changes the user of this process. */
int ld_cmd_check_again(char **words);

/* The part of ld_cmd_check_again that knows what starting takes. */
int ld_cmd_check_start(const struct ld_call *call);

int ld_cmd_run(const struct ld_call *call);
int ld_cmd_start(const struct ld_call *call);
int ld_cmd_stop(const struct ld_call *call);
int ld_cmd_reload(const struct ld_call *call);
int ld_cmd_restart(const struct ld_call *call);
int ld_cmd_status(const struct ld_call *call);
int ld_cmd_list(const struct ld_call *call);
int ld_cmd_logs(const struct ld_call *call);
int ld_cmd_reopen(const struct ld_call *call);
int ld_cmd_signal(const struct ld_call *call);
int ld_cmd_check(const struct ld_call *call);

#endif
