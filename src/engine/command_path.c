#include "engine/command_path.h"

#include <stdlib.h>
#include <string.h>

/* The value of a variable in ENVP. */
static const char *find_variable(char *const *envp, const char *name) {
    size_t length = strlen(name);
    for (; *envp != NULL; envp++) {
        if (strncmp(*envp, name, length) == 0 && (*envp)[length] == '=') {
            return *envp + length + 1;
        }
    }
    return NULL;
}

/* Free the files to try. */
void ld_command_path_free(char **paths) {
    for (char **path = paths; path != NULL && *path != NULL; path++) {
        free(*path);
    }
    free(paths);
}

/* Join the first LENGTH bytes of a folder's name, if there are any, and a file's; NULL when
 * memory ran out. */
static char *join(const char *folder, size_t length, const char *name) {
    size_t size = strlen(name) + 1;
    char *path = malloc(length + 1 + size);
    if (path != NULL) {
        char *end = mempcpy(path, folder, length);
        if (length > 0) {
            *end++ = '/';
        }
        memcpy(end, name, size);
    }
    return path;
}

/* What to search for COMMAND: folders with colons between, or "" for the name as it is. */
static const char *choose_search(const char *command, char *const *envp) {
    if (strchr(command, '/') != NULL || command[0] == '\0') {
        return "";
    }
    const char *search = find_variable(envp, "PATH");
    return search != NULL ? search : "/usr/local/bin:/usr/bin:/bin";
}

/* List the files that COMMAND can mean by the PATH in ENVP; NULL when memory ran out. */
char **ld_command_path_list(const char *command, char *const *envp) {
    const char *search = choose_search(command, envp);
    size_t count = 1;
    for (const char *at = search; *at != '\0'; at++) {
        count += *at == ':';
    }
    char **paths = calloc(count + 1, sizeof *paths);
    for (size_t i = 0; paths != NULL && i < count; i++) {
        size_t length = strcspn(search, ":");
        paths[i] = join(search, length, command);
        if (paths[i] == NULL) {
            ld_command_path_free(paths);
            return NULL;
        }
        search += length + (search[length] == ':');
    }
    return paths;
}
