/* Who owns a descriptor that a script names by its number. Knows those that were open at two moments;
 * a number that was reused for another file since then does not count. */
#ifndef LD_POSIX_FDS_H
#define LD_POSIX_FDS_H

enum ld_fd_owner {
    LD_FD_NOBODY,    /* opened since then */
    LD_FD_INHERITED, /* the process was started with it: it belongs to every generation */
    LD_FD_HOST,
};

/* Note that OWNER has the descriptors above 2 that are open now and not yet noted. Without /proc, or
 * memory, nothing is noted. */
void ld_fds_note(enum ld_fd_owner owner);

/* Find the owner of FD. */
enum ld_fd_owner ld_fds_owner(int fd);

#endif
