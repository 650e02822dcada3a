/* The listening sockets of the service. They belong to the host: a generation asks for an
 * address and gets its own descriptor for the same socket, so that the queue of clients survives
 * every reload. */
#ifndef LD_ENGINE_LISTENER_H
#define LD_ENGINE_LISTENER_H

#include <stdbool.h>

#include "posix/socket.h"

struct ld_listeners;

/* Make an empty set; NULL when memory ran out. */
struct ld_listeners *ld_listeners_new(void);

/* Where sockets come from that are not made here: of a worker, from its master. */
struct ld_listener_source {
    /* A new descriptor for an address, or for "fd:NAME"; or a negative errno as ld_listeners_ask has it. */
    int (*ask)(void *arg, const char *address, const struct ld_listen_options *options);
    /* The address is not used any more. */
    void (*release)(void *arg, const char *address);
};

/* Have all sockets come from SOURCE, which outlives the set, with ARG. It is not told of the end of the set. */
void ld_listeners_set_source(struct ld_listeners *listeners,
                             const struct ld_listener_source *source, void *arg);

/* Close all sockets, and remove the files of Unix sockets that were made here. */
void ld_listeners_free(struct ld_listeners *listeners);

/* Take over a socket that existed before: named by a service manager (NAME), or bound for us to
 * ADDRESS; the other is NULL. NUMBER is the descriptor by which the former was passed. It is never closed
 * before the set, and its file is not removed. 0 or a negative errno. */
int ld_listeners_inherit(struct ld_listeners *listeners, int fd, int number, const char *name,
                         const char *address);

/* Whether a socket that existed before is bound to ADDRESS, or is named by it. */
bool ld_listeners_has(const struct ld_listeners *listeners, const char *address);

/* Take over a socket that an earlier program in this process has listened on, as ld_listeners_describe
 * said; its generation is to ask for it. 0 or a negative errno. */
struct ld_listener_facts;
int ld_listeners_restore(struct ld_listeners *listeners, const struct ld_listener_facts *facts);

/* In a process that shares the sockets with another, which goes on with them: close all. */
void ld_listeners_leave(struct ld_listeners *listeners);

/* Get a new descriptor for ADDRESS, making the socket if there is none yet; or for an inherited socket,
 * "fd:NAME" or "fd:NUMBER". NEXT: for the generation that is not the service yet. A descriptor, or a
 * negative errno: -EINVAL for an invalid address, -ENOENT for a name that was not passed; for a number
 * -EBADF if the process was not started with it, -ENOTSOCK, -EOPNOTSUPP if that socket does not listen. */
int ld_listeners_ask(struct ld_listeners *listeners, const char *address,
                     const struct ld_listen_options *options, bool next);

/* Note that FD, from ld_listeners_ask, belongs to OWNER. */
int ld_listeners_issue(struct ld_listeners *listeners, int fd, const void *owner);

/* The owner of FD; NULL if it is no descriptor that was issued. */
const void *ld_listeners_owner(const struct ld_listeners *listeners, int fd);

/* Let luv accept clients from the descriptors of OWNER, which it does not from those asked for
 * with NEXT. */
void ld_listeners_unmute(struct ld_listeners *listeners, const void *owner);

/* Stop accepting clients on OWNER's descriptors: replace them by an inert socket, which keeps
 * their numbers in use. Those that TAKEN says belong to another part of the process by now,
 * which closes them, are left. */
void ld_listeners_deafen(struct ld_listeners *listeners, const void *owner,
                         bool (*taken)(void *arg, int fd), void *arg);

/* Close FD, if it is still the descriptor that OWNER was given; and the socket, unless somebody else was given a
 * descriptor for it or it was inherited. */
void ld_listeners_close_one(struct ld_listeners *listeners, int fd, const void *owner);

/* Close the descriptors that OWNER still has, with the same exceptions. */
void ld_listeners_close_issued(struct ld_listeners *listeners, const void *owner,
                               bool (*taken)(void *arg, int fd), void *arg);

/* Make the next generation the service: close what it did not ask for; or with HOLDS, hold that until
 * ld_listeners_release, with the queue of clients. */
void ld_listeners_commit(struct ld_listeners *listeners, bool holds);

/* Close what is held and no generation has asked for since. */
void ld_listeners_release(struct ld_listeners *listeners);

/* Give the next generation up: close what only it asked for. */
void ld_listeners_abort(struct ld_listeners *listeners);

/* How many there are. */
size_t ld_listeners_count(const struct ld_listeners *listeners);

/* Information about the socket at INDEX; false if there is none. Strings belong to the set. */
struct ld_listener_facts {
    const char *address;
    int fd;
    bool inherited;
    bool held;     /* no generation has asked for it */
    bool stays;    /* it existed before the set, which was told so */
    int number;    /* that the process was started with, or -1 */
    bool has_file; /* of a Unix socket, which is ours to remove: */
    unsigned long long device;
    unsigned long long inode;
};
bool ld_listeners_describe(const struct ld_listeners *listeners, size_t index,
                           struct ld_listener_facts *facts);

/* Call EACH for the socket at INDEX and those after it, until it returns false. */
void ld_listeners_each(const struct ld_listeners *listeners, size_t index,
                       bool (*each)(void *arg, const struct ld_listener_facts *facts), void *arg);

#endif
