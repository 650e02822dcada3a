#include "posix/pids.h"

#include <stdlib.h>

#include "base/grow.h"

/* Add to a list of pids. */
bool ld_pids_add(struct ld_pids *pids, pid_t pid) {
    pid_t *list = ld_grow(pids->list, pids->count, sizeof *list);
    if (list == NULL) {
        return false;
    }
    pids->list = list;
    list[pids->count++] = pid;
    return true;
}

/* Free a list of pids. */
void ld_pids_fini(struct ld_pids *pids) {
    free(pids->list);
    *pids = (struct ld_pids){0};
}
