/* The paper of an upgrade: what is no handover is refused with a reason, and what is one gives a whole service. Nothing is left
 * open, also of what was read before the refusal. */
#include "daemon/handover_service.h"

#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "fuzz.h"

/* Check a service that was accepted. */
static void check(const struct ld_handover *handover, const struct ld_service *service) {
    FUZZ_CHECK(service->name != NULL && service->environment != NULL);
    FUZZ_CHECK(service->words[0] != NULL && service->words[1] != NULL);
    FUZZ_CHECK(service->user.groups != NULL && service->user.group_count >= 0);
    FUZZ_CHECK(service->log_fd >= -1 && !service->text.failed);
    for (size_t i = 0; i < service->socket_count; i++) {
        FUZZ_CHECK(service->sockets[i].fd >= 0);
        FUZZ_CHECK(service->sockets[i].name != NULL || service->sockets[i].address != NULL);
    }
    size_t count = ld_handover_list_fds(handover, NULL, 0);
    int *fds = calloc(count + 1, sizeof *fds);
    ld_handover_list_fds(handover, fds, count);
    for (size_t i = 0; i < count; i++) {
        FUZZ_CHECK(fds[i] >= 0);
    }
    free(fds);
}

/* Close what the host, or the keeper, would close. */
static void close_held(struct ld_service *service) {
    const int fds[] = {service->crash_fd, service->pidfile.fd, service->claim, service->file_watch,
                       service->keeper};
    for (size_t i = 0; i < sizeof fds / sizeof *fds; i++) {
        if (fds[i] >= 0) {
            close(fds[i]);
        }
    }
    ld_socket_file_forget(&service->socket_file);
    for (size_t i = 0; i < service->socket_count; i++) {
        ld_socket_file_forget(&service->sockets[i].file);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct ld_handover handover;
    struct ld_service service = {.run_fd = -1, .log_place = {.dir = -1}};
    int free_fd = fuzz_free_fd();
    int paper = memfd_create("paper", MFD_CLOEXEC);
    FUZZ_CHECK(paper >= 0 && write(paper, data, size) == (ssize_t)size);
    bool is_read = ld_handover_read(&handover, paper, NULL);
    bool ok = is_read && ld_handover_service_read(&handover, &service);
    FUZZ_CHECK(ok == ld_text_is_empty(&handover.why));
    FUZZ_CHECK(ld_handover_old_program(&handover) >= -1);
    if (ok) {
        check(&handover, &service);
    }
    if (is_read) {
        close_held(&service);
    }
    ld_service_fini(&service);
    ld_handover_fini(&handover);
    close(paper);
    FUZZ_CHECK(fuzz_free_fd() == free_fd);
    return 0;
}
