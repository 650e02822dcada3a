/* A copy of this process that C code of a script has made by fork. It owns nothing: pidfile, sockets,
 * children and the start are the original's, and so are the descriptors of its loops, which both have.
 * Lua goes on in the copy until the call from outside in which it was made is over; then the copy
 * ends. (A copy made without fork handlers, by a bare system call, is not known.) */
#ifndef LD_POSIX_FORKED_H
#define LD_POSIX_FORKED_H

#include <stdbool.h>

/* For messages. */
extern const char ld_forked_words[];

/* Call GIVE_UP(ARG) in every copy that is made from now on, before fork returns there: it may do only
 * what a signal handler may. NULL: call nothing. 0 or a negative errno. */
int ld_forked_watch(void (*give_up)(void *arg), void *arg);

/* Whether this process is a copy. */
bool ld_forked_is_copy(void);

/* Write out what is buffered, and end the copy. */
_Noreturn void ld_forked_leave(int status);

#endif
