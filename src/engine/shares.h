/* The listening sockets of a master: each worker has its own for a TCP address, so that the kernel spreads the clients
 * over them (SO_REUSEPORT), and all have one for a Unix address. The master keeps every socket as long as a worker
 * uses it, and that of a worker that has crashed until the next process of it is ready: the clients in its queue wait
 * for that. */
#ifndef LD_ENGINE_SHARES_H
#define LD_ENGINE_SHARES_H

#include "posix/socket.h"

struct ld_shares;

/* Make an empty set for workers up to MOST; NULL when memory ran out. */
struct ld_shares *ld_shares_new(int most);

/* Close all sockets, and remove the files of those that were made here. */
void ld_shares_free(struct ld_shares *shares);

/* Take over a socket that is bound to a TCP ADDRESS for WORKER, and does not listen yet. It is never closed before
 * the set. 0 or -ENOMEM. */
int ld_shares_inherit(struct ld_shares *shares, int worker, int fd, const char *address);

/* Get a new descriptor of the socket of a worker for ADDRESS, which is made if there is none yet; or a negative
 * errno. A port 0 is the same one for all. Where a worker cannot have one of its own, because the port needs rights
 * that were given up, it has that of another. */
int ld_shares_ask(struct ld_shares *shares, int worker, const char *address,
                  const struct ld_listen_options *options);

/* A socket of the set, for a program that goes on in this process: all of it belongs to the set. Its index is its
 * place, which counts. USE has for each worker, from 0 to the most, what it has to do with it, in numbers of this
 * file's own. False beyond the last. */
struct ld_share_facts {
    const char *address;
    int worker;
    int fd;
    bool stays;
    bool listens;
    unsigned rank;
    const struct ld_socket_file *file;
    const unsigned char *use;
};
bool ld_shares_describe(const struct ld_shares *shares, size_t index, struct ld_share_facts *facts);

/* Add such a socket again. The descriptor is taken over in any case, the file if it succeeds. 0 or a negative errno. */
int ld_shares_restore(struct ld_shares *shares, const struct ld_share_facts *facts);

/* A worker uses ADDRESS no longer; or nothing, and it has none. */
void ld_shares_drop(struct ld_shares *shares, int worker, const char *address);
void ld_shares_drop_all(struct ld_shares *shares, int worker);

/* A new process of a worker begins, and uses nothing yet; it is ready: what it has not asked for by now is dropped. */
void ld_shares_begin(struct ld_shares *shares, int worker);
void ld_shares_settle(struct ld_shares *shares, int worker);

/* Send no new client to the sockets of workers above LAST; those that wait in their queues are for them still. Does
 * what it can: a kernel without SO_ATTACH_REUSEPORT_CBPF sends some. All get clients again with LAST 0. */
void ld_shares_limit(struct ld_shares *shares, int last);

/* Note whether workers that are too many are to go, or go; whether they do. */
void ld_shares_note_retirement(struct ld_shares *shares, bool is_retiring);
bool ld_shares_is_retiring(const struct ld_shares *shares);

/* How many clients wait in the queues that only WORKER has. */
unsigned ld_shares_waiting(const struct ld_shares *shares, int worker);

#endif
