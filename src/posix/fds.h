/* Whose a descriptor is, where a script names one by its number. Knows those that were open at two
 * moments; numbers that are other files' by now do not count. */
#ifndef LD_POSIX_FDS_H
#define LD_POSIX_FDS_H

enum ld_fd_owner {
    LD_FD_NOBODY,    /* opened since then */
    LD_FD_INHERITED, /* the process was started with it: it belongs to every generation */
    LD_FD_HOST,
};

/* Note what is open now, above 2, as the OWNER's, but for what was noted before. Without /proc, or
 * memory, nothing is noted. */
void ld_fds_note(enum ld_fd_owner owner);

/* Whose FD is. */
enum ld_fd_owner ld_fds_owner(int fd);

#endif
