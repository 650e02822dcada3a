/* NAME.start: what is not a record is refused, what is one can be noted in and shown. */
#include "daemon/record.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "fuzz.h"

/* Check a record that was accepted. */
static void check(const struct ld_record *record, int dir) {
    struct ld_text text = {0};
    FUZZ_CHECK(record->words[0] != NULL && record->words[1] != NULL && record->environment != NULL);
    FUZZ_CHECK(record->uid == getuid());
    FUZZ_CHECK(record->start_timeout >= 0 && record->stop_timeout >= 0 && record->died >= 0);
    ld_record_describe_death(&text, record, dir, "x");
    FUZZ_CHECK(text.size > 0);
    fuzz_check_line(ld_text_string(&text), text.size);
    ld_text_fini(&text);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static int dir = -1;
    struct ld_record record;
    dir = dir < 0 ? fuzz_directory(NULL) : dir;
    int fd = openat(dir, "x.start", O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    FUZZ_CHECK(fd >= 0 && write(fd, data, size) == (ssize_t)size);
    close(fd);
    int free_fd = fuzz_free_fd();
    int rc = ld_record_load(&record, dir, "x");
    FUZZ_CHECK(rc == 0 || rc == -EPROTO);
    if (rc == 0) {
        check(&record, dir);
        ld_record_fini(&record);
        ld_record_note_death(dir, "x", "killed by SIGKILL", "/log/x.crash");
        FUZZ_CHECK(ld_record_load(&record, dir, "x") == 0);
        FUZZ_CHECK(strcmp(record.death, "killed by SIGKILL") == 0 && record.died > 0);
        FUZZ_CHECK(strcmp(record.report, "/log/x.crash") == 0);
        check(&record, dir);
        ld_record_fini(&record);
    }
    ld_record_remove(dir, "x");
    FUZZ_CHECK(ld_record_load(&record, dir, "x") == -ENOENT);
    FUZZ_CHECK(fuzz_free_fd() == free_fd);
    return 0;
}
