/* A list of pids. */
#ifndef LD_POSIX_PIDS_H
#define LD_POSIX_PIDS_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

/* Zeroed means empty; free with ld_pids_fini. */
struct ld_pids {
    pid_t *list;
    size_t count;
};

/* Add a pid; false when memory ran out. */
bool ld_pids_add(struct ld_pids *pids, pid_t pid);
void ld_pids_fini(struct ld_pids *pids);

#endif
