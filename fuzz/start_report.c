/* Reports of a start: any packet is a report or refused, and the kernel says who sent it. */
#include "daemon/start_report.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    int ends[2];
    struct ld_start_report report = {0};
    struct fuzz_input input = {data, size};
    int free_fd = fuzz_free_fd();
    FUZZ_CHECK(ld_start_report_open(ends) == 0);
    bool is_raw = fuzz_byte(&input) % 2 != 0;
    char *text = fuzz_rest(&input);
    if (is_raw) {
        FUZZ_CHECK(send(ends[1], data, size, MSG_NOSIGNAL) == (ssize_t)size);
        int rc = ld_start_report_receive(ends[0], &report);
        FUZZ_CHECK(rc == (size >= 8 ? 1 : -EPROTO));
        FUZZ_CHECK(rc < 0 || report.text.size == size - 8);
    }
    ld_start_report_send(ends[1], LD_START_REPORT_FAILED, 2, text);
    FUZZ_CHECK(ld_start_report_receive(ends[0], &report) == 1);
    FUZZ_CHECK(report.kind == LD_START_REPORT_FAILED && report.status == 2);
    FUZZ_CHECK(report.sender == getpid());
    FUZZ_CHECK(strcmp(ld_text_string(&report.text), text) == 0);
    close(ends[1]);
    FUZZ_CHECK(ld_start_report_receive(ends[0], &report) == 0);
    close(ends[0]);
    ld_text_fini(&report.text);
    free(text);
    FUZZ_CHECK(fuzz_free_fd() == free_fd);
    return 0;
}
