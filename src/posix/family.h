/* The processes that came from one: finding them, and ending them without letting one escape. */
#ifndef LD_POSIX_FAMILY_H
#define LD_POSIX_FAMILY_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "posix/pids.h"

/* In the environment of a process that was spawned with `detach`, and so of those it starts. */
#define LD_DETACHED_VARIABLE "LUNAD_DETACHED"

/* In the environment of a supervised child, and so of what it starts: by its value the processes that
 * it leaves behind are recognized. */
#define LD_CHILD_VARIABLE "LUNAD_CHILD"

/* Find every live process that descends from ROOT, in order, but not those spawned with `detach` and
 * their descendants. 0 or a negative errno. */
int ld_family_find(pid_t root, struct ld_pids *family);

/* A child of this process that is gone, when it started (CLOCK_MONOTONIC, in ns), and the
 * LD_CHILD_VARIABLE in its environment. */
struct ld_gone {
    pid_t pid;
    uint64_t started;
    const char *mark; /* "NAME=VALUE" */
};

/* Find the live children of this process, a subreaper, that GONE has left behind: those of its
 * group or session and those with its mark. A program that has overwritten its environment, as some
 * do for their title, has no mark; it counts if it is not older than GONE. Processes spawned with
 * `detach` do not count. 0 or a negative errno. */
int ld_family_find_strays(const struct ld_gone *gone, struct ld_pids *strays);

/* Leave the children that this process has now, and their descendants, alone: none of these functions
 * counts them. It had them before it was this program. */
void ld_family_spare_children(void);

/* The INDEX-th of them, and when it started (struct ld_process); false after the last. And the same for one that an
 * earlier program in this process has left alone; false without memory. */
bool ld_family_spared(size_t index, pid_t *pid, unsigned long long *started);
bool ld_family_spare(pid_t pid, unsigned long long started);

/* End ROOT and its family by SIGKILL, without letting one escape by forking meanwhile. PIDFD, which stays
 * the caller's, says which process of that number is meant; -1 for a child that is not reaped. A
 * process that got the number of one that ended meanwhile is not signalled. */
void ld_family_end(pid_t root, int pidfd);

/* Stop ROOT and its family by SIGSTOP, so that they can be looked at and change nothing before
 * ld_family_end. PIDFD as there. */
void ld_family_freeze(pid_t root, int pidfd);

/* As ld_family_end, for several at once; each must be above 1, and a child of ours that is not reaped. */
void ld_family_end_all(const struct ld_pids *roots);

/* End everything that descends from this process, which should be a subreaper, by SIGKILL, detached
 * processes excepted; reaps its children. Returns when all are gone, or after two seconds. */
void ld_family_end_orphans(void);

#endif
