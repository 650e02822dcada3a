#include "search.h"

#include <stdio.h>
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
void ld_search_free(char **paths) {
    for (char **path = paths; path != NULL && *path != NULL; path++) {
        free(*path);
    }
    free(paths);
}

/* List the files that COMMAND can mean by the PATH in ENVP; NULL when memory ran out. */
char **ld_search_list(const char *command, char *const *envp) {
    const char *search = find_variable(envp, "PATH");
    if (strchr(command, '/') != NULL || command[0] == '\0') {
        search = ""; /* one empty element: the name as it is */
    } else if (search == NULL) {
        search = "/usr/local/bin:/usr/bin:/bin";
    }
    size_t count = 1;
    for (const char *at = search; *at != '\0'; at++) {
        count += *at == ':';
    }
    char **paths = calloc(count + 1, sizeof *paths);
    for (size_t i = 0; paths != NULL && i < count; i++) {
        int length = (int)strcspn(search, ":");
        if (asprintf(&paths[i], "%.*s%s%s", length, search, length > 0 ? "/" : "", command) < 0) {
            paths[i] = NULL;
            ld_search_free(paths);
            return NULL;
        }
        search += (size_t)length + (search[length] == ':');
    }
    return paths;
}
