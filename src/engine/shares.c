#include "engine/shares.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/base.h"

struct share {
    TAILQ_ENTRY(share) link;
    char *text; /* as it was asked for */
    struct ld_address address;
    struct ld_address bound; /* with the port, if the address has none */
    int worker;              /* 0: of all */
    int fd;
    bool stays;    /* used or not */
    bool listens;  /* it was told to */
    unsigned rank; /* in the kernel's list of the sockets of this address, if it is in there */
    struct ld_socket_file file;
    uint8_t use[]; /* by worker: enum use */
};

/* What a worker has to do with a socket. */
enum use {
    NO_USE,
    STALE, /* a process that has ended used it */
    IN_USE,
};

struct ld_shares {
    TAILQ_HEAD(, share) list;
    int most;
    bool is_retiring;
};

/* Make an empty set. */
struct ld_shares *ld_shares_new(int most) {
    struct ld_shares *shares = calloc(1, sizeof *shares);
    if (shares != NULL) {
        TAILQ_INIT(&shares->list);
        shares->most = most;
    }
    return shares;
}

/* Whether a text is an address of TCP. */
static bool is_tcp(const struct ld_address *address) {
    return ld_address_path(address) == NULL;
}

/* Whether two sockets are for one address. */
static bool is_same(const struct share *share, const char *text, const struct ld_address *address) {
    return strcmp(share->text, text) == 0 || ld_address_is_same(address, &share->bound) ||
           (share->address.size == address->size &&
            memcmp(&share->address.storage, &address->storage, address->size) == 0);
}

/* Find the socket of a worker for an address (-1: of any worker); NULL if there is none. */
static struct share *find(const struct ld_shares *shares, int worker, const char *text,
                          const struct ld_address *address) {
    struct share *at;
    TAILQ_FOREACH(at, &shares->list, link) {
        if ((worker < 0 || at->worker == worker) && is_same(at, text, address)) {
            return at;
        }
    }
    return NULL;
}

/* Add a socket; NULL when memory ran out. */
static struct share *add(struct ld_shares *shares, int fd, const char *text,
                         const struct ld_address *address) {
    struct share *share = calloc(1, sizeof *share + (size_t)shares->most + 1);
    char *copy = strdup(text);
    if (share == NULL || copy == NULL) {
        free(share);
        free(copy);
        return NULL;
    }
    share->fd = fd;
    ld_address_read(fd, &share->bound);
    share->text = copy;
    share->address = *address;
    TAILQ_INSERT_TAIL(&shares->list, share, link);
    return share;
}

/* How many listening sockets there are for the address of a socket. */
static unsigned count_group(const struct ld_shares *shares, const struct share *share) {
    unsigned count = 0;
    struct share *at;
    TAILQ_FOREACH(at, &shares->list, link) {
        count += at->listens && at->worker > 0 && is_same(at, share->text, &share->address);
    }
    return count;
}

/* Have a socket listen: the kernel puts it at the end of its list. */
static int begin_to_listen(const struct ld_shares *shares, struct share *share, int backlog) {
    if (listen(share->fd, backlog > 0 ? backlog : SOMAXCONN) < 0) {
        return -errno;
    }
    if (!share->listens) {
        share->rank = count_group(shares, share);
        share->listens = true;
    }
    return 0;
}

/* Note that a socket listens no longer: the kernel puts the last of its list in its place. */
static void end_to_listen(const struct ld_shares *shares, struct share *share) {
    struct share *at;
    unsigned last = count_group(shares, share) - 1;
    if (!share->listens) {
        return;
    }
    share->listens = false;
    TAILQ_FOREACH(at, &shares->list, link) {
        if (at->listens && at->worker > 0 && at->rank == last &&
            is_same(at, share->text, &share->address)) {
            at->rank = share->rank;
        }
    }
}

/* Close a socket that is in no list, and remove its file, which nothing serves now. */
static void close_share(struct share *share) {
    ld_socket_file_remove(&share->file);
    close(share->fd);
    free(share->text);
    free(share);
}

/* Take a socket out of the set, and close it. */
static void free_share(struct ld_shares *shares, struct share *share) {
    end_to_listen(shares, share);
    TAILQ_REMOVE(&shares->list, share, link);
    close_share(share);
}

/* Close everything. */
void ld_shares_free(struct ld_shares *shares) {
    struct share *next;
    for (struct share *at = TAILQ_FIRST(&shares->list); at != NULL; at = next) {
        next = TAILQ_NEXT(at, link);
        close_share(at);
    }
    free(shares);
}

/* Take over a socket that is bound. */
int ld_shares_inherit(struct ld_shares *shares, int worker, int fd, const char *address) {
    struct ld_address parsed;
    struct share *share =
        ld_address_parse(address, &parsed) ? add(shares, fd, address, &parsed) : NULL;
    if (share == NULL) {
        return -ENOMEM;
    }
    share->worker = worker;
    share->stays = true;
    return 0;
}

/* Describe a socket. */
bool ld_shares_describe(const struct ld_shares *shares, size_t index,
                        struct ld_share_facts *facts) {
    const struct share *at = TAILQ_FIRST(&shares->list);
    for (; at != NULL && index > 0; index--) {
        at = TAILQ_NEXT(at, link);
    }
    if (at != NULL) {
        *facts = (struct ld_share_facts){.address = at->text,
                                         .worker = at->worker,
                                         .fd = at->fd,
                                         .stays = at->stays,
                                         .listens = at->listens,
                                         .rank = at->rank,
                                         .file = &at->file,
                                         .use = at->use};
    }
    return at != NULL;
}

/* Add a socket again. */
int ld_shares_restore(struct ld_shares *shares, const struct ld_share_facts *facts) {
    struct ld_address parsed;
    bool is_sound = facts->fd >= 0 && facts->worker >= 0 && facts->worker <= shares->most &&
                    ld_address_parse(facts->address, &parsed);
    struct share *share = is_sound ? add(shares, facts->fd, facts->address, &parsed) : NULL;
    if (share == NULL) {
        if (facts->fd >= 0) {
            close(facts->fd);
        }
        return is_sound ? -ENOMEM : -EINVAL;
    }
    share->worker = facts->worker;
    share->stays = facts->stays;
    share->listens = facts->listens;
    share->rank = facts->rank;
    share->file = *facts->file;
    for (int worker = 1; worker <= shares->most; worker++) {
        share->use[worker] = facts->use[worker] <= IN_USE ? facts->use[worker] : IN_USE;
    }
    return 0;
}

/* Check that no other process has an address: with SO_REUSEPORT another service of this user could share it
 * unnoticed. 0 or a negative errno. */
static int probe(const struct ld_address *address) {
    static const struct ld_listen_options options = {.mode = -1, .is_bound_only = true};
    int fd = ld_socket_listen(address, &options);
    if (fd >= 0) {
        close(fd);
    }
    return fd < 0 ? fd : 0;
}

/* Make the socket of a worker for a TCP address. */
static int make_own(struct ld_shares *shares, int worker, const char *text,
                    const struct ld_address *address, struct share **made) {
    static const struct ld_listen_options options = {
        .mode = -1, .is_bound_only = true, .reuse_port = true};
    const struct share *first = find(shares, -1, text, address);
    struct ld_address bound = *address;
    bound.size = sizeof bound.storage;
    if (first == NULL ||
        getsockname(first->fd, (struct sockaddr *)&bound.storage, &bound.size) < 0) {
        bound = *address;
    }
    int fd = first == NULL ? probe(address) : 0;
    fd = fd < 0 ? fd : ld_socket_listen(&bound, &options);
    if (fd < 0) {
        return fd;
    }
    *made = add(shares, fd, text, address);
    if (*made == NULL) {
        close(fd);
        return -ENOMEM;
    }
    (*made)->worker = worker;
    return 0;
}

/* Make the socket of all workers for a Unix address. */
static int make_common(struct ld_shares *shares, const char *text, const struct ld_address *address,
                       const struct ld_listen_options *options, struct share **made) {
    struct ld_socket_file file;
    int fd = ld_socket_listen_for(NULL, address, options, &file);
    if (fd < 0) {
        return fd;
    }
    *made = add(shares, fd, text, address);
    if (*made == NULL) {
        ld_socket_file_remove(&file);
        close(fd);
        return -ENOMEM;
    }
    (*made)->file = file;
    (*made)->listens = true;
    return 0;
}

/* Close a socket that no worker uses. */
static void close_unused(struct ld_shares *shares, struct share *share) {
    for (int worker = 1; worker <= shares->most; worker++) {
        if (share->use[worker] != NO_USE) {
            return;
        }
    }
    if (!share->stays) {
        free_share(shares, share);
    } else if (share->listens) { /* bound it stays */
        end_to_listen(shares, share);
        shutdown(share->fd, SHUT_RD);
    }
}

/* Find another worker's socket for a worker that cannot have its own; they take turns. */
static struct share *borrow(const struct ld_shares *shares, int worker, const char *text,
                            const struct ld_address *address) {
    int count = 0;
    struct share *at;
    TAILQ_FOREACH(at, &shares->list, link) {
        count += at->worker > 0 && is_same(at, text, address);
    }
    int skip = count > 0 ? (worker - 1) % count : 0;
    TAILQ_FOREACH(at, &shares->list, link) {
        if (at->worker > 0 && is_same(at, text, address) && skip-- == 0) {
            return at;
        }
    }
    return NULL;
}

/* Get a descriptor. */
int ld_shares_ask(struct ld_shares *shares, int worker, const char *address,
                  const struct ld_listen_options *options) {
    struct ld_address parsed;
    int rc = 0;
    if (!ld_address_parse(address, &parsed)) {
        return -EINVAL;
    }
    bool has_own = is_tcp(&parsed);
    struct share *share = find(shares, has_own ? worker : 0, address, &parsed);
    if (share == NULL) {
        rc = has_own ? make_own(shares, worker, address, &parsed, &share)
                     : make_common(shares, address, &parsed, options, &share);
    }
    if (share == NULL && (rc == -EACCES || rc == -EADDRINUSE)) {
        share = borrow(shares, worker, address, &parsed);
    }
    if (share == NULL) {
        return rc;
    }
    rc = has_own ? begin_to_listen(shares, share, options->backlog) : 0;
    int fd = rc == 0 ? fcntl(share->fd, F_DUPFD_CLOEXEC, 3) : rc;
    if (fd < 0) {
        rc = rc < 0 ? rc : -errno;
        close_unused(shares, share); /* it may have just been made */
        return rc;
    }
    share->use[worker] = IN_USE;
    return fd;
}

/* End a use by a worker: of an address, however it was written, or of all that is in STATE. */
static void end_use(struct ld_shares *shares, int worker, const char *text, enum use state) {
    struct ld_address address;
    struct share *next;
    if (text != NULL && !ld_address_parse(text, &address)) {
        return;
    }
    for (struct share *at = TAILQ_FIRST(&shares->list); at != NULL; at = next) {
        next = TAILQ_NEXT(at, link);
        bool is_meant = text != NULL ? is_same(at, text, &address) : at->use[worker] == state;
        if (is_meant && at->use[worker] != NO_USE) {
            at->use[worker] = NO_USE;
            close_unused(shares, at);
        }
    }
}

/* A worker uses an address no longer. */
void ld_shares_drop(struct ld_shares *shares, int worker, const char *address) {
    end_use(shares, worker, address, IN_USE);
}

/* A worker uses nothing. */
void ld_shares_drop_all(struct ld_shares *shares, int worker) {
    end_use(shares, worker, NULL, STALE);
    end_use(shares, worker, NULL, IN_USE);
}

/* A new process begins. */
void ld_shares_begin(struct ld_shares *shares, int worker) {
    struct share *at;
    TAILQ_FOREACH(at, &shares->list, link) {
        at->use[worker] = at->use[worker] == IN_USE ? STALE : at->use[worker];
    }
}

/* It is ready. */
void ld_shares_settle(struct ld_shares *shares, int worker) {
    end_use(shares, worker, NULL, STALE);
}

/* Have the kernel choose, for the address of a socket, among those that are not above LAST: by a program over the hash
 * of a packet that returns a place in its list. */
static void steer(const struct ld_shares *shares, const struct share *share, int last) {
    struct sock_filter code[2 * 256 + 4];
    unsigned short size = 0;
    unsigned ranks[256];
    unsigned count = 0;
    struct share *at;
    TAILQ_FOREACH(at, &shares->list, link) {
        if (at->listens && at->worker > 0 && at->worker <= last && count < LD_COUNT(ranks) &&
            is_same(at, share->text, &share->address)) {
            ranks[count++] = at->rank;
        }
    }
    if (count == 0) {
        return;
    }
    code[size++] = (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS,
                                                (unsigned)SKF_AD_OFF + SKF_AD_RANDOM);
    code[size++] = (struct sock_filter)BPF_STMT(BPF_ALU | BPF_MOD | BPF_K, count);
    for (unsigned i = 0; i + 1 < count; i++) {
        code[size++] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, i, 0, 1);
        code[size++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, ranks[i]);
    }
    code[size++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, ranks[count - 1]);
    const struct sock_fprog program = {.len = size, .filter = code};
    setsockopt(share->fd, SOL_SOCKET, SO_ATTACH_REUSEPORT_CBPF, &program, sizeof program);
}

/* Send no new client to some. */
void ld_shares_limit(struct ld_shares *shares, int last) {
    const int off = 0;
    struct share *at;
    TAILQ_FOREACH(at, &shares->list, link) {
        if (at->worker > 0 && at->listens && last > 0) {
            steer(shares, at, last);
        } else if (at->worker > 0 && at->listens) {
            setsockopt(at->fd, SOL_SOCKET, SO_DETACH_REUSEPORT_BPF, &off, sizeof off);
        }
    }
}

/* Note whether workers go. */
void ld_shares_note_retirement(struct ld_shares *shares, bool is_retiring) {
    shares->is_retiring = is_retiring;
}

/* Whether they do. */
bool ld_shares_is_retiring(const struct ld_shares *shares) {
    return shares->is_retiring;
}

/* Count who waits. The kernel has the length of the queue of a listening socket in this member. */
unsigned ld_shares_waiting(const struct ld_shares *shares, int worker) {
    unsigned count = 0;
    struct share *at;
    TAILQ_FOREACH(at, &shares->list, link) {
        struct tcp_info info = {0};
        socklen_t size = sizeof info;
        if (at->worker == worker && at->listens &&
            getsockopt(at->fd, IPPROTO_TCP, TCP_INFO, &info, &size) == 0) {
            count += info.tcpi_unacked;
        }
    }
    return count;
}
