/* Who owns a descriptor that a script names by its number. Knows those that were open at two moments, and
 * those that a generation was given as a number; a number that was reused for another file since then
 * does not count. */
#ifndef LD_POSIX_FDS_H
#define LD_POSIX_FDS_H

#include <stddef.h>

enum ld_fd_owner {
    LD_FD_NOBODY,    /* opened since then */
    LD_FD_INHERITED, /* the process was started with it: it belongs to every generation */
    LD_FD_HOST,
};

/* Note that OWNER has the descriptors above 2 that are open now and not yet noted. Without /proc, or
 * memory, nothing is noted. */
void ld_fds_note(enum ld_fd_owner owner);

/* How many descriptors are open, without those that this takes; 0 without /proc. */
size_t ld_fds_count(void);

/* The INDEX-th descriptor that OWNER still has; -1 after the last. And the note that OWNER has FD. */
int ld_fds_at(enum ld_fd_owner owner, size_t index);
void ld_fds_note_one(int fd, enum ld_fd_owner owner);

/* Find the owner of FD. */
enum ld_fd_owner ld_fds_owner(int fd);

/* Note that HOLDER was given FD, which nothing else closes; and that it has it no longer. Without memory,
 * nothing is noted. */
void ld_fds_give(int fd, const void *holder);
void ld_fds_forget(int fd);
void ld_fds_forget_holder(const void *holder);

/* Who was given FD; NULL if nothing was noted. */
const void *ld_fds_holder(int fd);

#endif
