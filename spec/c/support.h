/* What C tests need around their checks: a private directory, children to run things in, system
 * calls that fail, waiting with a deadline. */
#ifndef SUPPORT_H
#define SUPPORT_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/text.h"

#define WAIT_SECONDS 20 /* for what must happen; long, because machines may be loaded */

/* A path in the private directory of the case that runs, which is made when it is first asked for
 * and removed after the case. The last eight paths are valid. */
const char *box_path(const char *name);
void box_close(void);

/* Let libuv open what it opens once in a process, so that it does not count as left by a case. */
void warm_up(void);

/* Write or read a whole file. What is read is valid until the next call. */
void write_file(const char *path, const char *text);
const char *read_file(const char *path);

/* Everything that can be read from FD until its end; valid until the next call. */
const char *read_fd(int fd);

/* Call RUN in a child process, which exits with 1 if a check in it fails. As from waitpid. */
int run_in_child(void (*run)(void));

/* Call RUN in a child process and check that it exits with 0. */
void check_in_child(void (*run)(void));

/* Call RUN in process 2 of a pid namespace of its own, and check that it exits with 0 and was not
 * stopped; skips if that is not possible. */
void check_in_namespace(void (*run)(void));

/* Let a system call fail with CODE in this process and those it starts, for good. */
void deny_syscall(long number, int code);

/* Let this process get no more descriptors; false if that is not possible (under valgrind). */
bool deny_descriptors(void);

/* Wait until CONDITION is true; false when WAIT_SECONDS have passed. */
bool wait_until(bool (*condition)(void *arg), void *arg);

/* Wait until a process that is not our child is gone, or a zombie. */
bool wait_gone(pid_t pid);

/* The state of a process in /proc ('R', 'S', 'T', 'Z', …), or 0. */
char process_state(pid_t pid);

/* Wait for the end of a child; as from waitpid. */
int wait_child(pid_t pid);

/* Nanoseconds on the monotonic clock. */
uint64_t now_ns(void);

/* A fork whose child dies with us. */
pid_t fork_bound(void);

/* Fork a child that does nothing until it is killed, bound to us. */
pid_t fork_sleeper(void);

/* Kill and reap a child of ours. */
void end_child(pid_t pid);

/* Random numbers, the same in every run. */
uint64_t next_random(void);
uint64_t random_below(uint64_t limit);

#endif
