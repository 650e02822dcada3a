/* Where a command is looked for. */
#ifndef LD_ENGINE_COMMAND_PATH_H
#define LD_ENGINE_COMMAND_PATH_H

/* List the files that COMMAND can mean, in the order to try them, by the PATH in the environment
 * ENVP. Ends with NULL; to be freed. NULL when memory ran out. */
char **ld_command_path_list(const char *command, char *const *envp);
void ld_command_path_free(char **paths);

#endif
