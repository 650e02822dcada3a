#include "engine/listener.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/grow.h"
#include "base/parse.h"
#include "engine/mute.h"
#include "engine/one_client.h"
#include "posix/fds.h"

struct listener {
    struct listener *next;
    char *address; /* as asked for; of an inherited one "fd:NAME", or "fd:NUMBER" */
    int fd;
    struct ld_address bound; /* which does not change: to ask the kernel for each would be slow */
    int number;              /* of the descriptor that the process was started with, or -1 */
    bool inherited;
    bool stays;                 /* whether it is asked for or not */
    bool is_sourced;            /* it came from the source */
    bool is_common;             /* other processes accept clients from it as well */
    struct ld_socket_file file; /* of a Unix socket, if that is ours to remove */
    bool by_service;            /* who asked for it */
    bool by_next;
    bool held; /* the service has not asked for it, the one before had */
};

/* A descriptor that was given to an owner. */
struct issued {
    int fd;
    ino_t inode; /* of the socket: the number may be another file's by now */
    const void *owner;
};

struct ld_listeners {
    struct listener *first;
    struct issued *issued;
    size_t issued_count;
    const struct ld_listener_source *source; /* NULL: sockets are made here */
    void *source_arg;
};

/* Make an empty set. */
struct ld_listeners *ld_listeners_new(void) {
    return calloc(1, sizeof(struct ld_listeners));
}

/* Close a socket, and remove its file, which nothing serves now. */
static void free_listener(struct listener *listener) {
    ld_socket_file_remove(&listener->file);
    close(listener->fd);
    free(listener->address);
    free(listener);
}

/* Have all sockets come from a source. */
void ld_listeners_set_source(struct ld_listeners *listeners,
                             const struct ld_listener_source *source, void *arg) {
    listeners->source = source;
    listeners->source_arg = arg;
}

/* Close everything. */
void ld_listeners_free(struct ld_listeners *listeners) {
    while (listeners->first != NULL) {
        struct listener *listener = listeners->first;
        listeners->first = listener->next;
        free_listener(listener);
    }
    free(listeners->issued);
    free(listeners);
}

/* Put a socket at the end of the set; NULL when memory ran out. */
static struct listener *add(struct ld_listeners *listeners, int fd, const char *address) {
    struct listener *listener = calloc(1, sizeof *listener);
    char *copy = strdup(address);
    if (listener == NULL || copy == NULL) {
        free(listener);
        free(copy);
        return NULL;
    }
    struct listener **place = &listeners->first;
    while (*place != NULL) {
        place = &(*place)->next;
    }
    *place = listener;
    listener->fd = fd;
    ld_address_read(fd, &listener->bound);
    listener->number = -1;
    listener->address = copy;
    return listener;
}

/* Have accept return at once where nobody waits: who made an inherited socket may not have cared. */
static void unblock(int fd) {
    int flags = fcntl(fd, F_GETFL);
    if (flags >= 0) {
        fcntl(fd, F_SETFL, flags | O_NONBLOCK);
    }
}

/* Take over a socket. */
int ld_listeners_inherit(struct ld_listeners *listeners, int fd, int number, const char *name,
                         const char *address) {
    char *label = NULL;
    if (name != NULL && asprintf(&label, "fd:%s", name) < 0) {
        return -ENOMEM;
    }
    struct listener *listener = add(listeners, fd, name != NULL ? label : address);
    free(label);
    if (listener == NULL) {
        return -ENOMEM;
    }
    listener->number = number;
    listener->inherited = true;
    listener->stays = true;
    unblock(fd);
    return 0;
}

/* Note the file of a socket again, if it is still the same. */
static void note_file_again(struct listener *listener, const struct ld_listener_facts *facts) {
    struct ld_address address;
    struct ld_socket_file *file = &listener->file;
    if (facts->has_file && ld_address_parse(facts->address, &address) &&
        ld_socket_file_note(file, &address, NULL) &&
        (file->device != (dev_t)facts->device || file->inode != (ino_t)facts->inode)) {
        ld_socket_file_forget(file);
    }
}

/* Take over a socket from an earlier program. */
int ld_listeners_restore(struct ld_listeners *listeners, const struct ld_listener_facts *facts) {
    struct listener *listener = add(listeners, facts->fd, facts->address);
    if (listener == NULL) {
        return -ENOMEM;
    }
    listener->number = facts->number;
    listener->inherited = facts->inherited;
    listener->by_service = true; /* until the new generation is the service */
    note_file_again(listener, facts);
    return 0;
}

/* Close all sockets, whose files stay. */
void ld_listeners_leave(struct ld_listeners *listeners) {
    while (listeners->first != NULL) {
        struct listener *listener = listeners->first;
        listeners->first = listener->next;
        ld_socket_file_forget(&listener->file);
        free_listener(listener);
    }
}

/* The number in "fd:NUMBER", or -1. */
static int number_of(const char *text) {
    long number;
    bool is_number = strncmp(text, "fd:", 3) == 0 && ld_parse_whole(text + 3, 0, INT_MAX, &number);
    return is_number ? (int)number : -1;
}

/* Take over a socket that the process was started with, which nothing has told us about. */
static int adopt(struct ld_listeners *listeners, const char *text, int number,
                 struct listener **made) {
    int on = 0;
    socklen_t size = sizeof on;
    bool is_inherited = number <= STDERR_FILENO || ld_fds_owner(number) == LD_FD_INHERITED;
    if (!is_inherited || getsockopt(number, SOL_SOCKET, SO_ACCEPTCONN, &on, &size) < 0) {
        return is_inherited ? -errno : -EBADF;
    }
    if (on == 0) {
        return -EOPNOTSUPP;
    }
    int fd = fcntl(number, F_DUPFD_CLOEXEC, 3);
    if (fd < 0) {
        return -errno;
    }
    *made = add(listeners, fd, text);
    if (*made == NULL) {
        close(fd);
        return -ENOMEM;
    }
    (*made)->number = number;
    (*made)->inherited = true;
    unblock(fd);
    return 0;
}

/* Find the socket for an address: an inherited one may be known by its name alone, and one
 * address can be written in several ways. */
static struct listener *find(const struct ld_listeners *listeners, const char *text,
                             const struct ld_address *address) {
    for (struct listener *at = listeners->first; at != NULL; at = at->next) {
        bool is_bound = address != NULL && ld_address_is_same(address, &at->bound);
        if (strcmp(at->address, text) == 0 || is_bound) {
            return at;
        }
    }
    int number = number_of(text); /* unless that is a name */
    struct listener *at = number >= 0 ? listeners->first : NULL;
    while (at != NULL && at->number != number) {
        at = at->next;
    }
    return at;
}

/* Make the socket for an address. */
static int make(struct ld_listeners *listeners, const char *text, const struct ld_address *address,
                const struct ld_listen_options *options, struct listener **made) {
    struct ld_socket_file file;
    int fd = ld_socket_listen_for(NULL, address, options, &file);
    if (fd < 0) {
        return fd;
    }
    *made = add(listeners, fd, text);
    if (*made == NULL) {
        ld_socket_file_remove(&file);
        close(fd);
        return -ENOMEM;
    }
    (*made)->file = file;
    return 0;
}

/* Close a socket that no generation uses, and say so where it came from. */
static void end_listener(const struct ld_listeners *listeners, struct listener *listener) {
    if (listener->is_sourced && listeners->source != NULL) {
        listeners->source->release(listeners->source_arg, listener->address);
    }
    free_listener(listener);
}

/* Close the sockets that no generation has asked for. */
static void close_unused(struct ld_listeners *listeners) {
    struct listener **place = &listeners->first;
    while (*place != NULL) {
        struct listener *listener = *place;
        if (listener->stays || listener->by_service || listener->by_next || listener->held) {
            place = &listener->next;
        } else {
            *place = listener->next;
            end_listener(listeners, listener);
        }
    }
}

/* Whether other processes may accept clients from a socket of the source: not if it is one of several for its TCP
 * address. */
static bool is_common(int fd) {
    int domain = 0;
    int reuse_port = 0;
    socklen_t size = sizeof domain;
    return getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &domain, &size) < 0 || domain == AF_UNIX ||
           getsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &reuse_port, &size) < 0 || reuse_port == 0;
}

/* Get a socket from the source. */
static int obtain(struct ld_listeners *listeners, const char *text,
                  const struct ld_listen_options *options, struct listener **made) {
    int fd = listeners->source->ask(listeners->source_arg, text, options);
    if (fd < 0) {
        return fd;
    }
    *made = add(listeners, fd, text);
    if (*made == NULL) {
        listeners->source->release(listeners->source_arg, text);
        close(fd);
        return -ENOMEM;
    }
    (*made)->is_sourced = true;
    (*made)->is_common = is_common(fd);
    unblock(fd);
    return 0;
}

/* Whether a socket existed before. */
bool ld_listeners_has(const struct ld_listeners *listeners, const char *address) {
    struct ld_address parsed;
    bool is_address = ld_address_parse(address, &parsed);
    return find(listeners, address, is_address ? &parsed : NULL) != NULL;
}

/* Get a descriptor for an address. */
int ld_listeners_ask(struct ld_listeners *listeners, const char *address,
                     const struct ld_listen_options *options, bool next) {
    struct ld_address parsed;
    bool is_named = strncmp(address, "fd:", 3) == 0;
    if (!is_named && !ld_address_parse(address, &parsed)) {
        return -EINVAL;
    }
    struct listener *listener = find(listeners, address, is_named ? NULL : &parsed);
    if (listener == NULL) {
        int number = number_of(address);
        int rc = listeners->source != NULL ? obtain(listeners, address, options, &listener)
                 : number >= 0             ? adopt(listeners, address, number, &listener)
                 : is_named                ? -ENOENT
                                           : make(listeners, address, &parsed, options, &listener);
        if (listener == NULL) {
            return rc;
        }
    }
    int fd = fcntl(listener->fd, F_DUPFD_CLOEXEC, 3);
    if (fd < 0) {
        int code = errno;
        close_unused(listeners); /* it may have just been made */
        return -code;
    }
    listener->by_service = listener->by_service || !next;
    listener->by_next = listener->by_next || next;
    ld_one_client_note(fd, listener->is_common);
    return fd;
}

/* The inode of the socket FD, or 0. */
static ino_t inode_of(int fd) {
    struct stat facts;
    return fstat(fd, &facts) == 0 ? facts.st_ino : 0;
}

/* Forget entries that OWNER (NULL: any) has for FD (-1: any). */
static void forget_issued(struct ld_listeners *listeners, const void *owner, int fd) {
    size_t kept = 0;
    for (size_t i = 0; i < listeners->issued_count; i++) {
        const struct issued *at = &listeners->issued[i];
        bool drop = (owner == NULL || at->owner == owner) && (fd < 0 || at->fd == fd);
        if (!drop) {
            listeners->issued[kept++] = *at;
        }
    }
    listeners->issued_count = kept;
}

/* Note the owner of a descriptor. An owner that had the same number before has closed it. */
int ld_listeners_issue(struct ld_listeners *listeners, int fd, const void *owner) {
    ld_mute_stop(fd);
    forget_issued(listeners, NULL, fd);
    struct issued *issued = ld_grow(listeners->issued, listeners->issued_count, sizeof *issued);
    if (issued == NULL) {
        return -ENOMEM;
    }
    listeners->issued = issued;
    issued[listeners->issued_count++] =
        (struct issued){.fd = fd, .inode = inode_of(fd), .owner = owner};
    return 0;
}

/* Find the owner of a descriptor. */
const void *ld_listeners_owner(const struct ld_listeners *listeners, int fd) {
    const void *owner = NULL;
    for (size_t i = 0; i < listeners->issued_count && owner == NULL; i++) {
        const struct issued *at = &listeners->issued[i];
        owner = at->fd == fd && inode_of(fd) == at->inode ? at->owner : NULL;
    }
    return owner;
}

/* Let descriptors take clients. */
void ld_listeners_unmute(struct ld_listeners *listeners, const void *owner) {
    for (size_t i = 0; i < listeners->issued_count; i++) {
        if (listeners->issued[i].owner == owner) {
            ld_mute_stop(listeners->issued[i].fd);
        }
    }
}

/* Replace the descriptors that OWNER still has by an inert socket, so that their numbers stay in
 * use. */
void ld_listeners_deafen(struct ld_listeners *listeners, const void *owner,
                         bool (*taken)(void *arg, int fd), void *arg) {
    int inert = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    for (size_t i = 0; inert >= 0 && i < listeners->issued_count; i++) {
        struct issued *at = &listeners->issued[i];
        if (at->owner == owner && inode_of(at->fd) == at->inode && !taken(arg, at->fd) &&
            dup3(inert, at->fd, O_CLOEXEC) >= 0) {
            at->inode = inode_of(inert);
        }
    }
    if (inert >= 0) {
        close(inert);
    }
}

/* Whether a descriptor that was issued is one for the socket with INODE. */
static bool is_issued(const struct ld_listeners *listeners, ino_t inode) {
    for (size_t i = 0; i < listeners->issued_count; i++) {
        const struct issued *at = &listeners->issued[i];
        if (at->inode == inode && inode_of(at->fd) == inode) {
            return true;
        }
    }
    return false;
}

/* Close the socket with INODE if nobody has a descriptor for it: clients would wait for nobody in its
 * queue. */
static void close_forsaken(struct ld_listeners *listeners, ino_t inode) {
    struct listener *at = listeners->first;
    while (at != NULL && inode_of(at->fd) != inode) {
        at = at->next;
    }
    if (at != NULL && !is_issued(listeners, inode)) {
        at->by_service = at->by_next = false;
        close_unused(listeners);
    }
}

/* Close a descriptor of an owner. */
void ld_listeners_close_one(struct ld_listeners *listeners, int fd, const void *owner) {
    for (size_t i = 0; i < listeners->issued_count; i++) {
        const struct issued *at = &listeners->issued[i];
        if (at->fd == fd && at->owner == owner && inode_of(fd) == at->inode) {
            ino_t inode = at->inode;
            ld_mute_stop(fd);
            close(fd);
            forget_issued(listeners, owner, fd);
            close_forsaken(listeners, inode);
            return;
        }
    }
}

/* Close the descriptors that OWNER still has. */
void ld_listeners_close_issued(struct ld_listeners *listeners, const void *owner,
                               bool (*taken)(void *arg, int fd), void *arg) {
    for (size_t i = 0; i < listeners->issued_count; i++) {
        const struct issued *at = &listeners->issued[i];
        if (at->owner == owner) {
            ld_mute_stop(at->fd);
        }
        if (at->owner == owner && inode_of(at->fd) == at->inode && !taken(arg, at->fd)) {
            close(at->fd);
        }
    }
    forget_issued(listeners, owner, -1);
}

/* The next generation is the service. */
void ld_listeners_commit(struct ld_listeners *listeners, bool holds) {
    for (struct listener *at = listeners->first; at != NULL; at = at->next) {
        at->held = !at->by_next && (at->held || (holds && at->by_service));
        at->by_service = at->by_next;
        at->by_next = false;
    }
    close_unused(listeners);
}

/* No socket is held any longer. */
void ld_listeners_release(struct ld_listeners *listeners) {
    for (struct listener *at = listeners->first; at != NULL; at = at->next) {
        at->held = false;
    }
    close_unused(listeners);
}

/* The next generation has failed. */
void ld_listeners_abort(struct ld_listeners *listeners) {
    for (struct listener *at = listeners->first; at != NULL; at = at->next) {
        at->by_next = false;
    }
    close_unused(listeners);
}

/* Count them. */
size_t ld_listeners_count(const struct ld_listeners *listeners) {
    size_t count = 0;
    for (const struct listener *at = listeners->first; at != NULL; at = at->next) {
        count++;
    }
    return count;
}

/* Fill in the facts of a socket. */
static void describe(const struct listener *listener, struct ld_listener_facts *facts) {
    *facts = (struct ld_listener_facts){.address = listener->address,
                                        .fd = listener->fd,
                                        .inherited = listener->inherited,
                                        .held = listener->held && !listener->by_service,
                                        .stays = listener->stays,
                                        .number = listener->number,
                                        .has_file = listener->file.noted,
                                        .device = listener->file.device,
                                        .inode = listener->file.inode};
}

/* The socket at an index. */
static const struct listener *find_at(const struct ld_listeners *listeners, size_t index) {
    const struct listener *listener = listeners->first;
    while (listener != NULL && index-- > 0) {
        listener = listener->next;
    }
    return listener;
}

/* Fill in the facts of a socket. */
bool ld_listeners_describe(const struct ld_listeners *listeners, size_t index,
                           struct ld_listener_facts *facts) {
    const struct listener *listener = find_at(listeners, index);
    if (listener != NULL) {
        describe(listener, facts);
    }
    return listener != NULL;
}

/* Tell of each socket. */
void ld_listeners_each(const struct ld_listeners *listeners, size_t index,
                       bool (*each)(void *arg, const struct ld_listener_facts *facts), void *arg) {
    const struct listener *listener = find_at(listeners, index);
    struct ld_listener_facts facts;
    bool goes_on = true;
    for (; listener != NULL && goes_on; listener = listener->next) {
        describe(listener, &facts);
        goes_on = each(arg, &facts);
    }
}
