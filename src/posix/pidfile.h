/* The pidfile: a number for people, and a lock that shows whether the daemon runs.
 *
 * The lock is an open-file-description lock on the first byte. It is shared by every process that
 * inherited the descriptor and goes when the last of them has ended; asking for it does not take it;
 * and the kernel shows in /proc/PID/fdinfo which process holds it. A host that drops its privileges
 * must not keep a descriptor that can write: it leaves the lock to the keeper and holds a read lock
 * on the second byte, the witness, through a descriptor that can only read. The witness of the
 * process whose number is in the file counts as the lock. */
#ifndef LD_POSIX_PIDFILE_H
#define LD_POSIX_PIDFILE_H

#include <stdbool.h>
#include <sys/types.h>

/* A locked pidfile. */
struct ld_pidfile {
    int dir; /* the run directory; borrowed */
    int fd;  /* -1: not held */
    char name[80];
};

/* What a pidfile says. */
struct ld_holder {
    enum {
        LD_HOLDER_NONE,  /* no pidfile */
        LD_HOLDER_DEAD,  /* a pidfile that no process holds */
        LD_HOLDER_ALIVE, /* it is held */
    } state;
    pid_t pid;    /* the number in it; 0 if there is none */
    bool waiting; /* its holder is a keeper that waits to start the next host */
    uid_t owner;  /* of the pidfile */
};

/* Make and lock NAME.pid in the run directory DIR. 0, or a negative errno: -EWOULDBLOCK if another
 * holds it, -ELOOP if it is a symbolic link. */
int ld_pidfile_acquire(struct ld_pidfile *file, int dir, const char *name);

/* Replace the writable descriptor of a held pidfile, which another process keeps open, by one that
 * can only read, and take the witness with it; 0 or a negative errno (-ESTALE: the file at the path is
 * another one), and then nothing has changed. */
int ld_pidfile_witness(struct ld_pidfile *file);

/* Open the file of a held pidfile for the witness of a process that has another one; a descriptor or a
 * negative errno. That process takes the witness with it, and the descriptor, by ld_pidfile_adopt: 0 or a
 * negative errno, and then FD is closed and nothing has changed. */
int ld_pidfile_open_witness(const struct ld_pidfile *file);
int ld_pidfile_adopt(struct ld_pidfile *file, int fd);

/* Show whether the holder of a held pidfile, a keeper, has no host at the moment and WAITS to start one: by a
 * write lock on the second byte, which a host cannot have. If that fails, it does not show. */
void ld_pidfile_show_waiting(const struct ld_pidfile *file, bool waits);

/* Whether the file at the path is still the one that FILE holds. */
bool ld_pidfile_is_current(const struct ld_pidfile *file);

/* Write PID into a held pidfile; 0 or a negative errno. */
int ld_pidfile_write(const struct ld_pidfile *file, pid_t pid);

/* Remove a held pidfile and release the lock. Does nothing if it is not held. */
void ld_pidfile_remove(struct ld_pidfile *file);

/* Read what the pidfile of NAME says; 0 or a negative errno (-EACCES: another user's). */
int ld_pidfile_inspect(struct ld_holder *holder, int dir, const char *name);

/* Open a pidfd for HOLDER's pid, after the kernel has confirmed that this process holds the lock, or
 * the witness.
 * A descriptor, -ESRCH if it does not (or has ended), -EACCES if it cannot be seen, or -ENOSYS. */
int ld_pidfile_open_holder(const struct ld_holder *holder, int dir, const char *name);

/* Whether the kernel confirms that PID holds the lock, or the witness; 0, -ESRCH or -EACCES. */
int ld_pidfile_confirm(pid_t pid, int dir, const char *name);

#endif
