#include "posix/claim.h"

#include <errno.h>
#include <limits.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

/* Processes that check who holds it stay in the backlog, because none is accepted; when it is full,
 * no process can check. So it is as long as possible. */
#define BACKLOG INT_MAX

/* Mix bytes into a hash (FNV-1a). */
static uint64_t mix(uint64_t hash, const void *bytes, size_t size) {
    for (size_t i = 0; i < size; i++) {
        hash = (hash ^ ((const unsigned char *)bytes)[i]) * 0x100000001B3ULL;
    }
    return hash;
}

/* Mix in which file is at PATH: containers can have one network and several file systems. */
static uint64_t mix_file(uint64_t hash, const char *path) {
    struct stat facts;
    if (stat(path, &facts) == 0) {
        hash = mix(hash, &facts.st_dev, sizeof facts.st_dev);
        hash = mix(hash, &facts.st_ino, sizeof facts.st_ino);
    }
    return hash;
}

/* Make the address of a claim. */
static socklen_t make_address(struct sockaddr_un *address, const char *run_dir, const char *name) {
    uint64_t hash = mix(0xCBF29CE484222325ULL, run_dir, strlen(run_dir));
    hash = mix_file(hash, "/");
    hash = mix_file(hash, "/proc/self/ns/mnt");
    *address = (struct sockaddr_un){.sun_family = AF_UNIX};
    int size = snprintf(address->sun_path + 1, sizeof address->sun_path - 1, "lunad/%u/%016llx/%s",
                        (unsigned)geteuid(), (unsigned long long)hash, name);
    return (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 + (size_t)size);
}

/* Whether a process of our user listens at ADDRESS, as the kernel says. */
static bool is_ours(const struct sockaddr_un *address, socklen_t size) {
    struct ucred holder;
    socklen_t length = sizeof holder;
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    bool ours = fd >= 0 && connect(fd, (const struct sockaddr *)address, size) == 0 &&
                getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &holder, &length) == 0 &&
                holder.uid == geteuid();
    if (fd >= 0) {
        close(fd);
    }
    return ours;
}

/* Claim a name. */
int ld_claim_take(const char *run_dir, const char *name) {
    struct sockaddr_un address;
    socklen_t size = make_address(&address, run_dir, name);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0) {
        return -errno;
    }
    if (bind(fd, (struct sockaddr *)&address, size) < 0 || listen(fd, BACKLOG) < 0) {
        int code = errno;
        close(fd);
        return code == EADDRINUSE && is_ours(&address, size) ? -EWOULDBLOCK : -code;
    }
    return fd;
}
