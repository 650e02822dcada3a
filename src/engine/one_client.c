#include "engine/one_client.h"

#include <stdlib.h>
#include <string.h>

enum { NOT_COMMON, COMMON, HAD_ONE };

static unsigned char *states; /* by descriptor */
static int size;

/* Note whether a descriptor is common. */
void ld_one_client_note(int fd, bool is_common) {
    if (fd >= size && is_common) {
        int grown_size = fd + 64;
        unsigned char *grown = realloc(states, (size_t)grown_size);
        if (grown == NULL) {
            return;
        }
        memset(grown + size, NOT_COMMON, (size_t)(grown_size - size));
        states = grown;
        size = grown_size;
    }
    if (fd < size) {
        states[fd] = is_common ? COMMON : NOT_COMMON;
    }
}

/* Refuse the second client. */
bool ld_one_client_refuse(int fd) {
    if (fd < 0 || fd >= size || states[fd] != HAD_ONE) {
        return false;
    }
    states[fd] = COMMON;
    return true;
}

/* Note the first one. */
void ld_one_client_accepted(int fd, bool any) {
    if (fd >= 0 && fd < size && states[fd] != NOT_COMMON) {
        states[fd] = any ? HAD_ONE : COMMON;
    }
}
