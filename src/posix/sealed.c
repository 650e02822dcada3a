#include "posix/sealed.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"

#define SEALS (F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE)

/* Make a descriptor of bytes. */
int ld_sealed_make(const char *name, const char *bytes, size_t size) {
    int fd = memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING);
    if (fd < 0) {
        return -errno;
    }
    int rc = ld_file_write(fd, bytes, size);
    if (rc == 0 && (lseek(fd, 0, SEEK_SET) < 0 || fcntl(fd, F_ADD_SEALS, SEALS) < 0)) {
        rc = -errno;
    }
    if (rc < 0) {
        close(fd);
    }
    return rc < 0 ? rc : fd;
}

/* Check a descriptor. Only those of memory have seals. */
bool ld_sealed_is_sound(int fd, size_t most) {
    struct stat facts;
    int seals = fcntl(fd, F_GET_SEALS);
    return seals >= 0 && (seals & SEALS) == SEALS && fstat(fd, &facts) == 0 &&
           S_ISREG(facts.st_mode) && facts.st_size >= 0 && (size_t)facts.st_size <= most;
}
