/* Where a command is looked for. */
#ifndef LD_SEARCH_H
#define LD_SEARCH_H

/* List the files that COMMAND can mean, in the order to try them, by the PATH in the environment
 * ENVP. Ends with NULL; to be freed. NULL when memory ran out. */
char **ld_search_list(const char *command, char *const *envp);
void ld_search_free(char **paths);

#endif
