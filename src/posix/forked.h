/* A copy of this process that C code of a script has made by fork. It owns nothing: pidfile, sockets,
 * children and the start belong to the original, and so do the descriptors of its loops, which both have.
 * Lua continues in the copy until the outermost call in which it was made returns; then the copy
 * ends. (A copy made by a bare system call, without fork handlers, is not noticed.) */
#ifndef LD_POSIX_FORKED_H
#define LD_POSIX_FORKED_H

#include <stdbool.h>
#include <sys/types.h>

/* For messages. */
extern const char ld_forked_words[];

/* Call GIVE_UP(ARG) in every copy that is made from now on, before fork returns there: it may do only
 * what a signal handler may. NULL: call nothing. 0 or a negative errno. */
int ld_forked_watch(void (*give_up)(void *arg), void *arg);

/* Fork a process that goes on as the daemon did, beside it: it has all that this one has, and is no such copy.
 * What fork returns. */
pid_t ld_forked_split(void);

/* Whether this process is a copy. */
bool ld_forked_is_copy(void);

/* Write out what is buffered, and end the copy. */
_Noreturn void ld_forked_leave(int status);

#endif
