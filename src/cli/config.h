/* Configs: Lua files that return the options of services, for --config. */
#ifndef LD_CLI_CONFIG_H
#define LD_CLI_CONFIG_H

#include <stdbool.h>
#include <stddef.h>

#include "cli/verbs.h"

/* A service as its config describes it. Lists end with NULL; paths are absolute. */
struct ld_config_service {
    char *name;    /* NULL: the config says neither name nor script */
    char *script;  /* or NULL */
    char *run_dir; /* or NULL */
    char *file;    /* the config */
    char **words;  /* its options, as words of a command line */
    char **args;   /* for the script */
    char **after;  /* the names of services that are started before it */
};

/* What a config, or a folder of them, describes. */
struct ld_config {
    bool is_set; /* services by name; else there is one, which may have no name yet */
    struct ld_config_service *services; /* in the order in which they are started */
    size_t count;

    /* Those that a command line means, in the same order: ld_config_choose. */
    const struct ld_config_service **chosen;
    size_t chosen_count;
};

/* Run the config at PATH and check it. 0, or an exit status after complaining: 1 if it is missing or fails, 2 if
 * what it returns is wrong. VERB is named in complaints. To be freed in either case. */
int ld_config_load(struct ld_config *config, const char *path, const char *verb);
void ld_config_fini(struct ld_config *config);

/* Choose the services that the operands of CALL name, or all with --all, or if IMPLIED also without operands; one that is alone need not be named. 0, or 2 after
 * complaining. */
int ld_config_choose(struct ld_config *config, const struct ld_call *call, bool implied);

/* The run directory of a service: that of the command line, or that of the config; NULL: the default one. */
const char *ld_config_run_dir(const struct ld_config_service *service, const struct ld_call *call);

#endif
