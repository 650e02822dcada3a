/* Why a program cannot be executed, whatever is in its file. */
#include "engine/exec_fault.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static const char *directory;
    static int dir = -1;
    static const int codes[] = {-ENOENT, -EACCES, -ENOEXEC, -ELIBBAD, -EISDIR, -ENOTDIR, -ELOOP};
    struct fuzz_input input = {data, size};
    char path[128];
    dir = dir < 0 ? fuzz_directory(&directory) : dir;
    int code = codes[fuzz_byte(&input) % LD_COUNT(codes)];
    unlinkat(dir, "program", 0);
    int fd = openat(dir, "program", O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0755);
    FUZZ_CHECK(fd >= 0 && write(fd, input.at, input.left) == (ssize_t)input.left);
    close(fd);
    snprintf(path, sizeof path, "%s/program", directory);
    char *argv[] = {path, NULL};
    char *environment[] = {NULL};
    const struct ld_spawn spec = {.argv = argv, .envp = environment};
    struct ld_text why = {0};
    int free_fd = fuzz_free_fd();
    ld_exec_fault_explain(&spec, code, &why);
    FUZZ_CHECK(why.size > 0 && fuzz_free_fd() == free_fd);
    fuzz_check_line(ld_text_string(&why), why.size);
    ld_text_fini(&why);
    return 0;
}
