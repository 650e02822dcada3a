/* Socket addresses as people write them. */
#ifndef LD_POSIX_ADDRESS_H
#define LD_POSIX_ADDRESS_H

#include <stdbool.h>
#include <sys/socket.h>

/* Where to listen. */
struct ld_address {
    struct sockaddr_storage storage;
    socklen_t size;
};

/* Parse "127.0.0.1:8080", "[::1]:80" or "unix:/path" (absolute, and short enough). Of names only those
 * are known that mean the same everywhere: localhost is 127.0.0.1 and ip6-localhost is ::1. Nothing is
 * looked up. */
bool ld_address_parse(const char *text, struct ld_address *address);

/* What is wrong with a text that is not an address. Static. */
const char *ld_address_fault(const char *text);

/* The path of a Unix address, or NULL. Belongs to ADDRESS. */
const char *ld_address_path(const struct ld_address *address);

/* Read the address that the socket FD is bound to. If it has none, or FD is no socket, what is read is the same as no
 * other address. */
void ld_address_read(int fd, struct ld_address *address);

/* Whether two addresses are the same (port 0 is the same as none). */
bool ld_address_is_same(const struct ld_address *a, const struct ld_address *b);

/* Whether FD is a listening socket bound to ADDRESS (port 0 matches none). */
bool ld_address_is_of(const struct ld_address *address, int fd);

/* Whether the file at a Unix address is a socket that no process listens on. */
bool ld_address_is_stale(const struct ld_address *address);

#endif
