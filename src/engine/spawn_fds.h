/* The descriptors of a child in a process that has many. A clone copies the table of all, and the exec closes
 * those that are not for the child: with thousands of them that takes longer than all the rest. There the child
 * shares the table until it makes itself a copy of the beginning. What it needs of the rest gets a stand-in there:
 * one of the descriptors that are kept back (reserve.h), which are low, for they were opened early. */
#ifndef LD_ENGINE_SPAWN_FDS_H
#define LD_ENGINE_SPAWN_FDS_H

#include <stddef.h>

#define LD_IN_CHILD __attribute__((no_sanitize("address", "undefined")))

/* A stack for processes that run in our memory. */
struct ld_spawn_stack {
    char *bytes;
    size_t size;
};

/* Note a descriptor that the kernel gave just now: those below are in use. */
void ld_spawn_fds_note(int fd);

/* Replace high descriptors among the COUNT of SOURCES, but for files, by stand-ins, and return the last descriptor that a child
 * needs which has them and those up to HIGHEST: it is to be cloned with CLONE_FILES, and to call
 * ld_spawn_fds_cut first. -1: it is to have a copy of all. STACK is for a trial of the kernel, done once. */
int ld_spawn_fds_take(int *sources, size_t count, int highest, const struct ld_spawn_stack *stack);

/* Let the stand-ins stand for nothing again. */
void ld_spawn_fds_give_back(void);

/* In the child: have a copy of the descriptors up to LAST instead of all; 0, or negative with errno. */
LD_IN_CHILD int ld_spawn_fds_cut(int last);

#endif
