#include "posix/address.h"

#include <arpa/inet.h>
#include <ctype.h>
#include <errno.h>
#include <netinet/in.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/base.h"
#include "base/parse.h"

/* Parse the path of a Unix socket. */
static bool parse_unix(const char *path, struct ld_address *address) {
    struct sockaddr_un *to = (struct sockaddr_un *)&address->storage;
    size_t length = strlen(path);
    if (path[0] != '/' || length >= sizeof to->sun_path) {
        return false;
    }
    to->sun_family = AF_UNIX;
    memcpy(to->sun_path, path, length + 1);
    address->size = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + length + 1);
    return true;
}

/* Parse a numeric host and a port. */
static bool parse_inet(const char *host, const char *port, struct ld_address *address) {
    struct sockaddr_in *v4 = (struct sockaddr_in *)&address->storage;
    struct sockaddr_in6 *v6 = (struct sockaddr_in6 *)&address->storage;
    long number;
    if (!isdigit((unsigned char)port[0]) || !ld_parse_whole(port, 0, 65535, &number)) {
        return false;
    }
    if (inet_pton(AF_INET, host, &v4->sin_addr) == 1) {
        v4->sin_family = AF_INET;
        v4->sin_port = htons((uint16_t)number);
        address->size = sizeof *v4;
        return true;
    }
    if (inet_pton(AF_INET6, host, &v6->sin6_addr) == 1) {
        v6->sin6_family = AF_INET6;
        v6->sin6_port = htons((uint16_t)number);
        address->size = sizeof *v6;
        return true;
    }
    return false;
}

/* Find the numeric host that a name means, or return the name itself. */
static const char *to_number(const char *host) {
    static const struct {
        const char *name;
        const char *number;
    } names[] = {{"localhost", "127.0.0.1"}, {"ip6-localhost", "::1"}, {"ip6-loopback", "::1"}};
    for (size_t i = 0; i < LD_COUNT(names); i++) {
        if (strcasecmp(host, names[i].name) == 0) {
            return names[i].number;
        }
    }
    return host;
}

/* Explain what is wrong with the host of an address. */
static const char *host_fault(const char *text, size_t length) {
    bool in_brackets = length > 1 && text[0] == '[' && text[length - 1] == ']';
    if (in_brackets || memchr(text, '[', length) != NULL || memchr(text, ']', length) != NULL) {
        return "brackets are for an IPv6 address such as \"[::1]:80\"";
    }
    if (memchr(text, ':', length) != NULL) {
        return "an IPv6 address needs brackets: \"[::1]:80\"";
    }
    if (length == 0 || (length == 1 && text[0] == '*')) {
        return "which address? \"0.0.0.0:80\" is all of IPv4, \"[::]:80\" all of IPv6";
    }
    if (strspn(text, "0123456789.") >= length) {
        return "an IPv4 address has four numbers up to 255, such as \"127.0.0.1:80\"";
    }
    return "names are not looked up (but localhost): give an address such as \"127.0.0.1:80\"";
}

/* Explain why a text is not an address. */
const char *ld_address_fault(const char *text) {
    long number;
    if (strncmp(text, "unix:", 5) == 0) {
        return text[5] != '/' ? "the path of a Unix socket must be absolute"
                              : "the path of a Unix socket has at most 107 bytes";
    }
    const char *colon = strrchr(text, ':');
    const char *bracket = strrchr(text, ']');
    if (colon == NULL || (bracket != NULL && bracket > colon)) {
        return "it has no port, as \"127.0.0.1:8080\" has";
    }
    if (!isdigit((unsigned char)colon[1]) || !ld_parse_whole(colon + 1, 0, 65535, &number)) {
        return "the port must be a number from 0 to 65535";
    }
    return host_fault(text, (size_t)(colon - text));
}

/* Parse an address. */
bool ld_address_parse(const char *text, struct ld_address *address) {
    char host[64];
    memset(address, 0, sizeof *address);
    if (strncmp(text, "unix:", 5) == 0) {
        return parse_unix(text + 5, address);
    }
    const char *colon = strrchr(text, ':');
    size_t length = colon != NULL ? (size_t)(colon - text) : 0;
    bool in_brackets = length > 2 && text[0] == '[' && text[length - 1] == ']';
    if (length == 0 || length >= sizeof host || (memchr(text, ':', length) && !in_brackets)) {
        return false;
    }
    snprintf(host, sizeof host, "%.*s", (int)(in_brackets ? length - 2 : length),
             in_brackets ? text + 1 : text);
    const char *numeric = in_brackets ? host : to_number(host);
    return parse_inet(numeric, colon + 1, address) &&
           (numeric != host || in_brackets == (address->storage.ss_family == AF_INET6));
}

/* The path of a Unix address. */
const char *ld_address_path(const struct ld_address *address) {
    const struct sockaddr_un *unix_address = (const struct sockaddr_un *)&address->storage;
    return unix_address->sun_family == AF_UNIX ? unix_address->sun_path : NULL;
}

/* Whether two socket addresses are the same. */
static bool is_same(const struct sockaddr_storage *a, const struct sockaddr_storage *b) {
    const struct sockaddr_in *a4 = (const struct sockaddr_in *)a;
    const struct sockaddr_in *b4 = (const struct sockaddr_in *)b;
    const struct sockaddr_in6 *a6 = (const struct sockaddr_in6 *)a;
    const struct sockaddr_in6 *b6 = (const struct sockaddr_in6 *)b;
    if (a->ss_family != b->ss_family) {
        return false;
    }
    switch (a->ss_family) {
    case AF_INET:
        return a4->sin_port != 0 && a4->sin_port == b4->sin_port &&
               a4->sin_addr.s_addr == b4->sin_addr.s_addr;
    case AF_INET6:
        return a6->sin6_port != 0 && a6->sin6_port == b6->sin6_port &&
               memcmp(&a6->sin6_addr, &b6->sin6_addr, sizeof a6->sin6_addr) == 0;
    case AF_UNIX:
        return strcmp(((const struct sockaddr_un *)a)->sun_path,
                      ((const struct sockaddr_un *)b)->sun_path) == 0;
    default:
        return false;
    }
}

/* Read the address of a socket. */
void ld_address_read(int fd, struct ld_address *address) {
    *address = (struct ld_address){.storage.ss_family = AF_UNSPEC, .size = sizeof address->storage};
    if (getsockname(fd, (struct sockaddr *)&address->storage, &address->size) < 0) {
        *address = (struct ld_address){.storage.ss_family = AF_UNSPEC};
    }
}

/* Whether two addresses are the same. */
bool ld_address_is_same(const struct ld_address *a, const struct ld_address *b) {
    return is_same(&a->storage, &b->storage);
}

/* Whether a socket listens on an address. */
bool ld_address_is_of(const struct ld_address *address, int fd) {
    struct ld_address bound;
    ld_address_read(fd, &bound);
    return ld_address_is_same(address, &bound);
}

/* Whether no process listens on a Unix socket. Only a refused connection proves it. */
bool ld_address_is_stale(const struct ld_address *address) {
    struct stat facts;
    if (lstat(ld_address_path(address), &facts) < 0 || !S_ISSOCK(facts.st_mode)) {
        return false;
    }
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0) {
        return false;
    }
    int rc = connect(fd, (const struct sockaddr *)&address->storage, address->size);
    bool refused = rc < 0 && errno == ECONNREFUSED;
    close(fd);
    return refused;
}
