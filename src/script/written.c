#include "script/written.h"

#include <jansson.h>
#include <stdlib.h>

#define MOST 1000 /* a script may write ever new files, that nothing watches */

struct ld_written {
    json_t *paths; /* without links: the keys of an object */
};

/* Make an empty set. */
struct ld_written *ld_written_new(void) {
    struct ld_written *written = calloc(1, sizeof *written);
    if (written != NULL && (written->paths = json_object()) == NULL) {
        free(written);
        return NULL;
    }
    return written;
}

/* Free a set. */
void ld_written_free(struct ld_written *written) {
    if (written != NULL) {
        json_decref(written->paths);
        free(written);
    }
}

/* Note a file. */
void ld_written_note(struct ld_written *written, const char *path) {
    char *real = realpath(path, NULL);
    if (json_object_size(written->paths) >= MOST) {
        json_object_clear(written->paths);
    }
    if (real != NULL) {
        json_object_set_new_nocheck(written->paths, real, json_true());
    }
    free(real);
}

/* Whether a file is noted. */
bool ld_written_has(const struct ld_written *written, const char *path) {
    char *real = realpath(path, NULL);
    bool has = real != NULL && json_object_get(written->paths, real) != NULL;
    free(real);
    return has;
}

/* Forget all files. */
void ld_written_clear(struct ld_written *written) {
    json_object_clear(written->paths);
}
