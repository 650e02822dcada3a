/* What is in a pidfile: without its lock it never names a process that runs. */
#include "posix/pidfile.h"

#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static int dir = -1;
    struct ld_holder holder;
    struct ld_pidfile file;
    dir = dir < 0 ? fuzz_directory(NULL) : dir;
    int fd = openat(dir, "x.pid", O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
    FUZZ_CHECK(fd >= 0 && write(fd, data, size) == (ssize_t)size);
    close(fd);
    int free_fd = fuzz_free_fd();
    FUZZ_CHECK(ld_pidfile_inspect(&holder, dir, "x") == 0);
    FUZZ_CHECK(holder.state == LD_HOLDER_DEAD && holder.owner == getuid());
    FUZZ_CHECK(holder.pid == 0 || holder.pid > 1);
    FUZZ_CHECK(ld_pidfile_confirm(getpid(), dir, "x") < 0);

    FUZZ_CHECK(ld_pidfile_acquire(&file, dir, "x") == 0);
    FUZZ_CHECK(ld_pidfile_write(&file, 12345) == 0);
    FUZZ_CHECK(ld_pidfile_inspect(&holder, dir, "x") == 0);
    FUZZ_CHECK(holder.state == LD_HOLDER_ALIVE && holder.pid == 12345);
    ld_pidfile_remove(&file);
    FUZZ_CHECK(fuzz_free_fd() == free_fd);
    return 0;
}
