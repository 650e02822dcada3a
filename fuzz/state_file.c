/* A state file, whatever its bytes: it is taken as a whole, or refused with words. */
#include "daemon/state_file.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct ld_state_file file;
    struct ld_text why = {0};
    static const char *folder;
    static int dir = -1;
    char path[4200];
    dir = dir < 0 ? fuzz_directory(&folder) : dir;
    int lowest = fuzz_free_fd();
    snprintf(path, sizeof path, "%s/x.state", folder);
    int fd = openat(dir, "x.state", O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    FUZZ_CHECK(fd >= 0 && write(fd, data, size) == (ssize_t)size);
    close(fd);
    int rc = ld_state_file_read(&file, path, "x", &why);
    FUZZ_CHECK(rc == 0 || rc == -EBADMSG || rc == -EPERM);
    FUZZ_CHECK(ld_text_is_empty(&why) == (rc == 0));
    fuzz_check_line(ld_text_string(&why), why.size);
    size_t total = 0;
    for (int i = 0; rc == 0 && i < LD_STATE_PARTS; i++) {
        FUZZ_CHECK(file.parts[i].data >= file.text.data &&
                   file.parts[i].data + file.parts[i].size <= file.text.data + file.text.size);
        total += file.parts[i].size;
    }
    FUZZ_CHECK(rc < 0 || total < size);
    ld_state_file_fini(&file);
    ld_text_fini(&why);
    FUZZ_CHECK(fuzz_free_fd() == lowest);
    return 0;
}
